import CJemalloc
import CLinux
import Foundation
import Nylon
import Scenario
import Synchronization

/// The machine's resource usage up to a moment of the measured time.
package struct ResourceSample: Sendable {
  /// CPU time of this process, the broker and all workers, nanoseconds.
  package var generatorNanoseconds, brokerNanoseconds, workersNanoseconds: UInt64?
  /// Memory and context switches of the same processes.
  package var generator, broker, workers: ProcessReading?
  /// CPU time stolen by the hypervisor and total CPU time, in ticks.
  package var steal: (stolen: UInt64, total: UInt64)?
  /// The bytes that the load threads have allocated.
  var allocatedBytes: UInt64?

  package init() {}

  /// The increase since an earlier sample; nil when either value is unknown or the value has decreased.
  fileprivate func grown(_ field: KeyPath<ResourceSample, UInt64?>, since earlier: ResourceSample?) -> UInt64?
  {
    guard let first = earlier?[keyPath: field], let last = self[keyPath: field], last >= first else {
      return nil
    }
    return last - first
  }
}

/// Runs the load threads of one measurement and produces its `Measurement`.
package struct LoadRunner {
  let order: LoadOrder
  let area: RecordingArea
  let ledger: LedgerArea?
  let sample: () -> ResourceSample
  let between: (() -> ResourceSample)?

  /// Creates a runner that records into `area`, which has `order.layout`.
  ///
  /// - Parameters:
  ///   - ledger: the ledger for phase requests, with the layout `order.ledger`.
  ///   - sample: called at both ends of the measured time.
  ///   - between: called at the end of each interval of the measured time, so it must be cheap; without it,
  ///     the intervals have no costs.
  package init(
    order: LoadOrder, area: RecordingArea, ledger: LedgerArea? = nil,
    sample: @escaping () -> ResourceSample,
    between: (() -> ResourceSample)? = nil
  ) {
    self.order = order
    self.area = area
    self.ledger = ledger
    self.sample = sample
    self.between = between
  }

  /// Runs the order's load against a plugin that it loads here, or a pool that it connects to.
  ///
  /// - Parameter keep: stores the measurement before the plugin shuts down, which must not lose it.
  /// - Throws: ``PluginError``, ``BrokerError``, ``SecurityFileError`` or ``LoadFailure`` when the load
  ///   cannot start.
  package func measure(keep: (Measurement) throws -> Void) throws {
    let plugin = try order.target.inProcess.map(load)
    let measurement =
      switch (order.target.transport, plugin) {
      case (.nats(let spec), _): try measure(spec, behind: plugin)
      case (.ffi(let spec), let plugin?):
        run(transports: try FFITransport.make(order: order, spec: spec, plugin: plugin, area: area))
      case (.ffi, nil): preconditionFailure("a target in this process has a plugin")
      }
    try keep(measurement)
    // A plugin that is stuck in a call must not be called again.
    guard let plugin, !measurement.has(.pluginHung) else { return }
    area.call = .shutdown
    plugin.shutdown()
    area.call = .none
  }

  private func load(_ spec: FFISpec) throws -> PluginLibrary {
    area.call = .load
    let plugin = try PluginLibrary(path: order.pluginPath)
    area.call = .initialize
    plugin.start(configJSON: spec.configJSON)
    area.call = .none
    return plugin
  }

  private func measure(_ spec: NATSSpec, behind plugin: PluginLibrary?) throws -> Measurement {
    let probe = DialectProbe(order: order, spec: spec)
    let known = try probe.dialect()
    // If no worker answered the probe, use the default dialect; the load's answers show whether it is right.
    let dialect = known ?? (order.target.host == .nylon ? .streamSDK : .reply)
    var warnings: [String] = []
    do {
      warnings = try WorkerInitialization(order: order, spec: spec, dialect: dialect.traits).run()
    } catch let failure as LoadFailure {
      // Workers of another dialect expect their configuration elsewhere.
      if let spoken = probe.other(than: dialect) { throw probe.refusal(of: dialect, spoken) }
      throw failure
    }
    let transports = try NATSTransport.make(order: order, spec: spec, dialect: dialect, area: area)
    var measurement: Measurement
    if let plugin, let first = order.target.behind {
      measurement = run(
        transports: try HybridTransport.make(order: order, first, plugin, pools: transports, area: area))
    } else {
      measurement = run(transports: transports)
    }
    measurement.client = Measurement.nativeClient
    measurement.dialect = known
    for remark in warnings + transports.flatMap(\.remarks) where !measurement.warnings.contains(remark) {
      measurement.warnings.append(remark)
    }
    return measurement
  }

  /// After a load whose answers do not fit its dialect, asks a worker which dialect it speaks, and records it
  /// if it differs.
  package func nameDialect(in measurement: inout Measurement) {
    guard let spec = order.target.nats, measurement.looksForeign,
      let spoken = DialectProbe(order: order, spec: spec).other(than: measurement.dialect ?? .reply)
    else { return }
    measurement.evidence = measurement.evidence ?? FailureEvidence()
    measurement.evidence?.spokenDialect = spoken
  }

  /// Runs the load with one transport per thread. Returns when everything is recorded, or when a plugin has
  /// kept a load thread for longer than every timeout allows.
  func run<Transport: SessionTransport>(transports: [Transport]) -> Measurement {
    let start = MonotonicClock.nanoseconds + 20_000_000
    let measureStart = start + UInt64(order.warmupSeconds * 1e9)
    let window = LoadWindow(
      start: start, measureStart: measureStart,
      measureEnd: measureStart + UInt64(order.measureSeconds * 1e9),
      drainNanoseconds: UInt64(order.drainSeconds * 1e9))
    area.measureEnd = window.measureEnd
    area.measureStart = window.measureStart
    ledger?.began = window.start
    let threads = transports.enumerated().map { thread, transport in
      LoadThread(driver: makeDriver(transport, thread: thread, window: window))
    }
    for thread in threads { thread.start() }
    area.state = .warmup
    let before = watch(until: window.measureStart, threads: threads)
    area.state = .measuring
    var samples = IntervalSamples(window: window, intervals: area.layout.windows)
    samples.add(before, at: 0, taken: MonotonicClock.nanoseconds)
    watchIntervals(&samples)
    let after = watch(until: window.measureEnd, threads: threads)
    area.state = .draining
    let ended = waitForEnd(threads, window: window)
    if ended { ledger?.ended = MonotonicClock.nanoseconds }
    var measurement = LoadResult.measurement(order: order, area: area)
    measurement.add(from: before, to: after)
    if samplesIntervals { samples.addCosts(to: &measurement.windows) }
    if ended {
      let evidence = transports.reduce(into: FailureEvidence()) { $0.add($1.evidence) }
      measurement.evidence = evidence.isEmpty ? nil : evidence
    } else {
      let hung = threads.firstIndex { !$0.isDone } ?? 0
      measurement.invalidReasons.append(
        InvalidReason(
          code: .pluginHung,
          detail:
            "`\(area.threadRecorder(hung).call.name)` did not return under load; its requests are counted as lost"
        ))
    }
    area.state = .done
    return measurement
  }

  private func makeDriver<Transport: SessionTransport>(
    _ transport: Transport, thread: Int, window: LoadWindow
  ) -> LoadDriver<Transport> {
    LoadDriver(
      transport: transport, steps: PhaseStep.steps(of: order),
      slotCount: order.share(of: order.placeCount, thread: thread).count,
      schedule: order.schedule(thread: thread),
      overflow: order.target.overflow, window: window, area: area, thread: thread,
      keepsGaps: order.hasFaults, ledger: ledger)
  }

  /// Sleeps until a time, or until the orchestrator requests a stop; then takes a sample.
  private func watch<T: SessionTransport>(until time: UInt64, threads: [LoadThread<T>]) -> ResourceSample {
    sleep(until: time)
    var sample = sample()
    sample.allocatedBytes = threads.reduce(0) { $0 + $1.allocatedBytes }
    return sample
  }

  /// In a shorter measured time, sampling ten times would disturb the load; so it would with faults, which
  /// need more intervals.
  private static let shortestWithIntervals = 2.0
  private var samplesIntervals: Bool {
    between != nil && order.measureSeconds >= Self.shortestWithIntervals && !order.hasFaults
  }

  /// Takes a sample at the end of each interval, apart from the slower sample of the whole measured time.
  private func watchIntervals(_ samples: inout IntervalSamples) {
    guard samplesIntervals, let between else { return }
    for place in 1...max(1, area.layout.windows) {
      let boundary = samples.boundary(place)
      sleep(until: boundary)
      guard boundary <= area.measureEnd else { return }
      samples.add(between(), at: place, taken: MonotonicClock.nanoseconds)
    }
  }

  /// Sleeps until a time, or until the measured time ends, which may be earlier than planned.
  private func sleep(until time: UInt64) {
    while MonotonicClock.nanoseconds < min(time, area.measureEnd) {
      // End slightly in the future, so that every load thread learns of the end in time.
      if area.stopRequested {
        area.measureEnd = min(area.measureEnd, MonotonicClock.nanoseconds + 25_000_000)
      }
      kernel_sleep_until(min(time, area.measureEnd, MonotonicClock.nanoseconds + 20_000_000))
    }
  }

  private func waitForEnd<T: SessionTransport>(_ threads: [LoadThread<T>], window: LoadWindow) -> Bool {
    let longest = order.target.policies.values.map(\.timeoutMilliseconds).max() ?? 0
    let limit =
      min(area.measureEnd, window.measureEnd) + window.drainNanoseconds + min(UInt64(longest), 5000)
      * 1_000_000
      + 2_000_000_000
    while !threads.allSatisfy(\.isDone) {
      if MonotonicClock.nanoseconds > limit { return false }
      kernel_sleep_until(MonotonicClock.nanoseconds + 2_000_000)
    }
    return true
  }
}

