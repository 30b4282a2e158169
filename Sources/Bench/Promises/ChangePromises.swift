// Pools and brokers that change under load: workers come, go and die, versions are switched, the broker is gone.
import Foundation
import Engine
import Lab
import Results
import Scenario

/// Changes under an open load. Nobody helps the pool or the generator: they recover by themselves or not.
enum ChangePromises {
  static let all: [PromiseTest] = [
    PromiseTest("dead-worker") { stage in
      let pool = try stage.start(3)
      var aftermath = try load(
        stage, stage.target(timeoutMilliseconds: timeoutMilliseconds),
        seconds: stage.bench.scaled(4, quick: 2.5),
        [(at: stage.bench.scaled(1.5, quick: 1), { pool.kill(0) })])
      aftermath.died = pool.deaths().first.map { "another worker \($0.status)" }
      let left = try stage.workerIDs().count
      return .of(
        aftermath.isRecovered && left == 2,
        "3 workers at \(rate), one killed with -9 (\(left) left), timeouts "
          + "\(timeoutMilliseconds) ms: \(aftermath.text) after the kill, with nobody's help. What it had in hand "
          + "at that moment is what can be lost; phases with on_error: retry ask another worker")
    },
    PromiseTest("dead-broker") { stage in
      let pool = try stage.start(2)
      var aftermath = try load(
        stage, stage.target(timeoutMilliseconds: timeoutMilliseconds),
        seconds: stage.bench.scaled(7, quick: 4.5),
        [(at: stage.bench.scaled(1.5, quick: 1), { try stage.killBroker(backAfterSeconds: 1) })])
      aftermath.died = pool.deaths().first.map { "a worker \($0.status)" }
      return .of(
        aftermath.isRecovered,
        "2 workers at \(rate), the broker killed with -9 and started again on "
          + "its port 1 s later, timeouts \(timeoutMilliseconds) ms: \(aftermath.text) after the broker was back"
      )
    },
    PromiseTest("several-servers", brokers: 2) { stage in
      let pool = try stage.start(2)
      let began = try stage.cluster.nodes.map { try $0.monitor.clients().count }
      var aftermath = try load(
        stage, stage.target(timeoutMilliseconds: timeoutMilliseconds),
        seconds: stage.bench.scaled(2.4, quick: 1.8), drainSeconds: 1,
        [(at: 0.8, { stage.cluster.nodes[0].kill() })])
      aftermath.died = pool.deaths().first.map { "a worker \($0.status)" }
      let left = try stage.cluster.nodes[1].monitor.subscribers(
        of: try stage.subject(), group: stage.bench.poolSpec.group
      ).count
      return .of(
        aftermath.isRecovered && left == 2,
        "a cluster of 2 brokers, both named to the host and to 2 workers, of which \(began.listed(" and ")) were at "
          + "each; under \(rate) that of the host and of the first worker was killed with -9, timeouts "
          + "\(timeoutMilliseconds) ms: \(aftermath.text) after the kill, with nobody's help; then \(left) workers "
          + "were at the other one. Both brokers run on this machine")
    },
    // What docker-compose adds is where the processes run.
    PromiseTest("five-to-ten") { stage in
      let old = try stage.start(5)
      let fiveIDs = try stage.workerIDs()
      var five: [UInt64] = []
      var all: [UInt64] = []
      let seconds = stage.bench.scaled(2.4, quick: 1.6)
      let counts = try load(
        stage, stage.target(), seconds: seconds,
        [
          (
            at: seconds / 2,
            {
              five = try stage.delivered(to: fiveIDs)
              try stage.start(5)
              all = try stage.workerIDs()
            }
          )
        ]
      ).counts
      let new = try stage.settledDeliveries(to: all.filter { !fiveIDs.contains($0) })
      return .of(
        counts.areAllRight && counts.retries == 0 && five.count == 5 && new.count == 5
          && (five + new).allSatisfy { $0 > 0 } && old.deaths().isEmpty,
        "under \(rate) 5 processes of one pool got \(five.listed()) deliveries, then 5 more were started, which got "
          + "\(new.listed()): \(counts.ok) of \(counts.sent) requests were answered, \(counts.retries) attempts "
          + "repeated. Tried with processes, without Docker, which starts the same processes in containers")
    },
    PromiseTest("auto-scaling", pool: .standardOfOnePhase) { stage in
      try stage.start(1)
      var known: [UInt64] = []
      var added: [UInt64] = []
      let seconds = stage.bench.scaled(2.4, quick: 1.6)
      let counts = try load(
        stage, stage.target(handler: "wait", timeoutMilliseconds: timeoutMilliseconds), seconds: seconds,
        request: RequestSpec(to: "/", headers: headers(["x-wait-us": "4000"])), drainSeconds: 1,
        [
          (
            at: seconds / 2,
            {
              known = try stage.workerIDs()
              try stage.start(1)
              added = try stage.workerIDs().filter { !known.contains($0) }
            }
          )
        ]
      ).counts
      let deliveries = try stage.settledDeliveries(to: added).reduce(0, +)
      return .of(
        known.count > 1,
        "\(rate) to a pool of 1 worker that can bear 250 (it waits 4 ms for each): after \(shown(seconds / 2, 1)) s "
          + "there were \(known.count) workers, and \(counts.sent - counts.ok) of \(counts.sent) requests were lost. "
          + "Neither NATS nor the documented configuration starts or stops a worker; that takes a person or an "
          + "orchestrator. A worker that was then started by hand got \(deliveries) deliveries, with nothing changed "
          + "in the configuration")
    },
    PromiseTest("dynamic-scaling") { stage in
      let old = try stage.start(1)
      let known = Set(try stage.workerIDs())
      var new: [UInt64] = []
      var stoppedIn = 0.0
      let counts = try loadInThirds(stage, stage.target()) {
        try stage.start(2)
        new = try stage.workerIDs().filter { !known.contains($0) }
      } second: {
        let before = MonotonicClock.nanoseconds
        old.stop(grace: .seconds(5))
        stoppedIn = Double(MonotonicClock.nanoseconds - before) / 1e9
      }
      let deliveries = try stage.settledDeliveries(to: new)
      return .of(
        counts.areAllRight && counts.retries == 0 && deliveries.count == 2
          && deliveries.allSatisfy { $0 > 0 } && old.deaths().isEmpty,
        "under \(rate), 2 workers were added to 1, and that one was stopped with SIGTERM (it took "
          + "\(shown(stoppedIn)) s to end): the new ones got \(deliveries.listed(" and ")) deliveries, "
          + "\(counts.ok) of \(counts.sent) requests were answered, \(counts.retries) attempts repeated")
    },
    // Does the group in Nylon's configuration settle which version gets the traffic?
    PromiseTest("blue-green-switch") { stage in
      let groups = ["auth_v1", "auth_v2"]
      for group in groups { try stage.start(1, group: group) }
      let ids = try groups.map { try stage.workerIDs(group: $0) }
      var rows: [[String]] = []
      var isSwitched = true
      for (place, group) in groups.enumerated() {
        var counts = OutcomeCounts()
        let each = try stage.deliveries(to: ids) {
          counts = try stage.bench.load(
            stage.target(group: group), .open(ratePerSecond: 200, arrivals: .uniform),
            measureSeconds: stage.bench.scaled(1, quick: 0.5)
          ).counts
        }
        if each[1 - place] > 0 || each[place] == 0 { isSwitched = false }
        rows.append([group] + (each + [counts.sent, counts.ok, counts.duplicates]).map(String.init))
      }
      return .of(
        isSwitched,
        "blue in group auth_v1 and green in auth_v2, and Nylon's group set to the one and then the other: "
          + rows.map {
            "with \($0[0]) blue got \($0[1]) deliveries and green \($0[2]), \($0[5]) duplicate replies"
          }.listed("; ")
          + ". A request names no group, so every group gets each one whatever the configuration says; what "
          + "switches is to stop the old workers, or another plugin name (subject) for each version",
        columns: [
          "group in the configuration", "blue", "green", "sessions", "answered", "duplicate replies",
        ], rows: rows)
    },
    // The documented steps under load: green is started beside blue, blue is stopped.
    PromiseTest("blue-green") { stage in
      let blue = try stage.start(1, group: "auth_v1")
      var greenIDs: [UInt64] = []
      let counts = try loadInThirds(stage, stage.target(group: "auth_v1")) {
        try stage.start(1, group: "auth_v2")
        greenIDs = try stage.workerIDs(group: "auth_v2")
      } second: {
        blue.stop(grace: .seconds(5))
      }
      let green = try stage.settledDeliveries(to: greenIDs).reduce(0, +)
      return .of(
        counts.areAllRight && green > 0,
        "under \(rate) green (auth_v2) was started beside blue (auth_v1), then blue was stopped with SIGTERM: "
          + "\(counts.ok) of \(counts.sent) requests were answered and green got \(green) deliveries. While both "
          + "ran each request was handled by both: \(counts.duplicates) duplicate replies. The switch in Nylon's "
          + "configuration is not part of it: it changes nothing that is sent")
    },
  ]

