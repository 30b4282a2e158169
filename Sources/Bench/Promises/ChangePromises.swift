// Pools and brokers that change under load: workers start, stop and crash, versions switch, brokers fail.
import Foundation
import Engine
import Lab
import Results
import Scenario

/// Changes under an open load. The pool and the generator must recover without intervention.
enum ChangePromises {
  static let all: [PromiseTest] = [
    PromiseTest(name: "dead-worker") { bench in
      let seen = try aftermath(
        bench, workers: 3, seconds: bench.scaled(4, quick: 2.5),
        FaultSpec(.kill, .worker(0), at: bench.scaled(1.5, quick: 1)))
      return .of(
        seen.isRecovered,
        "3 workers at \(rate), one killed with -9, timeouts \(timeoutMilliseconds) ms: \(seen.text) after the "
          + "kill, without intervention. Only requests that it was handling can be lost; phases with "
          + "on_error: retry ask another worker")
    },
    PromiseTest(name: "dead-broker") { bench in
      let seen = try aftermath(
        bench, workers: 2, seconds: bench.scaled(7, quick: 4.5),
        FaultSpec(.kill, .broker(.any), at: bench.scaled(1.5, quick: 1), for: 1))
      return .of(
        seen.isRecovered,
        "2 workers at \(rate), the broker killed with -9 and restarted on its port 1 s later, timeouts "
          + "\(timeoutMilliseconds) ms: \(seen.text) after the kill")
    },
    PromiseTest(name: "several-servers") { bench in
      let seen = try aftermath(
        bench, workers: 2, seconds: bench.scaled(2.4, quick: 1.8), brokers: 2,
        FaultSpec(.kill, .broker(.own), at: 0.8))
      return .of(
        seen.isRecovered,
        "a cluster of 2 brokers, both given to the host and to 2 workers, one of which started at each; at "
          + "\(rate) the broker of the host and of the first worker was killed with -9, timeouts "
          + "\(timeoutMilliseconds) ms: \(seen.text) after the kill, without intervention. Both brokers ran "
          + "on this machine")
    },
    // Without Docker: docker-compose starts the same processes, only in containers.
    PromiseTest("five-to-ten") { stage in
      let old = try stage.start(5)
      let known = try stage.workerIDs()
      var five: [UInt64] = []
      var added: [UInt64] = []
      let counts = try load(stage, stage.target(), seconds: stage.bench.scaled(2.4, quick: 1.6)) {
        five = try stage.delivered(to: known)
        try stage.start(5)
        added = try stage.workerIDs().filter { !known.contains($0) }
      }
      let new = try stage.settledDeliveries(to: added)
      return .of(
        counts.areAllRight && counts.retries == 0 && five.count == 5 && new.count == 5
          && (five + new).allSatisfy { $0 > 0 } && old.deaths().isEmpty,
        "at \(rate), 5 processes of one pool got \(five.listed()) deliveries, then 5 more were started, "
          + "which got \(new.listed()): \(counts.ok) of \(counts.sent) requests were answered, with "
          + "\(counts.retries) retries. Tested with processes, without Docker, which starts the same "
          + "processes in containers")
    },
    PromiseTest("auto-scaling", pool: .standardOfOnePhase) { stage in
      try stage.start(1)
      var known: [UInt64] = []
      var added: [UInt64] = []
      let seconds = stage.bench.scaled(2.4, quick: 1.6)
      let counts = try load(
        stage, stage.target(handler: "wait", timeoutMilliseconds: timeoutMilliseconds), seconds: seconds,
        request: RequestSpec(to: "/", headers: headers(["x-wait-us": "4000"]))
      ) {
        known = try stage.workerIDs()
        try stage.start(1)
        added = try stage.workerIDs().filter { !known.contains($0) }
      }
      let deliveries = try stage.settledDeliveries(to: added).reduce(0, +)
      return .of(
        known.count > 1,
        "\(rate) to a pool of 1 worker that can sustain 250 (it waits 4 ms for each): after "
          + "\(shown(seconds / 2, 1)) s there was \(known.count) worker, and \(counts.sent - counts.ok) of "
          + "\(counts.sent) requests were lost. Neither NATS nor the documented configuration starts or "
          + "stops a worker; that takes a person or an orchestrator. A worker that was then started by hand "
          + "got \(deliveries) deliveries, without a change to the configuration")
    },
    PromiseTest("dynamic-scaling") { stage in
      let old = try stage.start(1)
      let known = Set(try stage.workerIDs())
      var new: [UInt64] = []
      var stoppedIn = 0.0
      let counts = try load(stage, stage.target(), seconds: stage.bench.scaled(4.5, quick: 2.1)) {
        try stage.start(2)
        new = try stage.workerIDs().filter { !known.contains($0) }
      } then: {
        let before = MonotonicClock.nanoseconds
        old.stop(grace: .seconds(5))
        stoppedIn = Double(MonotonicClock.nanoseconds - before) / 1e9
      }
      let deliveries = try stage.settledDeliveries(to: new)
      return .of(
        counts.areAllRight && counts.retries == 0 && deliveries.count == 2
          && deliveries.allSatisfy { $0 > 0 } && old.deaths().isEmpty,
        "at \(rate), 2 workers were added to 1, which was then stopped with SIGTERM (it took "
          + "\(shown(stoppedIn)) s to end): the new ones got \(deliveries.listed(" and ")) deliveries, "
          + "\(counts.ok) of \(counts.sent) requests were answered, with \(counts.retries) retries")
    },
    // Tests whether the group in Nylon's configuration decides which version gets the traffic.
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
        "with blue in group auth_v1 and green in auth_v2, Nylon's group was set to one and then the other: "
          + rows.map {
            "with \($0[0]) blue got \($0[1]) deliveries and green \($0[2]), \($0[5]) duplicate replies"
          }.listed("; ")
          + ". A request names no group, so every group gets each request whatever the configuration says; "
          + "to switch, stop the old workers, or give each version its own plugin name (subject)",
        columns: [
          "group in the configuration", "blue", "green", "sessions", "answered", "duplicate replies",
        ], rows: rows)
    },
    // The documented steps under load: start green next to blue, then stop blue.
    PromiseTest("blue-green") { stage in
      let blue = try stage.start(1, group: "auth_v1")
      var greenIDs: [UInt64] = []
      let counts = try load(
        stage, stage.target(group: "auth_v1"), seconds: stage.bench.scaled(4.5, quick: 2.1)
      ) {
        try stage.start(1, group: "auth_v2")
        greenIDs = try stage.workerIDs(group: "auth_v2")
      } then: {
        blue.stop(grace: .seconds(5))
      }
      let green = try stage.settledDeliveries(to: greenIDs).reduce(0, +)
      return .of(
        counts.areAllRight && green > 0,
        "at \(rate), green (auth_v2) was started beside blue (auth_v1), then blue was stopped with SIGTERM: "
          + "\(counts.ok) of \(counts.sent) requests were answered and green got \(green) deliveries. While both "
          + "ran, both handled each request: \(counts.duplicates) duplicate replies. The switch in Nylon's "
          + "configuration was left out: it changes nothing that is sent")
    },
  ]

  /// Low enough for a small, busy machine and high enough to show a gap.
  private static let ratePerSecond = 500.0
  private static let rate = "\(shown(ratePerSecond, 0)) requests a second"
  /// The timeout of every phase under a fault: short enough to detect lost requests before the load ends.
  private static let timeoutMilliseconds = 500

  /// The result of a fault under an open load.
  private struct Aftermath {
    let counts: OutcomeCounts
    let outcome: FaultOutcome?
    /// Other failures, such as another worker that died.
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
        + "retries; " + ([recovery] + trouble.map { "\($0)" }).listed("; ")
    }

    /// Whether the rate recovered without intervention and most requests were answered.
    var isRecovered: Bool {
      let isBack = outcome?.recovery == .atOnce || outcome?.recovery == .later
      return isBack && trouble.isEmpty && counts.sent > 0 && counts.ok * 2 > counts.sent
    }
  }

  /// Injects a fault into the pool under test during an open load.
  private static func aftermath(
    _ bench: PromiseBench, workers: Int, seconds: Double, brokers: Int = 1, _ fault: FaultSpec
  ) throws -> Aftermath {
    var target = bench.target(timeoutMilliseconds: timeoutMilliseconds, servers: [])
    target.nats?.workers = bench.poolSpec.workers
    target.nats?.workers?.count = workers
    target.faults = [fault]
    let measurement = try bench.load(
      target, .open(ratePerSecond: ratePerSecond, arrivals: .uniform), warmupSeconds: 0.3,
      measureSeconds: seconds, drainSeconds: 2, brokers: brokers)
    let codes: Set<InvalidReason.Code> = [.workerDied, .brokerDied, .faultFailed]
    return Aftermath(
      counts: measurement.counts, outcome: FaultOutcome.all(measurement).first,
      trouble: measurement.invalidReasons.filter { codes.contains($0.code) })
  }

  /// Runs an open load with one action after half of the time, or two after one and two thirds.
  private static func load(
    _ stage: Stage, _ target: Target, seconds: Double, request: RequestSpec? = nil, first: () throws -> Void,
    then second: (() throws -> Void)? = nil
  ) throws -> OutcomeCounts {
    let interval = seconds / (second == nil ? 2 : 3)
    var done = 0
    return try stage.bench.load(
      target, .open(ratePerSecond: ratePerSecond, arrivals: .uniform), request: request, warmupSeconds: 0.3,
      measureSeconds: seconds, drainSeconds: 6
    ) { at in
      guard done < 2, at.measuredSeconds >= interval * Double(done + 1) else { return }
      done += 1
      if done == 1 { try first() } else { try second?() }
    }.counts
  }
}

extension FaultSpec {
  /// Creates a fault at a fixed time.
  fileprivate init(_ what: FaultKind, _ whom: FaultVictim, at seconds: Double, for forSeconds: Double? = nil)
  {
    self.init(what, whom, atSeconds: seconds...seconds, forSeconds: forSeconds)
  }
}
