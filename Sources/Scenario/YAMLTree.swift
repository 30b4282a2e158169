/// A YAML value that knows where it was written: a line of a file, or an argument of the command line.
struct YAMLValue {
  /// A key and its value.
  struct Entry {
    var key: String
    var place: ScenarioProblem.Place
    var value: YAMLValue
  }

  /// The three kinds of YAML values.
  enum Content {
    /// The text as written; `plain` is false when it was quoted or a block.
    case scalar(text: String, plain: Bool)
    case sequence([YAMLValue])
    case mapping([Entry])
  }

  var content: Content
  var place: ScenarioProblem.Place

  /// True for an empty value, `~` and `null`: the same as leaving the key out.
  var isNull: Bool {
    guard case .scalar(let text, true) = content else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(text)
  }

  var entries: [Entry]? {
    if case .mapping(let entries) = content { return entries }
    return nil
  }

  var items: [YAMLValue]? {
    if case .sequence(let items) = content { return items }
    return nil
  }

  /// The text of a scalar, nil for null, lists and mappings.
  var text: String? {
    guard !isNull, case .scalar(let text, _) = content else { return nil }
    return text
  }

  /// The value of a key, nil when absent or null.
  subscript(key: String) -> YAMLValue? {
    guard let value = entries?.first(where: { $0.key == key })?.value, !value.isNull else { return nil }
    return value
  }

  /// What the value is, for messages: `a list`, `a mapping`, `text`.
  var kind: String {
    switch content {
    case .scalar: isNull ? "empty" : "a single value"
    case .sequence: "a list"
    case .mapping: "a mapping"
    }
  }
}
