// Pools of several sizes: whether more workers raise the throughput, and what limits it.
import Engine
import Foundation
import Lab
import Nylon
import Results
import Scenario

enum ScalingPromises {
  static let all: [PromiseTest] = [
    PromiseTest(name: "unlimited-workers") { bench in
      var all: [(handler: String, points: [Point])] = []
      for handler in ["wait", "work", "noop"] where !bench.isInterrupted() {
        // Only the waiting handler decides the verdict, so a quick run tries fewer sizes of the others.
        let sizes = bench.isQuick && handler != "wait" ? [1, 4, 16] : [1, 2, 4, 8, 16]
        all.append((handler, try sizes.map { try point(bench, handler: handler, workers: $0) }))
      }
      let waiting = judgeScaling(all.first?.points ?? [])
      let texts = all.map { handler, points in
        "\(handler) "
          + points.map { "\($0.workers): \(shown($0.throughputPerSecond, 0))" }.listed()
          + " req/s (\(bound(points)))"
      }
      return .of(
        waiting.verdict,
        "criterion: with a handler that waits 2 ms, twice the workers must raise the throughput by half "
          + "unless \(shown(roomShare * 100, 0)) % of the machine's CPU is busy: \(waiting.why). Workers and "
          + "throughput at \(inFlight) in flight: \(texts.listed("; "))",
        columns: [
          "handler", "workers", "req/s", "CPU generator %", "CPU broker %", "CPU workers %",
          "CPU of the machine %",
        ], rows: all.flatMap { handler, points in points.map { $0.row(handler) } })
    }
  ]

  struct Point {
    var workers: Int
    var throughputPerSecond: Double
    /// The CPU use of each part, as a share of all cores; nil when unknown.
    var parts: [(name: String, share: Double?)] = []
    /// The CPU use of the whole machine, including other programs, as a share of all cores; nil when unknown.
    var busyShare: Double?

    func row(_ handler: String) -> [String] {
      [handler, "\(workers)", shown(throughputPerSecond, 0)]
        + (parts.map(\.share) + [busyShare]).map { $0.map { shown($0 * 100, 0) } ?? "" }
    }
  }

  /// The highest CPU use of the machine at which more workers can still help.
  private static let roomShare = 0.75
  /// Requests in flight. A worker sends the replies of a batch in one write, so a waiting worker must not
  /// receive more than it can handle in a fraction of the measured time.
  private static let inFlight = 64
  private static let leastGain = 1.5

  /// Holds when each doubling of the workers raises the throughput by at least half while the machine has
  /// CPU left. A smaller gain without CPU left is ignored, because a busy machine can hide a gain but not
  /// create one. Inconclusive when no doubling gave enough gain.
  static func judgeScaling(_ points: [Point]) -> (verdict: ClaimVerdict.Verdict, why: String) {
    var gains: [String] = []
    var grownTo: Int?
    for (before, after) in zip(points, points.dropFirst()) where before.throughputPerSecond > 0 {
      let gain = after.throughputPerSecond / before.throughputPerSecond
      let hasRoom = max(before.busyShare ?? 1, after.busyShare ?? 1) < roomShare
      gains.append("\(shown(gain)) to \(after.workers)")
      if gain >= leastGain {
        grownTo = after.workers
      } else if hasRoom {
        return (
          .fails,
          "with CPU left, \(after.workers) workers gave only \(shown(gain)) times what \(before.workers) gave"
        )
      }
    }
    let text = "doubling the workers gave factors of \(gains.listed())"
    guard let grownTo else {
      return (
        .inconclusive, "\(text); the machine had no CPU left for more (others use it too, or it is too small)"
      )
    }
    return (.holds, "\(text); shown up to \(grownTo) workers")
  }

  static func bound(_ points: [Point]) -> String {
    guard let last = points.last, let busy = last.busyShare else { return "CPU unknown" }
    let used = "\(shown(busy * 100, 0)) % of the CPU busy at \(last.workers) workers"
    guard busy >= roomShare else { return "\(used); the workers' waiting is the limit, not the CPU" }
    let parts = last.parts.map { ($0.name, $0.share ?? 0) }
    let others = busy - parts.reduce(0) { $0 + $1.1 }
    let most = (parts + [("other processes on this machine", others)]).max { $0.1 < $1.1 }
    return "\(used), which is the limit; the largest share is that of \(most?.0 ?? "")"
  }

  /// Measures one pool size, with one phase per request. The load starts the broker and the workers.
  private static func point(_ bench: PromiseBench, handler: String, workers: Int) throws -> Point {
    var target = PromiseBench.standardPool
    target.handler = handler
    target.phases = [.requestFilter]
    target.nats?.workers?.count = workers
    var times: [SystemTimes] = []
    let measurement = try bench.load(
      target, .closed(concurrency: inFlight),
      request: RequestSpec(to: "/", headers: headers(["x-wait-us": "2000", "x-work-us": "200"])),
      warmupSeconds: bench.scaled(0.3, quick: 0.15), measureSeconds: bench.scaled(1.5, quick: 0.5),
      drainSeconds: 2
    ) {
      if $0.measuredSeconds > 0, let now = SystemTimes.now() { times.append(now) }
    }
    let available =
      max(measurement.durationSeconds, 1e-9) * 1e9 * Double(ProcessInfo.processInfo.activeProcessorCount)
    func share(_ nanoseconds: UInt64?) -> Double? { nanoseconds.map { Double($0) / available } }
    return Point(
      workers: workers, throughputPerSecond: measurement.throughputPerSecond ?? 0,
      parts: [
        ("the generator", share(measurement.cpuGeneratorNanoseconds)),
        ("the broker", share(measurement.cpuBrokerNanoseconds)),
        ("the workers", share(measurement.cpuWorkersNanoseconds)),
      ], busyShare: times.first.flatMap { times.last?.busyShare(since: $0) })
  }
}
