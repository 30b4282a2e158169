import Foundation

/// The manual page, roff with the macros of man(7), of what the argument parser knows of the commands.
struct ManualPage: Decodable {
  private let command: Command

  private struct Command: Decodable {
    var commandName: String
    var abstract: String?
    var discussion: String?
    var subcommands: [Command]?
    var arguments: [Argument]?
    var shouldDisplay: Bool
  }

  private struct Argument: Decodable, Hashable {
    struct Name: Decodable, Hashable {
      var kind: String
      var name: String
      var written: String { (kind == "long" ? "--" : "-") + name }
    }

    var kind: String
    var shouldDisplay: Bool
    var isOptional: Bool
    var isRepeating: Bool
    var names: [Name]?
    var valueName: String?
    var defaultValue: String?
    var allValues: [String]?
    var abstract: String?

    var isAboutHelp: Bool { (names ?? []).contains { ["help", "version"].contains($0.name) } }
    var value: String { kind == "flag" ? "" : "<\(valueName ?? "value")>" }
    var options: [String] { (names ?? []).sorted { $0.name.count < $1.name.count }.map(\.written) }

    var synopsis: String {
      let words = [options.last, value].compactMap { $0 }.filter { !$0.isEmpty }.joined(separator: " ")
      return (isOptional ? "[\(words)]" : words) + (isRepeating ? "..." : "")
    }
  }

  /// Options that at least this many commands share are described once.
  private static let fewestCommands = 5

  init(dump: String) throws { self = try JSONDecoder().decode(Self.self, from: Data(dump.utf8)) }

  func text(version: String) -> String {
    let commands = (command.subcommands ?? []).filter { $0.shouldDisplay && $0.commandName != "help" }
    let all = commands.map { ($0.arguments ?? []).filter(\.shouldDisplay) }
    let counts = Dictionary(all.flatMap { $0 }.map { ($0, 1) }, uniquingKeysWith: +)
    var seen: Set<Argument> = []
    let common = all.flatMap { $0 }.filter {
      counts[$0, default: 0] >= Self.fewestCommands && seen.insert($0).inserted
    }
    let shared = Set(common.filter { !$0.isAboutHelp })
    let name = command.commandName
    var lines = [
      ".\\\" Rendered from the help texts: NYLON_BENCH_WRITE_DOCS=1 scripts/test --filter BenchTests",
      ".TH \(name.uppercased()) 1 \"\" \"\(name) \(version)\" \"User Commands\"",
      ".SH NAME", "\(Self.roff(name)) \\- \(Self.roff(command.abstract ?? ""))",
      ".SH SYNOPSIS", Self.bold(name), "[\\fIcommand\\fR] [\\fIoptions\\fR]",
      ".SH DESCRIPTION",
      Self.roff(
        "Without a command it is \(name) bench. Results go to standard output, everything else to standard error."
      ),
    ]
    lines += Self.discussion(command.discussion ?? "", heading: ".SH ")
    lines.append(".SH COMMANDS")
    for (command, arguments) in zip(commands, all) {
      let hasShared = shared.isSubset(of: arguments)
      let own = arguments.filter { !$0.isAboutHelp && !(hasShared && shared.contains($0)) }
      let words = [name, command.commandName] + own.map(\.synopsis) + (hasShared ? ["[common options]"] : [])
      lines += [".SS " + Self.quoted(words.joined(separator: " ")), Self.roff(command.abstract ?? "")]
      lines += Self.discussion(command.discussion ?? "", heading: ".PP\n.B ") + own.flatMap(Self.entry)
    }
    return (lines + [".SH COMMON OPTIONS"] + common.flatMap(Self.entry)).joined(separator: "\n") + "\n"
  }

  private static func entry(_ argument: Argument) -> [String] {
    let names = argument.options.map(bold).joined(separator: ", ")
    let value = argument.value.isEmpty ? "" : "\\fI\(roff(argument.value))\\fR"
    let words = [
      argument.abstract, argument.allValues.map { "One of \($0.joined(separator: ", "))." },
      argument.defaultValue.flatMap { $0.isEmpty ? nil : "Default: \($0)." },
    ]
    return [
      ".TP", [names, value].filter { !$0.isEmpty }.joined(separator: " "),
      roff(words.compactMap { $0 }.joined(separator: " ")),
    ]
  }

  /// Paragraphs, headings in capitals, and indented blocks: of examples and tables, which stay as they are, or of text.
  private static func discussion(_ text: String, heading: String) -> [String] {
    text.components(separatedBy: "\n\n").filter { !$0.isEmpty }.flatMap { part -> [String] in
      var lines = part.components(separatedBy: "\n")
      var result = [".PP"]
      if let first = lines.first, first.contains(where: \.isLetter), first == first.uppercased() {
        result = [heading + roff(first)]
        lines.removeFirst()
      }
      let isIndented = lines.allSatisfy { $0.hasPrefix("  ") }
      guard isIndented else { return result + lines.map(roff) }
      let block = lines.map { String($0.dropFirst(2)) }
      let isKept = block.contains { $0.hasPrefix("nylon-bench") || $0.contains("  ") }
      return result + [".RS 2"] + (isKept ? [".nf"] + block.map(roff) + [".fi"] : block.map(roff)) + [".RE"]
    }
  }

  private static func bold(_ text: String) -> String { "\\fB\(roff(text))\\fR" }

  /// An argument of a macro.
  private static func quoted(_ text: String) -> String { "\"\(roff(text).replacing("\"", with: "\\(dq"))\"" }

  /// The text with what roff would take for something else spelled out.
  private static func roff(_ text: String) -> String {
    let special: [Character: String] = [
      "\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti",
    ]
    let escaped = text.map { character -> String in
      if let word = special[character] { return word }
      guard !character.isASCII else { return String(character) }
      return character.unicodeScalars.map { "\\[u\(String(format: "%04X", $0.value))]" }.joined()
    }.joined()
    return escaped.hasPrefix(".") ? "\\&" + escaped : escaped
  }
}
