import Foundation
import Yams

/// A YAML value with the place where it was written: a line of a file, or a command-line argument.
struct YAMLValue {
  /// A key and its value.
  struct Entry {
    var key: String
    var place: ScenarioProblem.Place
    var value: YAMLValue
  }

  enum Content {
    /// The text as written; `plain` is false if it was quoted or a block scalar.
    case scalar(text: String, plain: Bool)
    case sequence([YAMLValue])
    case mapping([Entry])
  }

  var content: Content
  var place: ScenarioProblem.Place

  static func empty(at place: ScenarioProblem.Place) -> YAMLValue {
    YAMLValue(content: .scalar(text: "", plain: true), place: place)
  }

  /// Whether the value is empty, `~` or `null`, which is equivalent to omitting the key.
  var isNull: Bool {
    guard case .scalar(let text, true) = content else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(text)
  }

  var entries: [Entry]? { if case .mapping(let entries) = content { entries } else { nil } }

  var items: [YAMLValue]? { if case .sequence(let items) = content { items } else { nil } }

  /// The text of a scalar; nil for null, lists and mappings.
  var text: String? {
    if !isNull, case .scalar(let text, _) = content { text } else { nil }
  }

  /// The value of a key; nil if it is absent or null.
  subscript(key: String) -> YAMLValue? {
    entries?.first { $0.key == key }.flatMap { $0.value.isNull ? nil : $0.value }
  }

  /// The kind of the value for messages, such as `a list` or `a mapping`.
  var kind: String {
    switch content {
    case .scalar: isNull ? "empty" : "a single value"
    case .sequence: "a list"
    case .mapping: "a mapping"
    }
  }

  /// The value as JSON, with keys in the order of the file, as passed to `initialize` of a plugin. Plain
  /// scalars follow YAML's core schema; quoted ones are strings.
  var json: String {
    switch content {
    case .mapping(let entries):
      return "{" + entries.map { Self.quoted($0.key) + ":" + $0.value.json }.joined(separator: ",") + "}"
    case .sequence(let items): return "[" + items.map(\.json).joined(separator: ",") + "]"
    case .scalar(let text, let plain):
      if !plain { return Self.quoted(text) }
      if isNull { return "null" }
      if ["true", "True", "TRUE", "false", "False", "FALSE"].contains(text) { return text.lowercased() }
      return Self.number(text) ?? Self.quoted(text)
    }
  }

  private static func number(_ text: String) -> String? {
    let digits = text.utf8.filter { $0 >= 48 && $0 <= 57 }.count
    let body = text.hasPrefix("-") ? text.dropFirst() : text[...]
    if !body.isEmpty, digits == body.utf8.count, body == "0" || body.first != "0" { return text }
    if text.hasPrefix("0x"), let value = UInt64(text.dropFirst(2), radix: 16) { return String(value) }
    if text.hasPrefix("0o"), let value = UInt64(text.dropFirst(2), radix: 8) { return String(value) }
    guard !text.contains("_"), digits > 0 else { return nil }
    return Block.parse(text).map(Block.short)
  }

  /// Returns the text in double quotes, valid in JSON and YAML.
  static func quoted(_ text: String) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    // A string always encodes.
    return (try? encoder.encode(text)).map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
  }
}

/// Parses YAML into a tree with places, within limits that no ordinary file reaches.
struct YAMLReader {
  /// The maximum nesting depth.
  static let maximumDepth = 64
  /// The maximum number of values, with aliases expanded.
  static let maximumValues = 100_000
  /// The maximum expansion by aliases, estimated before parsing.
  static let maximumExpansion = 1_000_000.0

  /// A fault and its position; thrown only inside this module.
  struct Fault: Error {
    let position: (Int, Int)?
    let message: String
    let remedy: String?

    init(_ mark: Mark?, line: Int? = nil, _ message: String, remedy: String? = nil) {
      position = mark.map { ($0.line, $0.column) } ?? line.map { ($0, 1) }
      (self.message, self.remedy) = (message, remedy)
    }
  }

  /// Returns the place of a line and a column.
  let place: (_ line: Int, _ column: Int) -> ScenarioProblem.Place
  var count = 0

  /// Parses a single document; returns nil if there are only comments.
  mutating func read(_ text: String) throws(Fault) -> YAMLValue? {
    try Self.checkNesting(text)
    try Self.checkAliases(text)
    let node: Node?
    do {
      node = try Parser(yaml: text).singleRoot()
    } catch let error as YamlError {
      throw Self.fault(error, text)
    } catch {
      throw Fault(nil, "cannot be read as YAML")
    }
    guard let node else { return nil }
    return try convert(node, depth: 0)
  }

