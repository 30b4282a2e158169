/// When the workers of a pool are ready.
struct Readiness {
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
      found[subject] = try monitor.subscribers(of: subject, group: group, until: .after(.seconds(3)))
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
      if let status = worker.exitStatus {
        throw .workerDied(index: index, status: status, lastWords: worker.lastWords)
      }
    }
  }

  private func notReady(_ why: String, _ workers: [ChildProcess]) -> LabError {
    let words = workers.lazy.map(\.lastWords).first { !$0.isEmpty } ?? ""
    return .notReady("The pool of \(count) workers", why: why, lastWords: words)
  }
}
