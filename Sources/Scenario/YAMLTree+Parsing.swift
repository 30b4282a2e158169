import Yams

/// Turns YAML text into a tree with places, within limits that no honest file reaches.
struct YAMLReader {
  /// The most levels of nesting.
  static let maximumDepth = 64
  /// The most values, aliases expanded.
  static let maximumValues = 100_000
  /// The most that aliases may multiply the file, estimated before parsing.
  static let maximumExpansion = 1_000_000.0

  /// A fault and its place; thrown inside the room only.
  struct Fault: Error {
    var line: Int?
    var column: Int?
    var message: String
    var remedy: String?
  }

  /// Gives the place of a line and a column.
  let place: (_ line: Int, _ column: Int) -> ScenarioProblem.Place
  private var count = 0

  init(place: @escaping (_ line: Int, _ column: Int) -> ScenarioProblem.Place) { self.place = place }

  /// The tree of the text's single document, nil when there is nothing but comments.
  mutating func read(_ text: String) throws(Fault) -> YAMLValue? {
    try Self.checkNesting(text)
    try Self.checkAliases(text)
    let node: Node?
    do {
      node = try Parser(yaml: text).singleRoot()
    } catch let error as YamlError {
      throw Self.fault(error, text)
    } catch {
      throw Fault(message: "cannot be read as YAML")
    }
    guard let node else { return nil }
    return try convert(node, depth: 0)
  }

  private mutating func convert(_ node: Node, depth: Int) throws(Fault) -> YAMLValue {
    let mark = node.mark
    count += 1
    if depth > Self.maximumDepth {
      throw Fault(
        line: mark?.line, column: mark?.column,
        message: "is nested more than \(Self.maximumDepth) levels deep")
    }
    if count > Self.maximumValues {
      throw Fault(
        line: mark?.line, column: mark?.column,
        message: "holds more than \(Self.maximumValues) values, aliases expanded")
    }
    let here = place(mark?.line ?? 1, mark?.column ?? 1)
    switch node {
    case .scalar(let scalar):
      let plain = scalar.style == .plain || scalar.style == .any
      return YAMLValue(content: .scalar(text: scalar.string, plain: plain), place: here)
    case .sequence(let sequence):
      var items: [YAMLValue] = []
      for item in sequence { items.append(try convert(item, depth: depth + 1)) }
      return YAMLValue(content: .sequence(items), place: here)
    case .mapping(let mapping):
      return YAMLValue(content: .mapping(try convert(mapping, depth: depth)), place: here)
    case .alias:
      throw Fault(line: mark?.line, column: mark?.column, message: "holds an alias that leads nowhere")
    }
  }

  /// The entries of a mapping, `<<` merged in behind the keys that are written out.
  private mutating func convert(
    _ mapping: Node.Mapping, depth: Int
  ) throws(Fault) -> [YAMLValue.Entry] {
    var entries: [YAMLValue.Entry] = []
    var merged: [YAMLValue.Entry] = []
    for (keyNode, valueNode) in mapping {
      guard case .scalar(let key) = keyNode else {
        throw Fault(
          line: keyNode.mark?.line, column: keyNode.mark?.column,
          message: "has a key that is a list or a mapping; keys are plain words")
      }
      let value = try convert(valueNode, depth: depth + 1)
      if key.string == "<<", key.style == .plain {
        merged += value.entries ?? (value.items ?? []).flatMap { $0.entries ?? [] }
        continue
      }
      let here = place(key.mark?.line ?? 1, key.mark?.column ?? 1)
      entries.append(.init(key: key.string, place: here, value: value))
    }
    for entry in merged where !entries.contains(where: { $0.key == entry.key }) { entries.append(entry) }
    return entries
  }
}

extension YAMLReader {
  /// Stops text whose brackets would nest so deep that a parser's stack could end.
  private static func checkNesting(_ text: String) throws(Fault) {
    var depth = 0
    var line = 1
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\n"): line += 1
      case UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
      case UInt8(ascii: "]"), UInt8(ascii: "}"): depth = max(0, depth - 1)
      default: break
      }
      if depth > 4 * maximumDepth {
        throw Fault(line: line, message: "is nested more than \(maximumDepth) levels deep")
      }
    }
    for (index, row) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .enumerated()
    where row.split(separator: UInt8(ascii: " ")).prefix(while: {
      $0.elementsEqual("-".utf8) || $0.elementsEqual("?".utf8)
    })
    .count > maximumDepth {
      throw Fault(line: index + 1, message: "is nested more than \(maximumDepth) levels deep")
    }
  }

  /// Stops a "billion laughs": what aliases can multiply is bounded by the product of their uses.
  private static func checkAliases(_ text: String) throws(Fault) {
    var anchors: Set<Substring> = []
    var uses: [Substring: Double] = [:]
    for word in text.split(whereSeparator: { $0.isWhitespace || ",[]{}:".contains($0) }) {
      if word.hasPrefix("&") { anchors.insert(word.dropFirst()) }
      if word.hasPrefix("*") { uses[word.dropFirst(), default: 0] += 1 }
    }
    let expansion = uses.filter { anchors.contains($0.key) }.values.reduce(1.0) { $0 * ($1 + 1) }
    if expansion > maximumExpansion {
      throw Fault(
        message: "has aliases that could multiply it more than \(Int(maximumExpansion)) times",
        remedy: "write the values out")
    }
  }

  /// Our words for what the YAML library found. The text itself is never quoted: it may hold secrets.
  private static func fault(_ error: YamlError, _ text: String) -> Fault {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _):
      if character(of: text, at: mark) == "\t" {
        return Fault(
          line: mark.line, column: mark.column, message: "a tab where YAML wants spaces",
          remedy: "indent with spaces")
      }
      return Fault(
        line: mark.line, column: mark.column, message: "not valid YAML: \(problem)",
        remedy: "look at the indentation, brackets and quotes there and on the line before")
    case .composer(_, let problem, let mark, _):
      let message =
        problem.contains("another document")
        ? "a second YAML document begins here; one file holds one" : "not valid YAML: \(problem)"
      return Fault(line: mark.line, column: mark.column, message: message)
    case .duplicatedKeysInMapping(let keys, let context):
      return Fault(
        line: context.mark.line, column: context.mark.column,
        message: "the key \(keys.map { "'\($0)'" }.joined(separator: ", ")) is given twice in one block",
        remedy: "keep one")
    case .reader:
      return Fault(message: "holds a character that YAML does not allow, such as a control character")
    case .memory:
      return Fault(message: "is nested too deep, or too large")
    case .no, .writer, .emitter, .representer, .dataCouldNotBeDecoded:
      return Fault(message: "cannot be read as YAML")
    }
  }

  private static func character(of text: String, at mark: Mark) -> Unicode.Scalar? {
    let lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.indices.contains(mark.line - 1) else { return nil }
    return lines[mark.line - 1].dropFirst(mark.column - 1).first
  }
}