  /// Few enough for a small, busy machine, enough to see a gap.
  private static let ratePerSecond = 500.0
  private static let rate = "\(shown(ratePerSecond, 0)) requests a second"
  /// Every phase's timeout under a fault: what was lost is known before the load ends.
  private static let timeoutMilliseconds = 500

  private struct Aftermath {
    var counts: OutcomeCounts
    /// Seconds until the rate was back; nil when it did not come back.
    var recoverySeconds: Double?
    var died: String?

    var text: String {
      "of \(counts.sent) requests \(counts.sent - counts.ok) were lost (\(counts.timeouts) timed out, "
        + "\(counts.lost) without an answer, \(counts.handlerErrors) errors), \(counts.retries) attempts were "
        + "repeated; the rate was back to 90 % "
        + (recoverySeconds.map { "\(shown($0)) s" } ?? "never") + (died.map { "; \($0)" } ?? "")
    }

    /// Recovers by itself: the rate comes back, and most requests are answered all the same.
    var isRecovered: Bool {
      recoverySeconds != nil && died == nil && counts.sent > 0 && counts.ok * 2 > counts.sent
    }
  }

  /// An open load under which things are done, each once its time has come. The rate's return is looked for from
  /// when the first of them was over.
  private static func load(
    _ stage: Stage, _ target: Target, seconds: Double, request: RequestSpec? = nil, drainSeconds: Double = 2,
    _ deeds: [(at: Double, body: () throws -> Void)]
  ) throws -> Aftermath {
    var timeline = RecoveryTimeline()
    var rest = deeds[...]
    var fault: (begun: Double, over: Double)?
    let measurement = try stage.bench.load(
      target, .open(ratePerSecond: ratePerSecond, arrivals: .uniform), request: request, warmupSeconds: 0.3,
      measureSeconds: seconds, drainSeconds: drainSeconds
    ) { at in
      let now = at.measuredSeconds
      if now > 0 { timeline.add(now, answered: at.glance.answered) }
      guard let deed = rest.first, now >= deed.at else { return }
      rest.removeFirst()
      let before = MonotonicClock.nanoseconds
      try deed.body()
      fault = fault ?? (now, now + Double(MonotonicClock.nanoseconds - before) / 1e9)
    }
    return Aftermath(
      counts: measurement.counts,
      recoverySeconds: fault.flatMap { timeline.recoverySeconds(after: $0.over, before: $0.begun) })
  }

