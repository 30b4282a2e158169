/// The NATS subjects of one plugin: `{prefix}.{plugin}.{phase}`.
package struct Subject: Sendable, Hashable {
  /// What Nylon uses when nothing is configured.
  package static let standardPrefix = "nylon.plugin"

  /// One or more tokens, such as `nylon.plugin`.
  package let prefix: String
  /// The plugin's name, one token.
  package let plugin: String

  /// Checks both parts; throws `MessageError.badSubjectToken`.
  package init(prefix: String = Subject.standardPrefix, plugin: String) throws(MessageError) {
    for token in prefix.split(separator: ".", omittingEmptySubsequences: false) {
      try Subject.check(token, what: "prefix", whole: prefix)
    }
    try Subject.check(plugin[...], what: "plugin name", whole: plugin)
    if plugin.contains(".") {
      throw .badSubjectToken(what: "plugin name", value: plugin, reason: "contains a dot")
    }
    self.prefix = prefix
    self.plugin = plugin
  }

  /// The subject on which the phase's requests go.
  package func phase(_ phase: Phase) -> String { "\(prefix).\(plugin).\(phase.subjectFragment)" }

  /// The subject of `initialize` and `shutdown`, subscribed without a queue group.
  package var lifecycle: String { "\(prefix).\(plugin).lifecycle" }

  /// Checks the name of a queue group: dots are fine, wildcards and spaces are not.
  package static func checkQueueGroup(_ group: String) throws(MessageError) {
    for token in group.split(separator: ".", omittingEmptySubsequences: false) {
      try check(token, what: "queue group", whole: group)
    }
  }

  private static func check(_ token: Substring, what: String, whole: String) throws(MessageError) {
    func refuse(_ reason: String) -> MessageError {
      // A name with control characters must not reach a terminal as it is.
      let shown = String(whole.prefix(80).map { $0.isASCII && !isControl($0) ? $0 : "?" })
      return .badSubjectToken(what: what, value: shown, reason: reason)
    }
    if token.isEmpty { throw refuse("is empty, or has an empty part between dots") }
    if token.utf8.count > 255 { throw refuse("is longer than 255 bytes") }
    for character in token {
      if character.isWhitespace || isControl(character) {
        throw refuse("contains white space or a control character")
      }
      if character == "*" || character == ">" { throw refuse("contains a NATS wildcard") }
    }
  }

  private static func isControl(_ character: Character) -> Bool {
    character.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7f }
  }
}
