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

  private init(workers: [ChildProcess]) { self.workers = workers }

  /// Starts the workers that a target's pool asks for, and returns when they are ready. Without `servers`
  /// they connect to those of the pool.
  ///
  /// A worker gets `NATS_SERVERS` (separated by commas) and `NATS_GROUP`, the credentials, when
  /// there are any, as `NATS_TOKEN`, `NATS_USER`, `NATS_PASSWORD`, `NATS_CREDS`, `NATS_NKEY`, those
  /// of TLS as `NATS_TLS` (`1`), `NATS_CA`, `NATS_CERT`, `NATS_KEY`, and the scenario's environment on top. A command
  /// `nylon-worker` is this package's own; it also gets `--name` and `--prefix`.
  ///
  /// Ready means, with a broker whose monitoring is known: it shows as many new subscribers in the
  /// queue group, for each of the target's phases, as there are workers; that holds for workers of any kind.
  /// Without it: the worker has said "started successfully", as the real SDK and ours do. Another
  /// worker that does not say so counts as ready when `start_seconds` have passed and it still runs.
  package static func start(
    for target: Target, servers: [String] = [], monitor: BrokerMonitor?
  ) throws(LabError) -> WorkerPool {
    guard case .nats(let pool) = target.transport, let spec = pool.workers,
      let program = spec.command.first, spec.count > 0
    else {
      throw .invalid(
        "Target '\(target.name)' names no workers to start",
        remedy: "Write workers: {count: 1, command: nylon-worker}, or leave workers: out.")
    }
    let prefix = "\(pool.subjectPrefix).\(target.plugin)"
    let isOurs = program == "nylon-worker"
    let launch = Launch(
      program: isOurs ? try Executables.own(program) : program,
      arguments: (isOurs ? ["--name", target.plugin, "--prefix", pool.subjectPrefix] : [])
        + spec.command.dropFirst(),
      environment: environment(pool, spec, servers.isEmpty ? pool.servers : servers),
      secrets: pool.secretWords(servers: servers))
    let deadline = Deadline.after(.seconds(min(max(spec.startSeconds, 0.1), 3600)))
    let wanted = Readiness(
      subjects: target.phases.map { "\(prefix).\($0.subjectFragment)" },
      group: pool.group, count: spec.count, monitor: monitor, mustSayReady: isOurs, deadline: deadline)

    let before = try wanted.subscribers()
    var workers: [ChildProcess] = []
    for _ in 0..<spec.count { workers.append(try ChildProcess.start(launch)) }
    let started = WorkerPool(workers: workers)
    do {
      try wanted.wait(for: workers, before: before)
    } catch {
      started.stop(grace: .milliseconds(500))
      throw error
    }
    return started
  }

  private static func environment(
    _ pool: NATSSpec, _ spec: WorkersSpec, _ servers: [String]
  ) -> [String: String] {
    let usesTLS = pool.tls.isUsed(for: servers)
    let all = [
      "NATS_SERVERS": servers.joined(separator: ","), "NATS_GROUP": pool.group,
      "NATS_TOKEN": pool.auth.token, "NATS_USER": pool.auth.user, "NATS_PASSWORD": pool.auth.password,
      "NATS_CREDS": pool.auth.credentials, "NATS_NKEY": pool.auth.nkey,
      "NATS_TLS": usesTLS ? "1" : nil, "NATS_CA": usesTLS ? pool.tls.caFile : nil,
      "NATS_CERT": usesTLS ? pool.tls.certFile : nil, "NATS_KEY": usesTLS ? pool.tls.keyFile : nil,
    ]
    return all.compactMapValues { $0 }.merging(spec.environment) { $1 }
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

/// When the workers of a pool are ready.
private struct Readiness {
  let subjects: [String]
  let group: String
  let count: Int
  let monitor: BrokerMonitor?
  /// Whether the workers are known to say that they are ready.
  let mustSayReady: Bool
  let deadline: Deadline

  /// For each subject, the connections that subscribe to it in the group; empty without monitoring.
  func subscribers() throws(LabError) -> [String: Set<UInt64>] {
    var found: [String: Set<UInt64>] = [:]
    guard let monitor else { return found }
    for subject in subjects {
      // Not bounded by the workers' deadline: they may be late while the broker is well.
      found[subject] = try monitor.subscribers(of: subject, group: group)
    }
    return found
  }

  /// Waits until the workers are ready. Connections that were there before do not count: another
  /// pool's, perhaps on their way out.
  func wait(for workers: [ChildProcess], before: [String: Set<UInt64>]) throws(LabError) {
    if monitor == nil { return try waitForWords(of: workers) }
    while true {
      try checkAlive(workers)
      let now: [String: Set<UInt64>]
      do {
        now = try subscribers()
      } catch {
        guard !deadline.isPast else { throw error }
        nap(milliseconds: 10)
        continue
      }
      let counts = subjects.map { now[$0, default: []].subtracting(before[$0, default: []]).count }
      guard let least = counts.min(), least < count else { return }
      if deadline.isPast {
        let subject = subjects[counts.firstIndex(of: least) ?? 0]
        throw notReady(
          "only \(least) of \(count) subscribed to \(subject) in queue group \(group) in time", workers)
      }
      nap(milliseconds: 10)
    }
  }

  private func waitForWords(of workers: [ChildProcess]) throws(LabError) {
    for worker in workers {
      let isReady = worker.waitForWords(until: deadline) { $0.contains("started successfully") ? true : nil }
      try checkAlive(workers)
      if isReady == nil && mustSayReady { throw notReady("one did not say so in time", workers) }
    }
  }

  private func checkAlive(_ workers: [ChildProcess]) throws(LabError) {
    for (index, worker) in workers.enumerated() {
      guard let status = worker.exitStatus else { continue }
      throw .workerDied(index: index, status: status, lastWords: worker.lastWords)
    }
  }

  private func notReady(_ why: String, _ workers: [ChildProcess]) -> LabError {
    let words = workers.lazy.map(\.lastWords).first { !$0.isEmpty } ?? ""
    return .notReady("The pool of \(count) workers", why: why, lastWords: words)
  }
}