  private static func loadInThirds(
    _ stage: Stage, _ target: Target, first: @escaping () throws -> Void, second: @escaping () throws -> Void
  ) throws -> OutcomeCounts {
    let seconds = stage.bench.scaled(4.5, quick: 2.1)
    return try load(
      stage, target, seconds: seconds, drainSeconds: 6,
      [(at: seconds / 3, first), (at: seconds * 2 / 3, second)]
    ).counts
  }
}

/// Answers over time around a fault: the rate before it, and when it was back.
struct RecoveryTimeline {
  private static let interval = 0.25
  private static let share = 0.9

  private var looks: [(seconds: Double, answered: Double)] = []

  mutating func add(_ seconds: Double, answered: UInt64) {
    if let last = looks.last, seconds <= last.seconds { return }
    looks.append((seconds, Double(answered)))
  }

  /// Answers until a time, linear between two looks; nil outside them.
  private func answered(at seconds: Double) -> Double? {
    zip(looks, looks.dropFirst()).first { $0.seconds <= seconds && seconds <= $1.seconds }.map {
      left, right in
      let part = (seconds - left.seconds) / (right.seconds - left.seconds)
      return left.answered + part * (right.answered - left.answered)
    }
  }

  /// Answers a second between two times; nil outside the looks.
  func ratePerSecond(from: Double, to: Double) -> Double? {
    guard to > from, let first = answered(at: from), let last = answered(at: to) else { return nil }
    return (last - first) / (to - from)
  }

  /// Seconds from `end`, when a fault was over, to the start of the first two intervals on end whose
  /// rate is at least 90 % of the rate before `begin`, when it began; nil when there are none.
  func recoverySeconds(after end: Double, before begin: Double) -> Double? {
    guard let first = looks.first, let last = looks.last,
      let before = ratePerSecond(from: first.seconds, to: begin), before > 0
    else { return nil }
    let back = stride(from: end, through: last.seconds - 2 * Self.interval, by: 0.01).first { start in
      [start, start + Self.interval].allSatisfy {
        (ratePerSecond(from: $0, to: $0 + Self.interval) ?? 0) >= Self.share * before
      }
    }
    return back.map { $0 - end }
  }
}
