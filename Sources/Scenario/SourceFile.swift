import Foundation

/// A YAML file as text: only a regular file, only so large, only UTF-8.
struct SourceFile {
  /// The most bytes of a scenario, a configuration or a claims file.
  private static let maximumBytes = 1 << 20

  let path: String
  /// The text, without a byte order mark.
  let text: String

  /// The folder that relative paths of the file start from.
  var folder: String { URL(fileURLWithPath: path).deletingLastPathComponent().path }

  /// The name without folder and ending.
  var stem: String { URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent }

  /// The first comment line, without `#`; empty when the file does not begin with a comment.
  var summary: String {
    for line in text.split(whereSeparator: \.isNewline) {
      let trimmed = line.trimmingCharacters(in: .whitespaces)
      if trimmed.isEmpty { continue }
      guard trimmed.hasPrefix("#") else { return "" }
      let comment = trimmed.drop(while: { $0 == "#" }).trimmingCharacters(in: .whitespaces)
      if !comment.isEmpty { return comment }
    }
    return ""
  }

  init(path: String) throws(ScenarioError) {
    self.path = path
    self.text = try Self.read(path)
  }

  /// The tree of the file; an empty file or one that is not a mapping is an error.
  func tree(what: String) throws(ScenarioError) -> YAMLValue {
    let path = path
    var reader = YAMLReader { .position(file: path, line: $0, column: $1) }
    let root: YAMLValue?
    do {
      root = try reader.read(text)
    } catch {
      let place: ScenarioProblem.Place =
        error.position.map { .position(file: path, line: $0.line, column: $0.column) } ?? .file(path)
      throw ScenarioError(problems: [
        ScenarioProblem(place: place, message: error.message, remedy: error.remedy)
      ])
    }
    guard let root, !root.isNull else {
      throw ScenarioError(file: path, "is empty", remedy: "write \(what); docs/scenario.md shows one")
    }
    guard root.entries != nil else {
      throw ScenarioError(problems: [
        ScenarioProblem(
          place: root.place, message: "is \(root.kind), not a mapping of keys",
          remedy: "\(what) begins with keys such as 'name:'; docs/scenario.md shows one")
      ])
    }
    return root
  }

  private static func read(_ path: String) throws(ScenarioError) -> String {
    var facts = stat()
    guard !path.isEmpty, stat(path, &facts) == 0 else {
      let reason = path.isEmpty ? "no file is named" : String(cString: strerror(errno)).lowercased()
      throw ScenarioError(
        file: path, "cannot be read: \(reason)", nearest: neighbour(of: path), remedy: "check the path")
    }
    switch facts.st_mode & S_IFMT {
    case S_IFREG: break
    case S_IFDIR:
      throw ScenarioError(file: path, "is a folder, not a file", remedy: "name a .yaml file in it")
    default: throw ScenarioError(file: path, "is not a regular file")
    }
    guard facts.st_size <= maximumBytes else {
      throw ScenarioError(file: path, "is \(facts.st_size) bytes; at most \(maximumBytes) are read")
    }
    guard let data = FileManager.default.contents(atPath: path) else {
      throw ScenarioError(file: path, "cannot be read: permission denied", remedy: "check its permissions")
    }
    guard data.count <= maximumBytes else {
      throw ScenarioError(file: path, "is over \(maximumBytes) bytes, the most that is read")
    }
    guard let text = String(data: data, encoding: .utf8) else {
      throw ScenarioError(file: path, "is not UTF-8 text")
    }
    return text.hasPrefix("\u{FEFF}") ? String(text.unicodeScalars.dropFirst()) : text
  }

  /// A file of a similar name beside the one that is not there.
  private static func neighbour(of path: String) -> String? {
    let url = URL(fileURLWithPath: path)
    let folder = url.deletingLastPathComponent()
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    let wanted = url.lastPathComponent
    let candidates = names.prefix(1000).filter { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") }
    if let exact = candidates.first(where: { $0.hasPrefix(wanted + ".") }) { return exact }
    return Suggestion.nearest(to: wanted, among: Array(candidates))
  }
}

/// The scenarios of a folder: what `nylon-bench scenarios` lists.
package enum ScenarioCatalog {
  package struct Entry: Sendable, Equatable, Codable {
    /// The file's name without `.yaml`; the name to give on the command line.
    package var name: String
    package var file: String
    /// The first comment line; empty when there is none.
    package var summary: String
  }

  /// The folder `Scenarios` in `root`, or in the nearest folder above it.
  ///
  /// - Throws: ``ScenarioError`` when there is none.
  package static func folder(under root: String) throws(ScenarioError) -> String {
    var url = URL(fileURLWithPath: root).standardized
    while true {
      let candidate = url.appendingPathComponent("Scenarios").path
      var isFolder: ObjCBool = false
      if FileManager.default.fileExists(atPath: candidate, isDirectory: &isFolder), isFolder.boolValue {
        return candidate
      }
      let parent = url.deletingLastPathComponent().standardized
      if parent.path == url.path || url.path == "/" { break }
      url = parent
    }
    throw ScenarioError(
      file: root, "has no folder Scenarios in it or above it",
      remedy: "go to the folder of nylon-bench, or name a scenario by its path")
  }

  /// The scenarios of a folder by name; `claims.yaml` and files that cannot be read are left out.
  ///
  /// - Throws: ``ScenarioError`` when the folder cannot be read.
  package static func entries(in folder: String) throws(ScenarioError) -> [Entry] {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else {
      throw ScenarioError(file: folder, "cannot be read as a folder", remedy: "check the path")
    }
    return names.filter { $0.hasSuffix(".yaml") && $0 != "claims.yaml" && !$0.hasPrefix(".") }.sorted()
      .compactMap { name in
        let path = folder + "/" + name
        guard let file = try? SourceFile(path: path) else { return nil }
        return Entry(name: file.stem, file: path, summary: file.summary)
      }
  }
}
