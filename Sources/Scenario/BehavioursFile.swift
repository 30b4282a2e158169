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
