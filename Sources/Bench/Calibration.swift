import CLinux
import Baseline
import Foundation
import Lab
import Engine
import Results
import Nylon
import Scenario

/// A part of `calibrate` that can be asked for alone.
package enum CalibrationPart: String, CaseIterable {
  /// A clock read, a histogram record, a timer.
  case steps
  /// The null plugin.
  case ffi
  /// A plugin that answers from another thread.
  case queue
  /// How late an open load is.
  case pacing
  /// Request-reply through a broker.
  case nats
  /// nylon-worker.
  case worker
  /// The generator's resident memory.
  case memory
}

/// Measures the engine against bare C, in one run, in turn: bare, engine, engine, bare, …
package struct Calibration {
  let rounds: Int
  let seconds: Double
  let parts: Set<CalibrationPart>
  let progress: (String) -> Void

  static let group = "floor"
  static let plugin = "floor"

  init(
    rounds: Int, seconds: Double, parts: Set<CalibrationPart> = Set(CalibrationPart.allCases),
    progress: @escaping (String) -> Void
  ) {
    self.rounds = rounds
    self.seconds = seconds
    self.parts = parts
    self.progress = progress
  }

  /// The command `calibrate`.
  package static func run(
    rounds: Int, seconds: Double, parts: Set<CalibrationPart>, json: Bool, quiet: Bool, gate: Bool
  ) throws {
    let progress: (String) -> Void = {
      if !quiet && Console.drawsProgress { Console.raw("\r\u{1b}[K\($0)") }
    }
    let result = try Calibration(rounds: rounds, seconds: seconds, parts: parts, progress: progress).measure()
    progress("")
    Console.result(json ? try RunJSON.text(result) : result.text)
    if !ToolVersion.isOptimised {
      Console.error("invalid: unoptimised_build: build with -c release")
      throw ExitReason.invalid
    }
    if gate, result.goals.contains(where: { $0.isReached != true }) {
      Console.error("gate: a goal is not reached; the table above says which")
      throw ExitReason.gateNotMet
    }
  }

  /// Serves as the bare echo worker of `calibrate` until the broker goes away.
  package static func serve(port: UInt16, subject: String, group: String) {
    let failure = floor_nats_worker(port, subject, group)
    if failure != 0 { Console.error("baseline worker: \(String(cString: strerror(-failure)))") }
  }

  func measure() throws -> CalibrationResult {
    var result = CalibrationResult(rounds: rounds, secondsEach: seconds)
    if parts.contains(.steps) {
      progress("clock, histogram, timer")
      result.clockNs = median((0..<rounds).map { _ in floor_clock_ns() })
      result.recordNs = median((0..<rounds).map { _ in Self.recordNanoseconds() })
      result.timerOvershootUs = median((0..<rounds).map { _ in Double(TimerFloor.measure()) / 1e3 })
    }
    if parts.contains(.ffi) { result.ffi = try calibrateFFI() }
    if parts.contains(.queue) { result.ffiQueue = try calibrateQueue() }
    if parts.contains(.pacing) { result.pacing = try calibratePacing() }
    if parts.contains(.nats) {
      let rows = try calibrateNATS()
      result.nats = rows[.standard]
      result.natsNative = rows[.native]
      result.natsLibnats = rows[.libnats]
    }
    if parts.contains(.worker) { result.worker = try calibrateWorker() }
    if parts.contains(.memory) { result.memory = try calibrateMemory() }
    result.goals = result.judged()
    return result
  }

  func median(_ values: [Double]) -> Double { Statistics.median(values) ?? 0 }

  /// Nanoseconds of one record into our own histogram.
  private static func recordNanoseconds() -> Double {
    let words = UnsafeMutablePointer<UInt64>.allocate(capacity: RawHistogram.wordCount)
    words.initialize(repeating: 0, count: RawHistogram.wordCount)
    defer { words.deallocate() }
    let histogram = RawHistogram(words: words)
    let records = 4_000_000
    var value: UInt64 = 1
    let start = kernel_now_ns()
    for _ in 0..<records {
      value = value &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      histogram.record(value >> 44)
    }
    return Double(kernel_now_ns() - start) / Double(records)
  }

  /// Nanoseconds of the measured time for each answered phase request.
  static func nanosecondsPerPhase(_ measurement: Engine.Measurement) -> Double {
    measurement.durationSeconds * 1e9 / Double(max(1, answeredPhases(measurement)))
  }

  /// Bytes that the load threads allocated for each answered phase request; nil when not measured.
  static func allocatedPerPhase(_ measurement: Engine.Measurement) -> Double? {
    measurement.allocatedBytes.map { Double($0) / Double(max(1, answeredPhases(measurement))) }
  }

  private static func answeredPhases(_ measurement: Engine.Measurement) -> UInt64 {
    measurement.scopes.dropFirst().reduce(0) { $0 + $1.okInWindow }
  }

  // MARK: NATS

  /// A request that nobody is subscribed for would get no answer at all.
  func waitForSubscriber(_ broker: Broker, _ worker: ChildProcess) throws {
    for _ in 0..<500 {
      if try broker.statistics().connections > 0 {
        // It subscribes with the same write that says hello; the broker reads that in one go.
        kernel_sleep_until(kernel_now_ns() + 100_000_000)
        return
      }
      guard worker.isRunning else { break }
      kernel_sleep_until(kernel_now_ns() + 10_000_000)
    }
    throw LoadFailure(kind: .failed, message: "the bare echo worker did not subscribe: \(worker.lastWords)")
  }

  /// The bytes that the engine sends, so that the bare client sends as many.
  static func request(for plan: Plan) throws -> [UInt8] {
    let content = RequestContent(plan.request, seed: plan.seed)
    let context = HTTPContext(request: content.request, response: content.response)
    let template = try RequestTemplate(phase: .requestFilter, entry: "noop", data: context.encoded())
    return Array(template.buffer)
  }

  /// Phase requests a second, and their median response time in microseconds, of the bare client.
  func bareNATS(
    _ inFlight: Int, port: UInt16, subject: String, request: [UInt8]
  ) throws -> (rate: Double, p50: Double) {
    var result = FloorResult()
    let status = floor_nats_client(
      port, subject, request, UInt32(request.count), UInt32(inFlight), 300_000_000, UInt64(seconds * 1e9),
      &result)
    guard status == 0, result.elapsed_ns > 0 else {
      throw LoadFailure(
        kind: .failed, message: "the bare client failed: \(String(cString: strerror(-status)))")
    }
    return (Double(result.count) * 1e9 / Double(result.elapsed_ns), Double(result.p50_ns) / 1e3)
  }

  // MARK: Both

  func inTurn(_ round: Int, _ first: () throws -> Void, _ second: () throws -> Void) throws {
    try round % 2 == 0 ? first() : second()
    try round % 2 == 0 ? second() : first()
  }

  func engine(_ bench: Workbench, _ target: Target, concurrency: Int) throws -> Engine.Measurement {
    let measurement = try bench.measure(
      target: target, load: .closed(concurrency: concurrency), replicate: 1, onGlance: { _ in true })
    guard let request = measurement.request, request.counts.ok > 0, request.counts.ok == request.counts.sent
    else {
      throw LoadFailure(
        kind: .failed,
        message:
          "the engine did not get all answers: \(measurement.invalidReasons.map(\.detail).joined(separator: "; "))"
      )
    }
    return measurement
  }

  func plan(_ target: Target, concurrency: Int) -> Plan {
    Plan(
      name: "calibrate", targets: [target],
      request: RequestSpec(path: "/api/users", headers: [KeyValue(key: "host", value: "example.test")]),
      phases: target.phases, loads: [.closed(concurrency: concurrency)], warmupSeconds: 0.3,
      measureSeconds: seconds, drainSeconds: 1)
  }
}
