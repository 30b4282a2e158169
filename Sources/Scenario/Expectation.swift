import Foundation

/// One line of `expect:`, such as `nats.open-5000.response_p99_us < 5000`, or of two figures,
/// `nats.closed-64.throughput_rps / ffi.closed-64.throughput_rps > 0.2`.
package struct Expectation: Codable, Sendable, Equatable {
  /// The line as it is written.
  package var text: String
  package var target: String
  /// Load label, such as `open-5000`.
  package var load: String
  /// A numeric column of summary.csv (phase `request`).
  package var metric: String
  /// What the figure is divided by; nil for a figure of its own.
  package var divisor: Figure?
  /// `<`, `<=`, `>`, `>=` or `==`.
  package var comparison: String
  /// The bound, in the column's unit; of two figures the bound of their ratio.
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
  /// The names of all targets as written, also of those that have errors.
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
    // Longest first.
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

  /// `target.load.metric`; what is wrong with it is noted.
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
        "names the target '\(name)', which is not there",
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
        "names \(metric) of a ramp, which is of all its rates together",
        remedy: "name followed_rps, or measure the rate that counts with mode: open")
    }
    return Expectation.Figure(target: name, load: load, metric: metric)
  }
}
