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

/// The workers of a pool, started by us.
package final class WorkerPool: Sendable {
  private let workers: [ChildProcess]
  /// Those that we ended ourselves.
  private let ended = Guarded<Set<Int>>([])

  private init(_ launch: Launch, count: Int) throws(LabError) {
    var workers: [ChildProcess] = []
    for _ in 0..<count { workers.append(try ChildProcess.start(launch)) }
    self.workers = workers
  }

  /// Starts the workers that a target's pool asks for, and returns when they are ready. Without `servers`
  /// they connect to those of the pool.
  ///
  /// A worker gets `NATS_SERVERS` (separated by commas) and `NATS_GROUP`, `NYLON_PLUGIN` and `NYLON_PREFIX`, of which
  /// its subjects are made, the credentials, when there are any, as `NATS_TOKEN`, `NATS_USER`, `NATS_PASSWORD`,
  /// `NATS_CREDS`, `NATS_NKEY`, those of TLS as `NATS_TLS` (`1`), `NATS_CA`, `NATS_CERT`, `NATS_KEY`, and the
  /// scenario's environment on top. A token that stands in the first URL is in `NATS_TOKEN`, too. A command `nylon-worker` is this package's own; it also gets `--name` and
  /// `--prefix`.
  ///
  /// Ready means, with a broker whose monitoring is known: it shows as many new subscribers in the
  /// queue group, for each of the target's phases, as there are workers; that holds for workers of any kind.
  /// Without it: the worker has said "started successfully", as the real SDK and ours do. Another
  /// worker that does not say so counts as ready when `start_seconds` have passed and it still runs.
  ///
  /// - Parameter ledger: a descriptor that the workers inherit, to which they note what their handlers see, and the
  ///   variable that tells them its number.
  package static func start(
    for target: Target, servers: [String] = [], monitor: BrokerMonitor?,
    ledger: (variable: String, descriptor: Int32)? = nil
  ) throws(LabError) -> WorkerPool {
    guard case .nats(let pool) = target.transport, let spec = pool.workers,
      let program = spec.command.first, spec.count > 0
    else {
      throw .invalid(
        "Target '\(target.name)' names no workers to start",
        remedy: "Write workers: {count: 1, command: nylon-worker}, or leave workers: out.")
    }
    let launch = Launch(
      program: spec.isOwn ? try Executables.own(program) : program,
      arguments: (spec.isOwn ? ["--name", target.plugin, "--prefix", pool.subjectPrefix] : [])
        + spec.command.dropFirst(),
      environment: environment(pool, target.plugin, servers.isEmpty ? pool.servers : servers)
        .merging(ledger.map { [$0.variable: "\(ledgerDescriptor)"] } ?? [:]) { $1 }
        .merging(spec.environment) { $1 },
      descriptors: [ledger?.descriptor].compactMap { $0 },
      secrets: pool.secretWords(servers: servers))
    let deadline = Deadline.after(.seconds(min(max(spec.startSeconds, 0.1), 3600)))
    let subjects = target.phases.map { "\(pool.subjectPrefix).\(target.plugin).\($0.subjectFragment)" }
    /// For each subject, the connections that subscribe to it in the group.
    func subscribers(_ monitor: BrokerMonitor) throws(LabError) -> [Set<UInt64>] {
      // Not bounded by the workers' deadline: they may be late while the broker is well.
      try subjects.map { (subject) throws(LabError) in
        try monitor.subscribers(of: subject, group: pool.group)
      }
    }

    // Connections that were there before do not count: another pool's, perhaps on their way out.
    let before = try monitor.map(subscribers)
    let started = try WorkerPool(launch, count: spec.count)
    do throws(LabError) {
      guard let monitor, let before else {
        try started.awaitWords(until: deadline, mustSayReady: spec.isOwn)
        return started
      }
      try started.wait(until: deadline) { () throws(LabError) in
        let counts = zip(try subscribers(monitor), before).map { $0.subtracting($1).count }
        guard let least = counts.min(), least < spec.count else { return nil }
        let subject = subjects[counts.firstIndex(of: least) ?? 0]
        return "only \(least) of \(spec.count) subscribed to \(subject) in queue group \(pool.group) in time"
      }
    } catch {
      started.stop(grace: .milliseconds(500))
      throw error
    }
    return started
  }

  /// The ledger's descriptor in a worker.
  private static let ledgerDescriptor = 3

  private static func environment(
    _ pool: NATSSpec, _ plugin: String, _ servers: [String]
  ) -> [String: String] {
    let usesTLS = pool.tls.isUsed(for: servers)
    let ownToken =
      pool.auth == NATSAuth() ? servers.first.flatMap { try? BrokerAddress($0) }?.auth.token : nil
    let all = [
      "NATS_SERVERS": servers.joined(separator: ","), "NATS_GROUP": pool.group,
      "NYLON_PLUGIN": plugin, "NYLON_PREFIX": pool.subjectPrefix,
      "NATS_TOKEN": pool.auth.token ?? ownToken, "NATS_USER": pool.auth.user,
      "NATS_PASSWORD": pool.auth.password,
      "NATS_CREDS": pool.auth.credentials, "NATS_NKEY": pool.auth.nkey,
      "NATS_TLS": usesTLS ? "1" : nil, "NATS_CA": usesTLS ? pool.tls.caFile : nil,
      "NATS_CERT": usesTLS ? pool.tls.certFile : nil, "NATS_KEY": usesTLS ? pool.tls.keyFile : nil,
    ]
    return all.compactMapValues { $0 }
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

  private func awaitWords(until deadline: Deadline, mustSayReady: Bool) throws(LabError) {
    for worker in workers {
      let isReady = worker.waitForWords(until: deadline) { $0.contains("started successfully") ? true : nil }
      try checkAlive()
      if isReady == nil && mustSayReady { throw notReady("one did not say so in time") }
    }
  }

  private func checkAlive() throws(LabError) {
    if let death = deaths().first { throw .workerDied(death) }
  }

  private func notReady(_ why: String) -> LabError {
    let words = workers.lazy.map(\.lastWords).first { !$0.isEmpty } ?? ""
    return .notReady("The pool of \(workers.count) workers", why: why, lastWords: words)
  }

  /// Process ids of the workers, in order.
  package var pids: [Int32] { workers.map(\.pid) }

  /// CPU time of all workers that run, with the processes that they started, ns.
  package var cpuNanoseconds: UInt64 {
    pids.reduce(0) { $0 &+ (ProcessClock.cpuNanoseconds(session: $1) ?? 0) }
  }

  /// The workers that ended unasked until now.
  package func deaths() -> [WorkerDeath] {
    let asked = ended.withLock { $0 }
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
    ended.withLock { $0.formUnion(workers.indices) }
    let deadline = Deadline.after(grace)
    for worker in workers { worker.askToEnd() }
    for worker in workers where worker.wait(timeout: .seconds(deadline.remainingSeconds)) == nil {
      worker.kill()
    }
    return died
  }

  /// Kills one worker: a fault, so it does not count as a death.
  package func kill(_ index: Int) {
    ended.withLock { _ = $0.insert(index) }
    workers[index].kill()
  }
}

extension NATSSpec {
  /// Every word of the settings, and of the servers' URLs, that must not be seen.
  package func secretWords(servers others: [String] = []) -> [String] {
    let addresses = (servers + others).compactMap { try? BrokerAddress($0) }
    return auth.secretWords + addresses.flatMap(\.auth.secretWords)
  }
}
