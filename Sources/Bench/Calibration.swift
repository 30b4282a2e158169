import Baseline
import CLinux
import Engine
import Foundation
import Lab
import Nylon
import Results
import Scenario

enum CalibrationPart: String, CaseIterable { case steps, ffi, queue, pacing, nats, worker, memory }

/// Measures the engine and bare C programs alternately, in one run.
struct Calibration {
  var rounds: Int
  let seconds: Double
  var parts = Set(CalibrationPart.allCases)
  /// The nats-server executable; nil for the installed one.
  var program: String?
  let progress: (String) -> Void

  /// The number of short rounds per regular round.
  static let shortRounds = 5
  /// The name of both the plugin and its queue group.
  private static let name = "baseline"
  private static let inFlight = [1, 64, 256]

  func measure() throws -> CalibrationResult {
    var result = CalibrationResult(rounds: rounds, secondsEach: seconds)
    // The bare loops run on this thread; the engine's threads use exact timers as well.
    kernel_exact_timers()
    if parts.contains(.steps) {
      progress("clock, histogram, timer")
      result.clockNs = median { baseline_clock_ns() }
      result.recordNs = median { Self.recordNanoseconds() }
      result.timerOvershootUs = median { Double(Doctor.overshoots(100, of: 50_000)[98]) / 1e3 }
    }
    if parts.contains(.ffi) { result.ffi = .ffi(try short.ffi()) }
    if parts.contains(.queue) { result.ffiQueue = .queue(try short.queue()) }
    if parts.contains(.pacing) { result.pacing = .pacing(try pacing()) }
    if parts.contains(.nats) {
      let peers = try short.nats(libnatsRounds: rounds)
      result.nats = .nats(peers[0])
      result.natsNative = result.nats
      result.natsLibnatsTuned = .libnats("tuned: on an event loop", peers[1])
      result.natsLibnatsDefaults = .libnats("default options: a flusher thread that sleeps 1 ms", peers[2])
    }
    if parts.contains(.worker) { result.worker = .worker(try worker()) }
    if parts.contains(.memory) { result.memory = try memory() }
    result.goals = result.judged()
    return result
  }

  /// Measures bare C for a plan's transports, which takes a few seconds before its loads.
  func machineBaseline(transports: Set<TransportKind>) throws -> BaselineFigures {
    let library = try library("NullPlugin")
    func medians(_ sample: () throws -> Sample) rethrows -> (Figure) -> Double {
      let samples = try (0..<rounds).map { _ in try sample() }
      return { figure in Statistics.median(samples.compactMap { $0[figure] }) ?? 0 }
    }
    let bare: [BaselineFigures.Bare] =
      try !transports.contains(.nats)
      ? []
      : withBareWorker { pool in
        try Self.inFlight.map { inFlight in
          let median = try medians { try pool.client(baseline_nats_client, inFlight, seconds) }
          return BaselineFigures.Bare(
            inFlight: inFlight, ratePerSecond: median(.rate), p50Microseconds: median(.p50))
        }
      }
    return BaselineFigures(
      measured: UTCSecond(), ffiNanoseconds: try medians { try bareFFI(library) }(.nanoseconds), nats: bare)
  }

  /// A copy with more and shorter rounds, for figures of a few nanoseconds or that vary between connections.
  /// A pause or a slow second of the machine then spoils a few pairs instead of the whole figure.
  private var short: Calibration {
    Calibration(
      rounds: Self.shortRounds * rounds, seconds: seconds / Double(Self.shortRounds), program: program,
      progress: progress)
  }

  private func median(_ value: () -> Double) -> Double {
    Statistics.median((0..<rounds).map { _ in value() }) ?? 0
  }

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

  /// Measures programs in alternating order, A B then B A, so that drift cancels; returns their samples.
  static func inTurn(
    rounds: Int, _ programs: [() throws -> Sample], onRound: (Int) throws -> Void = { _ in }
  ) throws -> [[Sample]] {
    var samples = programs.map { _ in [Sample]() }
    for round in 0..<rounds {
      try onRound(round)
      let order = round % 2 == 0 ? Array(programs.indices) : programs.indices.reversed()
      for place in order { samples[place].append(try programs[place]()) }
    }
    return samples
  }

