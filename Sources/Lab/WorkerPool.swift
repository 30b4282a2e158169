import Foundation
import NATS
import Scenario

/// A worker that ended although nobody asked it to.
package struct WorkerDeath: Sendable, Equatable {
  /// Which one, from 0.
  package var index: Int
  package var status: ExitStatus
  /// What it said last, without secrets.
  package var lastWords: String
}

/// The workers of a pool, started by us. They are numbered from 0; those that are added later go on counting.
package final class WorkerPool: Sendable {
  private struct State {
    var workers: [ChildProcess] = []
    /// Those that we ended ourselves.
    var ended: Set<Int> = []
    /// Those that are slowed, and by which thread.
    var slowed: [Int: UInt64] = [:]
    /// How often one was slowed.
    var slowings: UInt64 = 0
    /// The queue group that new workers join.
    var group: String
  }

  private let recipe: WorkerRecipe
  private let state: Guarded<State>

  private init(_ recipe: WorkerRecipe) {
    self.recipe = recipe
    state = Guarded(State(group: recipe.pool.group))
  }

  // A thread that slows a worker holds the workers.
  deinit { state.withLock { $0.slowed = [:] } }

  /// Starts the workers that a target's pool asks for, and returns when they are ready. Without `servers`
  /// they connect to those of the pool.
  ///
  /// A worker gets `NATS_SERVERS` (separated by commas) and `NATS_GROUP`, `NYLON_PLUGIN` and `NYLON_PREFIX`, of which
  /// its subjects are made, the credentials, when there are any, as `NATS_TOKEN`, `NATS_USER`, `NATS_PASSWORD`,
  /// `NATS_CREDS`, `NATS_NKEY`, those of TLS as `NATS_TLS` (`1`), `NATS_CA`, `NATS_CERT`, `NATS_KEY`, and the
  /// scenario's environment on top. A token that stands in the first URL is in `NATS_TOKEN`, too. A command `nylon-worker`
  /// is this package's own; it also gets `--name` and `--prefix`.
  ///
  /// Ready means, with brokers whose monitoring is known: they show as many new subscribers in the
  /// queue group, for each of the target's phases, as there are workers; that holds for workers of any kind.
  /// Without it: the worker has said "started successfully", as the real SDK and ours do. Another
  /// worker that does not say so counts as ready when `start_seconds` have passed and it still runs.
  ///
  /// - Parameter homes: the places in `servers` of those that the workers connect to first, in turn, and `NATS_SERVERS`
  ///   begins with; `NATS_NO_RANDOMIZE` is `1` then. Nil where that is left to the workers.
  /// - Parameter ledger: a descriptor that the workers inherit, to which they note what their handlers see, and the
  ///   variable that tells them its number. It stays open as long as workers may be added.
  package static func start(
    for target: Target, servers: [String] = [], homes: [Int]? = nil, monitors: [BrokerMonitor],
    ledger: (variable: String, descriptor: Int32)? = nil
  ) throws(LabError) -> WorkerPool {
    let recipe = try WorkerRecipe(target, servers: servers, homes: homes, monitors: monitors, ledger: ledger)
    let pool = WorkerPool(recipe)
    try pool.startReady(recipe.spec.count, in: recipe.pool.group)
    return pool
  }

  package static func start(
    for target: Target, servers: [String] = [], monitor: BrokerMonitor?
  ) throws(LabError) -> WorkerPool {
    try start(for: target, servers: servers, monitors: monitor.map { [$0] } ?? [])
  }

  /// Starts so many workers in a group, and returns when they are ready; ends them where they do not become so.
  private func startReady(_ count: Int, in group: String) throws(LabError) {
    let deadline = Deadline.after(.seconds(min(max(recipe.spec.startSeconds, 0.1), 3600)))
    let before = state.withLock { state in
      let old = state.group
      state.group = group
      return (group: old, count: state.workers.count)
    }
    do throws(LabError) {
      // Connections that were there before do not count: another pool's, perhaps on their way out.
      let known = try recipe.subscribers(in: group)
      let new = try add(count)
      if recipe.monitors.isEmpty { return try awaitWords(of: new, until: deadline) }
      try wait(until: deadline) { () throws(LabError) in
        let counts = zip(try recipe.subscribers(in: group), known).map { $0.subtracting($1).count }
        guard let least = counts.min(), least < count else { return nil }
        let subject = recipe.subjects[counts.firstIndex(of: least) ?? 0]
        return "only \(least) of \(count) subscribed to \(subject) in queue group \(group) in time"
      }
    } catch {
      state.withLock { $0.group = before.group }
      end(before.count..., grace: .milliseconds(500))
      throw error
    }
  }

  /// Looks again and again until nothing is missing; a monitoring that does not answer is asked again, too.
  private func wait(
    until deadline: Deadline, missing: () throws(LabError) -> String?
  ) throws(LabError) {
    while true {
      try checkAlive()
      do throws(LabError) {
        guard let why = try missing() else { return }
        if deadline.isPast { throw notReady(why) }
      } catch {
        if deadline.isPast { throw error }
      }
      usleep(10_000)
    }
  }

  private func awaitWords(of new: [Int], until deadline: Deadline) throws(LabError) {
    let all = workers
    for worker in new.map({ all[$0] }) {
      let isReady = worker.waitForWords(until: deadline) { $0.contains("started successfully") ? true : nil }
      try checkAlive()
      if isReady == nil && recipe.spec.isOwn { throw notReady("one did not say so in time") }
    }
  }

  private func checkAlive() throws(LabError) {
    if let death = deaths().first { throw .workerDied(death) }
  }

  private func notReady(_ why: String) -> LabError {
    let words = workers.lazy.map(\.lastWords).first { !$0.isEmpty } ?? ""
    return .notReady("The pool of \(workers.count) workers", why: why, lastWords: words)
  }

  private var workers: [ChildProcess] { state.withLock { $0.workers } }

  /// Process ids of the workers, in order.
  package var pids: [Int32] { workers.map(\.pid) }

  /// What each said last, without secrets.
  package var lastWords: [String] { workers.map(\.lastWords) }

  /// CPU time of all workers that run, with the processes that they started, ns.
  package var cpuNanoseconds: UInt64 {
    pids.reduce(0) { $0 &+ (ProcessClock.cpuNanoseconds(session: $1) ?? 0) }
  }

  /// The workers that ended unasked until now.
  package func deaths() -> [WorkerDeath] {
    let (workers, asked) = state.withLock { ($0.workers, $0.ended) }
    return workers.enumerated().compactMap { index, worker in
      guard !asked.contains(index), let status = worker.exitStatus else { return nil }
      return WorkerDeath(index: index, status: status, lastWords: worker.lastWords)
    }
  }

  /// Asks all workers to end, gives them time to finish what they have, kills who is left, and waits
  /// until all are gone. The list is of those that had ended unasked before.
  @discardableResult
  package func stop(grace: Duration = .seconds(3)) -> [WorkerDeath] {
    let died = deaths()
    end(0..., grace: grace)
    return died
  }

  private func end(_ indices: PartialRangeFrom<Int>, grace: Duration) {
    let workers = state.withLock { state in
      let some = state.workers.indices.filter { indices.contains($0) }
      state.ended.formUnion(some)
      for index in some { state.slowed[index] = nil }
      return some.map { state.workers[$0] }
    }
    let deadline = Deadline.after(grace)
    for worker in workers { worker.askToEnd() }
    for worker in workers where worker.wait(timeout: .seconds(deadline.remainingSeconds)) == nil {
      worker.kill()
    }
  }
}

