import Foundation

/// Writes a YAML value as JSON text: what `initialize` of a plugin gets as its configuration.
enum JSONText {
  /// The text, keys in the order written. Plain words follow YAML's core schema; quoted ones are text.
  static func write(_ value: YAMLValue) -> String {
    switch value.content {
    case .mapping(let entries):
      return "{" + entries.map { quoted($0.key) + ":" + write($0.value) }.joined(separator: ",") + "}"
    case .sequence(let items):
      return "[" + items.map(write).joined(separator: ",") + "]"
    case .scalar(let text, let plain):
      if !plain { return quoted(text) }
      if value.isNull { return "null" }
      if ["true", "True", "TRUE"].contains(text) { return "true" }
      if ["false", "False", "FALSE"].contains(text) { return "false" }
      return number(text) ?? quoted(text)
    }
  }

  private static func number(_ text: String) -> String? {
    let digits = text.utf8.filter { $0 >= 48 && $0 <= 57 }.count
    let body = text.hasPrefix("-") ? text.dropFirst() : text[...]
    if !body.isEmpty, digits == body.utf8.count, body == "0" || body.first != "0" { return text }
    if text.hasPrefix("0x"), let value = UInt64(text.dropFirst(2), radix: 16) { return String(value) }
    if text.hasPrefix("0o"), let value = UInt64(text.dropFirst(2), radix: 8) { return String(value) }
    guard !text.contains("_"), digits > 0, let value = Block.parse(text) else { return nil }
    return value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      default:
        if scalar.value < 32 {
          result +=
            "\\u" + String(repeating: "0", count: scalar.value < 16 ? 3 : 2)
            + String(scalar.value, radix: 16)
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }
}
