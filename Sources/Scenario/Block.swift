import Foundation

/// One mapping of a file while it is read: checks its keys, reads its values, notes what is wrong.
///
/// A reading method returns nil both when the key is absent and when its value is wrong; a wrong
/// value has then been noted, so the caller can go on with the default.
struct Block {
  let value: YAMLValue
  /// The path as `--set` writes it, empty at the top.
  let path: String
  let problems: ProblemCollector

  /// A block of these keys; notes unknown keys. Nil, and noted, when the value is not a mapping.
  ///
  /// With `lenient` unknown keys are warnings: the block is in Nylon's own file, which may be newer.
  init?(
    _ value: YAMLValue, path: String, keys: [String], in problems: ProblemCollector, lenient: Bool = false
  ) {
    self.value = value
    self.path = path
    self.problems = problems
    guard let entries = value.entries else {
      let names = keys.prefix(4).joined(separator: ", ")
      problems.add(
        at: value.place, key: path, value: Self.printable(value, path: path),
        "is \(value.kind), not a mapping", remedy: "write keys such as \(names)")
      return nil
    }
    for entry in entries where !keys.contains(entry.key) {
      let suggestion = Suggestion.nearest(to: entry.key, among: keys)
      problems.add(
        lenient ? .warning : .error, at: entry.place, key: childPath(entry.key), "is not a key of this block",
        suggestion: suggestion, remedy: Self.remedy(for: entry.key, suggestion: suggestion, allowed: keys))
    }
  }

  /// The unit of the suggested key, or the block that the key belongs to, or all that is allowed.
  private static func remedy(for key: String, suggestion: String?, allowed: [String]) -> String {
    if let unit = suggestion.flatMap({ KeyUnit(key: $0) }) { return "It is in \(unit.name)" }
    if suggestion == nil, let home = homes.first(where: { $0.keys.contains(key) }) {
      return "it is a key of \(home.block)"
    }
    return "Allowed: \(allowed.joined(separator: ", "))"
  }

  /// Where a key belongs that was written in the wrong block.
  private static let homes: [(block: String, keys: [String])] = [
    ("the scenario itself, at the left margin", ScenarioLoader.keys), ("a target", TargetReader.keys),
    ("a load", LoadReader.keys), ("a target's workers:", TargetReader.workersKeys),
    ("a target's link:", LinkReader.keys),
    ("request:", RequestReader.requestKeys), ("a target's verify:", RequestReader.verifyKeys),
    ("an entry of messaging:", NylonConfiguration.messagingKeys),
    ("an entry of plugins:", NylonConfiguration.pluginKeys),
  ]

  /// The path of a key of this block.
  func childPath(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  /// The value of a key, nil when absent or empty.
  func get(_ key: String) -> YAMLValue? { value[key] }

  /// Notes an error at a key's value, or at the block when the key is absent.
  func fail(_ key: String, _ message: String, suggestion: String? = nil, remedy: String? = nil) {
    let child = get(key)
    problems.add(
      at: child?.place ?? value.place, key: childPath(key),
      value: child.flatMap { Self.printable($0, path: childPath(key)) }, message, suggestion: suggestion,
      remedy: remedy)
  }

  /// Notes a warning at a key's value.
  func warn(_ key: String, _ message: String, remedy: String? = nil) {
    problems.add(.warning, at: get(key)?.place ?? value.place, key: childPath(key), message, remedy: remedy)
  }

  /// A scalar's text for a message; nil for lists, mappings and whatever may be secret.
  static func printable(_ value: YAMLValue, path: String) -> String? {
    guard let text = value.text, !Redaction.mentionsSecret(path: path) else { return nil }
    let shown = redactedURL(text).replacingOccurrences(of: "\n", with: " ")
    return shown.count > 80 ? String(shown.prefix(77)) + "..." : shown
  }

  // MARK: Reading

  /// The text of a key; a list or a mapping is an error, and so are NUL and line ends.
  func text(_ key: String) -> String? {
    guard let child = get(key) else { return nil }
    guard let text = child.text else {
      fail(key, "is \(child.kind), not text")
      return nil
    }
    guard !text.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else {
      fail(key, "holds a control character")
      return nil
    }
    return text
  }

  /// The text of a key that must be there and not empty.
  func required(_ key: String, _ remedy: String) -> String? {
    guard get(key) != nil else {
      fail(key, "is missing", remedy: remedy)
      return nil
    }
    guard let text = text(key) else { return nil }
    guard !text.isEmpty else {
      fail(key, "is empty", remedy: remedy)
      return nil
    }
    return text
  }

  /// `true` or `false`.
  func flag(_ key: String) -> Bool? {
    guard let child = get(key) else { return nil }
    switch child.text?.lowercased() {
    case "true": return true
    case "false": return false
    default:
      fail(key, "must be true or false")
      return nil
    }
  }

  /// One of an enumeration's raw values.
  func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String, of type: Choice.Type
  ) -> Choice? where Choice.RawValue == String {
    guard let text = text(key) else { return nil }
    if let choice = Choice(rawValue: text) { return choice }
    let names = Choice.allCases.map(\.rawValue)
    fail(
      key, "must be \(names.joined(separator: " or "))",
      suggestion: Suggestion.nearest(to: text, among: names))
    return nil
  }

  /// The items of a list; anything else is an error.
  func list(_ key: String, of what: String) -> [YAMLValue]? {
    guard let child = get(key) else { return nil }
    if let items = child.items { return items }
    fail(key, "is \(child.kind), not a list", remedy: "write a list of \(what), each behind '- '")
    return nil
  }

  /// The block of a key.
  func block(_ key: String, keys: [String], lenient: Bool = false) -> Block? {
    guard let child = get(key) else { return nil }
    return Block(child, path: childPath(key), keys: keys, in: problems, lenient: lenient)
  }

  /// The names and single values of a free mapping, in order; an empty value is empty text.
  func pairs(_ key: String) -> [(name: String, value: YAMLValue)]? {
    guard let child = get(key) else { return nil }
    guard let entries = child.entries else {
      fail(key, "is \(child.kind), not a mapping", remedy: "write 'name: value' under it")
      return nil
    }
    return entries.map { ($0.key, $0.value) }
  }
}
