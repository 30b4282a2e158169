import Engine
import Foundation
import Lab
import Nylon
import Results
import Scenario

/// What stands around the loads of one run: the broker, plugins' paths, worker pools.
final class Workbench {
  private let plan: Plan
  var glanceInterval = Duration.milliseconds(200)
  var hangLimits = LoadVigil.Limits()
  /// The program of load processes, nil for the running one, and what is added to their environment.
  var loadProgram: String?
  var loadEnvironment = Workbench.quietCrashes
  /// The brokers that the run has started.
  private(set) var cluster: BrokerCluster?
  /// The targets of which a load came about.
  private var startedTargets: Set<String> = []
  private var pluginPaths: [String: String] = [:]
  private(set) var pluginFiles: [PluginFile] = []
  /// What workers speak that were asked, by the target's name.
  private(set) var detectedDialects: [String: Dialect] = [:]
  private let links: NetworkLinks
  /// What the network links took of probes, as far as they have been started.
  var linkMeasurements: [LinkMeasurement] { links.measurements }

  /// Checks what can be checked before a load.
  ///
  /// - Parameter asksBrokers: whether brokers that run already are asked, too.
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
      if case .nats(let spec) = target.transport {
        // A missing or wrong file, a broker that does not answer or refuses us: found before anything is started.
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

  /// Makes one measurement in a fresh load process, with fresh workers; `onGlance` ends it early with false.
  func measure(
    target: Target, load: LoadShape, replicate: Int, warmupSeconds: Double? = nil,
    soakSeconds: Double? = nil, onGlance: (LoadGlanceAt) -> Bool
  ) throws -> Engine.Measurement {
    var order = LoadOrder(
      plan, target: target, load: load, replicate: replicate,
      pluginPath: pluginPaths[target.behind?.plugin ?? target.plugin] ?? "")
    order.warmupSeconds = warmupSeconds ?? plan.warmupSeconds
    if let soakSeconds { (order.measureSeconds, order.intervals) = (soakSeconds, SoakResult.windows) }
    do {
      let measurement = try measure(&order, onGlance: onGlance)
      startedTargets.insert(target.name)
      return measurement
    } catch {
      guard let reason = brokenStart(error, target) else { throw error }
      return try unmeasured(order, [reason])
    }
  }

  /// Why a replicate broke before its load, by something that had worked before; nil where the error ends the run: what
  /// has never worked is the user's to correct.
  private func brokenStart(_ error: any Error, _ target: Target) -> InvalidReason? {
    if let failure = error as? NetworkLinks.Failure {
      return InvalidReason(code: .linkDied, detail: failure.why)
    }
    guard startedTargets.contains(target.name), case .nats(let spec) = target.transport else { return nil }
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
    // The next replicate gets another one.
    if isOwn { dropCluster() }
    return InvalidReason(code: .brokerDied, detail: "the broker did not answer before the load: \(why)")
  }

  private func dropCluster() {
    guard let gone = cluster else { return }
    links.stop(to: gone.urls)
    gone.stop()
    cluster = nil
  }

  /// The run's brokers, started where none are there, or where a death or a fault left them harmed. One that stands still
  /// through no fault of the scenario is found out by those who need it.
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

  /// The routes that a fault of some target befalls.
  private var faultyRoutes: Set<BrokerRoute> {
    Set(
      plan.targets.flatMap(\.plannedFaults).compactMap { fault in
        if case .route(let one, let other) = fault.whom { BrokerRoute(one, other) } else { nil }
      })
  }

  /// A replicate without figures.
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
    if case .nats(var spec) = target.transport {
      spec.dialect = spec.dialect ?? detectedDialects[target.name]
      order.target.transport = .nats(spec)
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
    if case .nats(let spec) = target.transport, spec.dialect == nil {
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

  /// Where the scenario does not say it: of pools with faults.
  private func isAccounted(_ target: Target) -> Bool {
    plan.accounting ?? (!target.plannedFaults.isEmpty && target.transport.name == "nats")
  }

  /// Ledgers for a load whose requests are accounted for, and room for them in its order.
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
    let watch = ownCluster.map {
      BrokerWatch($0.monitors, area: shared.area, seconds: order.measureSeconds)
    }
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
      // A director is woken more often than there is something new to show, and a look reads every window.
      guard director == nil || Deadline.now >= nextGlance else { return true }
      nextGlance = .after(glanceInterval * max(1, order.windows / 100))
      let area = shared.area
      let measured = area.measureStart > 0 ? min(max(area.measuredSeconds, 0), area.plannedSeconds) : 0
      if !onGlance((LoadGlance(area), measured, process.pid)) { area.stopRequested = true }
      return true
    }
    director?.finish { shared.area.measuredSeconds }
    // Before anything can throw: the watch looks into the shared memory, which goes with this function.
    let (activity, nodes) = watch?.finish() ?? (nil, nil)
    var measurement = try measurement(
      of: outcome, hang: hang, faults: director?.records, killed: stage.killedHostAt, order: order,
      shared: shared)
    (measurement.brokerActivity, measurement.nodes) = (activity, nodes)
    measurement.warnings += (activity?.warnings ?? []) + measurement.decompositionWarnings
    return measurement
  }

  /// Mostly the plugin is what crashes: Swift's own long report of it would hide its last words.
  static let quietCrashes =
    ProcessInfo.processInfo.environment["SWIFT_BACKTRACE"] == nil ? ["SWIFT_BACKTRACE": "enable=no"] : [:]

  /// - Parameters:
  ///   - faults: what was done under the load; nil of a load without faults.
  ///   - killed: when the load process was killed as one of them.
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
    // The load process died: what it had recorded is still in the shared memory.
    shared.area.measureEnd = min(shared.area.measureEnd, MonotonicClock.nanoseconds)
    var measurement = LoadResult.measurement(order: order, area: shared.area)
    if let damaged = try damaged(measurement, fault, order) { return damaged }
    measurement.faults = faults
    measurement.invalidReasons = [
      fault ?? InvalidReason(code: .failed, detail: "the load process brought no result that can be read")
    ]
    return measurement
  }

