// The claims of the documents, listed in Scenarios/claims.yaml: figures, behaviour, and the origins of
// figures.

/// A documented figure and the way to test it: the figure of one target, or its comparison with another
/// target under the same load, as a difference ("+2-3 ms") or a change in percent ("-30 %").
package struct ClaimSpec: Sendable, Equatable {
  /// The direction in which the figure improves.
  package enum Better: String, Sendable, CaseIterable { case lower, higher }

  /// The unit that the document uses.
  package enum Unit: String, Sendable, CaseIterable {
    case milliseconds = "ms"
    case microseconds = "us"
    case requestsPerSecond = "req/s"
    case percent = "%"
  }

  /// The target that is measured to test the claim.
  package enum Role: String, Sendable, CaseIterable {
    case ffi
    /// Workers behind a broker on this machine.
    case nats
    /// Workers behind a broker on another machine.
    case natsNet = "nats-net"
  }

  /// The circumstances of a test, in order.
  package enum Circumstance: String, Sendable, CaseIterable {
    case unloaded = "a"
    /// Open loop at the documented throughput.
    case documentedRate = "b"
    /// Closed loop at the concurrency that Little's law implies from the documented pair.
    case impliedConcurrency = "c"
    /// The same closed loop, loaded, for both sides of a comparison.
    case sameLoad = "d"
  }

  /// The way in which a figure is compared with another target's.
  package enum Relation: String, Sendable {
    /// This target's figure minus the other's, in the claim's unit.
    case difference
    /// The change relative to the other target's figure, in percent.
    case change
  }

  /// A circumstance and the label of the load that creates it, such as `open-44000`.
  package struct Condition: Sendable, Equatable {
    package var circumstance: Circumstance
    package var load: String
  }

  /// The claim's unique name in claims.csv.
  package var id: String
  /// The document's file name; then the line of the claim, from 1, other lines that repeat it, and its words.
  package var document: String
  package var line: Int
  package var alsoLines: [Int] = []
  package var words: String
  /// The lower end of the documented range, in `unit`; nil if it has none. At least one end is present.
  package var low: Double?
  package var high: Double?
  package var unit: Unit
  /// The column of summary.csv that is compared with the claim, such as `response_p50_us`.
  package var metric: String
  package var better: Better
  package var target: Role
  /// The target of the comparison, and its kind; both are nil for a single figure.
  package var against: Role?
  package var relation: Relation?
  /// The throughput that the document states for a latency, in requests per second; nil if it states none.
  package var documentedRatePerSecond: Double?
  /// In the order a, b, c, d.
  package var conditions: [Condition] = []
  /// The reason why the claim is not measured; nil if it is.
  package var notMeasured: String?
}

/// A documented statement about behaviour and the test that checks it.
package struct BehaviourSpec: Sendable, Equatable {
  /// The unique name in claims.csv, among all claims and behaviours.
  package var id: String
  package var document: String
  package var line: Int
  package var words: String
  /// The test's name; nil if the behaviour is not measured.
  package var test: String?
  /// The reason why it is not measured and what to install; nil if it is.
  package var notMeasured: String?
}

/// A known fact about the origin of a documented figure.
package struct ClaimOrigin: Codable, Sendable, Equatable {
  /// The ids of the claims and behaviours that it concerns.
  package var about: [String]
  /// The fact, in a sentence or two.
  package var fact: String
  /// The place where the fact is documented.
  package var source: String
}

