import Foundation

/// A YAML file as text: only a regular file, only so large, only UTF-8; or the text of a draft.
struct SourceFile {
  /// The most bytes of a scenario, a configuration or a claims file.
  private static let maximumBytes = 1 << 20

  let path: String
  /// The text, without a byte order mark.
  let text: String
  /// The folder that relative paths of the file start from.
  let folder: String
  /// Whether it is a draft, of which no line means anything to the user; its path is what the user typed.
  let isDraft: Bool

  /// The name without folder and ending.
  var stem: String { URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent }

  /// The first comment line, without `#`; empty when the file does not begin with a comment.
  var summary: String {
    let lines = text.split(whereSeparator: \.isNewline).lazy.map { $0.trimmingCharacters(in: .whitespaces) }
    let comments = lines.filter { !$0.isEmpty }.prefix { $0.hasPrefix("#") }
    return comments.map { $0.drop { $0 == "#" }.trimmingCharacters(in: .whitespaces) }
      .first { !$0.isEmpty } ?? ""
  }

  /// What a draft comes to, as if it were a file.
  init(_ draft: ScenarioDraft) {
    path = draft.origin
    text = draft.text()
    folder = draft.folder ?? FileManager.default.currentDirectoryPath
    isDraft = true
  }

  init(path: String) throws(ScenarioError) {
    self.path = path
    folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
    isDraft = false
    func fault(_ message: String, nearest: String? = nil, remedy: String? = nil) -> ScenarioError {
      ScenarioError(at: .file(path), message, nearest: nearest, remedy: remedy)
    }
    var facts = stat()
    guard !path.isEmpty, stat(path, &facts) == 0 else {
      let reason = path.isEmpty ? "no file is named" : String(cString: strerror(errno)).lowercased()
      throw fault("cannot be read: \(reason)", nearest: Self.neighbour(of: path), remedy: "check the path")
    }
    if facts.st_mode & S_IFMT == S_IFDIR {
      throw fault("is a folder, not a file", remedy: "name a .yaml file in it")
    }
    guard facts.st_mode & S_IFMT == S_IFREG else { throw fault("is not a regular file") }
    guard facts.st_size <= Self.maximumBytes else {
      throw fault("is \(facts.st_size) bytes; at most \(Self.maximumBytes) are read")
    }
    guard let data = FileManager.default.contents(atPath: path) else {
      throw fault("cannot be read: permission denied", remedy: "check its permissions")
    }
    guard data.count <= Self.maximumBytes else {
      throw fault("is over \(Self.maximumBytes) bytes, the most that is read")
    }
    if data.starts(with: [0x7F, 0x45, 0x4C, 0x46]) {
      throw fault(
        "is a shared library or a program, not a scenario",
        remedy: "'nylon-bench run' measures a plugin without one, and 'nylon-bench init' writes one for it")
    }
    guard let text = String(data: data, encoding: .utf8) else { throw fault("is not UTF-8 text") }
    self.text = text.hasPrefix("\u{FEFF}") ? String(text.unicodeScalars.dropFirst()) : text
  }

  /// The tree of the file; an empty file or one that is not a mapping is an error.
  func tree(what: String) throws(ScenarioError) -> YAMLValue {
    func place(_ line: Int, _ column: Int) -> ScenarioProblem.Place {
      isDraft ? .argument(path) : .position(file: path, line: line, column: column)
    }
    var reader = YAMLReader(place: place)
    let root: YAMLValue?
    do {
      root = try reader.read(text)
    } catch {
      throw ScenarioError(
        at: error.position.map(place) ?? .file(path), error.message, remedy: error.remedy)
    }
    guard let root, !root.isNull else {
      throw ScenarioError(at: .file(path), "is empty", remedy: "write \(what); docs/scenario.md shows one")
    }
    if root.entries != nil { return root }
    throw ScenarioError(
      at: root.place, "is \(root.kind), not a mapping of keys",
      remedy: "\(what) begins with keys such as 'name:'; docs/scenario.md shows one")
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
  package static func folder(under root: String) throws(ScenarioError) -> String {
    let folders = sequence(first: URL(fileURLWithPath: root).standardized) {
      $0.path == "/" ? nil : $0.deletingLastPathComponent().standardized
    }
    let candidates = folders.lazy.map { $0.appendingPathComponent("Scenarios").path }
    var isFolder: ObjCBool = false
    for path in candidates where FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) {
      if isFolder.boolValue { return path }
    }
    throw ScenarioError(
      at: .file(root), "has no folder Scenarios in it or above it",
      remedy: "go to the folder of nylon-bench, or name a scenario by its path")
  }

  /// The scenarios of a folder by name; `claims.yaml` and files that cannot be read are left out.
  package static func entries(in folder: String) throws(ScenarioError) -> [Entry] {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else {
      throw ScenarioError(at: .file(folder), "cannot be read as a folder", remedy: "check the path")
    }
    return names.filter { $0.hasSuffix(".yaml") && $0 != "claims.yaml" && !$0.hasPrefix(".") }.sorted()
      .compactMap { name in
        let path = folder + "/" + name
        guard let file = try? SourceFile(path: path) else { return nil }
        return Entry(name: file.stem, file: path, summary: file.summary)
      }
  }
}
