import Engine
import Foundation
import Lab
import Nylon
import Results
import Scenario

/// The environment of a run's loads: brokers, network links, plugin paths and worker pools.
final class Workbench {
  private let plan: Plan
  var glanceInterval = Duration.milliseconds(200)
  var hangLimits = LoadVigil.Limits()
  /// The executable of load processes; nil for the running one.
  var loadProgram: String?
  /// Variables added to the environment of load processes.
  var loadEnvironment = Workbench.quietCrashes
  /// The brokers started by this run; nil when none are running.
  private(set) var cluster: BrokerCluster?
  /// The names of targets that have completed at least one load.
  private var startedTargets: Set<String> = []
  private var pluginPaths: [String: String] = [:]
  private(set) var pluginFiles: [PluginFile] = []
  /// The dialects detected by probing workers, by target name.
  private(set) var detectedDialects: [String: Dialect] = [:]
  private let links: NetworkLinks
  /// The probe measurements of the links started so far.
  var linkMeasurements: [LinkMeasurement] { links.measurements }

  /// Checks everything that can be checked before the first load.
  ///
  /// - Parameter asksBrokers: whether to probe brokers that are already running.
  init(plan: Plan, asksBrokers: Bool = true) throws {
    self.plan = plan
    links = NetworkLinks(seed: plan.seed)
    for target in plan.targets {
      if let spec = target.inProcess {
        let plugin = target.behind?.plugin ?? target.plugin
        let path = try PackageFiles.plugin(spec.file)
        pluginPaths[plugin] = path
        if !FileManager.default.fileExists(atPath: path) {
          throw LabError.missing(
            "The plugin '\(path)' of target '\(target.name)'",
            remedy: "Build it, or correct `file:` of plugin '\(plugin)'.")
        }
        do { try PluginLibrary.checkFile(path) } catch { throw LoadFailure(error) }
        addPlugin(plugin, path)
      }
      if let spec = target.nats {
        // Detect unusable files and unreachable brokers before starting anything.
        try Broker.checkFiles(auth: spec.auth, tls: spec.tls, servers: spec.servers)
        for server in spec.servers where asksBrokers {
          try Broker.probe(url: server, auth: spec.auth, tls: spec.tls)
        }
        if spec.servers.isEmpty { _ = try Executables.broker(plan.broker) }
        if !target.wiredLinks.isEmpty { _ = try Executables.own("nylon-link") }
        if let program = spec.workers?.command.first {
          let path = try Executables.find(
            program, shown: "The program '\(program)' of the workers of target '\(target.name)'",
            remedy: "Give the path of a program, or the name of one in PATH.")
          addPlugin(target.plugin, path)
        }
      }
    }
  }

  private func addPlugin(_ name: String, _ path: String) {
    let file = PluginFile(name: name, file: path)
    if !pluginFiles.contains(file) { pluginFiles.append(file) }
  }

  func tearDown() {
    links.stop()
    cluster?.stop()
    cluster = nil
  }

  /// Takes one measurement in a new load process with new workers. `onGlance` returns false to end it early.
  func measure(
    target: Target, load: LoadShape, replicate: Int, warmupSeconds: Double? = nil,
    soakSeconds: Double? = nil, onGlance: (LoadGlanceAt) -> Bool
  ) throws -> Engine.Measurement {
    var order = LoadOrder(
      plan, target: target, load: load, replicate: replicate,
      pluginPath: pluginPaths[target.behind?.plugin ?? target.plugin] ?? "")
    order.warmupSeconds = warmupSeconds ?? plan.warmupSeconds
    if let soakSeconds {
      // The control of a soak is shorter and has intervals of the same length.
      let share = soakSeconds / (plan.soakSeconds ?? soakSeconds)
      order.measureSeconds = soakSeconds
      order.intervals = Int((Double(SoakResult.windows) * share).rounded())
    }
    do {
      let measurement = try measure(&order, onGlance: onGlance)
      startedTargets.insert(target.name)
      return measurement
    } catch {
      guard let reason = brokenStart(error, target) else { throw error }
      return try unmeasured(order, [reason])
    }
  }

