// What the documents say, as Scenarios/claims.yaml states it: figures, behaviour, and where figures come from.

/// One documented figure, and how it is tested: of one target, or of one compared with another under the same
/// load, as a difference ("+2-3 ms") or a change in percent ("-30 %").
package struct ClaimSpec: Sendable, Equatable {
  /// Which side of the range is good.
  package enum Better: String, Sendable, CaseIterable { case lower, higher }

  /// The unit that the document uses.
  package enum Unit: String, Sendable, CaseIterable {
    case milliseconds = "ms"
    case microseconds = "us"
    case requestsPerSecond = "req/s"
    case percent = "%"
  }

  /// What is measured to test the claim.
  package enum Role: String, Sendable, CaseIterable {
    case ffi
    /// Workers behind a broker on this machine.
    case nats
    /// Workers behind a broker on another machine.
    case natsNet = "nats-net"
  }

  /// The circumstances of a test, in the order in which they are listed.
  package enum Circumstance: String, Sendable, CaseIterable {
    case unloaded = "a"
    /// Open loop at the documented throughput.
    case documentedRate = "b"
    /// Closed loop at the concurrency that Little's law implies from the documented pair.
    case impliedConcurrency = "c"
    /// The same closed loop, loaded, for both sides of a comparison.
    case sameLoad = "d"
  }

  /// How a figure is compared with another target's.
  package enum Relation: String, Sendable {
    /// This target's figure less the other's, in the claim's unit.
    case difference
    /// How much more or less than the other's it is, percent.
    case change
  }

  /// A circumstance, and the label of the load that makes it, such as `open-44000`.
  package struct Condition: Sendable, Equatable {
    package var circumstance: Circumstance
    package var load: String
  }

  /// The claim's name in claims.csv; unique.
  package var id: String
  /// The document's file name, the line in it from 1, other lines that say the same, and its words.
  package var document: String
  package var line: Int
  package var alsoLines: [Int] = []
  package var words: String
  /// The lower end of the documented range, in `unit`; nil when it has none. One of the two is there.
  package var low: Double?
  package var high: Double?
  package var unit: Unit
  /// The column of summary.csv that tests it, such as `response_p50_us`.
  package var metric: String
  package var better: Better
  package var target: Role
  /// What the target is compared with, and how; nil for a figure of its own.
  package var against: Role?
  package var relation: Relation?
  /// The throughput that the document states beside a latency, requests a second; nil when none.
  package var documentedRatePerSecond: Double?
  /// In the order a, b, c, d.
  package var conditions: [Condition] = []
  /// Why it is not measured; nil when it is.
  package var notMeasured: String?
}

/// One documented statement about behaviour, and the test that tries it.
package struct BehaviourSpec: Sendable, Equatable {
  /// Its name in claims.csv; unique among all claims.
  package var id: String
  package var document: String
  package var line: Int
  package var words: String
  /// The test's name; nil when it is not measured.
  package var test: String?
  /// Why it is not measured and what to install; nil when it is.
  package var notMeasured: String?
}

/// Something known about where a documented figure comes from.
package struct ClaimOrigin: Codable, Sendable, Equatable {
  /// Ids of the claims and behaviours that it is about.
  package var about: [String]
  /// What is known, in a sentence or two.
  package var fact: String
  /// Where that stands.
  package var source: String
}

/// What `claims.yaml` says, each in the order written.
package struct ClaimsFile {
  static let keys = [
    "id", "document", "line", "also_lines", "words", "documented", "unit", "metric", "better", "target",
    "minus", "relative_to", "documented_rate_per_second", "conditions", "not_measured",
  ]
  static let behaviourKeys = ["id", "document", "line", "words", "test", "not_measured"]

  /// How far a single documented number reaches on both sides: 10 %.
  package static let tolerance = 0.1

  package let claims: [ClaimSpec]
  package let origins: [ClaimOrigin]
  package let behaviours: [BehaviourSpec]

  /// Throws everything that was found wrong. `tests` are those of behaviour that there are; nil checks no names.
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
          "about", "names '\(id)', which is the id of no claim and no behaviour",
          suggestion: Suggestion.nearest(to: id, among: ids.sorted()))
      }
      guard let fact = block.required("fact", "say what is known"),
        let source = block.required("source", "say where it can be read")
      else { return nil }
      return ClaimOrigin(about: about, fact: fact, source: source)
    }
  }

  /// Where a document says something: an entry's id, the document, the line and its words.
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
      block.fail("test", "one of test and not_measured must be there, and only one")
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
    let items = block.items("also_lines", of: "line numbers") ?? []
    let lines = items.compactMap { $0.value.text.flatMap { Int($0) } }.filter { $0 > 0 }
    if lines.count != items.count { block.fail("also_lines", "must be whole numbers from 1") }
    return lines
  }

  /// A number, which stands for itself ± 10 %, a list of the range's two ends, or one end alone.
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
    // Rounded so that 0.8 ± 10 % reads 0.72 to 0.88, not 0.7200000000000001.
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
