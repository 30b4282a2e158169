/// Reads `claims.yaml`, the documented figures.
public enum ClaimsFile {
  static let keys = [
    "id", "document", "line", "words", "documented", "unit", "metric", "better", "target",
    "documented_rate_per_second", "conditions", "not_measured",
  ]

  /// How far a single documented number reaches on both sides: 10 %.
  public static let tolerance = 0.1

  /// Reads the claims in the order written.
  ///
  /// - Throws: ``ScenarioError`` with everything that was found wrong.
  public static func load(path: String) throws(ScenarioError) -> [ClaimSpec] {
    let file = try SourceFile(path: path)
    let problems = ProblemCollector()
    let tree = try file.tree(what: "a list of claims")
    var claims: [ClaimSpec] = []
    if let root = Block(tree, path: "", keys: ["claims"], in: problems) {
      let items = root.list("claims", of: "claims") ?? []
      if items.isEmpty { root.fail("claims", "is missing or empty", remedy: "list at least one claim") }
      for (index, item) in items.enumerated() {
        guard let block = Block(item, path: "claims.\(index)", keys: keys, in: problems),
          let claim = claim(block)
        else { continue }
        if claims.contains(where: { $0.id == claim.id }) { block.fail("id", "is the id of an earlier claim") }
        claims.append(claim)
      }
    }
    if problems.hasErrors { throw ScenarioError(problems: problems.sorted) }
    return claims
  }

  private static func claim(_ block: Block) -> ClaimSpec? {
    let id = block.required("id", "write a short name, such as ffi-latency")
    let document = block.required("document", "write the document's file name")
    let words = block.required("words", "quote the document")
    let metric = metric(block)
    let range = documented(block)
    let conditions = conditions(block)
    for key in ["line", "unit", "better", "target"] where block.get(key) == nil {
      block.fail(key, "is missing")
    }
    let rate = block.number("documented_rate_per_second", in: LoadReader.rateRange)
    guard let id, let document, let words, let metric, let range,
      let line = block.whole("line", in: 1...1_000_000),
      let unit = block.choice("unit", of: ClaimSpec.Unit.self),
      let better = block.choice("better", of: ClaimSpec.Better.self),
      let target = block.choice("target", of: ClaimSpec.Role.self)
    else { return nil }
    if metric.hasSuffix("_us") == (unit == .requestsPerSecond) {
      block.fail("unit", "does not fit the metric \(metric)")
    }
    return ClaimSpec(
      id: id, document: document, line: line, words: words, low: range.lowerBound, high: range.upperBound,
      unit: unit, metric: metric, better: better, target: target, documentedRatePerSecond: rate,
      conditions: conditions, notMeasured: block.text("not_measured"))
  }

  private static func metric(_ block: Block) -> String? {
    guard let metric = block.required("metric", "name a column of summary.csv") else { return nil }
    guard Expectation.metrics.contains(metric) else {
      block.fail(
        "metric", "is not a numeric column of summary.csv",
        suggestion: Suggestion.nearest(to: metric, among: Expectation.metrics))
      return nil
    }
    return metric
  }

  /// A number, which stands for itself ± 10 %, or a list of the range's two ends.
  private static func documented(_ block: Block) -> ClosedRange<Double>? {
    guard let value = block.get("documented") else {
      block.fail("documented", "is missing", remedy: "write a number, or [low, high]")
      return nil
    }
    if let items = value.items {
      let ends = items.compactMap { $0.text.flatMap(Block.parse) }
      guard ends.count == 2, items.count == 2, ends[0] > 0, ends[0] <= ends[1] else {
        block.fail("documented", "must be [low, high], both over 0, in this order")
        return nil
      }
      return ends[0]...ends[1]
    }
    guard let number = block.number("documented", in: 1e-6...1e9) else { return nil }
    // Rounded so that 0.8 ± 10 % reads 0.72 to 0.88, not 0.7200000000000001.
    func tidy(_ value: Double) -> Double { (value * 1e9).rounded() / 1e9 }
    return tidy(number * (1 - tolerance))...tidy(number * (1 + tolerance))
  }

  private static func conditions(_ block: Block) -> [ClaimSpec.Condition] {
    let names = ClaimSpec.Circumstance.allCases.map(\.rawValue)
    guard let conditions = block.block("conditions", keys: names) else {
      if block.get("conditions") == nil {
        block.fail("conditions", "is missing", remedy: "write {a: closed-1}")
      }
      return []
    }
    return ClaimSpec.Circumstance.allCases.compactMap { circumstance in
      conditions.text(circumstance.rawValue).map { .init(circumstance: circumstance, load: $0) }
    }
  }
}
