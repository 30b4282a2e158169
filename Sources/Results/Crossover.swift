import Scenario

/// The unloaded extra time of a phase in one target over another, in microseconds, over pairs of replicates.
package struct ExtraTime {
  package var middle: Double
  package var interval: Interval
  /// Whether too few pairs were undisturbed, so that the figures are those of all pairs.
  package var includesDisturbed: Bool

  /// Returns nil without an interval.
  ///
  /// - Parameter needsUndisturbed: Whether only undisturbed pairs count, even when they are too few.
  package init?(_ a: String, _ b: String, _ document: RunDocument, needsUndisturbed: Bool = false) {
    let sides = [a, b].map { MeasurementGroup($0, "closed-1", of: document.measurements) }
    let phases = Double(document.scenario.targets.first { $0.name == a }?.phases.count ?? 1)
    let differences = [sides.map(\.sound), sides.map(\.warm)].map {
      MeasurementGroup.pairs("response_p50_us", $0[0], $0[1]).map { ($0.other - $0.mine) / phases }
    }
    includesDisturbed = !needsUndisturbed && differences[0].count < Statistics.fewestReplicates
    let each = differences[includesDisturbed ? 1 : 0]
    guard let middle = Statistics.median(each), let interval = Statistics.medianInterval(each) else {
      return nil
    }
    (self.middle, self.interval) = (middle, interval)
  }
}

/// The handler time above which a phase over NATS takes less than a tenth longer than in process.
///
/// The search uses a handler that works (uses the CPU). It starts at ten times the extra time without load,
/// then continues at ten times the extra time measured there, until both are about the same. Finally it
/// measures a handler that waits for the same time: waiting lets cores sleep, and waking them costs both
/// transports.
package struct Crossover {
  /// The share of the handler's time below which the difference no longer matters.
  package static let share = 0.1
  private static let mostSteps = 3
  /// Handler times within this share of each other count as equal.
  private static let closeEnough = 0.25
  /// The limit on rounds, after which the disturbed replicates count as well.
  private static let mostRounds = 8

  /// The extra time of a phase with a handler of a given time.
  package struct Point {
    var handler: String
    package var handlerMicroseconds: Double
    /// Nil until there are enough replicates.
    package var extra: ExtraTime?
    fileprivate var measured: Int
  }

  package var unloaded: ExtraTime
  private var points: [Point]

  /// Returns nil without an interval for the targets `ffi` and `nats` without load.
  package init?(_ document: RunDocument) {
    guard let unloaded = ExtraTime("ffi", "nats", document) else { return nil }
    self.unloaded = unloaded
    points = document.scenario.targets.filter { $0.name.hasPrefix("ffi-") }.compactMap { target in
      target.crossoverMicroseconds.map { time in
        let names = ["ffi", "nats"].map { Self.name($0, target.handler, time) }
        let measured = document.measurements.count { names.contains($0.target) }
        return Point(
          handler: target.handler, handlerMicroseconds: time,
          extra: ExtraTime(
            names[0], names[1], document, needsUndisturbed: measured < 2 * Self.mostRounds),
          measured: measured)
      }
    }
  }

  /// The measurement that gives the crossover; nil until there is one.
  package var working: Point? { points.last { $0.handler == "work" && $0.extra != nil } }
  package var waiting: Point? { points.last { $0.handler == "wait" && $0.extra != nil } }

  /// The handler time above which the difference is below the share, for working and for waiting handlers;
  /// microseconds.
  package var leastMicroseconds: (middle: Double, low: Double, high: Double) {
    let measured = [working, waiting].compactMap { $0?.extra }.max { $0.middle < $1.middle }
    let extra = measured ?? unloaded
    return (extra.middle / Self.share, extra.interval.low / Self.share, extra.interval.high / Self.share)
  }

  private static func name(_ side: String, _ handler: String, _ microseconds: Double) -> String {
    "\(side)-\(handler)-\(Int(microseconds))us-crossover"
  }

  /// Whether targets of this name belong to the crossover search and to no other comparison.
  package static func isPart(_ name: String) -> Bool { name.hasSuffix("-crossover") }

  /// Returns the next measurement; nil when the crossover is known or cannot be determined.
  ///
  /// - Parameter targets: The plan's targets, with `ffi` and `nats` running the example plugin.
  package static func next(_ document: RunDocument, targets: [Target]) -> (target: Target, replicate: Int)? {
    guard let known = Crossover(document), let point = known.nextPoint,
      point.measured < 2 * mostRounds
    else { return nil }
    let (round, place) = (point.measured / 2 + 1, point.measured % 2)
    let side = ["ffi", "nats"][round % 2 == 1 ? place : 1 - place]
    guard var target = targets.first(where: { $0.name == side }) else { return nil }
    target.name = name(side, point.handler, point.handlerMicroseconds)
    target.handler = point.handler
    target.phases = [.requestFilter]
    target.verify = Verification()
    target.configure(microseconds: Int(point.handlerMicroseconds))
    return (target, round)
  }

  private var nextPoint: Point? {
    if let open = points.first(where: { $0.extra == nil }) { return open }
    let steps = points.filter { $0.handler == "work" }
    let time = ((working?.extra ?? unloaded).middle / Self.share).rounded()
    // A difference of nearly zero at one handler time says nothing about shorter ones.
    let isFound =
      steps.last.map { abs(time / $0.handlerMicroseconds - 1) <= Self.closeEnough || time < 50 } ?? false
    if !isFound, steps.count < Self.mostSteps {
      return Point(handler: "work", handlerMicroseconds: time, measured: 0)
    }
    // The cost of a transport changes when the processor is idle.
    let waits = points.filter { $0.handler == "wait" }
    guard let last = waits.last, let extra = last.extra else {
      return steps.last.map {
        Point(handler: "wait", handlerMicroseconds: $0.handlerMicroseconds, measured: 0)
      }
    }
    let least = (extra.middle / Self.share).rounded()
    guard least > last.handlerMicroseconds * (1 + Self.closeEnough), waits.count < Self.mostSteps else {
      return nil
    }
    return Point(handler: "wait", handlerMicroseconds: least, measured: 0)
  }
}

extension Target {
  /// The configured duration of the example plugin's handlers `work` and `wait`; nil for other targets.
  var crossoverMicroseconds: Double? {
    name.firstMatch(of: /-(\d{1,9})us-crossover$/).flatMap { Double($0.1) }
  }

  fileprivate mutating func configure(microseconds: Int) {
    let configJSON = "{\"wait_us\":\(microseconds),\"work_us\":\(microseconds)}"
    switch transport {
    case .ffi(var spec):
      spec.configJSON = configJSON
      transport = .ffi(spec)
    case .nats(var spec):
      spec.configJSON = configJSON
      transport = .nats(spec)
    }
  }
}
