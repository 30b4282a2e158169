import Foundation

/// The text of a YAML file, which must be a regular file of limited size in UTF-8, or of a draft.
struct SourceFile {
  /// The maximum size of a scenario, a configuration or a claims file, in bytes.
  private static let maximumBytes = 1 << 20

  let path: String
  /// The text, without a byte order mark.
  let text: String
  /// The folder against which relative paths in the file are resolved.
  let folder: String
  /// Whether it is a draft, whose line numbers mean nothing to the user; its path is the user's arguments.
  let isDraft: Bool

  /// The file name without folder and extension.
  var stem: String { URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent }

  /// The first comment line, without `#`; empty if the file does not begin with a comment.
  var summary: String {
    let lines = text.split(whereSeparator: \.isNewline).lazy.map { $0.trimmingCharacters(in: .whitespaces) }
    let comments = lines.filter { !$0.isEmpty }.prefix { $0.hasPrefix("#") }
    return comments.map { $0.drop { $0 == "#" }.trimmingCharacters(in: .whitespaces) }
      .first { !$0.isEmpty } ?? ""
  }

  /// Creates the text of a draft as if it were a file.
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
      throw fault("is over \(Self.maximumBytes) bytes, the maximum size")
    }
    if data.starts(with: [0x7F, 0x45, 0x4C, 0x46]) {
      throw fault(
        "is a shared library or a program, not a scenario",
        remedy: "'nylon-bench run' measures a plugin without one, and 'nylon-bench init' writes one for it")
    }
    guard let text = String(data: data, encoding: .utf8) else { throw fault("is not UTF-8 text") }
    self.text = text.hasPrefix("\u{FEFF}") ? String(text.unicodeScalars.dropFirst()) : text
  }

  /// Parses the file; an empty file or one that is not a mapping is an error.
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

  /// Returns a file with a similar name in the same folder.
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

/// The scenarios of a folder, as listed by `nylon-bench scenarios`.
package enum ScenarioCatalog {
  package struct Entry: Sendable, Equatable, Codable {
    /// The file's name without `.yaml`, which is also its name on the command line.
    package var name: String
    package var file: String
    /// The first comment line; empty if there is none.
    package var summary: String
  }

  /// Returns the folder `Scenarios` in `root` or in its nearest parent folder that has one.
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

  /// Returns the scenarios of a folder by name, without `claims.yaml` and unreadable files.
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
