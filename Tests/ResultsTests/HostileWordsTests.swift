import Foundation
import FoundationXML
import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// A run in which every text that may be any text is hostile: what plugins, workers, brokers and files say ends there.
@Suite("Hostile words in a run") struct HostileWordsTests {
  /// Markup, a formula, commands to a terminal, ends of lines, a way out of a folder, and marks with an accent on them,
  /// which are characters of their own.
  private static let words =
    "=1+1\u{1b}[2J<b>x</b>\"\u{301}'&|\u{301}`\u{301},\u{301}\\\u{301}\r\n# up\u{85}\u{2028}\u{202e}../\u{301}../\u{0}"

  /// The canonical run, with these words before every text of it that does not have to be what it is.
  private static let run: Result<(document: RunDocument, texts: Int), any Error> = Result {
    let package = URL(fileURLWithPath: #filePath).appendingPathComponent("../../..").standardizedFileURL.path
    var small = try RunFolder.open(path: "\(package)/results/reference/canonical").document
    small.measurements = Array(small.measurements.prefix(6))
    small.measurements[0].invalidReasons = [InvalidReason(code: .failed, detail: "a worker said something")]
    small.measurements[1].warnings = ["a broker said something"]
    small.machine.versions = ["nats-server": "2.9.10"]
    let tree = try JSONSerialization.jsonObject(with: Data(small.json().utf8))
    // Names of cases, times and histograms stay: the error tells which they are.
    var kept: Set<String> = []
    for _ in 0..<100 {
      var count = 0
      let spoiled = spoil(tree, at: [], except: kept, &count)
      do {
        return (
          try RunDocument(json: try JSONSerialization.data(withJSONObject: spoiled), path: "run.json"), count
        )
      } catch let error as RunFolderError {
        let quoted = error.problem.split(separator: "'")
        guard quoted.count > 1, kept.insert(place(quoted[1].split(separator: ".").map(String.init))).inserted
        else {
          throw error
        }
      }
    }
    throw RunFolderError(kind: .invalid, path: "run.json", problem: "too many texts are fixed", remedy: "")
  }

  /// A path without the places in lists.
  private static func place(_ path: [String]) -> String {
    path.map { Int($0) == nil ? $0 : "*" }.joined(separator: ".")
  }

  private static func spoil(_ value: Any, at path: [String], except kept: Set<String>, _ count: inout Int)
    -> Any
  {
    if let text = value as? String {
      // An error may name what a text is part of.
      if path.indices.contains(where: { kept.contains(place(Array(path[...$0]))) }) { return text }
      count += 1
      return words + text
    }
    if let items = value as? [Any] { return items.map { spoil($0, at: path + ["0"], except: kept, &count) } }
    guard let object = value as? [String: Any] else { return value }
    var spoiled: [String: Any] = [:]
    for (key, value) in object {
      spoiled[path.last == "versions" ? words + key : key] = spoil(
        value, at: path + [key], except: kept, &count)
    }
    return spoiled
  }

  private func rendered(_ format: ExportFormat) throws -> [RenderedFile] {
    try format.render(try Self.run.get().document)
  }

  /// The lines of a text; only LF ends one here.
  private func lines(_ text: String) -> [String] {
    text.utf8.split(separator: 10, omittingEmptySubsequences: false).map {
      String(decoding: $0, as: UTF8.self)
    }
  }

  /// Which of a text's characters could steer a terminal.
  private func steering(_ text: String, keeping kept: String = "\n") -> Set<UInt32> {
    let kept = Set(kept.unicodeScalars)
    return Set(text.unicodeScalars.filter { $0.isSteering && !kept.contains($0) }.map(\.value))
  }

  @Test("are in nearly all of its texts")
  func everywhere() throws {
    let (document, texts) = try Self.run.get()
    #expect(texts > 500)
    for text in [
      document.runID, document.toolVersion, document.commandLine[0], document.scenario.name,
      document.scenario.targets[0].name, document.measurements[0].target, document.measurements[0].handler,
      document.measurements[0].invalidReasons[0].detail, document.measurements[1].warnings[0],
      document.claims[0].why, document.machine.versions.keys.first ?? "",
    ] { #expect(text.hasPrefix(Self.words)) }
  }

  @Test("are text in HTML")
  func html() throws {
    let page = try rendered(.html)[0].contents
    let tree = try XMLDocument(data: Data(page.utf8))
    #expect(try tree.nodes(forXPath: "//b").isEmpty)
    #expect(try !tree.nodes(forXPath: "//td[contains(., '<b>x</b>')]").isEmpty)
    #expect(steering(page).isEmpty)
    // The command that is there to be copied is one.
    let command = try #require(tree.nodes(forXPath: "//pre").last?.stringValue)
    #expect(command.hasPrefix("nylon-bench export 'results/=1+1 "))
    #expect(command.split(separator: "'").count == 5)
  }

  @Test("are text in Markdown", arguments: [ExportFormat.markdown, .readme, .results])
  func markdown(format: ExportFormat) throws {
    let page = try rendered(format)[0].contents
    #expect(steering(page).isEmpty)
    #expect(!page.contains("<b"))
    // The other two show of a run what it has of their own tables.
    if format == .markdown { #expect(page.contains("&lt;b&gt;x")) }
    var columns = 0
    for line in lines(page) {
      #expect(!line.hasPrefix("# up"))
      let bars = line.unicodeScalars.split(separator: "\\", omittingEmptySubsequences: false).enumerated()
        .reduce(0) {
          // The character after a backslash is text.
          $0 + $1.element.dropFirst($1.offset > 0 ? 1 : 0).count { $0 == "|" }
        }
      if line.hasPrefix("| "), columns > 0 { #expect(bars == columns, "\(line)") }
      columns = line.hasPrefix("| ") ? bars : 0
    }
  }

  @Test("are text in CSV, and no formulas")
  func csv() throws {
    for file in try rendered(.csv) {
      #expect(steering(file.contents, keeping: "\r\n\t").isEmpty)
      let rows = Self.fields(file.contents)
      #expect(rows.count > 1 || file.name == "timeline.csv", "\(file.name)")
      for row in rows {
        #expect(row.count == rows[0].count, "\(file.name)")
        for field in row where "=+-@\t\r".unicodeScalars.contains(field.unicodeScalars.first ?? "a") {
          #expect(Double(field) != nil, "\(field)")
        }
      }
    }
  }

  /// The fields of a CSV text by RFC 4180.
  private static func fields(_ text: String) -> [[String]] {
    var rows: [[String]] = [[]]
    var field = String.UnicodeScalarView()
    var isQuoted = false
    var scalars = Array(text.unicodeScalars)[...]
    while let scalar = scalars.popFirst() {
      switch scalar {
      case "\"" where isQuoted && scalars.first == "\"": field.append(scalars.removeFirst())
      case "\"": isQuoted.toggle()
      case "," where !isQuoted, "\n" where !isQuoted:
        rows[rows.count - 1].append(String(field))
        field = String.UnicodeScalarView()
        if scalar == "\n" { rows.append([]) }
      case "\r" where !isQuoted: break
      default: field.append(scalar)
      }
    }
    return rows.dropLast()
  }

  @Test("are labels in OpenMetrics, a sample on each line")
  func openMetrics() throws {
    let text = try rendered(.openmetrics)[0].contents
    #expect(steering(text).isEmpty)
    let label = #"[a-z_0-9]+="(?:[^"\\]|\\[\\"n])*""#
    let sample = try Regex("[a-z_0-9]+(?:\\{\(label)(?:,\(label))*\\})? [-+0-9.e]+")
      .matchingSemantics(.unicodeScalar)
    let all = lines(text).dropLast()
    for line in all where !line.hasPrefix("# ") { #expect(try sample.wholeMatch(in: line) != nil, "\(line)") }
    #expect(all.count > 100 && all.last == "# EOF")
  }

  @Test("are one word in a histogram log, and names of files in the folder that is asked for")
  func histograms() throws {
    let log = try rendered(.hlog)[0].contents
    #expect(steering(log).isEmpty)
    let tagged = lines(log).filter { $0.hasPrefix("Tag=") }
    #expect(!tagged.isEmpty && tagged.allSatisfy { $0.utf8.count { $0 == 44 } == 4 })
    let files = try rendered(.hgrm)
    #expect(!files.isEmpty)
    for file in files { #expect(!file.name.utf8.contains(47) && steering(file.name, keeping: "").isEmpty) }
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try RunFolder.write(files, to: "\(folder)/out")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["out"])
    let written = try FileManager.default.contentsOfDirectory(atPath: "\(folder)/out")
    #expect(Set(written) == Set(files.map(\.name)))
  }

  @Test("come back from JSON as they were")
  func json() throws {
    let (document, _) = try Self.run.get()
    let text = try rendered(.json)[0].contents
    #expect(try RunDocument(json: Data(text.utf8), path: "run.json") == document)
  }

  @Test("do not command a terminal from a table")
  func tables() throws {
    let (document, _) = try Self.run.get()
    let tables =
      [ResultTables.results(document), ResultTables.costs(document), ResultTables.claims(document.claims)]
      + ReportText.sections(document).flatMap(\.tables)
    for table in tables { #expect(steering(table.text()).isEmpty, "\(table.title)") }
  }
}
