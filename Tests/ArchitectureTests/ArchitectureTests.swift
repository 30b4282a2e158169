import Foundation
import Testing

/// Checks the rules of docs/design.md that SwiftPM does not check.
@Suite("Architecture") struct ArchitectureTests {
  private static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path

  /// The table "Which module imports which" of docs/design.md: a module, and the modules and libraries that it
  /// may import.
  private static let table: [String: Set<String>] = {
    let page = (try? read("docs/design.md")) ?? ""
    let rows = page.components(separatedBy: "\n").filter { $0.hasPrefix("| `") }
    return rows.reduce(into: [:]) { table, row in
      let cells = row.split(separator: "|").map { cell in
        cell.components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
      }
      guard cells.count >= 2 else { return }
      for module in cells[0] { table[module] = Set(cells[1]) }
    }
  }()

  /// Modules from outside the package that every module may import.
  private static let foreign: Set<String> = [
    "Foundation", "FoundationEssentials", "Glibc", "Synchronization",
  ]

  private static func read(_ path: String) throws -> String {
    try String(contentsOfFile: "\(package)/\(path)", encoding: .utf8)
  }

  /// Paths of the files below a folder with one of the endings, without those of the folders in it that are
  /// modules of their own.
  private static func files(
    _ folder: String, _ endings: Set<String>, without inner: some Sequence<String> = []
  ) -> [String] {
    let names = FileManager.default.enumerator(atPath: "\(package)/\(folder)")?.allObjects as? [String] ?? []
    return names.filter { endings.contains(($0 as NSString).pathExtension) }.map { "\(folder)/\($0)" }
      .filter { path in !inner.contains { $0.hasPrefix(folder + "/") && path.hasPrefix($0 + "/") } }
  }

  /// The modules are the targets of Package.swift, tests apart, each with its folder.
  private static func modules() throws -> [String: String] {
    let target =
      /\.(?:target|executableTarget|systemLibrary)\(\s*name: "([^"]+)"((?:(?!\.(?:target|executableTarget|systemLibrary|testTarget)\()[\s\S])*)/
    let text = try read("Package.swift")
    return text.matches(of: target).reduce(into: [:]) { modules, match in
      let path = match.2.firstMatch(of: /path: "([^"]+)"/).map { String($0.1) }
      modules[String(match.1)] = path ?? "Sources/\(match.1)"
    }
  }

  /// The modules that a Swift file imports.
  private static func imports(of text: String) -> Set<String> {
    let line =
      /(?:@\w+ |public |package |internal |private |fileprivate )*import (?:struct |class |enum |func |protocol |let |var |typealias )?(\w+)/
    return Set(
      text.components(separatedBy: "\n").compactMap { try? line.prefixMatch(in: $0).map { String($0.1) } })
  }

  @Test("Every module has a row in docs/design.md, and every row a module")
  func rows() throws {
    #expect(Set(Self.table.keys) == Set(try Self.modules().keys))
  }

  @Test("A module imports what its row says and nothing else")
  func imports() throws {
    let modules = try Self.modules()
    for (module, folder) in modules {
      let allowed = Self.table[module, default: []]
      var used: Set<String> = []
      for path in Self.files(folder, ["swift"], without: modules.values) {
        used.formUnion(Self.imports(of: try Self.read(path)))
      }
      used.subtract(Self.foreign)
      #expect(used.subtracting(allowed).isEmpty, "\(module) imports what its row does not say")
      // A row that allows more than is used is out of date; C modules include rather than import.
      if !used.isEmpty { #expect(allowed.subtracting(used).isEmpty, "\(module) does not use all of its row") }
    }
  }

  @Test("A C module includes only its own headers and those of its row")
  func includes() throws {
    let modules = try Self.modules()
    var ownerOfHeader: [String: String] = [:]
    for (module, folder) in modules {
      for path in Self.files(folder, ["h"], without: modules.values) {
        ownerOfHeader[(path as NSString).lastPathComponent] = module
      }
    }
    let line = /\s*#\s*include\s*"([^"]+)"/
    for (module, folder) in modules {
      for path in Self.files(folder, ["c", "cpp", "h"], without: modules.values) {
        for text in try Self.read(path).components(separatedBy: "\n") {
          guard let name = try line.prefixMatch(in: text).map({ String($0.1) }),
            let owner = ownerOfHeader[(name as NSString).lastPathComponent], owner != module
          else { continue }
          #expect(Self.table[module, default: []].contains(owner), "\(path) includes \(name) of \(owner)")
        }
      }
    }
  }

  @Test("Package.swift gives a module no dependency that its row does not say")
  func dependencies() throws {
    let text = try Self.read("Package.swift")
    let target = /\.(?:target|executableTarget)\(\s*name: "([^"]+)"(?:,\s*dependencies: \[([^\]]*)\])?/
    let found = text.matches(of: target)
    #expect(found.count > 15)
    for match in found {
      let words = (match.2 ?? "").components(separatedBy: "\"").enumerated().filter { $0.offset % 2 == 1 }
      let named = Set(words.map(\.element)).subtracting(["swift-argument-parser"])
      #expect(named.subtracting(Self.table[String(match.1), default: []]).isEmpty, "\(match.1)")
    }
  }

  @Test(
    "Nothing links the plugins: they are loaded by path, like a user's",
    arguments: [
      "ExamplePlugin", "NullPlugin", "ThreadedPlugin",
    ])
  func plugins(name: String) throws {
    for (module, imports) in Self.table { #expect(!imports.contains(name), "\(module)") }
    // The target itself, and the library that it is built as: its name and its one target.
    let mentions = try Self.read("Package.swift").components(separatedBy: "\"\(name)\"").count - 1
    #expect(mentions == 3)
    for path in Self.files("Sources", ["swift"]) {
      #expect(!Self.imports(of: try Self.read(path)).contains(name), "\(path)")
    }
  }

  @Test(
    "The README names the scripts, and the scripts can be run",
    arguments: [
      "scripts/setup", "scripts/bench", "scripts/test",
    ])
  func scripts(name: String) throws {
    #expect(try Self.read("README.md").contains(name))
    #expect(FileManager.default.isExecutableFile(atPath: "\(Self.package)/\(name)"))
  }

  @Test("No integer is read as a bit pattern: Double.init is not given to map")
  func bitPatterns() throws {
    for path in Self.files("Sources", ["swift"]) {
      #expect(!(try Self.read(path).contains("map(Double.init)")), "\(path)")
    }
  }
}