/// What is done to single workers on purpose. An end that is asked for is no death.
extension WorkerPool {
  /// Half of a slowed worker's time, in which it is stopped.
  private static let pulseMicroseconds: UInt32 = 5000

  /// Those that run and were not asked to end.
  package var runningIndices: [Int] {
    let (workers, ended) = state.withLock { ($0.workers, $0.ended) }
    return workers.indices.filter { !ended.contains($0) && workers[$0].isRunning }
  }

  /// Kills one worker, and waits until it is gone.
  package func kill(_ index: Int) { asked(index).kill() }

  /// Asks one to finish what it has and to end (SIGTERM); does not wait.
  package func drain(_ index: Int) { asked(index).askToEnd() }

  /// Lets one close its connection with what it has in hand, and end: `nylon-worker` does so on SIGUSR1, which ends
  /// most other programs.
  package func close(_ index: Int) {
    let worker = asked(index)
    worker.goOn()
    worker.order(.firstSignal)
  }

  /// The worker, which is now expected to end.
  private func asked(_ index: Int) -> ChildProcess {
    state.withLock { state in
      state.ended.insert(index)
      state.slowed[index] = nil
      return state.workers[index]
    }
  }

  /// Stops one (SIGSTOP): its connection stays open, and it answers nothing.
  package func stop(_ index: Int) {
    state.withLock { state in
      state.slowed[index] = nil
      state.workers[index].halt()
    }
  }

  /// Lets a stopped or slowed one go on.
  package func goOn(_ index: Int) {
    state.withLock { state in
      state.slowed[index] = nil
      state.workers[index].goOn()
    }
  }

  /// Stops one and lets it go on again, a hundred times a second and half of the time, until `goOn`.
  package func slow(_ index: Int) {
    let number = state.withLock { state in
      state.slowings += 1
      state.slowed[index] = state.slowings
      return state.slowings
    }
    startThread("worker-slower") { [state] in
      // Under the lock, so that nobody who was let go on is stopped once more.
      func pulse(_ order: ChildProcess.Order) -> Bool {
        let goesOn = state.withLock { state in
          guard state.slowed[index] == number else { return false }
          state.workers[index].order(order)
          return true
        }
        usleep(Self.pulseMicroseconds)
        return goesOn
      }
      while pulse(.halt), pulse(.goOn) {}
    }
  }