  private func rows(
    _ label: String, facts: [String: Double], _ bare: @escaping () throws -> Sample,
    _ peers: [() throws -> Sample]
  ) throws -> [CalibrationRow] {
    let samples = try Self.inTurn(rounds: rounds, [bare] + peers) {
      progress("\(label), \($0 + 1)/\(rounds)")
    }
    return samples.dropFirst().map { CalibrationRow(facts: facts, bare: samples[0], peer: $0) }
  }

  private func row(
    _ label: String, facts: [String: Double] = [:], bare: @escaping () throws -> Sample,
    peer: @escaping () throws -> Sample
  ) throws -> CalibrationRow {
    try rows(label, facts: facts, bare, [peer])[0]
  }

  private func sampling(_ target: Target) throws -> () throws -> Sample {
    let engine = try engine(target)
    return {
      let measurement = try engine()
      let answered = Double(max(1, measurement.scopes.dropFirst().reduce(0) { $0 + $1.okInWindow }))
      var sample: Sample = [
        .nanoseconds: measurement.durationSeconds * 1e9 / answered,
        .rate: measurement.throughputPerSecond ?? 0,
      ]
      sample[.p50] = measurement.request?.response.value(atPercentile: 50).map { Double($0) / 1e3 }
      sample[.lateness] = measurement.request?.sendLag.value(atPercentile: 99).map { Double($0) / 1e3 }
      sample[.allocated] = measurement.allocatedBytes.map { Double($0) / answered }
      return sample
    }
  }

  /// Returns a closure that measures the engine with a target's first load and throws unless every
  /// request is answered, or the load is open and some are.
  private func engine(_ target: Target) throws -> () throws -> Engine.Measurement {
    let bench = try Workbench(plan: plan(target))
    return {
      let measurement = try bench.measure(
        target: target, load: target.loads[0], replicate: 1, onGlance: { _ in true })
      let counts = measurement.counts
      guard counts.ok > 0, counts.ok == counts.sent || measurement.offeredRatePerSecond != nil else {
        let why = measurement.invalidReasons.map(\.detail).joined(separator: "; ")
        throw Self.failure("the engine did not get all answers: \(why)")
      }
      return measurement
    }
  }

  /// Runs a bare program and returns its own measurement; `failing` is the error message if it fails.
  private static func baseline(failing: String, _ measure: (inout BaselineResult) -> Int32) throws -> Sample {
    var result = BaselineResult()
    let status = measure(&result)
    guard status == 0, result.count > 0 else {
      throw failure(status < -1 ? "\(failing): \(String(cString: strerror(-status)))" : failing)
    }
    let (count, nanoseconds) = (Double(result.count), Double(result.elapsed_ns))
    return [
      .nanoseconds: nanoseconds / count, .rate: count * 1e9 / nanoseconds, .p50: Double(result.p50_ns) / 1e3,
    ]
  }

  private func plan(_ target: Target) -> Plan {
    Plan(
      "calibrate", target,
      request: RequestSpec(to: "/api/users", headers: [KeyValue(key: "host", value: "example.test")]),
      loads: target.loads, warmupSeconds: 0.3, measureSeconds: seconds, drainSeconds: 1)
  }

  private static func failure(_ message: String) -> LoadFailure {
    LoadFailure(kind: .failed, message: message)
  }

  private func library(_ name: String) throws -> PluginLibrary {
    let library = try PluginLibrary(path: PackageFiles.plugin(name))
    library.start(configJSON: "")
    return library
  }

  private func ffiTarget(_ file: String, _ load: LoadShape, phases: [Phase] = Phase.session) -> Target {
    Target(
      "ffi", plugin: Self.name, handler: "noop", .ffi(FFISpec(file: file, spin: .on)),
      phases: phases, loads: [load])
  }

  private func ffi() throws -> CalibrationRow {
    let library = try library("NullPlugin")
    return try row(
      "FFI", bare: { try bareFFI(library) },
      peer: sampling(ffiTarget("NullPlugin", .closed(concurrency: 1))))
  }

