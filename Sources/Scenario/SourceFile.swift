import Foundation

/// A file of ours, read with care: only regular files, only so large, only UTF-8.
struct SourceFile {
  /// The most bytes of a scenario, a configuration or a claims file.
  static let maximumBytes = 1 << 20

  /// The path as given.
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

  /// Reads the file.
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
        error.line.map { .position(file: path, line: $0, column: error.column ?? 1) } ?? .file(path)
      throw ScenarioError(problems: [
        ScenarioProblem(place: place, message: error.message, remedy: error.remedy)
      ])
    }
    guard let root, !root.isNull else {
      throw Self.fault(path, "is empty", remedy: "write \(what); docs/scenario.md shows one")
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
      throw fault(path, "cannot be read: \(reason)", remedy: "check the path", nearest: neighbour(of: path))
    }
    switch facts.st_mode & S_IFMT {
    case S_IFREG: break
    case S_IFDIR: throw fault(path, "is a folder, not a file", remedy: "name a .yaml file in it")
    default: throw fault(path, "is not a regular file")
    }
    guard facts.st_size <= maximumBytes else {
      throw fault(path, "is \(facts.st_size) bytes; at most \(maximumBytes) are read")
    }
    guard let data = FileManager.default.contents(atPath: path) else {
      throw fault(path, "cannot be read: permission denied", remedy: "check its permissions")
    }
    guard data.count <= maximumBytes else {
      throw fault(path, "is over \(maximumBytes) bytes, the most that is read")
    }
    guard let text = String(data: data, encoding: .utf8) else {
      throw fault(path, "is not UTF-8 text")
    }
    return text.hasPrefix("\u{FEFF}") ? String(text.unicodeScalars.dropFirst()) : text
  }

  private static func fault(
    _ path: String, _ message: String, remedy: String? = nil, nearest: String? = nil
  ) -> ScenarioError {
    ScenarioError(problems: [
      ScenarioProblem(place: .file(path), message: message, suggestion: nearest, remedy: remedy)
    ])
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
