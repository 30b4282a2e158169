// Soak tests: whether a target behaves the same at the end of a long load as at its beginning.
import Engine

/// A long load of a target at a constant rate, and the checks on it.
package struct SoakResult: Sendable {
  package let target: String
  package let load: String
  let seconds: Double
  /// The conditions that must hold, in the form of `expect:` conditions.
  package let checks: [ExpectationResult]
  /// Whether a figure has changed over the load. A new load right after it shows whether the long load or the
  /// machine has changed.
  package let needsControl: Bool

  /// The share of the measured time to compare at either end: five minutes of thirty.
  package static let endShare = 1.0 / 6
  /// The number of windows of a long load's measured time, ten of them at either end.
  package static let windows = 60
  /// Memory is constant when it grows by no more than this, in bytes, or by `grownShare` of its first size.
  static let grownBytes = 8.0 * 1_048_576
  static let grownShare = 0.05

  /// The soak results of a run, in the order in which they were measured.
  package static func all(_ document: RunDocument) -> [SoakResult] {
    let soaks = document.measurements.filter { $0.soak == true }
    return soaks.filter { $0.replicate == 1 }.map { one in
      SoakResult(one, control: soaks.first { $0.replicate > 1 && $0.target == one.target && $0.isValid })
    }
  }

  /// - Parameter control: A new load under the same condition right after the long one; nil if there was none.
  package init(_ one: Measurement, control: Measurement? = nil) {
    (target, load, seconds) = (one.target, one.load, one.durationSeconds)
    let figures = Self.figures.map { $0.compare(one, control: control) }
    checks = Self.memory(one) + [Self.counts(one)] + figures.map(\.check)
    needsControl = one.isValid && figures.contains(where: \.hasChanged)
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

  private static let figures = [
    Figure(name: "req/s", value: \.answersPerSecond) { Number.grouped($0) ?? "?" },
    Figure(name: "p50", value: { $0.p50Nanoseconds.map { Double($0) / 1000 } }, shown: Figure.time),
    Figure(name: "p99", value: { $0.p99Nanoseconds.map { Double($0) / 1000 } }, shown: Figure.time),
  ]

  /// A figure that must not depend on how long the load has lasted.
  private struct Figure: Sendable {
    let name: String
    let value: @Sendable (MeasurementWindow) -> Double?
    let shown: @Sendable (Double) -> String

    @Sendable static func time(_ microseconds: Double) -> String {
      Number.time(microseconds: microseconds) ?? "?"
    }

    /// Compares the last sixth with the first and, if they differ, with the control.
    func compare(
      _ one: Measurement, control: Measurement?
    ) -> (check: ExpectationResult, hasChanged: Bool) {
      let what = "\(name) of the last sixth equals"
      let count = Int((Double(one.windows.count) * endShare).rounded())
      guard let first = interval(one.windows.prefix(count)), let last = interval(one.windows.suffix(count)),
        let median = Statistics.median(one.windows.suffix(count).compactMap(value))
      else {
        let why = "there are too few intervals, or samples in them"
        return (SoakResult.check(one, "\(what) the first", holds: nil, why: why), false)
      }
      let why = "\(text(last)), and \(text(first)) at first"
      if !agree(last, first), let control, let new = interval(control.windows[...]) {
        let check = SoakResult.check(
          one, "\(what) a new load", holds: agree(last, new), measured: median,
          why: "\(why), but \(text(new)) in a new load right after it")
        return (check, true)
      }
      let holds = agree(last, first)
      return (
        SoakResult.check(one, "\(what) the first", holds: holds, measured: median, why: why), !holds
      )
    }

    private func interval(_ windows: ArraySlice<MeasurementWindow>) -> Interval? {
      Statistics.medianInterval(windows.compactMap(value))
    }

    private func agree(_ a: Interval, _ b: Interval) -> Bool {
      let floor = 1 + Comparison.leastFloor
      return a.high >= b.low / floor && a.low <= b.high * floor
    }

    private func text(_ interval: Interval) -> String {
      "\(shown(interval.low)) to \(shown(interval.high))"
    }
  }
}
