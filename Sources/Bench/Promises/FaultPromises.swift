// What happens when something dies: a worker, the broker, a plugin in the host's process.
import Foundation
import Lab
import Engine
import Results
import Nylon
import Report
import Scenario

/// Faults under an open load. Nobody helps the pool or the generator: they recover by themselves or not.
enum FaultPromises {
  static let all = [
    PromiseTest("dead-worker", onBroker: deadWorker),
    PromiseTest("dead-broker", onBroker: deadBroker),
    PromiseTest("ffi-crash", ffiCrash),
    PromiseTest("ffi-single-process", ffiSingleProcess),
  ]

  /// Requests a second under a fault: few enough for a small, busy machine, enough to see a gap.
  static let ratePerSecond = 500.0
  /// Every phase's timeout under a fault: what was lost is known before the load ends.
  static let timeoutMilliseconds = 500

  /// What a fault did to a load.
  struct Aftermath {
    var counts: OutcomeCounts
    /// Seconds until the rate was back; nil when it did not come back.
    var recoverySeconds: Double?
    /// Whether something ended that nobody ended.
    var died: String?

    /// Requests that did not get their answer.
    var lostRequests: UInt64 { counts.sent - counts.ok }

    var text: String {
      "of \(counts.sent) requests \(lostRequests) were lost (\(counts.timeouts) timed out, \(counts.lost) without an "
        + "answer, \(counts.handlerErrors) errors), \(counts.retries) attempts were repeated; the rate was back to 90 % "
        + (recoverySeconds.map { "\(shown($0)) s" } ?? "never") + (died.map { "; \($0)" } ?? "")
    }

    /// Recovers by itself: the rate comes back, and most requests are answered all the same.
    var isRecovered: Bool {
      recoverySeconds != nil && died == nil && counts.sent > 0 && counts.ok * 2 > counts.sent
    }
  }

  /// An open load in whose middle something is done once; the time counts from when that is over.
  static func load(
    _ stage: Stage, _ target: Target, seconds: Double, faultAtSeconds: Double, fault: () throws -> Void
  ) throws -> Aftermath {
    var timeline = RecoveryTimeline()
    var faultAt: Double?
    var begun: Double?
    let measurement = try stage.bench.load(
      target, .open(ratePerSecond: ratePerSecond, arrivals: .uniform), warmupSeconds: 0.3,
      measureSeconds: seconds, drainSeconds: 2
    ) { sample in
      if sample.measuredSeconds > 0 { timeline.add(sample) }
      if begun == nil, sample.measuredSeconds >= faultAtSeconds {
        begun = sample.measuredSeconds
        let before = MonotonicClock.nanoseconds
        try fault()
        faultAt = sample.measuredSeconds + Double(MonotonicClock.nanoseconds - before) / 1e9
      }
      return !stage.bench.isInterrupted()
    }
    return Aftermath(
      counts: measurement.request?.counts ?? OutcomeCounts(),
      recoverySeconds: begun.flatMap { begun in
        faultAt.flatMap { timeline.recoverySeconds(after: $0, before: begun) }
      })
  }

  private static func deadWorker(_ stage: Stage) throws -> BehaviourResult {
    let pool = try stage.start(3)
    var aftermath = try load(
      stage, stage.target(timeoutMilliseconds: timeoutMilliseconds),
      seconds: stage.bench.scaled(4, quick: 2.5),
      faultAtSeconds: stage.bench.scaled(1.5, quick: 1)
    ) {
      pool.kill(0)
    }
    aftermath.died = pool.deaths().first.map { "another worker \($0.status)" }
    let left = try stage.workerIDs().count
    return .of(
      aftermath.isRecovered && left == 2,
      "3 workers at \(shown(ratePerSecond, 0)) requests a second, one killed with -9 (\(left) left), timeouts "
        + "\(timeoutMilliseconds) ms: \(aftermath.text) after the kill, with nobody's help. What it had in hand "
        + "at that moment is what can be lost; phases with on_error: retry ask another worker")
  }

  private static func deadBroker(_ stage: Stage) throws -> BehaviourResult {
    let pool = try stage.start(2)
    var aftermath = try load(
      stage, stage.target(timeoutMilliseconds: timeoutMilliseconds),
      seconds: stage.bench.scaled(7, quick: 4.5),
      faultAtSeconds: stage.bench.scaled(1.5, quick: 1)
    ) {
      try stage.killBroker(backAfterSeconds: 1)
    }
    aftermath.died = pool.deaths().first.map { "a worker \($0.status)" }
    return .of(
      aftermath.isRecovered,
      "2 workers at \(shown(ratePerSecond, 0)) requests a second, the broker killed with -9 and started again on "
        + "its port 1 s later, timeouts \(timeoutMilliseconds) ms: \(aftermath.text) after the broker was back"
    )
  }

  // MARK: In the host's process

