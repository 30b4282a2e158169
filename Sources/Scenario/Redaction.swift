import Foundation
import NATS
import Nylon

/// Keeps secrets out of messages, logs and run folders; all redaction is in this type.
package enum Redaction {
  static let mask = "***"

  /// Redacts user, password, token and query in a URL or in text with URLs: `nats://***@host:4222`.
  /// Everything before the last `@` of a word is treated as secret, which covers a password with `/` or `@`.
  /// Also applies ``withoutNamed(_:)``.
  package static func redactedURL(_ text: String) -> String {
    var result = ""
    var rest = text[...]
    while !rest.isEmpty {
      let word = rest.prefix { !$0.isWhitespace && !"\"'`,[]{}<>()".contains($0) }
      result += redactedWord(String(word)) + rest.dropFirst(word.count).prefix(1)
      rest = rest.dropFirst(word.count + 1)
    }
    return withoutNamed(result)
  }

  /// Like ``redactedURL(_:)``, but without a `://` an `@` in a path or a header is not treated as secret.
  fileprivate static func prose(_ text: String) -> String {
    text.contains("://") ? redactedURL(text) : withoutNamed(text)
  }

  /// Redacts values with secret names, as in `/login?token=x&page=1`, and the word after `Bearer`.
  private static func withoutNamed(_ text: String) -> String {
    var result = ""
    var rest = text[...]
    while let equals = rest.firstIndex(of: "=") {
      let name = rest[..<equals].reversed().prefix { $0.isLetter || $0.isNumber || "_-.%".contains($0) }
      result += rest[...equals]
      rest = rest[rest.index(after: equals)...]
      guard isSecret(name: String(name.reversed())) else { continue }
      let value = rest.prefix { !$0.isWhitespace && !"&;,\"'`<>()[]{}".contains($0) }
      if !value.isEmpty { result += mask }
      rest = rest[value.endIndex...]
    }
    result += rest
    return result.replacing(#/(?i)\b(bearer)\s+[^\s"',;]+/#) { "\($0.1) \(mask)" }
  }

  /// Whether a name denotes a secret: a secret key of the schema or, in headers, environments, commands and
  /// plugin configurations, a name such as `NATS_TOKEN` or `api_key`.
  package static func isSecret(name: String) -> Bool {
    let plain = name.lowercased().filter(\.isLetter)
    return Schema.secrets.contains(plain) || ["key", "cookie", "sig"].contains(plain)
      || words.contains { plain.contains($0) }
  }

  private static let words = [
    "token", "password", "passwd", "secret", "credential", "creds", "nkey", "seed", "apikey", "accesskey",
    "privatekey", "authorization", "setcookie", "natsuser", "passphrase", "natspass", "userpass",
    "signature", "pwd", "jwt",
  ]

  /// Redacts an argument for storage: passwords in URLs, secrets set with `--set`, and secrets in commands
  /// such as that of `--workers`.
  package static func argument(_ text: String) -> String {
    let first = text.prefix { !$0.isWhitespace }
    if first.count < text.count, !first.contains("="), let words = Kind<[String]>.words(of: text) {
      return command(words).joined(separator: " ")
    }
    return text.contains("=") ? assignment(text) : redactedURL(text)
  }

  /// Redacts `path.to.key=value`: the value is masked if the path or keys within the value name a secret.
  package static func assignment(_ text: String) -> String {
    guard let equals = text.firstIndex(of: "=") else {
      return mentionsSecret(text) ? mask : redactedURL(text)
    }
    let path = String(text[..<equals])
    let value = String(text[text.index(after: equals)...])
    let hidden = mentionsSecret(path: path) || mentionsSecret(value)
    return redactedURL(path) + "=" + (hidden ? mask : redactedURL(value))
  }

  /// Whether a dotted path leads to a secret or into one.
  static func mentionsSecret(path: String) -> Bool { path != "seed" && mentionsSecret(path) }

  private static func mentionsSecret(_ text: String) -> Bool {
    text.split(whereSeparator: { !$0.isLetter && !$0.isNumber && $0 != "_" && $0 != "-" })
      .contains { isSecret(name: String($0)) }
  }

  /// Redacts secrets in a command's arguments: `--token x`, `--token=x`, URLs.
  static func command(_ words: [String]) -> [String] {
    var hideNext = false
    return words.map { word in
      defer { hideNext = word.hasPrefix("-") && !word.contains("=") && isSecret(name: word) }
      if hideNext { return mask }
      guard let equals = word.firstIndex(of: "=") else { return redactedURL(word) }
      let name = String(word[..<equals])
      return isSecret(name: name) ? name + "=" + mask : redactedURL(word)
    }
  }

  /// Redacts the values of secret keys in JSON and sorts the keys; returns only the mask if the text is not
  /// JSON.
  fileprivate static func json(_ text: String) -> String {
    if text.isEmpty { return "" }
    guard let value = try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed),
      let data = try? JSONSerialization.data(
        withJSONObject: masked(value), options: [.sortedKeys, .withoutEscapingSlashes, .fragmentsAllowed])
    else { return "\"\(mask)\"" }
    return String(decoding: data, as: UTF8.self)
  }

  private static func masked(_ value: Any) -> Any {
    switch value {
    case let object as [String: Any]:
      return Dictionary(
        uniqueKeysWithValues: object.map { ($0, isSecret(name: $0) ? mask : masked($1)) })
    case let list as [Any]: return list.map(masked)
    case let text as String: return redactedURL(text)
    default: return value
    }
  }

  /// Redacts the values of headers and parameters with secret names.
  fileprivate static func pairs(_ pairs: [KeyValue]) -> [KeyValue] {
    pairs.map { pair in
      let value = isSecret(name: pair.key) ? mask : prose(pair.value)
      return KeyValue(key: pair.key, value: pair.value.isEmpty ? "" : value)
    }
  }

  private static func redactedWord(_ word: String) -> String {
    var text = BrokerAddress.redacted(word)
    if text.contains("://"), let query = text.firstIndex(of: "?") {
      text.replaceSubrange(text.index(after: query)..., with: mask)
    }
    return text
  }
}

