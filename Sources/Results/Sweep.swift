// Latency against throughput: what a target does as more and more is in flight.
import Engine
import Lab
import Scenario

/// What must hold of a response time for a rate to count as served.
package struct ServiceLevel: Codable, Sendable, Equatable {
  /// A column of summary.csv, such as `response_p99_us`.
  package var metric: String
  /// The bound, microseconds; the figure must be under it.
  package var microseconds: Double

  /// Such as `response_p99_us < 5 ms`.
  package var text: String { "\(metric) < \(Number.time(microseconds: microseconds) ?? "?")" }

  /// Whether a measurement of an open load served its rate; nil when it cannot be said.
  ///
  /// A late generator makes response times longer, never shorter, since they count from when the
  /// schedule wanted a request: what is served all the same is served.
  package func isServed(_ measurement: Measurement) -> Bool? {
    let codes = Set(measurement.invalidReasons.map(\.code))
    if codes.contains(.saturated) { return false }
    guard let figure = measurement.figure(metric) else { return nil }
    let isUnder = figure < microseconds
    let service = SummaryRow.column(metric)?.serviceTime.flatMap { measurement.figure($0) }
    // What the service time keeps and the response time does not may be the generator's lateness.
    if !isUnder, let service, service < microseconds { return nil }
    guard codes.allSatisfy({ $0.level == .condition || $0.level == .figure }) else { return nil }
    return isUnder || codes.isEmpty ? isUnder : nil
  }
}

extension ServiceLevel {
  /// Reads `p99<5ms`, `p50 < 800us`; nil when it is something else.
  package init?(_ text: String) {
    let sides = text.replacing(" ", with: "").lowercased().split(
      separator: "<", omittingEmptySubsequences: false)
    let columns = ["p50": "50", "p90": "90", "p99": "99", "p99.9": "999", "p999": "999"]
    guard sides.count == 2, let column = columns[String(sides[0])] else { return nil }
    let units = [("us", 1.0), ("µs", 1), ("ms", 1000), ("s", 1_000_000)]
    guard let (unit, factor) = units.first(where: { sides[1].hasSuffix($0.0) }),
      let value = Double(sides[1].dropLast(unit.count)), value > 0, value.isFinite
    else { return nil }
    self.init(metric: "response_p\(column)_us", microseconds: value * factor)
  }
}

