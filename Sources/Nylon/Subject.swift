/// The NATS subjects of one plugin: `{prefix}.{plugin}.{phase}`.
package struct Subject: Sendable, Hashable {
  /// Nylon's default prefix.
  package static let standardPrefix = "nylon.plugin"

  private let stem: String

  /// Creates the subjects of a plugin from a prefix of one or more tokens and the plugin's name, a single
  /// token.
  package init(prefix: String = Subject.standardPrefix, plugin: String) throws(MessageError) {
    try Subject.check(prefix, what: "prefix")
    if plugin.contains(".") {
      throw .badSubjectToken(what: "plugin name", value: Subject.shown(plugin), reason: "contains a dot")
    }
    try Subject.check(plugin, what: "plugin name")
    stem = "\(prefix).\(plugin)"
  }

  /// The subject of the phase's requests.
  package func phase(_ phase: Phase) -> String { "\(stem).\(phase.subjectFragment)" }

  /// The subject of `initialize` and `shutdown`, subscribed without a queue group.
  package var lifecycle: String { "\(stem).lifecycle" }

  /// The subject on which Nylon's own host receives the answers to a session's phases.
  package func reply(session: String) -> String { "\(stem).reply.\(session)" }

  /// Validates a prefix or the name of a queue group: dots are allowed, wildcards and white space are not.
  package static func check(_ name: String, what: String) throws(MessageError) {
    let tokens = name.split(separator: ".", omittingEmptySubsequences: false)
    guard let reason = tokens.lazy.compactMap(fault).first else { return }
    throw .badSubjectToken(what: what, value: shown(name), reason: reason)
  }

  /// Replaces control characters, which must not reach a terminal, and shortens the name.
  private static func shown(_ name: String) -> String {
    String(name.prefix(80).map { $0.isASCII && !isControl($0) ? $0 : "?" })
  }

  private static func fault(_ token: Substring) -> String? {
    if token.isEmpty { return "is empty, or has an empty part between dots" }
    if token.utf8.count > 255 { return "is longer than 255 bytes" }
    if token.contains(where: { $0.isWhitespace || isControl($0) }) {
      return "contains white space or a control character"
    }
    return token.contains { $0 == "*" || $0 == ">" } ? "contains a NATS wildcard" : nil
  }

  private static func isControl(_ character: Character) -> Bool {
    character.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7f }
  }
}
