// Sweeps: latency against throughput as the number of requests in flight grows.
import Engine

/// One target's closed loads, ordered by requests in flight.
package struct SweepCurve: Sendable {
  package struct Point: Sendable {
    package var concurrency: Int
    package var ratePerSecond: Double
    package var meanMicroseconds: Double
    package var group: MeasurementGroup

    /// The generator's CPU time per request, microseconds; nil when not measured.
    var cost: Double? { group.median("cpu_generator_us").flatMap { $0 > 0 ? $0 : nil } }
  }

  package var target: String
  /// The points, ordered by requests in flight.
  package var points: [Point]

  /// Workers of the pool; nil when the run started none.
  package var workers: Int? { points.first?.group.measurements.first?.workers }
  /// NATS connections of the generator; nil for FFI, and when not known.
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

  /// The load beyond which one more request in flight adds more time than throughput: the maximum power,
  /// throughput / response time (Kleinrock 1979).
  package var knee: Point? {
    points.max { $0.ratePerSecond / $0.meanMicroseconds < $1.ratePerSecond / $1.meanMicroseconds }
  }

  package var highest: Point? { points.max { $0.ratePerSecond < $1.ratePerSecond } }

  /// The generator's CPU time per request at the most requests in flight, relative to the cheapest load.
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

  /// One sentence that compares curves of pools with different numbers of workers or connections.
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

  /// The generator's cost per request; nil when it was not measured everywhere.
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
