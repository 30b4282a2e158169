// More workers, fewer workers, other workers: what it brings, and what it costs in lost requests.
import Foundation
import Lab
import Engine
import Results
import Nylon
import Report
import Scenario

/// Pools that change, and pools of many sizes.
enum ScalingPromises {
  static let all = [
    PromiseTest("dynamic-scaling", onBroker: dynamicScaling),
    PromiseTest("blue-green-switch", onBroker: blueGreenSwitch),
    PromiseTest("blue-green", onBroker: blueGreen),
    PromiseTest("unlimited-workers", unlimitedWorkers),
  ]

  // MARK: Changes under load

  /// An open load in which something is done at a third and at two thirds.
  private static func load(
    _ stage: Stage, _ target: Target, first: () throws -> Void, second: () throws -> Void
  ) throws -> OutcomeCounts {
    let seconds = stage.bench.scaled(4.5, quick: 2.1)
    var done = 0
    let measurement = try stage.bench.load(
      target, .open(ratePerSecond: FaultPromises.ratePerSecond, arrivals: .uniform), warmupSeconds: 0.3,
      measureSeconds: seconds, drainSeconds: 6
    ) { sample in
      if done == 0, sample.measuredSeconds >= seconds / 3 {
        done = 1
        try first()
      } else if done == 1, sample.measuredSeconds >= seconds * 2 / 3 {
        done = 2
        try second()
      }
      return !stage.bench.isInterrupted()
    }
    return measurement.request?.counts ?? OutcomeCounts()
  }

  private static func dynamicScaling(_ stage: Stage) throws -> BehaviourResult {
    let old = try stage.start(1)
    let known = Set(try stage.workerIDs())
    var new: [UInt64] = []
    var stoppedIn = 0.0
    let counts = try load(stage, stage.target()) {
      try stage.start(2)
      new = try stage.workerIDs().filter { !known.contains($0) }
    } second: {
      let before = MonotonicClock.nanoseconds
      old.stop(grace: .seconds(5))
      stoppedIn = Double(MonotonicClock.nanoseconds - before) / 1e9
    }
    let deliveries = try stage.settledDeliveries(to: new)
    let died = old.deaths().count
    return .of(
      counts.sent > 0 && counts.ok == counts.sent && counts.retries == 0 && deliveries.count == 2
        && deliveries.allSatisfy { $0 > 0 } && died == 0,
      "under \(shown(FaultPromises.ratePerSecond, 0)) requests a second, 2 workers were added to 1, and that one was "
        + "stopped with SIGTERM (it took \(shown(stoppedIn)) s to end): the new ones got "
        + "\(deliveries.map(String.init).joined(separator: " and ")) deliveries, \(counts.ok) of \(counts.sent) "
        + "requests were answered, \(counts.retries) attempts repeated")
  }

  // MARK: Blue and green

  /// Does the group in Nylon's configuration settle which version gets the traffic?
  private static func blueGreenSwitch(_ stage: Stage) throws -> BehaviourResult {
    try stage.start(1, group: "auth_v1")
    try stage.start(1, group: "auth_v2")
    let ids = [try stage.workerIDs(group: "auth_v1"), try stage.workerIDs(group: "auth_v2")]
    func deliveries() throws -> [UInt64] {
      try ids.map { try stage.settledDeliveries(to: $0).reduce(0, +) }
    }
    var rows: [[String]] = []
    var isSwitched = true
    for (place, group) in ["auth_v1", "auth_v2"].enumerated() {
      let before = try deliveries()
      let counts =
        try stage.bench.load(
          stage.target(group: group), .open(ratePerSecond: 200, arrivals: .uniform),
          measureSeconds: stage.bench.scaled(1, quick: 0.5)
        ).request?.counts ?? OutcomeCounts()
      let each = zip(try deliveries(), before).map { $0 - $1 }
      if each[1 - place] > 0 || each[place] == 0 { isSwitched = false }
      rows.append(
        [group] + each.map(String.init) + ["\(counts.sent)", "\(counts.ok)", "\(counts.duplicates)"])
    }
    return .of(
      isSwitched,
      "blue in group auth_v1 and green in auth_v2, and Nylon's group set to the one and then the other: "
        + rows.map {
          "with \($0[0]) blue got \($0[1]) deliveries and green \($0[2]), \($0[5]) duplicate replies"
        }
        .joined(separator: "; ")
        + ". A request names no group, so every group gets each one whatever the configuration says; what "
        + "switches is to stop the old workers, or another plugin name (subject) for each version",
      columns: [
        "group in the configuration", "blue", "green", "sessions", "answered", "duplicate replies",
      ],
      rows: rows)
  }