  private func bareFFI(_ library: PluginLibrary) throws -> Sample {
    try Self.baseline(failing: "the null plugin did not answer the bare loop") {
      baseline_ffi_loop(library.bare, UInt64(seconds * 1e9), &$0)
    }
  }

  /// Compares a bare host and the engine with a plugin that replies from its own thread.
  private func queue() throws -> CalibrationRow {
    let library = try library("ThreadedPlugin")
    defer { library.shutdown() }
    let inFlight = 64
    let target = ffiTarget("ThreadedPlugin", .closed(concurrency: inFlight))
    return try row(
      "FFI, another thread", facts: ["in_flight": Double(inFlight)],
      bare: {
        try Self.baseline(failing: "the threaded plugin did not answer the bare host") {
          baseline_ffi_queue(library.bare, UInt32(inFlight), UInt64(seconds * 1e9), &$0)
        }
      }, peer: sampling(target))
  }

  /// Measures the send lag of open loads at rates that leave time to sleep, and at 60 % of the highest
  /// rate of an open load.
  private func pacing() throws -> [CalibrationRow] {
    let library = try library("NullPlugin")
    let share = 0.6
    var highest = try throughput(.closed(concurrency: 1))
    // The p99 of so short a load varies by a factor of two from round to round.
    var longer = short
    longer.rounds *= 3
    return try [1000.0, 100_000].map { rate in try pacing(library, label: "\(Int(rate))/s") { rate } } + [
      longer.pacing(library, label: "60 %", share: share) {
        // The machine's speed varies from second to second, so measure the highest rate in each round.
        highest = try short.throughput(.open(ratePerSecond: 2 * highest, arrivals: .poisson))
        return (highest * share / 1000).rounded() * 1000
      }
    ]
  }

  /// The throughput of the null plugin with one phase, requests per second.
  private func throughput(_ load: LoadShape) throws -> Double {
    try engine(ffiTarget("NullPlugin", load, phases: [.requestFilter]))().throughputPerSecond ?? 0
  }

  private func pacing(
    _ library: PluginLibrary, label: String, share: Double? = nil, rate: @escaping () throws -> Double
  ) throws -> CalibrationRow {
    var rates: [Double] = []
    let bare = {
      var schedule = ArrivalSchedule(ratePerSecond: rates.last ?? 0, arrivals: .poisson, seed: 1)
      let times = (0..<Int((rates.last ?? 0) * seconds)).map { _ in schedule.next() }
      var late: UInt64 = 0
      let status = baseline_pacing(library.bare, times, UInt64(times.count), &late)
      guard status == 0 else { throw Self.failure("the null plugin did not answer the paced loop") }
      return [Figure.lateness: Double(late) / 1000]
    }
    let peer = {
      let load = LoadShape.open(ratePerSecond: rates.last ?? 0, arrivals: .poisson)
      return try sampling(ffiTarget("NullPlugin", load, phases: [.requestFilter]))()
    }
    let samples = try Self.inTurn(rounds: rounds, [bare, peer]) {
      progress("pacing at \(label), \($0 + 1)/\(rounds)")
      rates.append(try rate())
    }
    var facts = ["rate_per_second": Statistics.median(rates) ?? 0]
    facts["share_of_highest"] = share
    return CalibrationRow(facts: facts, bare: samples[0], peer: samples[1])
  }

  private typealias BareClient = (UnsafePointer<BaselineLoad>, UnsafeMutablePointer<BaselineResult>) -> Int32

  /// A broker with the bare echo worker connected to it.
  private struct BarePool {
    let broker: Broker
    let subject: String
    /// The request as the engine encodes it, so that all clients send the same number of bytes.
    let request: [UInt8]

    func client(_ client: BareClient, _ inFlight: Int, _ seconds: Double, to other: String? = nil) throws
      -> Sample
    {
      try (other ?? subject).withCString { subject in
        try (broker.token ?? "").withCString { token in
          try request.withUnsafeBufferPointer { request in
            var load = BaselineLoad(
              port: broker.port, token: token, subject: subject, request: request.baseAddress,
              length: UInt32(request.count), in_flight: UInt32(inFlight), warmup_ns: 300_000_000,
              duration_ns: UInt64(seconds * 1e9))
            return try Calibration.baseline(failing: "the bare client failed") { client(&load, &$0) }
          }
        }
      }
    }
  }