  /// Starts more workers; does not wait until they are subscribed. Their numbers.
  package func add(_ count: Int) throws(LabError) -> [Int] {
    var new: [Int] = []
    for _ in 0..<count {
      new.append(
        try state.withLock { (state) throws(LabError) in
          let index = state.workers.count
          state.workers.append(try ChildProcess.start(recipe.launch(index, group: state.group)))
          return index
        })
    }
    return new
  }

  /// Starts workers in another queue group, waits until they are subscribed, and then asks the old ones to finish what
  /// they have and to end. While both run, both get every request.
  package func switchGroup(to group: String, count: Int) throws(LabError) {
    let old = runningIndices
    try startReady(count, in: group)
    for index in old { drain(index) }
  }
}

/// How the workers of a target are started, and how they show that they are subscribed.
private struct WorkerRecipe: Sendable {
  let plugin: String
  let pool: NATSSpec
  let spec: WorkersSpec
  let program: String
  let servers: [String]
  let homes: [Int]?
  let monitors: [BrokerMonitor]
  let subjects: [String]
  private let ledger: (variable: String, descriptor: Int32)?
  /// The ledger's descriptor in a worker.
  private static let ledgerDescriptor = 3

  init(
    _ target: Target, servers: [String], homes: [Int]?, monitors: [BrokerMonitor],
    ledger: (variable: String, descriptor: Int32)?
  ) throws(LabError) {
    guard case .nats(let pool) = target.transport, let spec = pool.workers,
      let program = spec.command.first, spec.count > 0
    else {
      throw .invalid(
        "Target '\(target.name)' names no workers to start",
        remedy: "Write workers: {count: 1, command: nylon-worker}, or leave workers: out.")
    }
    (self.pool, self.spec, plugin) = (pool, spec, target.plugin)
    self.program = spec.isOwn ? try Executables.own(program) : program
    self.servers = servers.isEmpty ? pool.servers : servers
    self.homes = homes
    self.monitors = monitors
    self.ledger = ledger
    subjects = target.phases.map { "\(pool.subjectPrefix).\(target.plugin).\($0.subjectFragment)" }
  }

  /// The worker of a number.
  func launch(_ index: Int, group: String) -> Launch {
    Launch(
      program: program,
      arguments: (spec.isOwn ? ["--name", plugin, "--prefix", pool.subjectPrefix] : [])
        + spec.command.dropFirst(),
      environment: environment(servers(of: index), group).merging(spec.environment) { $1 },
      descriptors: [ledger?.descriptor].compactMap { $0 },
      secrets: pool.secretWords(servers: servers))
  }

  /// All servers, that of the worker's home first.
  private func servers(of index: Int) -> [String] {
    guard let homes, !homes.isEmpty else { return servers }
    return NodeChoice.order(servers, first: homes[index % homes.count])
  }

  private func environment(_ servers: [String], _ group: String) -> [String: String] {
    let usesTLS = pool.tls.isUsed(for: servers)
    let ownToken =
      pool.auth == NATSAuth() ? servers.first.flatMap { try? BrokerAddress($0) }?.auth.token : nil
    var all = [
      "NATS_SERVERS": servers.joined(separator: ","), "NATS_NO_RANDOMIZE": homes == nil ? nil : "1",
      "NATS_GROUP": group, "NYLON_PLUGIN": plugin, "NYLON_PREFIX": pool.subjectPrefix,
      "NATS_TOKEN": pool.auth.token ?? ownToken, "NATS_USER": pool.auth.user,
      "NATS_PASSWORD": pool.auth.password,
      "NATS_CREDS": pool.auth.credentials, "NATS_NKEY": pool.auth.nkey,
      "NATS_TLS": usesTLS ? "1" : nil, "NATS_CA": usesTLS ? pool.tls.caFile : nil,
      "NATS_CERT": usesTLS ? pool.tls.certFile : nil, "NATS_KEY": usesTLS ? pool.tls.keyFile : nil,
    ]
    if let ledger { all[ledger.variable] = "\(Self.ledgerDescriptor)" }
    return all.compactMapValues { $0 }
  }

  /// A client of one of the brokers.
  struct Client: Hashable {
    let broker: Int
    let id: UInt64
  }

  /// For each subject, the connections that subscribe to it in a group. A broker that does not answer has none: it may
  /// be down on purpose.
  func subscribers(in group: String) throws(LabError) -> [Set<Client>] {
    // Not bounded by the workers' deadline: they may be late while the broker is well.
    try subjects.map { (subject) throws(LabError) in
      var all: Set<Client> = []
      for (broker, monitor) in monitors.enumerated() {
        do throws(LabError) {
          all.formUnion(
            try monitor.subscribers(of: subject, group: group).map { Client(broker: broker, id: $0) })
        } catch {
          if monitors.count == 1 { throw error }
        }
      }
      return all
    }
  }
}

extension NATSSpec {
  /// Every word of the settings, and of the servers' URLs, that must not be seen.
  package func secretWords(servers others: [String] = []) -> [String] {
    let addresses = (servers + others).compactMap { try? BrokerAddress($0) }
    return auth.secretWords + addresses.flatMap(\.auth.secretWords)
  }
}