  /// The documented steps under load: green is started beside blue, blue is stopped.
  private static func blueGreen(_ stage: Stage) throws -> BehaviourResult {
    let blue = try stage.start(1, group: "auth_v1")
    var greenIDs: [UInt64] = []
    var counts = OutcomeCounts()
    counts = try load(stage, stage.target(group: "auth_v1")) {
      try stage.start(1, group: "auth_v2")
      greenIDs = try stage.workerIDs(group: "auth_v2")
    } second: {
      blue.stop(grace: .seconds(5))
    }
    let green = try stage.settledDeliveries(to: greenIDs).reduce(0, +)
    return .of(
      counts.sent > 0 && counts.ok == counts.sent && green > 0,
      "under \(shown(FaultPromises.ratePerSecond, 0)) requests a second green (auth_v2) was started beside blue "
        + "(auth_v1), then blue was stopped with SIGTERM: \(counts.ok) of \(counts.sent) requests were answered and "
        + "green got \(green) deliveries. While both ran each request was handled by both: \(counts.duplicates) "
        + "duplicate replies. The switch in Nylon's configuration is not part of it: it changes nothing that is sent"
    )
  }

  // MARK: Many workers

  /// A pool of one size under one load.
  struct Point: Equatable {
    var workers: Int
    var throughputPerSecond: Double
    /// CPU of the generator, the broker and all workers, as shares of all cores; nil when not known.
    var generatorShare: Double?
    var brokerShare: Double?
    var workersShare: Double?
    /// CPU of everything on the machine, others' too, as a share of all cores; nil when not known.
    var busyShare: Double?

    func row(_ handler: String) -> [String] {
      let shares = [generatorShare, brokerShare, workersShare, busyShare]
      return [handler, "\(workers)", shown(throughputPerSecond, 0)]
        + shares.map { $0.map { shown($0 * 100, 0) } ?? "" }
    }
  }