extension Measurement {
  /// Whether the workers may speak another dialect: they sent its maps, or nothing was answered in a dialect
  /// whose requests other workers refuse, possibly without a reply.
  fileprivate var looksForeign: Bool {
    if evidence?.otherDialect != nil { return true }
    return dialect?.traits.startMethod != nil && request?.counts.ok == 0
      && evidence?.subjectWithoutSubscriber == nil && evidence?.contentDifference == nil
  }

  fileprivate mutating func add(from before: ResourceSample, to after: ResourceSample) {
    cpuGeneratorNanoseconds = after.grown(\.generatorNanoseconds, since: before)
    cpuBrokerNanoseconds = after.grown(\.brokerNanoseconds, since: before)
    cpuWorkersNanoseconds = after.grown(\.workersNanoseconds, since: before)
    allocatedBytes = after.grown(\.allocatedBytes, since: before)
    generator = ProcessCosts(from: before.generator, to: after.generator)
    broker = ProcessCosts(from: before.broker, to: after.broker)
    workerProcesses = ProcessCosts(from: before.workers, to: after.workers)
    if let first = before.steal, let last = after.steal, last.total > first.total {
      stealShare = Double(last.stolen - first.stolen) / Double(last.total - first.total)
    }
  }
}

final class LoadThread<Transport: SessionTransport>: @unchecked Sendable {
  // @unchecked: the driver is created before the thread starts and then used only by it; the rest is atomic.
  private let driver: LoadDriver<Transport>
  private let done = Atomic<Bool>(false)
  private let counter = Atomic<UInt>(0)
  private let allocatedAtEnd = Atomic<UInt64>(0)