  /// The measurement with what was done, and what its figures show against it.
  private func assessed(_ measurement: Engine.Measurement, _ faults: [FaultRecord]?) -> Engine.Measurement {
    var measurement = measurement
    measurement.faults = faults
    let (reasons, warnings) = Validity.assess(measurement, optimisedBuild: ToolVersion.isOptimised)
    measurement.invalidReasons += reasons
    measurement.warnings += warnings
    return measurement
  }

  /// A measurement without figures where those that came cannot be true; nil where they can. What workers do cannot
  /// reach the record, so there such figures are a defect of ours.
  private func damaged(
    _ measurement: Engine.Measurement, _ fault: InvalidReason?, _ order: LoadOrder
  ) throws -> Engine.Measurement? {
    guard order.target.inProcess != nil, let damage = measurement.damage(order: order) else {
      return nil
    }
    let reason = InvalidReason(
      code: .recordingDamaged,
      detail: "the record cannot be true: \(damage). The plugin has written into memory that is not its own")
    return try unmeasured(order, [reason] + [fault].compactMap { $0 })
  }

  /// What the end of a load process says against its measurement; nil when it ended as it should.
  ///
  /// - Parameter call: the call of the plugin that was under way then.
  private static func fault(
    _ outcome: LoadOutcome, hang: String?, order: LoadOrder, call: HostCall
  ) -> InvalidReason? {
    let isInProcess = order.target.inProcess != nil
    func reason(_ code: InvalidReason.Code, _ detail: String) -> InvalidReason {
      let words = outcome.lastWords.isEmpty ? "it said nothing" : "last words: \(outcome.lastWords)"
      return InvalidReason(code: isInProcess ? code : .failed, detail: "\(detail); \(words)")
    }
    if let hang { return reason(.pluginHung, hang) }
    if outcome.ranOver {
      return reason(.pluginHung, "the load process did not end in time and was ended")
    }
    if outcome.status == .exited(0), outcome.document != nil { return nil }
    let place = call == .none ? "" : " in `\(call.name)`"
    return reason(.pluginCrashed, "the load process \(outcome.status)\(place)")
  }

  private func noteDeaths(_ pool: WorkerPool?, order: LoadOrder, in measurement: inout Engine.Measurement) {
    let mayLackBroker = order.target.plannedFaults.contains { $0.whom.mayPartWorkerFromBroker }
    for death in pool?.deaths() ?? [] {
      let words = "worker \(death.index) \(death.status); last words: \(death.lastWords)"
      // Most workers give up where they find no broker at their start; a supervisor would start them again.
      if mayLackBroker, death.index >= order.workerPIDs.count {
        measurement.warnings.append(
          "\(words). A fault had started it, perhaps while another held the broker away")
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
          detail: "\(name) \(broker.exitStatus?.description ?? "ended"); last words: \(broker.lastWords)"))
    }
  }

  private func secrets(of order: LoadOrder) -> [String] {
    if case .nats(let spec) = order.target.transport { spec.secretWords(servers: order.servers) } else { [] }
  }
}