  /// The most of the machine's CPU at which there is still room for more workers to help.
  static let roomShare = 0.75
  /// Requests in flight. A worker answers what it has in one write, so one that waits must not have
  /// more before it than it can handle in a part of the measured time.
  static let inFlight = 64
  /// By how much twice the workers must raise the throughput while there is room.
  static let leastGain = 1.5

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
    let text = "doubling the workers gave factors of \(gains.joined(separator: ", "))"
    guard let grownTo else {
      return (
        .inconclusive, "\(text); the machine had no CPU left for more (others use it too, or it is too small)"
      )
    }
    return (.holds, "\(text); shown up to \(grownTo) workers")
  }

  private static func unlimitedWorkers(_ bench: PromiseBench) throws -> BehaviourResult {
    let bench = bench.with(.standard)
    var all: [(handler: String, points: [Point])] = []
    for handler in ["wait", "work", "noop"] where !bench.isInterrupted() {
      // The verdict is the waiting handler's: a quick look tries fewer sizes of the others.
      let sizes = bench.isQuick && handler != "wait" ? [1, 4, 16] : [1, 2, 4, 8, 16]
      let points = try sizes.map { count in
        try Stage.with(bench) { try point($0, handler: handler, workers: count) }
      }
      all.append((handler, points))
    }
    let waiting = judgeScaling(all.first?.points ?? [])
    let texts = all.map { handler, points in
      "\(handler) "
        + points.map { "\($0.workers): \(shown($0.throughputPerSecond, 0))" }.joined(separator: ", ")
        + " req/s (\(bound(points)))"
    }
    return BehaviourResult(
      test: "", verdict: waiting.verdict,
      why: "rule: with a handler that waits 2 ms, twice the workers must raise the throughput by half unless "
        + "\(shown(roomShare * 100, 0)) % of the machine's CPU is busy: \(waiting.why). Workers "
        + "and throughput at \(inFlight) in flight: \(texts.joined(separator: "; "))",
      columns: [
        "handler", "workers", "req/s", "CPU generator %", "CPU broker %", "CPU workers %",
        "CPU of the machine %",
      ], rows: all.flatMap { handler, points in points.map { $0.row(handler) } })
  }

  /// What bounds the largest pool.
  static func bound(_ points: [Point]) -> String {
    guard let last = points.last, let busy = last.busyShare else { return "CPU not known" }
    let used = "\(shown(busy * 100, 0)) % of the CPU busy at \(last.workers) workers"
    guard busy >= roomShare else { return "\(used); not the CPU but the workers' waiting bounds it" }
    let parts = [
      ("the generator", last.generatorShare ?? 0), ("the broker", last.brokerShare ?? 0),
      ("the workers", last.workersShare ?? 0),
    ]
    let others = busy - parts.reduce(0) { $0 + $1.1 }
    let most = (parts + [("others on this machine", others)]).max { $0.1 < $1.1 }
    return "\(used), which bounds it; the most by \(most?.0 ?? "")"
  }

  /// One measurement, one phase a request.
  private static func point(_ stage: Stage, handler: String, workers: Int) throws -> Point {
    let pool = try stage.start(workers)
    let headers = [KeyValue(key: "x-wait-us", value: "2000"), KeyValue(key: "x-work-us", value: "200")]
    var first: Reading?
    var last: Reading?
    let measurement = try stage.bench.load(
      stage.target(handler: handler, phases: [.requestFilter]), .closed(concurrency: inFlight),
      request: RequestSpec(to: "/", headers: headers), warmupSeconds: stage.bench.scaled(0.3, quick: 0.15),
      measureSeconds: stage.bench.scaled(1.5, quick: 0.5), drainSeconds: 2
    ) { sample in
      if sample.measuredSeconds > 0 {
        let now = Reading(broker: stage.broker.pid, pool: pool)
        if first == nil { first = now }
        last = now
      }
      return !stage.bench.isInterrupted()
    }
    let cores = Double(ProcessInfo.processInfo.activeProcessorCount)
    let generator = measurement.cpuGeneratorNanoseconds.map {
      Double($0) / 1e9 / max(measurement.durationSeconds, 1e-9) / cores
    }
    return Point(
      workers: workers, throughputPerSecond: measurement.throughputPerSecond ?? 0,
      generatorShare: generator, brokerShare: Reading.share(first, last, cores, \.brokerNanoseconds),
      workersShare: Reading.share(first, last, cores, \.workersNanoseconds),
      busyShare: first.flatMap { first in last.flatMap { MachineTime.busyShare(first.machine, $0.machine) }
      })
  }

  /// CPU times of broker and workers at a moment.
  private struct Reading {
    var at = MonotonicClock.nanoseconds
    var brokerNanoseconds: UInt64?
    var workersNanoseconds: UInt64?
    var machine = MachineTime.now()

    init(broker: Int32, pool: WorkerPool) {
      brokerNanoseconds = ProcessClock.cpuNanoseconds(pid: broker)
      workersNanoseconds = pool.cpuNanoseconds
    }

    static func share(
      _ first: Reading?, _ last: Reading?, _ cores: Double, _ value: (Reading) -> UInt64?
    ) -> Double? {
      guard let first, let last, last.at > first.at, let low = value(first), let high = value(last),
        high >= low
      else { return nil }
      return Double(high - low) / Double(last.at - first.at) / cores
    }
  }
}

/// The machine's CPU time, from `/proc/stat`, ticks.
struct MachineTime: Equatable {
  var total: UInt64
  var idle: UInt64

  /// Up to now; nil where there is no `/proc/stat`.
  static func now() -> MachineTime? {
    (try? String(contentsOfFile: "/proc/stat", encoding: .utf8)).flatMap(parse)
  }

  /// user, nice, system, idle, iowait, irq, softirq, steal.
  static func parse(_ text: String) -> MachineTime? {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("cpu ") }) else { return nil }
    let ticks = line.split(separator: " ").dropFirst().prefix(8).map { UInt64($0) ?? 0 }
    guard ticks.count == 8 else { return nil }
    return MachineTime(total: ticks.reduce(0, &+), idle: ticks[3] &+ ticks[4])
  }

  /// The share of all cores that somebody used between two times, 0 to 1; nil when none passed.
  static func busyShare(_ first: MachineTime?, _ last: MachineTime?) -> Double? {
    guard let first, let last, last.total > first.total, last.idle >= first.idle else { return nil }
    return 1 - Double(last.idle - first.idle) / Double(last.total - first.total)
  }
}
