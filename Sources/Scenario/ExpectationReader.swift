import Foundation

extension Expectation {
  /// The comparisons, longest first.
  package static let comparisons = ["<=", ">=", "==", "<", ">"]
}

/// Reads `expect:`, lines of the form `target.load.metric < number`, or of two such figures with `/`
/// between them.
struct ExpectationReader {
  let problems: ProblemCollector
  let targets: [Target]
  /// The names of all targets as written, also of those that have errors.
  let knownNames: Set<String>
  /// The numeric columns of summary.csv, which a line may name.
  let metrics: [String]

  func expectations(of root: Block) -> [Expectation] {
    guard let items = root.list("expect", of: "conditions") else { return [] }
    return items.enumerated().compactMap { index, item in
      let path = "expect.\(index)"
      guard let text = item.text else {
        problems.add(at: item.place, key: path, "is \(item.kind), not a condition", remedy: Self.form)
        return nil
      }
      return expectation(text) { message, suggestion, remedy in
        problems.add(
          at: item.place, key: path, value: Block.printable(item, path: path), message,
          suggestion: suggestion,
          remedy: remedy)
      }
    }
  }

  private static let form = "write for example \"nats.open-5000.response_p99_us < 5000\""

  private typealias Fail = (_ message: String, _ suggestion: String?, _ remedy: String?) -> Void

  private func expectation(_ text: String, fail: Fail) -> Expectation? {
    guard let comparison = Expectation.comparisons.first(where: text.contains),
      let range = text.range(of: comparison)
    else {
      fail("has no comparison; allowed: < <= > >= ==", nil, Self.form)
      return nil
    }
    let left = text[..<range.lowerBound].trimmingCharacters(in: .whitespaces)
    let right = text[range.upperBound...].trimmingCharacters(in: .whitespaces)
    let sides = left.components(separatedBy: "/").map { $0.trimmingCharacters(in: .whitespaces) }
    guard sides.count <= 2 else {
      fail("divides more than once", nil, Self.form)
      return nil
    }
    guard let bound = Block.parse(right) else {
      fail("must end with a number, without a unit: the metric's name has it", nil, Self.form)
      return nil
    }
    let figures = sides.compactMap { figure($0, fail: fail) }
    guard figures.count == sides.count, let first = figures.first else { return nil }
    let divisor = figures.dropFirst().first
    if let divisor, divisor.metric != first.metric {
      fail("divides \(first.metric) by \(divisor.metric)", nil, "name the same metric on both sides")
      return nil
    }
    return Expectation(
      text: text, target: first.target, load: first.load, metric: first.metric, divisor: divisor,
      comparison: comparison, bound: bound)
  }

  /// `target.load.metric`; what is wrong with it is noted.
  private func figure(_ text: String, fail: Fail) -> Expectation.Figure? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard parts.count >= 3, let name = parts.first, let metric = parts.last else {
      fail("must name target, load and metric, joined by dots", nil, Self.form)
      return nil
    }
    guard metrics.contains(metric) else {
      let near = Suggestion.nearest(to: metric, among: metrics)
      let all = metrics.joined(separator: ", ")
      fail(
        "names the metric '\(metric)', which is not a numeric column of summary.csv", near,
        near == nil ? "allowed: \(all)" : nil)
      return nil
    }
    let load = parts[1..<(parts.count - 1)].joined(separator: ".")
    guard check(target: name, load: load, fail: fail) else { return nil }
    return Expectation.Figure(target: name, load: load, metric: metric)
  }

  private func check(target name: String, load: String, fail: Fail) -> Bool {
    guard let target = targets.first(where: { $0.name == name }) else {
      if knownNames.contains(name) { return true }
      fail(
        "names the target '\(name)', which is not there",
        Suggestion.nearest(to: name, among: knownNames.sorted()), nil)
      return false
    }
    let labels = target.loads.map(\.label)
    guard labels.contains(load) else {
      fail(
        "names the load '\(load)', which the target '\(name)' does not have",
        Suggestion.nearest(to: load, among: labels), "Its loads: \(labels.joined(separator: ", "))")
      return false
    }
    return true
  }
}
