// Pools and brokers that change under load: workers come, go and die, versions are switched, the broker is gone.
import Foundation
import Engine
import Lab
import Results
import Scenario

/// Changes under an open load. Nobody helps the pool or the generator: they recover by themselves or not.
enum ChangePromises {
  static let all: [PromiseTest] = [
    PromiseTest(name: "dead-worker") { bench in
      let seen = try aftermath(
        bench, workers: 3, seconds: bench.scaled(4, quick: 2.5),
        FaultSpec(.kill, .worker(0), at: bench.scaled(1.5, quick: 1)))
      return .of(
        seen.isRecovered,
        "3 workers at \(rate), one killed with -9, timeouts \(timeoutMilliseconds) ms: \(seen.text) after the "
          + "kill, with nobody's help. What it had in hand at that moment is what can be lost; phases with "
          + "on_error: retry ask another worker")
    },
    PromiseTest(name: "dead-broker") { bench in
      let seen = try aftermath(
        bench, workers: 2, seconds: bench.scaled(7, quick: 4.5),
        FaultSpec(.kill, .broker(.any), at: bench.scaled(1.5, quick: 1), for: 1))
      return .of(
        seen.isRecovered,
        "2 workers at \(rate), the broker killed with -9 and started again on its port 1 s later, timeouts "
          + "\(timeoutMilliseconds) ms: \(seen.text) after the kill")
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

  /// What came of a fault under an open load.
  private struct Aftermath {
    let counts: OutcomeCounts
    let outcome: FaultOutcome?
    /// What else went wrong, such as another worker that died.
    let trouble: [InvalidReason]

    var text: String {
      let recovery =
        switch outcome?.recovery {
        case .atOnce: "the rate never fell under 95 %"
        case .later: "the rate was back to 95 % \(shown(outcome?.recoveredSeconds ?? 0)) s"
        case .never, nil: "the rate did not come back to 95 %"
        }
      return "of \(counts.sent) requests \(counts.sent - counts.ok) were lost (\(counts.timeouts) timed out, "
        + "\(counts.lost) without an answer, \(counts.handlerErrors) errors), \(counts.retries) attempts were "
        + "repeated; " + ([recovery] + trouble.map { "\($0)" }).listed("; ")
    }

    /// Recovers by itself: the rate comes back, and most requests are answered all the same.
    var isRecovered: Bool {
      let isBack = outcome?.recovery == .atOnce || outcome?.recovery == .later
      return isBack && trouble.isEmpty && counts.sent > 0 && counts.ok * 2 > counts.sent
    }
  }

  /// Does a fault under an open load on the pool under test.
  private static func aftermath(
    _ bench: PromiseBench, workers: Int, seconds: Double, _ fault: FaultSpec
  ) throws -> Aftermath {
    var target = bench.target(timeoutMilliseconds: timeoutMilliseconds, servers: [])
    if case .nats(var spec) = target.transport {
      spec.workers = bench.poolSpec.workers
      spec.workers?.count = workers
      target.transport = .nats(spec)
    }
    target.faults = [fault]
    let measurement = try bench.load(
      target, .open(ratePerSecond: ratePerSecond, arrivals: .uniform), warmupSeconds: 0.3,
      measureSeconds: seconds, drainSeconds: 2)
    let codes: Set<InvalidReason.Code> = [.workerDied, .brokerDied, .faultFailed]
    return Aftermath(
      counts: measurement.counts, outcome: FaultOutcome.all(measurement).first,
      trouble: measurement.invalidReasons.filter { codes.contains($0.code) })
  }

  /// An open load under which two things are done, a third of the time after its beginning and after each other.
  private static func loadInThirds(
    _ stage: Stage, _ target: Target, first: () throws -> Void, second: () throws -> Void
  ) throws -> OutcomeCounts {
    let seconds = stage.bench.scaled(4.5, quick: 2.1)
    var done = 0.0
    return try stage.bench.load(
      target, .open(ratePerSecond: ratePerSecond, arrivals: .uniform), warmupSeconds: 0.3,
      measureSeconds: seconds, drainSeconds: 6
    ) { at in
      guard done < 2, at.measuredSeconds >= seconds * (done + 1) / 3 else { return }
      done += 1
      try done == 1 ? first() : second()
    }.counts
  }
}

extension FaultSpec {
  /// At a moment that is not random.
  fileprivate init(_ what: FaultKind, _ whom: FaultVictim, at seconds: Double, for forSeconds: Double? = nil)
  {
    self.init(what, whom, atSeconds: seconds...seconds, forSeconds: forSeconds)
  }
}