  init(driver: LoadDriver<Transport>) { self.driver = driver }

  var isDone: Bool { done.load(ordering: .acquiring) }

  /// Bytes that this thread has allocated so far, by jemalloc's counter; 0 before it runs.
  var allocatedBytes: UInt64 {
    // The counter lives in the thread's own memory and is freed with it.
    if isDone { return allocatedAtEnd.load(ordering: .acquiring) }
    return UnsafePointer<UInt64>(bitPattern: counter.load(ordering: .acquiring))?.pointee ?? 0
  }

  func start() {
    let thread = Thread { [self] in
      kernel_exact_timers()
      // Looked up once, because the lookup allocates.
      let allocated = ThreadAllocations.counter
      counter.store(UInt(bitPattern: allocated), ordering: .releasing)
      Transport.run(driver)
      allocatedAtEnd.store(allocated?.pointee ?? 0, ordering: .releasing)
      done.store(true, ordering: .releasing)
    }
    thread.stackSize = 4 << 20
    thread.name = "load"
    thread.start()
  }
}

/// jemalloc's per-thread count of allocated bytes.
enum ThreadAllocations {
  /// The calling thread's counter, which jemalloc keeps updating; nil without jemalloc.
  package static var counter: UnsafePointer<UInt64>? {
    var address: UnsafePointer<UInt64>?
    var size = MemoryLayout<UnsafePointer<UInt64>?>.size
    let status = mallctl("thread.allocatedp", &address, &size, nil, 0)
    return status == 0 ? address : nil
  }
}

/// The resource usage at each boundary of a measurement's intervals.
struct IntervalSamples {
  private let start: UInt64
  private let length: UInt64
  /// One sample per boundary, which is one more than there are intervals; nil when none was taken in time.
  private var samples: [ResourceSample?]

  init(window: LoadWindow, intervals: Int) {
    start = window.measureStart
    length = (window.measureEnd - window.measureStart) / UInt64(max(1, intervals))
    samples = Array(repeating: nil, count: intervals + 1)
  }

  /// The time at which an interval begins and the previous one ends.
  func boundary(_ place: Int) -> UInt64 { start + length * UInt64(place) }

  /// Keeps the sample of a boundary. A sample taken late, or early because the load was ended, is dropped: it
  /// would contain another interval's usage.
  mutating func add(_ sample: ResourceSample, at place: Int, taken: UInt64) {
    let due = boundary(place)
    // This limits the share that belongs to the neighbouring interval to 5 %.
    guard taken >= due, taken - due <= length / 20 else { return }
    samples[place] = sample
  }

  /// Sets the costs of each completed interval to the increase between its ends; a cost that is not known at
  /// both ends stays nil.
  func addCosts(to windows: inout [MeasurementWindow]) {
    for place in windows.indices where place + 1 < samples.count {
      guard let end = samples[place + 1] else { continue }
      windows[place].cpuGeneratorNanoseconds = end.grown(\.generatorNanoseconds, since: samples[place])
      windows[place].cpuBrokerNanoseconds = end.grown(\.brokerNanoseconds, since: samples[place])
      windows[place].cpuWorkersNanoseconds = end.grown(\.workersNanoseconds, since: samples[place])
      windows[place].residentGeneratorBytes = end.generator?.residentBytes
    }
  }
}
