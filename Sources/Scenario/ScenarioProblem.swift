/// One thing that is wrong, or odd, in a scenario, a Nylon configuration or a claims file.
///
/// Never holds a secret: values of credentials are left out and URLs have no user part.
package struct ScenarioProblem: Sendable, Equatable, CustomStringConvertible {
  /// How bad it is.
  package enum Severity: String, Sendable, Codable {
    /// The file cannot be used.
    case error
    /// The file can be used, though something in it has no effect or looks like a slip.
    case warning
  }

  /// Where the value was written.
  package enum Place: Sendable, Equatable, CustomStringConvertible {
    /// The file as a whole, by path.
    case file(String)
    /// A line and a column, both from 1, of a file.
    case position(file: String, line: Int, column: Int)
    /// An argument of the command line, such as `--set loads.0.concurrency=8`, without secrets.
    case argument(String)

    /// `file`, `file:line:column` or the argument.
    package var description: String {
      switch self {
      case .file(let path): path
      case .position(let file, let line, let column): "\(file):\(line):\(column)"
      case .argument(let text): text
      }
    }
  }

  /// Error or warning.
  package var severity: Severity
  /// Where it was written.
  package var place: Place
  /// The key as `--set` names it, such as `targets.1.workers.count`; empty for the whole file.
  package var key: String
  /// The value as written, nil when there is none or when it may be a secret.
  package var value: String?
  /// What is wrong and what is allowed.
  package var message: String
  /// The nearest right name, nil when nothing is near.
  package var suggestion: String?
  /// What to do about it, nil when the message says it.
  package var remedy: String?

  /// A problem.
  package init(
    severity: Severity = .error, place: Place, key: String = "", value: String? = nil, message: String,
    suggestion: String? = nil, remedy: String? = nil
  ) {
    self.severity = severity
    self.place = place
    self.key = Self.printable(key)
    self.value = value.map(Self.printable)
    self.message = Self.printable(message)
    self.suggestion = suggestion.map(Self.printable)
    self.remedy = remedy.map(Self.printable)
  }

  /// Text of a file for a terminal: control characters, which could steer it, become `?`.
  private static func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
      return text
    }
    return String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { $0.properties.generalCategory == .control ? "?" : $0 }))
  }

  /// One line: place, key, value, what is wrong, the nearest name, the remedy.
  package var description: String {
    var text = "\(place): "
    if severity == .warning { text += "warning: " }
    if !key.isEmpty {
      text += key
      if let value { text += " = '\(value)'" }
      text += ": "
    }
    text += message
    if let suggestion { text += "; did you mean '\(suggestion)'?" }
    if let remedy { text += (suggestion == nil ? "; " : " ") + remedy }
    return text
  }
}

extension ScenarioProblem: Encodable {
  private enum CodingKeys: String, CodingKey {
    case severity, file, line, column, argument, key, value, message, suggestion, remedy
  }

  /// One flat object: `file`, `line` and `column`, or `argument`; absent parts are left out.
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(severity, forKey: .severity)
    switch place {
    case .file(let path): try container.encode(path, forKey: .file)
    case .position(let file, let line, let column):
      try container.encode(file, forKey: .file)
      try container.encode(line, forKey: .line)
      try container.encode(column, forKey: .column)
    case .argument(let text): try container.encode(text, forKey: .argument)
    }
    try container.encode(key, forKey: .key)
    try container.encodeIfPresent(value, forKey: .value)
    try container.encode(message, forKey: .message)
    try container.encodeIfPresent(suggestion, forKey: .suggestion)
    try container.encodeIfPresent(remedy, forKey: .remedy)
  }
}

/// All that is wrong with a file, found in one pass. The command's exit code for it is 65.
package struct ScenarioError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The problems, in the order of the file; at least one is an error.
  package var problems: [ScenarioProblem]

  /// An error of these problems.
  package init(problems: [ScenarioProblem]) { self.problems = problems }

  /// One problem per line.
  package var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// Collects problems while a file is read, so that one pass shows them all.
final class ProblemCollector {
  private(set) var problems: [ScenarioProblem] = []

  var hasErrors: Bool { problems.contains { $0.severity == .error } }
  var warnings: [ScenarioProblem] { problems.filter { $0.severity == .warning } }

  /// The problems in the order of the file; those of arguments and whole files first, as found.
  var sorted: [ScenarioProblem] {
    func rank(_ problem: ScenarioProblem) -> (String, Int, Int) {
      guard case .position(let file, let line, let column) = problem.place else { return ("", 0, 0) }
      return (file, line, column)
    }
    return problems.enumerated().sorted {
      let (first, second) = (rank($0.element), rank($1.element))
      return first == second ? $0.offset < $1.offset : first < second
    }.map(\.element)
  }

  /// Notes a problem once.
  func add(_ problem: ScenarioProblem) {
    if !problems.contains(problem) { problems.append(problem) }
  }

  /// Notes a problem of one value of the tree.
  func add(
    _ severity: ScenarioProblem.Severity = .error, at place: ScenarioProblem.Place, key: String,
    value: String? = nil, _ message: String, suggestion: String? = nil, remedy: String? = nil
  ) {
    add(
      ScenarioProblem(
        severity: severity, place: place, key: key, value: value, message: message,
        suggestion: suggestion, remedy: remedy))
  }
}