extension Plan {
  /// Returns a copy for run.json, in which credentials, user parts of URLs, and secrets in environments,
  /// commands, headers and plugin configurations are `***`.
  package func redacted() -> Plan {
    var plan = self
    plan.targets = targets.map { $0.redacted() }
    plan.request.headers = Redaction.pairs(request.headers)
    plan.request.params = Redaction.pairs(request.params)
    plan.request.responseHeaders = Redaction.pairs(request.responseHeaders)
    plan.request.path = Redaction.prose(request.path)
    plan.warnings = warnings.map(Redaction.redactedURL)
    return plan
  }
}

extension Target {
  /// Returns a redacted copy, as for a plan.
  package func redacted() -> Target {
    var target = self
    target.verify.responseHeaders = Redaction.pairs(verify.responseHeaders)
    target.behind?.spec.configJSON = Redaction.json(behind?.spec.configJSON ?? "")
    switch transport {
    case .ffi(var spec):
      spec.configJSON = Redaction.json(spec.configJSON)
      target.transport = .ffi(spec)
    case .nats(var spec):
      spec.servers = spec.servers.map(Redaction.redactedURL)
      spec.configJSON = Redaction.json(spec.configJSON)
      spec.defaultHeaders = spec.defaultHeaders.map(Redaction.pairs)
      for secret in [\NATSAuth.token, \.user, \.password, \.credentials, \.nkey]
      where spec.auth[keyPath: secret] != nil {
        spec.auth[keyPath: secret] = Redaction.mask
      }
      if var workers = spec.workers {
        workers.command = Redaction.command(workers.command)
        for (name, value) in workers.environment {
          workers.environment[name] =
            Redaction.isSecret(name: name) ? Redaction.mask : Redaction.redactedURL(value)
        }
        spec.workers = workers
      }
      target.transport = .nats(spec)
    }
    return target
  }
}

extension Unicode.Scalar {
  /// Whether the character could control a terminal, end a line, or change the direction of a line.
  package var isSteering: Bool {
    switch properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator: true
    default: properties.isBidiControl
    }
  }

  /// Whether the character is an ASCII letter or digit, or one of `others`.
  package func isPlain(or others: String) -> Bool {
    isASCII && (properties.isAlphabetic || ("0"..."9").contains(self) || others.unicodeScalars.contains(self))
  }
}

extension String {
  /// Replaces each character that could manipulate a terminal with `substitute`, except for those in `kept`.
  package func harmless(
    keeping kept: Set<Unicode.Scalar> = [], else substitute: Unicode.Scalar = " "
  ) -> String {
    String(UnicodeScalarView(unicodeScalars.map { $0.isSteering && !kept.contains($0) ? substitute : $0 }))
  }

  /// Replaces each of these scalars, also within a `Character` with combining marks, which a comparison of
  /// characters would miss.
  package func replacing(scalars marks: [Unicode.Scalar: String]) -> String {
    unicodeScalars.map { marks[$0] ?? String($0) }.joined()
  }
}

/// Removes secrets from text that is shown or written to files.
package struct Secrets: Sendable {
  /// The words to replace, longest first.
  private let words: [String]
  /// The length of the longest secret in UTF-8 bytes.
  package var longest: Int { words.first?.utf8.count ?? 0 }

  /// Creates a filter for these secrets and their percent-encoded forms.
  package init(_ secrets: [String]) {
    let encoded = secrets.compactMap { $0.addingPercentEncoding(withAllowedCharacters: .alphanumerics) }
    words = Set(secrets + encoded).subtracting([""])
      .sorted { ($0.utf8.count, $0) > ($1.utf8.count, $1) }
  }

  /// Replaces the secrets, and the user part of any URL, in a text.
  package func scrub(_ text: String) -> String {
    words.reduce(text) { $0.replacingOccurrences(of: $1, with: "***") }
      .replacingOccurrences(of: "://[^/@\\s]+@", with: "://***@", options: .regularExpression)
  }
}
