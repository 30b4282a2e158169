// Pools of many sizes: whether more workers bring more, and what bounds them.
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
        // The verdict is the waiting handler's: a quick look tries fewer sizes of the others.
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
        "rule: with a handler that waits 2 ms, twice the workers must raise the throughput by half unless "
          + "\(shown(roomShare * 100, 0)) % of the machine's CPU is busy: \(waiting.why). Workers "
          + "and throughput at \(inFlight) in flight: \(texts.listed("; "))",
        columns: [
          "handler", "workers", "req/s", "CPU generator %", "CPU broker %", "CPU workers %",
          "CPU of the machine %",
        ], rows: all.flatMap { handler, points in points.map { $0.row(handler) } })
    }
  ]

  struct Point {
    var workers: Int
    var throughputPerSecond: Double
    /// CPU of the parts, as shares of all cores; nil when not known.
    var parts: [(name: String, share: Double?)] = []
    /// CPU of everything on the machine, others' too, as a share of all cores; nil when not known.
    var busyShare: Double?

    func row(_ handler: String) -> [String] {
      [handler, "\(workers)", shown(throughputPerSecond, 0)]
        + (parts.map(\.share) + [busyShare]).map { $0.map { shown($0 * 100, 0) } ?? "" }
    }
  }

  /// The most of the machine's CPU at which there is still room for more workers to help.
  private static let roomShare = 0.75
  /// Requests in flight. A worker answers what it has in one write, so one that waits must not have
  /// more before it than it can handle in a part of the measured time.
  private static let inFlight = 64
  private static let leastGain = 1.5

  /// Holds when each doubling of the workers raises the throughput by at least half for as long as the
  /// machine has CPU left. A doubling that raises it less without CPU left says nothing; unclear when
  /// all are such. A machine that is busy can only hide a gain, not make one.
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
    guard let last = points.last, let busy = last.busyShare else { return "CPU not known" }
    let used = "\(shown(busy * 100, 0)) % of the CPU busy at \(last.workers) workers"
    guard busy >= roomShare else { return "\(used); not the CPU but the workers' waiting bounds it" }
    let parts = last.parts.map { ($0.name, $0.share ?? 0) }
    let others = busy - parts.reduce(0) { $0 + $1.1 }
    let most = (parts + [("others on this machine", others)]).max { $0.1 < $1.1 }
    return "\(used), which bounds it; the most by \(most?.0 ?? "")"
  }

  /// One measurement, one phase a request, with a broker and workers that the load starts.
  private static func point(_ bench: PromiseBench, handler: String, workers: Int) throws -> Point {
    var target = PromiseBench.standardPool
    target.handler = handler
    target.phases = [.requestFilter]
    if case .nats(var spec) = target.transport {
      spec.workers?.count = workers
      target.transport = .nats(spec)
    }
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
