import Foundation

/// A line of `expect:`, such as `nats.open-5000.response_p99_us < 5000`, or with two figures:
/// `nats.closed-64.throughput_rps / ffi.closed-64.throughput_rps > 0.2`.
package struct Expectation: Codable, Sendable, Equatable {
  /// The line as written.
  package var text: String
  package var target: String
  /// The load's label, such as `open-5000`.
  package var load: String
  /// A numeric column of summary.csv (phase `request`).
  package var metric: String
  /// The figure by which the first one is divided; nil for a single figure.
  package var divisor: Figure?
  /// `<`, `<=`, `>`, `>=` or `==`.
  package var comparison: String
  /// The bound, in the column's unit; with two figures, the bound of their ratio.
  package var bound: Double

  /// A figure of a run: the metric is a numeric column of summary.csv.
  package struct Figure: Codable, Sendable, Equatable {
    package var target: String
    package var load: String
    /// A numeric column of summary.csv.
    package var metric: String
  }
}

/// Reads `expect:`.
struct ExpectationReader {
  let targets: [Target]
  /// The names of all targets as written, including those with errors.
  let knownNames: Set<String>
  /// The numeric columns of summary.csv, which a line may name.
  let metrics: [String]

  func expectations(of root: Block) -> [Expectation] {
    (root.items("expect", of: "conditions") ?? []).compactMap { line in
      if let text = line.value.text { return expectation(text, line) }
      return line.refuse("is \(line.value.kind), not a condition", remedy: Self.form)
    }
  }

  private static let form = "write for example \"nats.open-5000.response_p99_us < 5000\""

  private func expectation(_ text: String, _ line: Item) -> Expectation? {
    // Longer operators first, because `<` also matches `<=`.
    guard let comparison = ["<=", ">=", "==", "<", ">"].first(where: text.contains),
      let range = text.range(of: comparison)
    else { return line.refuse("has no comparison; allowed: < <= > >= ==", remedy: Self.form) }
    let left = text[..<range.lowerBound]
    let right = text[range.upperBound...].trimmingCharacters(in: .whitespaces)
    let sides = left.components(separatedBy: "/").map { $0.trimmingCharacters(in: .whitespaces) }
    guard sides.count <= 2 else { return line.refuse("divides more than once", remedy: Self.form) }
    guard let bound = Block.parse(right) else {
      return line.refuse(
        "must end with a number, without a unit: the metric's name has it", remedy: Self.form)
    }
    let figures = sides.compactMap { figure($0, line) }
    guard figures.count == sides.count, let first = figures.first else { return nil }
    let divisor = figures.dropFirst().first
    if let divisor, divisor.metric != first.metric {
      return line.refuse(
        "divides \(first.metric) by \(divisor.metric)", remedy: "name the same metric on both sides")
    }
    return Expectation(
      text: text, target: first.target, load: first.load, metric: first.metric, divisor: divisor,
      comparison: comparison, bound: bound)
  }

  /// Reads `target.load.metric`; reports its problems.
  private func figure(_ text: String, _ line: Item) -> Expectation.Figure? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard parts.count >= 3 else {
      return line.refuse("must name target, load and metric, joined by dots", remedy: Self.form)
    }
    let (name, metric) = (parts[0], parts[parts.count - 1])
    let load = parts[1..<(parts.count - 1)].joined(separator: ".")
    guard metrics.contains(metric) else {
      let near = Suggestion.nearest(to: metric, among: metrics)
      return line.refuse(
        "names the metric '\(metric)', which is not a numeric column of summary.csv", suggestion: near,
        remedy: near == nil ? "allowed: \(metrics.joined(separator: ", "))" : nil)
    }
    let target = targets.first { $0.name == name }
    guard target != nil || knownNames.contains(name) else {
      return line.refuse(
        "names the target '\(name)', which does not exist",
        suggestion: Suggestion.nearest(to: name, among: knownNames.sorted()))
    }
    if let labels = target?.loads.map(\.label), !labels.contains(load) {
      return line.refuse(
        "names the load '\(load)', which the target '\(name)' does not have",
        suggestion: Suggestion.nearest(to: load, among: labels),
        remedy: "Its loads: \(labels.joined(separator: ", "))")
    }
    if case .ramp? = target?.loads.first(where: { $0.label == load }), ServiceLevel.isLatency(metric) {
      return line.refuse(
        "names \(metric) of a ramp, which covers all its rates together",
        remedy: "name followed_rps, or measure the rate of interest with mode: open")
    }
    return Expectation.Figure(target: name, load: load, metric: metric)
  }
}

/// The latency limit under which a rate counts as served: a bound of a column of summary.csv, written as in
/// `expect:` without target and load.
package struct ServiceLevel: Codable, Sendable, Equatable {
  /// The column of summary.csv, such as `response_p99_us`.
  package var metric: String
  /// The bound, in microseconds.
  package var microseconds: Double
  /// Whether a latency equal to the bound is acceptable; nil means no.
  package var orEqual: Bool?

  package func holds(_ figure: Double) -> Bool {
    figure < microseconds || (orEqual == true && figure == microseconds)
  }

  /// Whether a column of summary.csv is a latency that an objective may bound.
  static func isLatency(_ column: String) -> Bool {
    column.hasSuffix("_us") && (column.hasPrefix("response_") || column.hasPrefix("service_"))
  }
}

extension ServiceLevel {
  private static let short = ["p50": "50", "p90": "90", "p99": "99", "p99.9": "999", "p999": "999"]
  private static let units = [("us", 1.0), ("µs", 1), ("ms", 1000), ("s", 1_000_000)]

  /// Parses `response_p99_us < 5000`, or the short form with a unit, `p99<5ms`; returns nil for any other
  /// text.
  ///
  /// - Parameter columns: The numeric columns of summary.csv.
  package init?(_ text: String, columns: [String]) {
    let comparison = text.contains("<=") ? "<=" : "<"
    let sides = text.lowercased().components(separatedBy: comparison).map {
      $0.replacing(" ", with: "")
    }
    guard sides.count == 2 else { return nil }
    let percentile = Self.short[sides[0]]
    let metric = percentile.map { "response_p\($0)_us" } ?? sides[0]
    let unit = percentile == nil ? ("", 1.0) : Self.units.first { sides[1].hasSuffix($0.0) }
    guard Self.isLatency(metric), columns.contains(metric), let (suffix, factor) = unit,
      let value = Block.parse(String(sides[1].dropLast(suffix.count))), value > 0
    else { return nil }
    self.init(
      metric: metric, microseconds: value * factor, orEqual: comparison == "<=" ? true : nil)
  }

  /// Reads the `objective:` of a block; reports its problems.
  static func read(_ block: Block, columns: [String]) -> ServiceLevel? {
    guard let text = block.text("objective") else { return nil }
    return ServiceLevel(text, columns: columns)
      ?? block.refuse(
        "objective", "is not a latency under a bound, such as response_p99_us < 5000",
        remedy: "allowed: \(columns.filter(isLatency).joined(separator: ", "))")
  }
}
