// What all curves of a sweep say together, when they are of more than one pool.
import Engine

/// The curves of pools with different numbers of workers or of connections.
package struct SweepSummary {
  private let curves: [SweepCurve]
  private let combinations: Int

  /// Of all curves of a run; those of plugins have no combination.
  package init(_ all: [SweepCurve]) {
    curves = all.filter { $0.workers != nil || $0.connections != nil }
    combinations = Set(curves.map { [$0.workers, $0.connections] }).count
  }

  /// One sentence; none where all curves are of one combination.
  package var sentences: [String] {
    guard combinations > 1, let best = curves.compactMap(Self.highest).max(by: { $0.rate < $1.rate }) else {
      return []
    }
    return [
      "Of \(combinations) combinations of workers and connections, \(best.words) reaches the highest rate, "
        + "\(Number.grouped(best.rate) ?? "?") req/s\(cost.map { "; \($0)" } ?? "")."
    ]
  }

  private static func highest(_ curve: SweepCurve) -> (rate: Double, words: String)? {
    guard let point = curve.highest else { return nil }
    let isValid = point.group.measurements.allSatisfy(\.isValid)
    let numbers = [
      counted(curve.workers, "worker"), counted(curve.connections, "connection"),
      "\(point.concurrency) in flight",
    ].compactMap { $0 }
    let words = "\(curve.target) (\(numbers.joined(separator: ", "))\(isValid ? "" : "; not valid"))"
    return (point.ratePerSecond, words)
  }

  private static func counted(_ number: Int?, _ noun: String) -> String? {
    number.map { "\($0) \(noun)\($0 == 1 ? "" : "s")" }
  }

  /// What a request costs the generator at the cheapest load of all, and with the most in flight; nil
  /// when that was not measured everywhere.
  private var cost: String? {
    let points = curves.flatMap(\.points)
    let costs = points.compactMap(\.cost)
    let ends = curves.compactMap { $0.points.last?.cost }
    let growths = curves.compactMap(\.costGrowth)
    guard costs.count == points.count, let cheapest = points.min(by: { $0.cost ?? 0 < $1.cost ?? 0 }),
      let least = Number.time(microseconds: cheapest.cost),
      let last = range(ends, { Number.time(microseconds: $0) }),
      let growth = range(growths, { Number.significant($0, 3) })
    else { return nil }
    return "the generator's CPU time per request is \(least) at the cheapest load of all "
      + "(\(cheapest.group.target), \(cheapest.concurrency) in flight) and \(last) with the most in flight, "
      + "\(growth) times that of the cheapest load of the same curve"
  }

  /// The least and the greatest, or the one when both read the same.
  private func range(_ values: [Double], _ text: (Double) -> String?) -> String? {
    guard let low = values.min().flatMap(text), let high = values.max().flatMap(text) else { return nil }
    return low == high ? low : "\(low) to \(high)"
  }
}
