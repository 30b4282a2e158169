/// An error or a warning about a file. It never holds a secret: values of credentials are omitted, and URLs
/// have no user part.
package struct ScenarioProblem: Sendable, Hashable, CustomStringConvertible {
  package enum Severity: Sendable {
    case error
    /// The file can be used, but something in it has no effect or is probably a mistake.
    case warning
  }

  /// The place where the value was written.
  package enum Place: Sendable, Hashable, CustomStringConvertible {
    case file(String)
    /// A line and a column of a file, both from 1.
    case position(file: String, line: Int, column: Int)
    /// A command-line argument, such as `--set loads.0.concurrency=8`, without secrets.
    case argument(String)

    package var description: String {
      switch self {
      case .file(let path): path
      case .position(let file, let line, let column): "\(file):\(line):\(column)"
      case .argument(let text): text
      }
    }
  }

  var severity = Severity.error
  let place: Place
  /// The key in the form of `--set`, such as `targets.1.workers.count`; empty for the whole file.
  var key = ""
  /// The value as written; nil if there is none or if it may be a secret.
  var value: String?
  /// The problem and the allowed values.
  let message: String
  /// The most similar valid name; nil if none is similar.
  var suggestion: String?
  /// The advice to the user; nil if the message already says it.
  var remedy: String?

  /// One line with the place, key, value, problem, most similar name and remedy. Control characters, which
  /// could manipulate a terminal, are replaced by `?`.
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
    return text.harmless(else: "?")
  }
}

/// All problems of a file, found in one pass. The command exits with code 65.
package struct ScenarioError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The problems, in file order; at least one is an error.
  package var problems: [ScenarioProblem]

  package init(problems: [ScenarioProblem]) { self.problems = problems }

  package init(
    at place: ScenarioProblem.Place, key: String = "", _ message: String, nearest: String? = nil,
    remedy: String? = nil
  ) {
    problems = [
      ScenarioProblem(place: place, key: key, message: message, suggestion: nearest, remedy: remedy)
    ]
  }

  package var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// Collects problems while a file is read, so that one pass reports all of them.
final class ProblemCollector {
  private(set) var problems: [ScenarioProblem] = []
  private var known: Set<ScenarioProblem> = []

  var hasErrors: Bool { problems.contains { $0.severity == .error } }
  var warnings: [ScenarioProblem] { problems.filter { $0.severity == .warning } }

  /// The problems in file order; those of arguments and whole files come first, in the order found.
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

  func add(_ problem: ScenarioProblem) {
    if known.insert(problem).inserted { problems.append(problem) }
  }

  /// Adds a problem of a value in the tree.
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

/// Finds the name that the user probably meant.
enum Suggestion {
  /// Suffixes that name a unit; keys that differ only in them are the same key in another unit.
  private static let unitEndings = [
    "_milliseconds", "_per_second", "_seconds", "_secs", "_sec", "_bytes", "_rps", "_ms", "_us", "_ns", "_kb",
    "_s",
  ]

  /// Returns the most similar name: equal except for case, dashes or unit, or within a few typos.
  static func nearest(to name: String, among names: [String]) -> String? {
    let wanted = normal(name)
    if let same = names.first(where: { normal($0) == wanted }) { return same }
    if let unit = names.first(where: { stem(normal($0)) == stem(wanted) }) { return unit }
    let limit = wanted.count <= 3 ? 1 : wanted.count <= 7 ? 2 : 3
    let ranked = names.map { (name: $0, distance: distance(wanted, normal($0))) }
    let best = ranked.min { $0.distance < $1.distance }
    return best.flatMap { $0.distance <= limit && $0.distance < $0.name.count ? $0.name : nil }
  }

  /// Returns the name in lowercase with underscores.
  static func normal(_ name: String) -> String {
    String(name.lowercased().map { $0 == "-" ? "_" : $0 })
  }

  private static func stem(_ name: String) -> String {
    let ending = unitEndings.first { name.hasSuffix($0) && name.count > $0.count } ?? ""
    return String(name.dropLast(ending.count))
  }

  /// Counts the insertions, deletions, substitutions and transpositions between two names, of which long ones
  /// are truncated.
  static func distance(_ first: String, _ second: String) -> Int {
    let left = Array(first.unicodeScalars.prefix(64))
    let right = Array(second.unicodeScalars.prefix(64))
    // The first row and column hold the distances from the empty name.
    var rows = (0...left.count).map { row in (0...right.count).map { row == 0 ? $0 : row } }
    for row in rows.indices.dropFirst() {
      for column in rows[row].indices.dropFirst() {
        let change = left[row - 1] == right[column - 1] ? 0 : 1
        var least = min(
          rows[row - 1][column] + 1, rows[row][column - 1] + 1, rows[row - 1][column - 1] + change)
        if row > 1, column > 1, left[row - 1] == right[column - 2], left[row - 2] == right[column - 1] {
          least = min(least, rows[row - 2][column - 2] + 1)
        }
        rows[row][column] = least
      }
    }
    return rows[left.count][right.count]
  }
}