  /// A handler that crashes, in the host's process: what becomes of the host?
  private static func ffiCrash(_ bench: PromiseBench) throws -> BehaviourResult {
    let measurement = try bench.load(
      HandlerPromises.ffiTarget("crash"), .closed(concurrency: 1),
      request: RequestSpec(to: "/", headers: [KeyValue(key: "x-crash-after", value: "200")]),
      measureSeconds: 1)
    let crash = measurement.invalidReasons.first { $0.code == .pluginCrashed }
    let counts = measurement.request?.counts ?? OutcomeCounts()
    return .of(
      crash != nil,
      "a handler that aborts at its 200th request: "
        + (crash.map { "\($0.detail); nothing was answered after it (\(counts.ok) before)" }
          ?? "the host went on, \(counts.ok) of \(counts.sent) requests answered")
        + ". The host was a load process, which this run outlives")
  }

  /// How many processes hold the plugin while it is loaded, and whether its handlers run side by side.
  private static func ffiSingleProcess(_ bench: PromiseBench) throws -> BehaviourResult {
    var most = 0
    let rates = try [1, 8].map { concurrency in
      try bench.load(
        HandlerPromises.ffiTarget("wait"), .closed(concurrency: concurrency),
        request: RequestSpec(to: "/", headers: [KeyValue(key: "x-wait-us", value: "2000")]),
        measureSeconds: bench.scaled(0.8, quick: 0.4)
      ) { _ in
        most = max(most, ProcessTree.descendants(holding: "libExamplePlugin.so").count)
        return true
      }.throughputPerSecond ?? 0
    }
    let ratio = rates[0] > 0 ? rates[1] / rates[0] : 0
    return .of(
      most == 1,
      "\(most) process\(most == 1 ? "" : "es") held the plugin while it was loaded: the host's own. Within it a "
        + "handler that waits 2 ms gave \(shown(ratio, 1)) times the throughput with 8 in flight as with 1: this "
        + "plugin's handlers run \(ratio < 1.5 ? "one after the other" : "side by side")")
  }
}

/// Processes that descend from this one.
enum ProcessTree {
  /// Those that have a file of this name mapped.
  static func descendants(holding file: String) -> [Int32] {
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return entries.compactMap { Int32($0) }.filter { pid in
      guard pid != getpid(), let maps = try? String(contentsOfFile: "/proc/\(pid)/maps", encoding: .utf8),
        maps.contains("/\(file)")
      else { return false }
      return isDescendant(pid)
    }
  }

  private static func isDescendant(_ pid: Int32) -> Bool {
    var pid = pid
    for _ in 0..<64 where pid > 1 {
      if pid == getpid() { return true }
      guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
        let bracket = text.lastIndex(of: ")")
      else { return false }
      // Behind the name in brackets: state, parent.
      let fields = text[text.index(after: bracket)...].split(separator: " ")
      guard fields.count > 1, let parent = Int32(fields[1]) else { return false }
      pid = parent
    }
    return false
  }
}

/// Answers over time around a fault: the rate before it, and when it was back.
struct RecoveryTimeline {
  /// The width of the intervals whose rate counts, seconds.
  static let intervalSeconds = 0.25
  /// The share of the rate before that counts as back.
  static let share = 0.9

  private(set) var samples: [LoadSample] = []

  /// Adds a look; looks without new time are left out.
  mutating func add(_ sample: LoadSample) {
    if let last = samples.last, sample.measuredSeconds <= last.measuredSeconds { return }
    samples.append(sample)
  }

  /// Answers until a time, linear between two looks; nil outside them.
  func answered(at seconds: Double) -> Double? {
    guard let after = samples.firstIndex(where: { $0.measuredSeconds >= seconds }) else { return nil }
    let right = samples[after]
    guard after > 0 else { return right.measuredSeconds == seconds ? Double(right.answered) : nil }
    let left = samples[after - 1]
    let part = (seconds - left.measuredSeconds) / (right.measuredSeconds - left.measuredSeconds)
    return Double(left.answered) + part * (Double(right.answered) - Double(left.answered))
  }

  /// Answers a second between two times; nil outside the looks.
  func ratePerSecond(from: Double, to: Double) -> Double? {
    guard to > from, let first = answered(at: from), let last = answered(at: to) else { return nil }
    return (last - first) / (to - from)
  }

  /// Seconds from `end`, when a fault was over, to the start of the first two intervals on end whose
  /// rate is at least 90 % of the rate before `begin`, when it began; nil when there are none.
  func recoverySeconds(after end: Double, before begin: Double) -> Double? {
    guard let first = samples.first, let last = samples.last,
      let before = ratePerSecond(from: first.measuredSeconds, to: begin), before > 0
    else { return nil }
    var start = end
    while start + 2 * Self.intervalSeconds <= last.measuredSeconds {
      let middle = start + Self.intervalSeconds
      let rates = [
        ratePerSecond(from: start, to: middle),
        ratePerSecond(from: middle, to: middle + Self.intervalSeconds),
      ]
      if rates.allSatisfy({ ($0 ?? 0) >= Self.share * before }) { return start - end }
      start += 0.01
    }
    return nil
  }
}
