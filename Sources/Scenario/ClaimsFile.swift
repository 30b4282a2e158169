/// Reads `claims.yaml`, the documented figures.
package enum ClaimsFile {
  static let keys = [
    "id", "document", "line", "also_lines", "words", "documented", "unit", "metric", "better", "target",
    "minus", "relative_to", "documented_rate_per_second", "conditions", "not_measured",
  ]
  static let rootKeys = ["claims", "origins", "behaviours"]
  static let originKeys = ["about", "fact", "source"]

  /// How far a single documented number reaches on both sides: 10 %.
  package static let tolerance = 0.1

  /// Reads the claims in the order written.
  ///
  /// - Throws: ``ScenarioError`` with everything that was found wrong.
  package static func load(path: String, metrics: [String]) throws(ScenarioError) -> [ClaimSpec] {
    try read(path: path, metrics: metrics).claims
  }

  /// What is known about where the figures come from, in the order written.
  ///
  /// - Throws: ``ScenarioError`` with everything that was found wrong.
  package static func origins(path: String, metrics: [String]) throws(ScenarioError) -> [ClaimOrigin] {
    try read(path: path, metrics: metrics).origins
  }

  private static func read(
    path: String, metrics: [String]
  ) throws(ScenarioError) -> (claims: [ClaimSpec], origins: [ClaimOrigin]) {
    let file = try SourceFile(path: path)
    let problems = ProblemCollector()
    let tree = try file.tree(what: "a list of claims")
    var claims: [ClaimSpec] = []
    var origins: [ClaimOrigin] = []
    if let root = Block(tree, path: "", keys: rootKeys, in: problems) {
      let items = root.list("claims", of: "claims") ?? []
      if items.isEmpty { root.fail("claims", "is missing or empty", remedy: "list at least one claim") }
      for (index, item) in items.enumerated() {
        guard let block = Block(item, path: "claims.\(index)", keys: keys, in: problems),
          let claim = claim(block, metrics: metrics)
        else { continue }
        if claims.contains(where: { $0.id == claim.id }) { block.fail("id", "is the id of an earlier claim") }
        claims.append(claim)
      }
      origins = self.origins(of: root, claims: claims)
    }
    if problems.hasErrors { throw ScenarioError(problems: problems.sorted) }
    return (claims, origins)
  }

  private static func origins(of root: Block, claims: [ClaimSpec]) -> [ClaimOrigin] {
    let items = root.list("origins", of: "facts") ?? []
    return items.enumerated().compactMap { index, item in
      guard let block = Block(item, path: "origins.\(index)", keys: originKeys, in: root.problems) else {
        return nil
      }
      let about = (block.list("about", of: "claims' ids") ?? []).compactMap(\.text)
      let ids = claims.map(\.id)
      for id in about where !ids.contains(id) {
        block.fail(
          "about", "names '\(id)', which is no claim's id", suggestion: Suggestion.nearest(to: id, among: ids)
        )
      }
      guard let fact = block.required("fact", "say what is known"),
        let source = block.required("source", "say where it can be read")
      else { return nil }
      return ClaimOrigin(about: about, fact: fact, source: source)
    }
  }

  private static func claim(_ block: Block, metrics: [String]) -> ClaimSpec? {
    let id = block.required("id", "write a short name, such as ffi-latency")
    let document = block.required("document", "write the document's file name")
    let words = block.required("words", "quote the document")
    let metric = metric(block, of: metrics)
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
    let (against, relation) = comparison(block)
    if unit == .percent ? relation != .change : metric.hasSuffix("_us") == (unit == .requestsPerSecond) {
      block.fail("unit", "does not fit the metric \(metric), or is % without relative_to:")
    }
    return ClaimSpec(
      id: id, document: document, line: line, alsoLines: alsoLines(block), words: words, low: range.low,
      high: range.high, unit: unit, metric: metric, better: better, target: target, against: against,
      relation: relation, documentedRatePerSecond: rate, conditions: conditions,
      notMeasured: block.text("not_measured"))
  }

  /// `minus: ffi` or `relative_to: ffi`.
  private static func comparison(_ block: Block) -> (ClaimSpec.Role?, ClaimSpec.Relation?) {
    let difference = block.choice("minus", of: ClaimSpec.Role.self)
    let change = block.choice("relative_to", of: ClaimSpec.Role.self)
    if difference != nil, change != nil {
      block.fail("relative_to", "cannot stand beside minus:", remedy: "write one of the two")
    }
    return difference.map { ($0, .difference) } ?? change.map { ($0, .change) } ?? (nil, nil)
  }

  private static func alsoLines(_ block: Block) -> [Int] {
    let items = block.list("also_lines", of: "line numbers") ?? []
    let lines = items.compactMap { $0.text.flatMap { Int($0) } }.filter { $0 > 0 }
    if lines.count != items.count { block.fail("also_lines", "must be whole numbers from 1") }
    return lines
  }

  private static func metric(_ block: Block, of metrics: [String]) -> String? {
    guard let metric = block.required("metric", "name a column of summary.csv") else { return nil }
    guard metrics.contains(metric) else {
      block.fail(
        "metric", "is not a numeric column of summary.csv",
        suggestion: Suggestion.nearest(to: metric, among: metrics))
      return nil
    }
    return metric
  }

  /// A number, which stands for itself ± 10 %, a list of the range's two ends, or one end alone.
  private static func documented(_ block: Block) -> (low: Double?, high: Double?)? {
    guard let value = block.get("documented") else {
      block.fail(
        "documented", "is missing", remedy: "write a number, [low, high], {most: high} or {least: low}")
      return nil
    }
    if let items = value.items {
      let ends = items.compactMap { $0.text.flatMap(Block.parse) }
      guard ends.count == 2, items.count == 2, ends[0] <= ends[1], ends[0] * ends[1] > 0 else {
        block.fail("documented", "must be [low, high], both over 0 or both under 0, in this order")
        return nil
      }
      return (ends[0], ends[1])
    }
    if value.entries != nil {
      guard let ends = block.block("documented", keys: ["most", "least"]) else { return nil }
      let range = (ends.number("least", in: -1e9...1e9), ends.number("most", in: -1e9...1e9))
      if (range.0 == nil) == (range.1 == nil) {
        block.fail("documented", "needs most: or least:, and not both", remedy: "write [low, high] for both")
        return nil
      }
      return range
    }
    guard let number = block.number("documented", in: -1e9...1e9), number != 0 else { return nil }
    // Rounded so that 0.8 ± 10 % reads 0.72 to 0.88, not 0.7200000000000001.
    func tidy(_ value: Double) -> Double { (value * 1e9).rounded() / 1e9 }
    let ends = [tidy(number * (1 - tolerance)), tidy(number * (1 + tolerance))].sorted()
    return (ends[0], ends[1])
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

/// Reads `behaviours:` of `claims.yaml`, what the documents say that is no figure.
package enum BehavioursFile {
  static let keys = ["id", "document", "line", "words", "test", "not_measured"]

  /// Reads the statements in the order written; none when the file has no `behaviours:`.
  ///
  /// - Parameter tests: names of the tests that there are; nil checks no names.
  /// - Throws: ``ScenarioError`` with everything that was found wrong.
  package static func load(path: String, tests: Set<String>? = nil) throws(ScenarioError) -> [BehaviourSpec] {
    let file = try SourceFile(path: path)
    let problems = ProblemCollector()
    let tree = try file.tree(what: "a list of claims")
    let all = (tree.entries ?? []).map(\.key)
    var ids = Set((tree["claims"]?.items ?? []).compactMap { $0["id"]?.text })
    var specs: [BehaviourSpec] = []
    if let root = Block(tree, path: "", keys: all, in: problems) {
      for (index, item) in (root.list("behaviours", of: "behaviours") ?? []).enumerated() {
        guard let block = Block(item, path: "behaviours.\(index)", keys: keys, in: problems),
          let spec = spec(block, tests: tests)
        else { continue }
        if !ids.insert(spec.id).inserted { block.fail("id", "is the id of an earlier claim") }
        specs.append(spec)
      }
    }
    if problems.hasErrors { throw ScenarioError(problems: problems.sorted) }
    return specs
  }

  private static func spec(_ block: Block, tests: Set<String>?) -> BehaviourSpec? {
    let id = block.required("id", "write a short name, such as round-robin")
    let document = block.required("document", "write the document's file name")
    let words = block.required("words", "quote the document")
    if block.get("line") == nil { block.fail("line", "is missing", remedy: "write its line in the document") }
    let line = block.whole("line", in: 1...1_000_000)
    let test = block.text("test")
    let reason = block.text("not_measured")
    if (test == nil) == (reason == nil) {
      block.fail("test", "one of test and not_measured must be there, and only one")
    }
    if let test, let tests, !tests.contains(test) {
      block.fail(
        "test", "is not the name of a test", suggestion: Suggestion.nearest(to: test, among: tests.sorted()))
    }
    guard let id, let document, let words, let line else { return nil }
    return BehaviourSpec(
      id: id, document: document, line: line, words: words, test: test, notMeasured: reason)
  }
}