  private mutating func convert(_ node: Node, depth: Int) throws(Fault) -> YAMLValue {
    let mark = node.mark
    count += 1
    if depth > Self.maximumDepth {
      throw Fault(mark, "is nested more than \(Self.maximumDepth) levels deep")
    }
    if count > Self.maximumValues {
      throw Fault(mark, "contains more than \(Self.maximumValues) values, aliases expanded")
    }
    let here = place(mark?.line ?? 1, mark?.column ?? 1)
    switch node {
    case .scalar(let scalar):
      let plain = scalar.style == .plain || scalar.style == .any
      return YAMLValue(content: .scalar(text: scalar.string, plain: plain), place: here)
    case .sequence(let sequence):
      let items = try sequence.map { (item) throws(Fault) in try convert(item, depth: depth + 1) }
      return YAMLValue(content: .sequence(items), place: here)
    case .mapping(let mapping):
      return YAMLValue(content: .mapping(try convert(mapping, depth: depth)), place: here)
    case .alias:
      throw Fault(mark, "contains an alias without an anchor")
    }
  }

  /// Converts the entries of a mapping; entries merged with `<<` follow the explicit keys.
  private mutating func convert(
    _ mapping: Node.Mapping, depth: Int
  ) throws(Fault) -> [YAMLValue.Entry] {
    var entries: [YAMLValue.Entry] = []
    var merged: [YAMLValue.Entry] = []
    for (keyNode, valueNode) in mapping {
      guard case .scalar(let key) = keyNode else {
        throw Fault(keyNode.mark, "has a key that is a list or a mapping; keys are plain words")
      }
      let value = try convert(valueNode, depth: depth + 1)
      if key.string == "<<", key.style == .plain {
        merged += value.entries ?? (value.items ?? []).flatMap { $0.entries ?? [] }
        continue
      }
      let here = place(key.mark?.line ?? 1, key.mark?.column ?? 1)
      entries.append(.init(key: key.string, place: here, value: value))
    }
    var written = Set(entries.map(\.key))
    for entry in merged where written.insert(entry.key).inserted { entries.append(entry) }
    return entries
  }

  /// Rejects text nested so deeply that it could overflow the parser's stack.
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
        throw Fault(nil, line: line, "is nested more than \(maximumDepth) levels deep")
      }
    }
    let rows = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, row) in rows.enumerated() {
      let words = row.split(separator: UInt8(ascii: " "))
      let levels = words.prefix { $0.elementsEqual("-".utf8) || $0.elementsEqual("?".utf8) }.count
      guard levels > maximumDepth else { continue }
      throw Fault(nil, line: index + 1, "is nested more than \(maximumDepth) levels deep")
    }
  }

  /// Rejects a "billion laughs" attack: the expansion by aliases is at most the product of their uses.
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
        nil, "has aliases that could multiply it more than \(Int(maximumExpansion)) times",
        remedy: "write the values out")
    }
  }

  /// Translates an error of the YAML library. The text itself is never quoted, because it may hold secrets.
  private static func fault(_ error: YamlError, _ text: String) -> Fault {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _):
      if character(of: text, at: mark) == "\t" {
        return Fault(mark, "a tab where YAML wants spaces", remedy: "indent with spaces")
      }
      return Fault(
        mark, "not valid YAML: \(problem)",
        remedy: "look at the indentation, brackets and quotes there and on the line before")
    case .composer(_, let problem, let mark, _):
      let message =
        problem.contains("another document")
        ? "a second YAML document begins here; one file holds one" : "not valid YAML: \(problem)"
      return Fault(mark, message)
    case .duplicatedKeysInMapping(let keys, let context):
      return Fault(
        context.mark,
        "the key \(keys.map { "'\($0)'" }.joined(separator: ", ")) is given twice in one block",
        remedy: "keep one")
    case .reader:
      return Fault(nil, "contains a character that YAML does not allow, such as a control character")
    case .memory:
      return Fault(nil, "is nested too deeply, or too large")
    case .no, .writer, .emitter, .representer, .dataCouldNotBeDecoded:
      return Fault(nil, "cannot be read as YAML")
    }
  }

  private static func character(of text: String, at mark: Mark) -> Unicode.Scalar? {
    let lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.indices.contains(mark.line - 1) else { return nil }
    return lines[mark.line - 1].dropFirst(mark.column - 1).first
  }
}
