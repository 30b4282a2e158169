/// Why bytes on the border between host and plugin were refused. `description` says it in words.
public enum MessageError: Error, Equatable, Sendable {
  /// Not one well-formed MessagePack map with nothing behind it.
  case notAMap(what: String)
  /// A key without which the message has no meaning is missing.
  case missingKey(what: String, key: String)
  /// A key's value has the wrong type or range.
  case wrongValue(what: String, key: String, found: String, wanted: String)
  /// The bytes are not a valid FlatBuffers table of that name.
  case notATable(what: String, byteCount: Int)
  /// A message or table would be larger than its format can hold.
  case tooLarge(what: String, byteCount: Int, byteCountMost: Int)
  /// A NATS subject cannot be made from this.
  case badSubjectToken(what: String, value: String, reason: String)
}

extension MessageError: CustomStringConvertible {
  /// Object, key, value and remedy in one sentence.
  public var description: String {
    switch self {
    case .notAMap(let what):
      "\(what): not a well-formed MessagePack map; send one map with text keys and nothing behind it"
    case .missingKey(let what, let key):
      "\(what): '\(key)' is missing; the interface requires it"
    case .wrongValue(let what, let key, let found, let wanted):
      "\(what): '\(key)' is \(found); it must be \(wanted)"
    case .notATable(let what, let byteCount):
      "\(what): \(byteCount) bytes are not a valid FlatBuffers table; build it from nylon_plugin.fbs"
    case .tooLarge(let what, let byteCount, let most):
      "\(what): \(byteCount) bytes are too many; the most is \(most), send a smaller body"
    case .badSubjectToken(let what, let value, let reason):
      "NATS subject: \(what) '\(value)' \(reason); use letters, digits, '-' and '_'"
    }
  }
}