/// One target's closed loads, by requests in flight.
package struct SweepCurve: Sendable {
  package struct Point: Sendable {
    package var concurrency: Int
    package var ratePerSecond: Double
    package var meanMicroseconds: Double
    package var group: MeasurementGroup

    /// The generator's CPU time per request, microseconds; nil when it was not measured.
    var cost: Double? { group.median("cpu_generator_us").flatMap { $0 > 0 ? $0 : nil } }
  }

  package var target: String
  /// By requests in flight, the fewest first.
  package var points: [Point]

  /// Workers of the pool; nil where the run started none.
  package var workers: Int? { points.first?.group.measurements.first?.workers }
  /// NATS connections of the generator; nil for FFI, and where it is not known.
  package var connections: Int? { points.first?.group.measurements.first?.connections }

  static let fewest = 3

  package static func all(_ document: RunDocument) -> [SweepCurve] {
    let groups = MeasurementGroup.all(document)
    return groups.map(\.target).uniqued().compactMap { target in
      let points = groups.filter { $0.target == target && $0.load.hasPrefix("closed-") }.compactMap(point)
        .sorted { $0.concurrency < $1.concurrency }
      return points.count < fewest ? nil : SweepCurve(target: target, points: points)
    }
  }

  private static func point(_ group: MeasurementGroup) -> Point? {
    guard let concurrency = group.measurements.first?.concurrency, let rate = group.median("throughput_rps"),
      let mean = group.median("response_mean_us"), mean > 0
    else { return nil }
    return Point(concurrency: concurrency, ratePerSecond: rate, meanMicroseconds: mean, group: group)
  }

  /// Where one more in flight begins to cost more time than it brings throughput: the greatest power,
  /// throughput / response time (Kleinrock 1979).
  package var knee: Point? {
    points.max { $0.ratePerSecond / $0.meanMicroseconds < $1.ratePerSecond / $1.meanMicroseconds }
  }

  package var highest: Point? { points.max { $0.ratePerSecond < $1.ratePerSecond } }

  /// The generator's CPU time per request with the most in flight, over that of the cheapest load.
  package var costGrowth: Double? {
    let costs = points.compactMap(\.cost)
    guard costs.count == points.count, let last = costs.last, let least = costs.min() else { return nil }
    return last / least
  }

  package var sentence: String {
    let parts = [
      knee.map {
        "knee at \($0.concurrency) in flight, \(Number.grouped($0.ratePerSecond) ?? "?") req/s in "
          + "\(Number.time(microseconds: $0.meanMicroseconds) ?? "?") on average (greatest throughput / "
          + "response time, Kleinrock 1979)"
      },
      highest.map {
        "highest rate \(Number.grouped($0.ratePerSecond) ?? "?") req/s at \($0.concurrency)"
      },
      costGrowth.map {
        "the generator's CPU time per request with the most in flight is "
          + "\(Number.significant($0, 3) ?? "?") times that of its cheapest load"
      },
    ].compactMap { $0 }
    return "\(target): \(parts.joined(separator: "; "))."
  }

  /// What curves of pools with different numbers of workers or of connections say together, one sentence.
  package static func summary(_ all: [SweepCurve]) -> [String] {
    let curves = all.filter { $0.workers != nil || $0.connections != nil }
    let combinations = Set(curves.map { [$0.workers, $0.connections] }).count
    let highest = curves.compactMap { curve in curve.highest.map { (curve, $0) } }
    guard combinations > 1,
      let (curve, point) = highest.max(by: { $0.1.ratePerSecond < $1.1.ratePerSecond })
    else { return [] }
    func counted(_ number: Int?, _ noun: String) -> String {
      number.map { "\($0) \(noun)\($0 == 1 ? "" : "s"), " } ?? ""
    }
    return [
      "Of \(combinations) combinations of workers and connections, \(curve.target) ("
        + counted(curve.workers, "worker") + counted(curve.connections, "connection")
        + "\(point.concurrency) in flight\(point.group.isValid ? "" : "; not valid")) reaches the highest rate, "
        + "\(Number.grouped(point.ratePerSecond) ?? "?") req/s\(cost(curves).map { "; \($0)" } ?? "")."
    ]
  }

  /// What a request costs the generator; nil when that was not measured everywhere.
  private static func cost(_ curves: [SweepCurve]) -> String? {
    func range(_ values: [Double], _ text: (Double) -> String?) -> String? {
      guard let low = values.min().flatMap(text), let high = values.max().flatMap(text) else { return nil }
      return low == high ? low : "\(low) to \(high)"
    }
    let points = curves.flatMap(\.points)
    guard points.allSatisfy({ $0.cost != nil }),
      let cheapest = points.min(by: { $0.cost ?? 0 < $1.cost ?? 0 }),
      let least = Number.time(microseconds: cheapest.cost),
      let last = range(curves.compactMap { $0.points.last?.cost }, { Number.time(microseconds: $0) }),
      let growth = range(curves.compactMap(\.costGrowth), { Number.significant($0, 3) })
    else { return nil }
    return "the generator's CPU time per request is \(least) at the cheapest load of all "
      + "(\(cheapest.group.target), \(cheapest.concurrency) in flight) and \(last) with the most in flight, "
      + "\(growth) times that of the cheapest load of the same curve"
  }
}

extension RunDocument {
  /// The highest rate of each target that was searched under the run's service level.
  package var serviceLevelSentences: [String] {
    guard let serviceLevel else { return [] }
    let open = measurements.filter { $0.offeredRatePerSecond != nil }
    return open.map(\.target).uniqued().map { target in
      let mine = open.filter { $0.target == target }
      func most(_ served: Bool) -> [Double] {
        mine.filter { serviceLevel.isServed($0) == served }.compactMap(\.offeredRatePerSecond)
      }
      guard let best = most(true).max(), let shown = Number.grouped(best) else {
        return "\(target): no rate that was tried has \(serviceLevel.text)."
      }
      let worse = most(false).filter { $0 > best }.min()
      let above = worse.flatMap(Number.grouped).map { "; \($0) req/s has not" } ?? "; no higher one failed"
      return "\(target): \(shown) req/s is the highest rate that was tried with \(serviceLevel.text)\(above)."
    }
  }
}