  /// Returns why a replicate failed before its load started, or nil when the error must end the run.
  /// The error of a target that has never worked ends the run, since the user must correct its setup.
  private func brokenStart(_ error: any Error, _ target: Target) -> InvalidReason? {
    if let failure = error as? NetworkLinks.Failure {
      return InvalidReason(code: .linkDied, detail: failure.why)
    }
    guard startedTargets.contains(target.name), let spec = target.nats else { return nil }
    let why: String
    switch error {
    case let error as LabError where !error.isInvalidInput: why = error.description
    case let failure as LoadFailure where failure.kind != .scenario: why = failure.message
    default: return nil
    }
    let isOwn = spec.servers.isEmpty
    let servers = isOwn ? cluster?.urls ?? [] : spec.servers
    let answers = servers.allSatisfy { server in
      (try? Broker.probe(url: server, auth: spec.auth, tls: spec.tls, timeout: .seconds(1))) != nil
    }
    if answers, !servers.isEmpty { return InvalidReason(code: .failed, detail: why) }
    // The next replicate starts a new cluster.
    if isOwn { dropCluster() }
    return InvalidReason(code: .brokerDied, detail: "the broker did not answer before the load: \(why)")
  }

  private func dropCluster() {
    guard let gone = cluster else { return }
    links.stop(to: gone.urls)
    gone.stop()
    cluster = nil
  }

  /// Returns the run's brokers, starting a new cluster when there is none or a crash or fault damaged it.
  /// A broker that hangs for any other reason is not detected here; its clients report it.
  private func ownCluster(for spec: NATSSpec) throws -> BrokerCluster {
    let isSound = plan.targets.contains { !$0.plannedFaults.isEmpty } ? cluster?.isWhole : cluster?.isRunning
    if isSound == false { dropCluster() }
    let running =
      try cluster
      ?? BrokerCluster.start(
        count: plan.brokerCount, auth: spec.auth, asksForToken: plan.asksForToken, limits: plan.brokerLimits,
        relayed: faultyRoutes, program: plan.broker)
    cluster = running
    return running
  }

  /// The cluster routes that are the target of a fault.
  private var faultyRoutes: Set<BrokerRoute> {
    Set(
      plan.targets.flatMap(\.plannedFaults).compactMap { fault in
        if case .route(let one, let other) = fault.whom { BrokerRoute(one, other) } else { nil }
      })
  }

  /// Returns an invalid measurement without results.
  private func unmeasured(_ order: LoadOrder, _ reasons: [InvalidReason]) throws -> Engine.Measurement {
    let blank = try SharedRecording(layout: order.layout)
    var measurement = withExtendedLifetime(blank) { LoadResult.measurement(order: order, area: blank.area) }
    measurement.invalidReasons = reasons
    return measurement
  }

  private func measure(
    _ order: inout LoadOrder, onGlance: (LoadGlanceAt) -> Bool
  ) throws -> Engine.Measurement {
    let target = order.target
    let ledgers = try ledgers(for: &order)
    var pool: WorkerPool?
    var servers: [String] = []
    if let spec = target.nats {
      order.target.nats?.dialect = spec.dialect ?? detectedDialects[target.name]
      servers = spec.servers
      let own = servers.isEmpty ? try ownCluster(for: spec) : nil
      if let own { (servers, order.brokerPIDs) = (own.urls, own.pids) }
      let nodes = target.nodes
      order.servers = try links.urls(to: servers, for: target, .generatorBroker)
      if own != nil { order.servers = NodeChoice.order(order.servers, first: nodes.generator - 1) }
      if spec.workers != nil {
        pool = try WorkerPool.start(
          for: target, servers: try links.urls(to: servers, for: target, .brokerWorkers),
          homes: own.map { nodes.homes(of: $0.urls.count) }, monitors: own?.monitors ?? [],
          ledger: ledgers.map { (HandledRequest.variable, $0.poolDescriptor) })
        order.workerPIDs = pool?.pids ?? []
      }
    }
    defer { pool?.stop() }
    links.begin(target, to: servers)
    var measurement = try runLoad(order, pool, ledgers, servers: servers, onGlance: onGlance)
    if let spec = target.nats, spec.dialect == nil {
      detectedDialects[target.name] = measurement.dialect
    }
    links.judge(&measurement)
    noteDeaths(pool, order: order, in: &measurement)
    let changed = target.plannedFaults.filter(\.what.changesProcesses).map(\.whom.part)
    if changed.contains(.worker) || changed.contains(.pool) {
      measurement.forget(\.cpuWorkersNanoseconds, \.workerProcesses, \.cpuWorkersNanoseconds)
    }
    if changed.contains(.broker) {
      measurement.forget(\.cpuBrokerNanoseconds, \.broker, \.cpuBrokerNanoseconds)
    }
    if isAccounted(target) {
      pool?.stop()
      measurement.accounting = ledgers?.accounting() ?? Accounting(gap: Ledgers.obstacle(for: target))
    }
    return measurement
  }