  private func withBareWorker<Value>(_ body: (BarePool) throws -> Value) throws -> Value {
    let broker = try Broker.start(program: program)
    defer { broker.stop() }
    let subject = try Subject(plugin: Self.name).phase(.requestFilter)
    var workers = WorkersSpec.own
    workers.command = [Executables.ownPath, "__baseline-worker", String(broker.port), subject, Self.name]
    let target = natsTarget(broker, workers: workers)
    let worker = try WorkerPool.start(for: target, monitors: [broker.monitor])
    defer { worker.stop() }
    let plan = plan(target)
    let content = RequestContent(plan.request, seed: plan.seed)
    let context = HTTPContext(request: content.request, response: content.response)
    let template = try RequestTemplate(phase: .requestFilter, entry: "noop", context: context.encoded())
    return try body(BarePool(broker: broker, subject: subject, request: template.bytes))
  }

  private func natsTarget(
    _ broker: Broker, inFlight: Int = 1, plugin: String = name, workers: WorkersSpec? = nil
  ) -> Target {
    var target = Target(
      "nats", plugin: plugin, handler: "noop",
      .nats(NATSSpec(pool: Self.name, servers: [broker.url], workers: workers)),
      phases: [.requestFilter], loads: [.closed(concurrency: inFlight)])
    target.maxInFlight = max(target.maxInFlight, inFlight)
    return target
  }

  /// The rows of the engine and of libnats in two configurations, each next to the bare client of the same
  /// round. The gate has no goals for libnats, so fewer rounds are enough.
  private func nats(libnatsRounds: Int) throws -> [[CalibrationRow]] {
    try withBareWorker { pool in
      let rows = try Self.inFlight.map { inFlight in
        let (label, facts) = ("\(inFlight) in flight", ["in_flight": Double(inFlight)])
        func client(_ client: @escaping BareClient) -> () throws -> Sample {
          { try pool.client(client, inFlight, seconds) }
        }
        let engine = try row(
          "NATS, \(label)", facts: facts, bare: client(baseline_nats_client),
          peer: sampling(natsTarget(pool.broker, inFlight: inFlight)))
        var few = self
        few.rounds = libnatsRounds
        return try [engine]
          + few.rows(
            "libnats, \(label)", facts: facts, client(baseline_nats_client),
            [true, false].map { isTuned in client { baseline_libnats_client(isTuned, $0, $1) } })
      }
      return (0..<3).map { peer in rows.map { $0[peer] } }
    }
  }

  /// Compares nylon-worker with the bare echo worker, both loaded by the bare client.
  private func worker() throws -> CalibrationRow {
    try withBareWorker { bare in
      let target = natsTarget(bare.broker, plugin: "worker", workers: .own)
      let pool = try WorkerPool.start(for: target, monitors: [bare.broker.monitor])
      defer { pool.stop() }
      let subject = try Subject(plugin: target.plugin).phase(.requestFilter)
      // Enough requests in flight that a worker is never idle.
      let inFlight = 256
      return try row(
        "worker", facts: ["in_flight": Double(inFlight)],
        bare: { try bare.client(baseline_nats_client, inFlight, seconds) },
        peer: { try bare.client(baseline_nats_client, inFlight, seconds, to: subject) })
    }
  }

  private func memory() throws -> CalibrationResult.Memory {
    let broker = try Broker.start(program: program)
    defer { broker.stop() }
    progress("memory")
    let inFlight = 2048
    let target = natsTarget(broker, inFlight: inFlight, plugin: "worker", workers: .own)
    let costs = try engine(target)().generator
    return CalibrationResult.Memory(
      inFlight: inFlight, residentStartBytes: costs?.residentStartBytes,
      residentEndBytes: costs?.residentEndBytes)
  }
}

extension PluginLibrary {
  fileprivate var bare: BaselinePlugin {
    BaselinePlugin(open: registerSessionStream, event: eventStream, close: closeSessionStream)
  }
}
