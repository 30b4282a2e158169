import Foundation
import Scenario

/// How much longer a phase takes in one target than in another, unloaded, in microseconds, over pairs of replicates.
package struct ExtraTime {
  package var middle: Double
  package var interval: Interval

  /// Nil without an interval.
  init?(_ a: String, _ b: String, _ document: RunDocument) {
    let sides = [a, b].map { MeasurementGroup($0, "closed-1", of: document.measurements) }
    let phases = Double(sides[0].phaseNames.count)
    let each = MeasurementGroup.pairs("response_p50_us", sides[0].sound, sides[1].sound).map {
      ($0.other - $0.mine) / phases
    }
    guard let middle = Statistics.median(each), let interval = Statistics.medianInterval(each) else {
      return nil
    }
    (self.middle, self.interval) = (middle, interval)
  }
}

/// From which handler time on a phase behind NATS takes less than a tenth longer than in process.
///
/// A handler that waits lets the cores sleep, and waking them costs more than the transport itself, so the
/// unloaded difference does not tell it: a handler that waits is measured, and once more at the time that follows.
package struct Crossover {
  /// The share of the handler's time that no longer matters.
  package static let share = 0.1

  /// How long the handler waited, microseconds.
  package var waitMicroseconds: Double
  package var extra: ExtraTime

  /// The handler times from which on the difference is under the share, microseconds.
  package var handlerMicroseconds: (middle: Double, low: Double, high: Double) {
    (extra.middle / Self.share, extra.interval.low / Self.share, extra.interval.high / Self.share)
  }

  /// Unloaded, with a handler that does next to nothing.
  package static func unloaded(_ document: RunDocument) -> ExtraTime? { ExtraTime("ffi", "nats", document) }

  /// What was measured at the crossover, or before it is known, at the scenario's waiting time.
  package init?(_ document: RunDocument) {
    guard let one = Self.measured("crossover", document) ?? Self.measured("waiting", document) else {
      return nil
    }
    self = one
  }

  private init(waitMicroseconds: Double, extra: ExtraTime) {
    (self.waitMicroseconds, self.extra) = (waitMicroseconds, extra)
  }

  private static func measured(_ suffix: String, _ document: RunDocument) -> Crossover? {
    guard let target = document.scenario.targets.first(where: { $0.name == "ffi-\(suffix)" }),
      let wait = target.waitMicroseconds, let extra = ExtraTime("ffi-\(suffix)", "nats-\(suffix)", document)
    else { return nil }
    return Crossover(waitMicroseconds: wait, extra: extra)
  }

  /// The names of targets that are measured for this and compared with nothing else.
  package static func isPart(_ name: String) -> Bool {
    name.hasSuffix("-waiting") || name.hasSuffix("-crossover")
  }

  /// More rounds than these do not save a check that is disturbed again and again.
  private static let mostRounds = 8

  /// What to measure next so that the crossover is checked at its own handler time; nil when it is, or when nothing
  /// is known of it.
  ///
  /// - Parameter targets: the plan's, with `ffi-waiting` and `nats-waiting`.
  package static func next(_ document: RunDocument, targets: [Target]) -> (target: Target, replicate: Int)? {
    guard measured("crossover", document) == nil, let known = measured("waiting", document) else {
      return nil
    }
    let names = ["ffi", "nats"]
    let made = document.measurements.count { $0.target.hasSuffix("-crossover") }
    let (round, place) = (made / 2 + 1, made % 2)
    guard round <= mostRounds else { return nil }
    let name = round % 2 == 1 ? names[place] : names[1 - place]
    guard var target = targets.first(where: { $0.name == "\(name)-waiting" }) else { return nil }
    target.name = "\(name)-crossover"
    target.waitMicroseconds = known.handlerMicroseconds.middle.rounded()
    return (target, round)
  }
}

extension Target {
  private struct Waiting: Codable { var wait_us: Double? }

  /// How long the example plugin's handler `wait` waits, by the plugin's configuration.
  var waitMicroseconds: Double? {
    get { (try? JSONDecoder().decode(Waiting.self, from: Data(configJSON.utf8)))?.wait_us }
    set {
      guard let data = try? JSONEncoder().encode(Waiting(wait_us: newValue)) else { return }
      configJSON = String(decoding: data, as: UTF8.self)
    }
  }

  /// The plugin's configuration, JSON text.
  private var configJSON: String {
    get {
      switch transport {
      case .ffi(let spec): spec.configJSON
      case .nats(let spec): spec.configJSON
      }
    }
    set {
      switch transport {
      case .ffi(var spec):
        spec.configJSON = newValue
        transport = .ffi(spec)
      case .nats(var spec):
        spec.configJSON = newValue
        transport = .nats(spec)
      }
    }
  }
}
