// Soak tests: whether a target behaves the same at the end of a long load as at its beginning.
import Engine
import struct Engine.Measurement

/// A long load of a target at a constant rate, and the checks on it.
package struct SoakResult: Sendable {
  package let target: String
  package let load: String
  let seconds: Double
  /// The conditions that must hold, in the form of `expect:` conditions.
  package let checks: [ExpectationResult]

  /// The share of the measured time to compare at either end: five minutes of thirty.
  static let endShare = 1.0 / 6
  /// The number of windows of a long load's measured time, ten of them at either end.
  package static let windows = 60
  /// Memory is constant when it grows by no more than this, in bytes, or by `grownShare` of its first size.
  static let grownBytes = 8.0 * 1_048_576
  static let grownShare = 0.05

  /// The soak results of a run, in the order in which they were measured.
  package static func all(_ document: RunDocument) -> [SoakResult] {
    document.measurements.filter { $0.soak == true }.map(SoakResult.init)
  }

  init(_ one: Measurement) {
    (target, load, seconds) = (one.target, one.load, one.durationSeconds)
    checks = Self.memory(one) + [Self.counts(one)] + Self.figures(one)
  }

  /// A sentence such as `'nats' at open-9500 for 1800 s: 6 of 6 checks hold.`
  package var sentence: String {
    let held = checks.count { $0.verdict == .met }
    return "'\(target)' at \(load) for \(Number.text(seconds, digits: 1) ?? "?") s: "
      + "\(held) of \(checks.count) checks of the soak hold."
  }

  private static func check(
    _ one: Measurement, _ what: String, holds: Bool?, measured: Double? = nil, why: String
  ) -> ExpectationResult {
    // A good figure from an invalid measurement proves nothing.
    let verdict: ExpectationResult.Verdict =
      switch holds {
      case false?: .notMet
      case true? where one.isValid: .met
      default: .unmeasured
      }
    let invalid = one.isValid ? "" : "; invalid: \(one.invalidCodes)"
    return ExpectationResult(
      "\(one.target).\(one.load): \(what)", verdict, measured: measured, why: why + invalid)
  }

  private static func counts(_ one: Measurement) -> ExpectationResult {
    let open = one.scopes.filter { !$0.counts.closes }.map(\.scope)
    let sent = Number.grouped(one.request.map { Double($0.counts.sent) }) ?? "0"
    return check(
      one, "counts close", holds: open.isEmpty,
      why: open.isEmpty
        ? "every one of \(sent) requests has one end" : "not those of \(open.joined(separator: ", "))")
  }

  private static func memory(_ one: Measurement) -> [ExpectationResult] {
    let processes = [
      ("generator", one.generator), ("broker", one.broker), ("workers", one.workerProcesses),
    ]
    return processes.compactMap { name, costs in
      guard let costs else { return nil }
      guard let start = costs.residentStartBytes.map({ Double($0) }),
        let end = costs.residentEndBytes.map({ Double($0) })
      else { return check(one, "memory of the \(name) is flat", holds: nil, why: "it was not measured") }
      let shown = [start, end].map { Number.text($0 / 1_048_576, digits: 1) ?? "?" }
      return check(
        one, "memory of the \(name) is flat", holds: end - start <= max(grownBytes, grownShare * start),
        measured: end - start, why: "\(shown[0]) MiB at the start, \(shown[1]) MiB at the end")
    }
  }

  /// Compares the rate and times of the last sixth with those of the first.
  private static func figures(_ one: Measurement) -> [ExpectationResult] {
    let figures: [(name: String, value: (MeasurementWindow) -> Double?, shown: (Double) -> String)] = [
      ("req/s", \.answeredPerSecond, { Number.grouped($0) ?? "?" }),
      ("p50", { $0.p50Nanoseconds.map { Double($0) / 1000 } }, { Number.time(microseconds: $0) ?? "?" }),
      ("p99", { $0.p99Nanoseconds.map { Double($0) / 1000 } }, { Number.time(microseconds: $0) ?? "?" }),
    ]
    let count = Int((Double(one.windows.count) * endShare).rounded())
    return figures.map { name, value, shown in
      let what = "\(name) of the last sixth equals the first"
      let ends = [one.windows.prefix(count), one.windows.suffix(count)].map { Array($0).compactMap(value) }
      guard let first = Statistics.medianInterval(ends[0]), let last = Statistics.medianInterval(ends[1]),
        let median = Statistics.median(ends[1])
      else { return check(one, what, holds: nil, why: "there are too few intervals, or samples in them") }
      let floor = 1 + Comparison.leastFloor
      return check(
        one, what, holds: last.high >= first.low / floor && last.low <= first.high * floor, measured: median,
        why:
          "\(shown(last.low)) to \(shown(last.high)), and \(shown(first.low)) to \(shown(first.high)) at first"
      )
    }
  }
}
