import Foundation

/// The comments that stand before types, fields and cases of Swift files formatted as this package's are.
struct SourceComments {
  /// By the type's name, such as `ClaimVerdict.Verdict`.
  private(set) var types: [String: String] = [:]
  /// By the type's name and that of the field or case.
  private(set) var members: [String: [String: String]] = [:]
  /// The cases of an enumeration that have values with them.
  private(set) var casesWithValues: [String: [String]] = [:]
  /// The properties that a type stores under another name, by that name.
  private(set) var renamed: [String: [String: String]] = [:]

  init(folders: [String]) throws {
    for folder in folders {
      let names = FileManager.default.enumerator(atPath: folder)?.allObjects as? [String] ?? []
      for name in names.sorted() where name.hasSuffix(".swift") {
        read(try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8))
      }
    }
  }

  private static let modifiers: Set<Substring> = [
    "package", "public", "internal", "private", "fileprivate", "private(set)", "final", "indirect",
  ]

  private mutating func read(_ text: String) {
    var open: [(indent: Int, name: String)] = []
    var comment: [String] = []
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      let indent = line.prefix { $0 == " " }.count
      let code = line.dropFirst(indent)
      if code.hasPrefix("///") {
        comment.append(code.dropFirst(3).trimmingCharacters(in: .whitespaces))
        continue
      }
      // An attribute may stand between a comment and its type.
      if code.hasPrefix("@") { continue }
      defer { comment = [] }
      guard !code.isEmpty else { continue }
      while let last = open.last, last.indent >= indent { open.removeLast() }
      let words = code.split(separator: " ").drop { Self.modifiers.contains($0) }
      guard let kind = words.first, words.count > 1 else { continue }
      let rest = words.dropFirst().joined(separator: " ")
      switch kind {
      case "struct", "enum", "class", "extension":
        let name = rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }
        open.append((indent, String(name)))
        note(comment, in: &types[open.map(\.name).joined(separator: ".")])
      case "var", "let", "case":
        guard let last = open.last, indent == last.indent + 2 else { continue }
        let type = open.map(\.name).joined(separator: ".")
        if kind == "case" {
          readCases(rest, of: type, comment)
        } else {
          let names = rest.prefix { !":={".contains($0) }.split(separator: ",")
          for name in names {
            note(comment, in: &members[type, default: [:]][name.trimmingCharacters(in: .whitespaces)])
          }
        }
      default: continue
      }
    }
  }

  private mutating func readCases(_ text: String, of type: String, _ comment: [String]) {
    for match in text.matches(of: /`?(\w+)`?(\([^)]*\))?(?: = "([^"]*)")?/) {
      let name = String(match.1)
      note(comment, in: &members[type, default: [:]][name])
      if match.2 != nil { casesWithValues[type, default: []].append(name) }
      if let stored = match.3, type.hasSuffix(".CodingKeys") {
        renamed[String(type.dropLast(".CodingKeys".count)), default: [:]][String(stored)] = name
      }
    }
  }

  /// The first comment counts: an extension has another one, or none.
  private func note(_ comment: [String], in place: inout String?) {
    if place == nil, !comment.isEmpty { place = comment.joined(separator: " ") }
  }
}
