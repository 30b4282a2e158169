import CKernel
import Floor
import Foundation
import Lab
import Load
import Measure
import NylonProtocol
import Scenario
import TransportFFI

/// Measures the engine against bare C, in one run, in turn: bare, engine, engine, bare, …
struct Calibration {
  let rounds: Int
  let seconds: Double
  let progress: (String) -> Void

  static let group = "floor"
  static let plugin = "floor"

  func run() throws -> CalibrationResult {
    progress("clock, histogram, timer")
    let clock = median((0..<rounds).map { _ in floor_clock_ns() })
    let record = median((0..<rounds).map { _ in Self.recordNanoseconds() })
    let overshoot = median((0..<rounds).map { _ in Double(TimerFloor.measure()) / 1e3 })
    let ffi = try calibrateFFI()
    let queue = try calibrateQueue()
    let pacing = try calibratePacing(highest: 1e9 / ffi.engineNs)
    let nats = try calibrateNATS()
    let worker = try calibrateWorker()
    return CalibrationResult(
      clockNs: clock, recordNs: record, timerOvershootUs: overshoot, ffi: ffi, ffiQueue: queue,
      pacing: pacing, client: NATSClient.standard, nats: nats[.standard] ?? [],
      natsLibnats: nats[.libnats] ?? [],
      natsNative: nats[.native] ?? [], worker: worker, rounds: rounds)
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

  // MARK: FFI

  private func calibrateFFI() throws -> CalibrationResult.FFI {
    let path = try PackageFiles.plugin("NullPlugin")
    let library = try PluginLibrary(path: path)
    library.start(configJSON: "")
    let target = Target(
      name: "ffi", plugin: Self.plugin, handler: "noop", transport: .ffi(FFISpec(file: "NullPlugin")),
      loads: [.closed(concurrency: 1)])
    let bench = try Workbench(plan: plan(target, concurrency: 1))
    var bare: [Double] = []
    var engine: [Double] = []
    var allocated: UInt64?
    for round in 0..<rounds {
      progress("FFI \(round + 1)/\(rounds)")
      let measureBare = { bare.append(try self.bareFFI(library)) }
      let measureEngine = {
        let measurement = try self.engine(bench, target, concurrency: 1)
        let phases = measurement.scopes.dropFirst().reduce(0) { $0 + $1.okInWindow }
        engine.append(measurement.durationSeconds * 1e9 / Double(max(1, phases)))
        allocated = measurement.allocatedBytes
      }
      try inTurn(round, measureBare, measureEngine)
    }
    let (bareNs, engineNs) = (median(bare), median(engine))
    return CalibrationResult.FFI(
      bareNs: bareNs, engineNs: engineNs, ratio: engineNs / bareNs, engineAllocatedBytes: allocated)
  }

  func bareFFI(_ library: PluginLibrary) throws -> Double {
    var result = FloorResult()
    let status = floor_ffi_loop(
      library.registerSessionStream, library.eventStream, library.closeSessionStream,
      UInt64(seconds * 1e9), &result)
    guard status == 0, result.count > 0 else {
      throw LoadFailure(kind: .failed, message: "the null plugin did not answer the bare loop")
    }
    return Double(result.elapsed_ns) / Double(result.count)
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

  func engine(_ bench: Workbench, _ target: Target, concurrency: Int) throws -> Measure.Measurement {
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
