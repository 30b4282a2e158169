import Results
import Engine

/// A figure over the round trip of the network, from a few measured points; between them it is taken
/// for straight.
package struct NetworkCurve {
  package struct Point: Equatable {
    package var roundTripMilliseconds: Double
    package var value: Double
  }

  /// Where the figure is in a range.
  package enum Finding: Equatable {
    /// Nothing was measured.
    case unknown
    /// At no measured round trip: it has passed the range already at the least of them.
    case passedAtLeast(Point)
    /// At no measured round trip: it has not come to the range at the greatest of them.
    case notReachedAt(Point)
    /// From one round trip to another, ms; an end that is open was not found within what was measured.
    case between(from: Double, opensBelow: Bool, to: Double, opensAbove: Bool)
  }

  /// In order of round trips.
  package let points: [Point]

  package init(_ points: [Point]) {
    self.points = points.sorted { $0.roundTripMilliseconds < $1.roundTripMilliseconds }
  }

  /// For which round trips a figure that grows with them is in a range.
  package func whereGrowing(in range: ClosedRange<Double>) -> Finding {
    guard let first = points.first, let last = points.last else { return .unknown }
    if first.value > range.upperBound { return .passedAtLeast(first) }
    guard let from = crossing(range.lowerBound) else { return .notReachedAt(last) }
    let to = crossing(range.upperBound)
    return .between(
      from: from, opensBelow: first.value >= range.lowerBound,
      to: to ?? last.roundTripMilliseconds, opensAbove: to == nil)
  }

  /// For which round trips a figure that falls with them is in a range.
  package func whereFalling(in range: ClosedRange<Double>) -> Finding {
    let mirrored = NetworkCurve(
      points.map { Point(roundTripMilliseconds: $0.roundTripMilliseconds, value: -$0.value) })
    switch mirrored.whereGrowing(in: -range.upperBound ... -range.lowerBound) {
    case .passedAtLeast(let point):
      return .passedAtLeast(Point(roundTripMilliseconds: point.roundTripMilliseconds, value: -point.value))
    case .notReachedAt(let point):
      return .notReachedAt(Point(roundTripMilliseconds: point.roundTripMilliseconds, value: -point.value))
    case let other: return other
    }
  }

  /// The least round trip at which a growing figure has come to a value, ms; nil when it never has.
  private func crossing(_ value: Double) -> Double? {
    guard let first = points.first else { return nil }
    if first.value >= value { return first.roundTripMilliseconds }
    for (a, b) in zip(points, points.dropFirst()) where b.value >= value {
      let share = (value - a.value) / (b.value - a.value)
      return a.roundTripMilliseconds + share * (b.roundTripMilliseconds - a.roundTripMilliseconds)
    }
    return nil
  }
}
