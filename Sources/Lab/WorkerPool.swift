import Foundation
import NATS
import Scenario

/// A worker that ended without being asked to.
package struct WorkerDeath: Sendable, Equatable {
  /// The worker's index, from 0.
  package var index: Int
  package var status: ExitStatus
  /// The last lines of its output, without secrets.
  package var lastWords: String
}

/// The workers of a pool that the run starts, numbered from 0; workers added later continue the numbering.
package final class WorkerPool: Sendable {
  private struct State {
    var workers: [ChildProcess] = []
    /// The workers that the pool ended itself.
    var ended: Set<Int> = []
    /// The slowed workers, each with the number of the slowing that is in effect.
    var slowed: [Int: UInt64] = [:]
    /// How many times a worker was slowed.
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

  // A thread that slows a worker keeps a reference to the workers.
  deinit { state.withLock { $0.slowed = [:] } }

  /// Starts the workers for a target's pool, and returns when they are ready. Without `servers` they connect
  /// to those of the pool.
  ///
  /// A worker gets these environment variables: `NATS_SERVERS` (separated by commas); `NATS_GROUP`;
  /// `NYLON_PLUGIN` and `NYLON_PREFIX`, which form its subjects; the credentials, if any, as `NATS_TOKEN`,
  /// `NATS_USER`, `NATS_PASSWORD`, `NATS_CREDS`, `NATS_NKEY`; the TLS settings as `NATS_TLS` (`1`),
  /// `NATS_CA`, `NATS_CERT`, `NATS_KEY`; and in addition the scenario's environment. A token in the first URL
  /// is also in `NATS_TOKEN`. The command `nylon-worker` is this package's own worker; it also gets `--name`
  /// and `--prefix`.
  ///
  /// Readiness with brokers whose monitoring is known: for each of the target's phases, the queue group has
  /// as many new subscribers as there are workers. This works for workers of any kind. Without monitoring, a
  /// worker is ready when it has printed "started successfully", as the real SDK and `nylon-worker` do.
  /// Another worker that does not print it is ready when it still runs after `start_seconds`.
  ///
  /// - Parameter homes: The indices in `servers` of the brokers that the workers connect to first, in turn,
  ///   and that come first in `NATS_SERVERS`; `NATS_NO_RANDOMIZE` is then `1`. Nil leaves the choice to the
  ///   workers.
  /// - Parameter ledger: A descriptor that the workers inherit, to which they write what their handlers see,
  ///   and the variable that holds its number. It stays open as long as workers may be added.
  package static func start(
    for target: Target, servers: [String] = [], homes: [Int]? = nil, monitors: [BrokerMonitor],
    ledger: (variable: String, descriptor: Int32)? = nil
  ) throws(LabError) -> WorkerPool {
    let recipe = try WorkerRecipe(target, servers: servers, homes: homes, monitors: monitors, ledger: ledger)
    let pool = WorkerPool(recipe)
    try pool.startReady(recipe.spec.count, in: recipe.pool.group)
    return pool
  }

  /// Starts `count` workers in a group, and returns when they are ready; ends them when they do not get
  /// there.
  private func startReady(_ count: Int, in group: String) throws(LabError) {
    let deadline = Deadline.after(.seconds(min(max(recipe.spec.startSeconds, 0.1), 3600)))
    let before = state.withLock { state in
      let old = state.group
      state.group = group
      return (group: old, count: state.workers.count)
    }
    do throws(LabError) {
      // Existing connections do not count: they belong to another pool, perhaps one that is shutting down.
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

  /// Polls until nothing is missing; also retries when the monitoring does not answer.
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
      if isReady == nil && recipe.spec.isOwn { throw notReady("one did not report its start in time") }
    }
  }

  private func checkAlive() throws(LabError) { if let death = deaths().first { throw .workerDied(death) } }

  private func notReady(_ why: String) -> LabError {
    let words = workers.lazy.map(\.lastWords).first { !$0.isEmpty } ?? ""
    return .notReady("The pool of \(workers.count) workers", why: why, lastWords: words)
  }

  private var workers: [ChildProcess] { state.withLock { $0.workers } }

  /// Process ids of the workers, in order.
  package var pids: [Int32] { workers.map(\.pid) }

  /// The last lines of each worker's output, without secrets.
  package var lastWords: [String] { workers.map(\.lastWords) }

  /// The workers that have ended so far without being asked to.
  package func deaths() -> [WorkerDeath] {
    let (workers, asked) = state.withLock { ($0.workers, $0.ended) }
    return workers.enumerated().compactMap { index, worker in
      guard !asked.contains(index), let status = worker.exitStatus else { return nil }
      return WorkerDeath(index: index, status: status, lastWords: worker.lastWords)
    }
  }

  /// Asks all workers to drain and end, kills the remaining ones after the grace period, and waits until all
  /// have ended. Returns the workers that had ended before without being asked to.
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

/// Faults injected into single workers. Ending one this way is not a death.
extension WorkerPool {
  /// Half the period of a slowed worker, during which it is stopped.
  private static let pulseMicroseconds: UInt32 = 5000

  /// The indices of the workers that run and were not asked to end.
  package var runningIndices: [Int] {
    let (workers, ended) = state.withLock { ($0.workers, $0.ended) }
    return workers.indices.filter { !ended.contains($0) && workers[$0].isRunning }
  }

  /// Kills one worker, and waits until it has ended.
  package func kill(_ index: Int) { asked(index).kill() }

  /// Asks one worker to finish its requests and end (SIGTERM); does not wait.
  package func drain(_ index: Int) { asked(index).askToEnd() }

  /// Makes one worker close its connection with requests in hand, and end: `nylon-worker` does so on SIGUSR1,
  /// which ends most other programs.
  package func close(_ index: Int) {
    let worker = asked(index)
    worker.goOn()
    worker.order(.firstSignal)
  }

  /// The worker, which is marked as expected to end.
  private func asked(_ index: Int) -> ChildProcess {
    state.withLock { state in
      state.ended.insert(index)
      state.slowed[index] = nil
      return state.workers[index]
    }
  }

  /// Stops one worker (SIGSTOP): its connection stays open, but it answers nothing.
  package func stop(_ index: Int) { order(.halt, to: index) }

  /// Resumes a stopped or slowed worker.
  package func goOn(_ index: Int) { order(.goOn, to: index) }

  private func order(_ order: ChildProcess.Order, to index: Int) {
    state.withLock { state in
      state.slowed[index] = nil
      state.workers[index].order(order)
    }
  }

  /// Stops and resumes one worker a hundred times a second, stopped half of the time, until `goOn`.
  package func slow(_ index: Int) {
    let number = state.withLock { state in
      state.slowings += 1
      state.slowed[index] = state.slowings
      return state.slowings
    }
    startThread("worker-slower") { [state] in
      // Under the lock, so that a resumed worker is not stopped once more.
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

  /// Starts more workers without waiting until they are subscribed. Returns their indices.
  package func add(_ count: Int) throws(LabError) -> [Int] {
    try (0..<count).map { (_) throws(LabError) in
      try state.withLock { (state) throws(LabError) in
        let index = state.workers.count
        state.workers.append(try ChildProcess.start(recipe.launch(index, group: state.group)))
        return index
      }
    }
  }

  /// Starts workers in another queue group, waits until they are subscribed, and then asks the old ones to
  /// drain and end. While both groups run, both receive every request.
  package func switchGroup(to group: String, count: Int) throws(LabError) {
    let old = runningIndices
    try startReady(count, in: group)
    for index in old { drain(index) }
  }
}

/// How the workers of a target are started, and how their subscriptions are detected.
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
  /// The descriptor number of the ledger in a worker.
  private static let ledgerDescriptor = 3

  init(
    _ target: Target, servers: [String], homes: [Int]?, monitors: [BrokerMonitor],
    ledger: (variable: String, descriptor: Int32)?
  ) throws(LabError) {
    guard let pool = target.nats, let spec = pool.workers,
      let program = spec.command.first, spec.count > 0
    else {
      throw .invalid(
        "Target '\(target.name)' names no workers to start",
        remedy: "Write workers: {count: 1, command: nylon-worker}, or leave workers: out.")
    }
    (self.pool, self.spec, plugin) = (pool, spec, target.plugin)
    self.program = spec.isOwn ? try Executables.own(program) : program
    self.servers = servers.isEmpty ? pool.servers : servers
    (self.homes, self.monitors, self.ledger) = (homes, monitors, ledger)
    subjects = target.phases.map { "\(pool.subjectPrefix).\(target.plugin).\($0.subjectFragment)" }
  }

  /// The launch of the worker with this index.
  func launch(_ index: Int, group: String) -> Launch {
    Launch(
      program: program,
      arguments: (spec.isOwn ? ["--name", plugin, "--prefix", pool.subjectPrefix] : [])
        + spec.command.dropFirst(),
      environment: environment(servers(of: index), group).merging(spec.environment) { $1 },
      descriptors: [ledger?.descriptor].compactMap { $0 }, secrets: pool.secretWords(servers: servers))
  }

  /// All servers, starting with the worker's home.
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
      "NATS_PASSWORD": pool.auth.password, "NATS_CREDS": pool.auth.credentials, "NATS_NKEY": pool.auth.nkey,
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

  /// For each subject, the connections that subscribe to it in a group. With several brokers, one that does
  /// not answer counts as having none: it may be down on purpose.
  func subscribers(in group: String) throws(LabError) -> [Set<Client>] {
    // Not limited by the workers' deadline: they may be late while the broker is well.
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
  /// Every secret in the settings and in the servers' URLs.
  package func secretWords(servers others: [String] = []) -> [String] {
    let addresses = (servers + others).compactMap { try? BrokerAddress($0) }
    return auth.secretWords + addresses.flatMap(\.auth.secretWords)
  }
}