  /// Whether requests are accounted for. Unless the scenario says otherwise, only pools with faults are.
  private func isAccounted(_ target: Target) -> Bool {
    plan.accounting ?? (!target.plannedFaults.isEmpty && target.transport.kind == .nats)
  }

  /// Creates the ledgers for a load that is accounted for, and records their layout in the order.
  private func ledgers(for order: inout LoadOrder) throws -> Ledgers? {
    guard isAccounted(order.target), Ledgers.obstacle(for: order.target) == nil else { return nil }
    let ledgers = try Ledgers(order)
    order.ledger = ledgers.layout
    return ledgers
  }

  private func runLoad(
    _ order: LoadOrder, _ pool: WorkerPool?, _ ledgers: Ledgers?, servers: [String],
    onGlance: (LoadGlanceAt) -> Bool
  ) throws -> Engine.Measurement {
    let shared = try SharedRecording(layout: order.layout)
    let process = try LoadProcess.start(
      order: Array(try JSONEncoder().encode(order)), program: loadProgram, sharedMemory: shared.descriptor,
      ledger: ledgers?.hostDescriptor, environment: loadEnvironment, secrets: secrets(of: order))
    let ownCluster = order.brokerPIDs.isEmpty ? nil : cluster
    let watch = ownCluster.map { BrokerWatch($0.monitors, area: shared.area, seconds: order.measureSeconds) }
    let stage = LabFaults(process: process, target: order.target, pool: pool, cluster: ownCluster) {
      [links] in links.link($0, to: servers, for: order.target)
    }
    let director =
      order.hasFaults
      ? FaultDirector(
        order.target.plannedFaults, seed: order.seed, replicate: order.replicate, stage: stage) : nil
    let longest = order.target.policies.values.map(\.timeoutMilliseconds).max() ?? 0
    let seconds =
      order.warmupSeconds + order.measureSeconds + order.drainSeconds + Double(longest) / 1000 + 20
    var vigil = LoadVigil(hangLimits)
    var hang: String?
    var nextGlance = Deadline.now
    let outcome = process.wait(
      limit: .seconds(seconds), every: glanceInterval, wake: { director?.wakeTime(in: shared.area) }
    ) {
      director?.doDue { shared.area.measuredSeconds }
      hang = vigil.look(at: shared.area, pid: process.pid, isStopPlanned: stage.isHostStopped)
      if hang != nil {
        process.kill()
        return true
      }
      // The director wakes more often than progress changes.
      guard director == nil || Deadline.now >= nextGlance else { return true }
      nextGlance = .after(glanceInterval)
      let area = shared.area
      let measured = area.measureStart > 0 ? min(max(area.measuredSeconds, 0), area.plannedSeconds) : 0
      if !onGlance((LoadGlance(area), measured, process.pid)) { area.stopRequested = true }
      return true
    }
    director?.finish { shared.area.measuredSeconds }
    // Stop the watch before anything can throw: it reads the shared memory, which this function owns.
    let (activity, nodes) = watch?.finish() ?? (nil, nil)
    var measurement = try measurement(
      of: outcome, hang: hang, faults: director?.records, killed: stage.killedHostAt, order: order,
      shared: shared)
    (measurement.brokerActivity, measurement.nodes) = (activity, nodes)
    measurement.warnings += (activity?.warnings ?? []) + measurement.decompositionWarnings
    return measurement
  }

  /// Usually it is the plugin that crashes, and Swift's long backtrace would hide its last output.
  static let quietCrashes =
    ProcessInfo.processInfo.environment["SWIFT_BACKTRACE"] == nil ? ["SWIFT_BACKTRACE": "enable=no"] : [:]

  /// - Parameters:
  ///   - faults: the faults injected during the load; nil for a load without faults.
  ///   - killed: when a fault killed the load process, monotonic nanoseconds; nil when none did.
  private func measurement(
    of outcome: LoadOutcome, hang: String?, faults: [FaultRecord]?, killed: UInt64?, order: LoadOrder,
    shared: SharedRecording
  ) throws -> Engine.Measurement {
    if let killed {
      LoadResult.loseTheRest(of: order, in: shared.area, died: killed)
      return assessed(LoadResult.measurement(order: order, area: shared.area), faults)
    }
    let fault = Self.fault(outcome, hang: hang, order: order, call: shared.area.call)
    switch outcome.document.flatMap({ try? JSONDecoder().decode(LoadReply.self, from: Data($0)) }) {
    case .failure(let failure): throw failure
    case .measurement(var measurement):
      if let damaged = try damaged(measurement, fault, order) { return damaged }
      let words = measurement.evidence?.workerError
      measurement.evidence?.workerError = words.map(Secrets(secrets(of: order)).scrub)
      measurement = assessed(measurement, faults)
      measurement.invalidReasons += [fault].compactMap { $0 }
      return measurement
    case nil: break
    }
    // The load process died, but the shared memory still holds what it recorded.
    shared.area.measureEnd = min(shared.area.measureEnd, MonotonicClock.nanoseconds)
    var measurement = LoadResult.measurement(order: order, area: shared.area)
    if let damaged = try damaged(measurement, fault, order) { return damaged }
    measurement.faults = faults
    measurement.invalidReasons = [
      fault ?? InvalidReason(code: .failed, detail: "the load process returned no readable result")
    ]
    return measurement
  }