/// The contents of `claims.yaml`, in the order of the file.
package struct ClaimsFile {
  static let keys = [
    "id", "document", "line", "also_lines", "words", "documented", "unit", "metric", "better", "target",
    "minus", "relative_to", "documented_rate_per_second", "conditions", "not_measured",
  ]
  static let behaviourKeys = ["id", "document", "line", "words", "test", "not_measured"]

  /// The relative tolerance around a single documented number: 10 %.
  package static let tolerance = 0.1

  package let claims: [ClaimSpec]
  package let origins: [ClaimOrigin]
  package let behaviours: [BehaviourSpec]

  /// Reads a claims file; throws all problems found. `tests` are the names of the existing behaviour tests;
  /// with nil, names are not checked.
  package init(path: String, metrics: [String], tests: Set<String>? = nil) throws(ScenarioError) {
    let problems = ProblemCollector()
    let tree = try SourceFile(path: path).tree(what: "a list of claims")
    let rows = Self.rows(["claims", "origins", "behaviours"])
    guard let root = Block(tree, path: "", rows: rows, in: problems) else {
      throw ScenarioError(problems: problems.sorted)
    }
    if root.get("claims")?.items?.isEmpty != false {
      root.fail("claims", "is missing or empty", remedy: "list at least one claim")
    }
    var ids: Set<String> = []
    func blocks(_ key: String, _ keys: [String]) -> [Block] {
      let blocks = root.blocks(key, of: key, rows: Self.rows(keys)) ?? []
      for block in blocks {
        guard let id = block.get("id")?.text, !ids.insert(id).inserted else { continue }
        block.fail("id", "is the id of an earlier claim")
      }
      return blocks
    }
    claims = blocks("claims", Self.keys).compactMap { Self.claim($0, metrics: metrics) }
    behaviours = blocks("behaviours", Self.behaviourKeys).compactMap { Self.behaviour($0, tests: tests) }
    origins = Self.origins(of: root, ids: ids)
    if problems.hasErrors { throw ScenarioError(problems: problems.sorted) }
  }

  private static func rows(_ keys: [String]) -> [Row] { keys.map { Row(name: $0) } }

  private static func origins(of root: Block, ids: Set<String>) -> [ClaimOrigin] {
    (root.blocks("origins", of: "facts", rows: rows(["about", "fact", "source"])) ?? []).compactMap { block in
      let about = (block.items("about", of: "ids of claims and behaviours") ?? []).compactMap(\.value.text)
      for id in about where !ids.contains(id) {
        block.fail(
          "about", "names '\(id)', which is not the id of a claim or a behaviour",
          suggestion: Suggestion.nearest(to: id, among: ids.sorted()))
      }
      guard let fact = block.required("fact", "say what is known"),
        let source = block.required("source", "say where it can be read")
      else { return nil }
      return ClaimOrigin(about: about, fact: fact, source: source)
    }
  }

  /// Reads the source of a statement: an entry's id, the document, the line and its words.
  private static func place(_ block: Block) -> (id: String, document: String, line: Int, words: String)? {
    let id = block.required("id", "write a short name, such as ffi-latency or round-robin")
    let document = block.required("document", "write the document's file name")
    let words = block.required("words", "quote the document")
    if block.get("line") == nil { block.fail("line", "is missing", remedy: "write its line in the document") }
    guard let line = block.whole("line", in: 1...1_000_000), let id, let document, let words else {
      return nil
    }
    return (id, document, line, words)
  }

  private static func behaviour(_ block: Block, tests: Set<String>?) -> BehaviourSpec? {
    let place = place(block)
    let test = block.text("test")
    let reason = block.text("not_measured")
    if (test == nil) == (reason == nil) {
      block.fail("test", "exactly one of test and not_measured must be given")
    }
    if let test, let tests, !tests.contains(test) {
      block.fail(
        "test", "is not the name of a test", suggestion: Suggestion.nearest(to: test, among: tests.sorted()))
    }
    return place.map { id, document, line, words in
      BehaviourSpec(id: id, document: document, line: line, words: words, test: test, notMeasured: reason)
    }
  }

  private static func claim(_ block: Block, metrics: [String]) -> ClaimSpec? {
    let place = place(block)
    let metric = block.required("metric", "name a column of summary.csv").flatMap { name in
      metrics.contains(name)
        ? name
        : block.refuse(
          "metric", "is not a numeric column of summary.csv",
          suggestion: Suggestion.nearest(to: name, among: metrics))
    }
    let range = documented(block)
    let conditions = conditions(block)
    for key in ["unit", "better", "target"] where block.get(key) == nil { block.fail(key, "is missing") }
    let rate = block.number("documented_rate_per_second", in: LoadReader.rateRange)
    guard let (id, document, line, words) = place, let metric, let range,
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

  /// Reads `minus: ffi` or `relative_to: ffi`.
  private static func comparison(_ block: Block) -> (ClaimSpec.Role?, ClaimSpec.Relation?) {
    let difference = block.choice("minus", of: ClaimSpec.Role.self)
    let change = block.choice("relative_to", of: ClaimSpec.Role.self)
    if difference != nil, change != nil {
      block.fail("relative_to", "cannot be combined with minus:", remedy: "write one of the two")
    }
    return difference.map { ($0, .difference) } ?? change.map { ($0, .change) } ?? (nil, nil)
  }

  private static func alsoLines(_ block: Block) -> [Int] {
    let items = block.items("also_lines", of: "line numbers") ?? []
    let lines = items.compactMap { $0.value.text.flatMap { Int($0) } }.filter { $0 > 0 }
    if lines.count != items.count { block.fail("also_lines", "must be whole numbers from 1") }
    return lines
  }

  /// Reads a number, which stands for ± 10 % around it, a list of the two ends of a range, or a single end.
  private static func documented(_ block: Block) -> (low: Double?, high: Double?)? {
    guard let value = block.get("documented") else {
      return block.refuse(
        "documented", "is missing", remedy: "write a number, [low, high], {most: high} or {least: low}")
    }
    if let items = value.items {
      let ends = items.compactMap { $0.text.flatMap(Block.parse) }
      guard ends.count == 2, items.count == 2, ends[0] <= ends[1], ends[0] * ends[1] > 0 else {
        return block.refuse("documented", "must be [low, high], both over 0 or both under 0, in this order")
      }
      return (ends[0], ends[1])
    }
    if value.entries != nil {
      guard let ends = block.block("documented", rows: rows(["most", "least"])) else { return nil }
      let range = (ends.number("least", in: -1e9...1e9), ends.number("most", in: -1e9...1e9))
      if (range.0 == nil) != (range.1 == nil) { return range }
      return block.refuse(
        "documented", "needs most: or least:, and not both", remedy: "write [low, high] for both")
    }
    guard let number = block.number("documented", in: -1e9...1e9), number != 0 else { return nil }
    // Rounded so that 0.8 ± 10 % is shown as 0.72 to 0.88, not 0.7200000000000001.
    func tidy(_ value: Double) -> Double { (value * 1e9).rounded() / 1e9 }
    let ends = [tidy(number * (1 - tolerance)), tidy(number * (1 + tolerance))].sorted()
    return (ends[0], ends[1])
  }

  private static func conditions(_ block: Block) -> [ClaimSpec.Condition] {
    let names = ClaimSpec.Circumstance.allCases.map(\.rawValue)
    guard let conditions = block.block("conditions", rows: rows(names)) else {
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