extension Engine.Measurement {
  /// Forgets the costs of processes of which some came or went with a fault: those that are there at the end of the
  /// measured time are not those of its start.
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
  /// Seconds of the measured time until now; before it, less than 0 or, before it is known, far less.
  fileprivate var measuredSeconds: Double {
    let start = measureStart
    return start > 0 ? (Double(MonotonicClock.nanoseconds) - Double(start)) / 1e9 : -.infinity
  }

  /// Length of the measured time, seconds; 0 before it is known.
  fileprivate var plannedSeconds: Double { Double(measureEnd - min(measureEnd, measureStart)) / 1e9 }
}

extension FaultDirector {
  /// When it must be asked next; nil when nothing is left to do.
  fileprivate func wakeTime(in area: RecordingArea) -> Deadline? {
    guard let nextSeconds else { return nil }
    let now = area.measuredSeconds
    // Until the load says when it will begin.
    return .after(now.isFinite ? .seconds(nextSeconds - now) : .milliseconds(10))
  }
}

/// The network links of one run. A link is started when it is first needed, and then stays: all
/// targets that ask for the same link to the same brokers share its relay.
final class NetworkLinks {
  private struct Key: Hashable {
    let spec: LinkSpec
    let servers: [String]
  }

  /// A link of the target that is measured, and what its relay had cost before the load.
  private struct Use {
    let link: Link
    let cpuBefore: UInt64?
    let since = MonotonicClock.nanoseconds
  }

  /// A relay that ended, or did not pass its probes on, when a link was to be started.
  struct Failure: Error {
    let why: String
  }

  private static let busyShare = 0.8

  private let seed: UInt64
  private var links: [Key: Link] = [:]
  private var used: [Use] = []
  /// What each link took of probes, in the order in which they were started.
  private(set) var measurements: [LinkMeasurement] = []

  init(seed: UInt64) { self.seed = seed }

  /// The URLs that a part uses to reach the brokers: through the target's link on its side, when
  /// there is one.
  func urls(to servers: [String], for target: Target, _ side: LinkPlace) throws -> [String] {
    guard let spec = target.wiredLinks.first(where: { $0.between == side }) else { return servers }
    let key = Key(spec: spec, servers: servers)
    if let link = links[key], link.isRunning { return link.urls }
    let link: Link
    do {
      link = try Link(spec, to: servers, seed: seed)
    } catch {
      guard error.hasFailed else { throw error }
      throw Failure(why: "the link \(side.rawValue) did not come about: \(error)")
    }
    links[key] = link
    measurements.append(link.accuracy)
    return link.urls
  }

  /// The relay of a target's link; nil where it has none.
  func link(_ place: LinkPlace, to servers: [String], for target: Target) -> Link? {
    target.wiredLinks.first { $0.between == place }.flatMap { links[Key(spec: $0, servers: servers)] }
  }

  /// Notes what the relays of a target's links have cost until now, before a load.
  func begin(_ target: Target, to servers: [String]) {
    used = target.wiredLinks.compactMap { links[Key(spec: $0, servers: servers)] }
      .map { Use(link: $0, cpuBefore: $0.cpuNanoseconds) }
  }

  /// Judges a measurement over links: a relay that died makes it invalid, a busy one is told.
  func judge(_ measurement: inout Engine.Measurement) {
    for use in used {
      let (link, place) = (use.link, use.link.spec.between.rawValue)
      guard link.isRunning else {
        measurement.invalidReasons.append(
          InvalidReason(
            code: .linkDied,
            detail: "the relay of the link \(place) \(link.exitStatus?.description ?? "ended")"
              + "; last words: \(link.lastWords)"))
        continue
      }
      guard let before = use.cpuBefore, let now = link.cpuNanoseconds, now > before else { continue }
      let share = Double(now - before) / Double(MonotonicClock.nanoseconds - use.since)
      if share > Self.busyShare {
        measurement.warnings.append(
          "the relay of the link \(place) used \(Int((share * 100).rounded())) % of a core: it may be what "
            + "bounds the throughput, not the network that it stands for")
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