  /// Adds the injected faults and the findings of the validity checks to a measurement.
  private func assessed(_ measurement: Engine.Measurement, _ faults: [FaultRecord]?) -> Engine.Measurement {
    var measurement = measurement
    measurement.faults = faults
    let (reasons, warnings) = Validity.assess(measurement, optimisedBuild: ToolVersion.isOptimised)
    measurement.invalidReasons += reasons
    measurement.warnings += warnings
    return measurement
  }

  /// Returns an empty measurement when the recorded values are impossible, or nil when they are plausible.
  /// Workers cannot write to the record, so only targets with an in-process plugin are checked.
  private func damaged(
    _ measurement: Engine.Measurement, _ fault: InvalidReason?, _ order: LoadOrder
  ) throws -> Engine.Measurement? {
    guard order.target.inProcess != nil, let damage = measurement.damage(order: order) else { return nil }
    let reason = InvalidReason(
      code: .recordingDamaged,
      detail: "the record is damaged: \(damage). The plugin has written to memory that is not its own")
    return try unmeasured(order, [reason] + [fault].compactMap { $0 })
  }

  /// Returns why the load process's exit invalidates its measurement; nil when it exited normally.
  ///
  /// - Parameter call: the plugin call in progress at that time.
  private static func fault(
    _ outcome: LoadOutcome, hang: String?, order: LoadOrder, call: HostCall
  ) -> InvalidReason? {
    let isInProcess = order.target.inProcess != nil
    func reason(_ code: InvalidReason.Code, _ detail: String) -> InvalidReason {
      let words = outcome.lastWords.isEmpty ? "it printed nothing" : "last output: \(outcome.lastWords)"
      return InvalidReason(code: isInProcess ? code : .failed, detail: "\(detail); \(words)")
    }
    if let hang { return reason(.pluginHung, hang) }
    if outcome.ranOver { return reason(.pluginHung, "the load process did not end in time and was killed") }
    if outcome.status == .exited(0), outcome.document != nil { return nil }
    let place = call == .none ? "" : " in `\(call.name)`"
    return reason(.pluginCrashed, "the load process \(outcome.status)\(place)")
  }

  private func noteDeaths(_ pool: WorkerPool?, order: LoadOrder, in measurement: inout Engine.Measurement) {
    let mayLackBroker = order.target.plannedFaults.contains { $0.whom.mayPartWorkerFromBroker }
    for death in pool?.deaths() ?? [] {
      let words = "worker \(death.index) \(death.status); last output: \(death.lastWords)"
      // Most workers exit when they cannot connect at startup; a supervisor would restart them.
      if mayLackBroker, death.index >= order.workerPIDs.count {
        measurement.warnings.append(
          "\(words). It was started by a fault, perhaps while another fault made the broker unavailable")
      } else {
        measurement.invalidReasons.append(InvalidReason(code: .workerDied, detail: words))
      }
    }
    guard !order.brokerPIDs.isEmpty, let cluster else { return }
    for index in cluster.died {
      let broker = cluster.nodes[index]
      let name = cluster.nodes.count == 1 ? "the broker" : "broker \(index + 1)"
      measurement.invalidReasons.append(
        InvalidReason(
          code: .brokerDied,
          detail: "\(name) \(broker.exitStatus?.description ?? "ended"); last output: \(broker.lastWords)"))
    }
  }

  private func secrets(of order: LoadOrder) -> [String] {
    order.target.nats?.secretWords(servers: order.servers) ?? []
  }
}

extension Engine.Measurement {
  /// Clears the costs of processes that a fault started or stopped: the processes at the end of the
  /// measured time are not the ones at its start, so their costs cannot be subtracted.
  fileprivate mutating func forget(
    _ cpuNanoseconds: WritableKeyPath<Self, UInt64?>, _ costs: WritableKeyPath<Self, ProcessCosts?>,
    _ windowCPUNanoseconds: WritableKeyPath<MeasurementWindow, UInt64?>
  ) {
    self[keyPath: cpuNanoseconds] = nil
    self[keyPath: costs] = nil
    for place in windows.indices { windows[place][keyPath: windowCPUNanoseconds] = nil }
  }
}

extension RecordingArea {
  /// Seconds since the measured time began: negative before it, and -infinity until its start is known.
  fileprivate var measuredSeconds: Double {
    let start = measureStart
    return start > 0 ? (Double(MonotonicClock.nanoseconds) - Double(start)) / 1e9 : -.infinity
  }

  /// Length of the measured time, seconds; 0 until it is known.
  fileprivate var plannedSeconds: Double { Double(measureEnd - min(measureEnd, measureStart)) / 1e9 }
}

extension FaultDirector {
  /// When to call `doDue` next; nil when nothing is left to do.
  fileprivate func wakeTime(in area: RecordingArea) -> Deadline? {
    guard let nextSeconds else { return nil }
    let now = area.measuredSeconds
    // Poll until the load has set the start of its measured time.
    return .after(now.isFinite ? .seconds(nextSeconds - now) : .milliseconds(10))
  }
}

/// The network links of one run. A link is started on first use and kept running: all targets that
/// need the same link to the same brokers share its relay.
final class NetworkLinks {
  private struct Key: Hashable {
    let spec: LinkSpec
    let servers: [String]
  }

  /// A link of the current target, with the CPU time its relay had used before the load.
  private struct Use {
    let link: Link
    let cpuBefore: UInt64?
    let since = MonotonicClock.nanoseconds
  }

  /// A link that could not be started: its relay exited, or did not forward its probes.
  struct Failure: Error { let why: String }

  private static let busyShare = 0.8

  private let seed: UInt64
  private var links: [Key: Link] = [:]
  private var used: [Use] = []
  /// The probe measurements of each link, in the order in which the links were started.
  private(set) var measurements: [LinkMeasurement] = []

  init(seed: UInt64) { self.seed = seed }

  /// The URLs that one side uses to reach the brokers: those of the target's link on that side, or
  /// the brokers' own when there is none.
  func urls(to servers: [String], for target: Target, _ side: LinkPlace) throws -> [String] {
    guard let spec = target.wiredLinks.first(where: { $0.between == side }) else { return servers }
    let key = Key(spec: spec, servers: servers)
    if let link = links[key], link.isRunning { return link.urls }
    let link: Link
    do {
      link = try Link(spec, to: servers, seed: seed)
    } catch {
      guard error.hasFailed else { throw error }
      throw Failure(why: "the link \(side.rawValue) could not be started: \(error)")
    }
    links[key] = link
    measurements.append(link.accuracy)
    return link.urls
  }

  /// The target's running link at a place; nil when it has none.
  func link(_ place: LinkPlace, to servers: [String], for target: Target) -> Link? {
    target.wiredLinks.first { $0.between == place }.flatMap { links[Key(spec: $0, servers: servers)] }
  }

  /// Records the CPU time used so far by the relays of a target's links. Called before a load.
  func begin(_ target: Target, to servers: [String]) {
    used = target.wiredLinks.compactMap { links[Key(spec: $0, servers: servers)] }
      .map { Use(link: $0, cpuBefore: $0.cpuNanoseconds) }
  }

  /// Marks a measurement invalid when one of its relays died, and warns when one was busy.
  func judge(_ measurement: inout Engine.Measurement) {
    for use in used {
      let (link, place) = (use.link, use.link.spec.between.rawValue)
      guard link.isRunning else {
        measurement.invalidReasons.append(
          InvalidReason(
            code: .linkDied,
            detail: "the relay of the link \(place) \(link.exitStatus?.description ?? "ended")"
              + "; last output: \(link.lastWords)"))
        continue
      }
      guard let before = use.cpuBefore, let now = link.cpuNanoseconds, now > before else { continue }
      let share = Double(now - before) / Double(MonotonicClock.nanoseconds - use.since)
      if share > Self.busyShare {
        measurement.warnings.append(
          "the relay of the link \(place) used \(Int((share * 100).rounded())) % of a core: it may limit "
            + "the throughput, rather than the network that it emulates")
      }
    }
  }

  func stop(to servers: [String]? = nil) {
    for (key, link) in links where servers == nil || key.servers == servers {
      link.stop()
      links[key] = nil
    }
  }
}
