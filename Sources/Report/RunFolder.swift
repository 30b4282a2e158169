import Results
import Foundation

package struct RunFolder: Sendable, Equatable {
  /// The scenario file of a run that was described by command-line arguments.
  package static let scenarioName = "scenario.yaml"

  package let path: String
  package var runID: String { (path as NSString).lastPathComponent }

  /// Creates `directory/<UTC time>-<scenario>/`, with `-2`, `-3`, … when taken, and `directory` itself.
  /// Called before measuring, so that an unwritable place is found early.
  package static func create(
    in directory: String, scenario: String, at time: UTCSecond = UTCSecond()
  ) throws -> RunFolder {
    try AtomicFile.makeFolder(directory)
    try AtomicFile.checkLink("\(directory)/latest")
    let name = "\(time.compact)-\(safeName(scenario))"
    for attempt in 1...1000 {
      let path = "\(directory)/\(attempt == 1 ? name : "\(name)-\(attempt)")"
      if mkdir(path, 0o755) == 0 { return RunFolder(path: path) }
      guard errno == EEXIST else { throw AtomicFile.error(errno, path, "cannot be created") }
    }
    throw AtomicFile.error(EEXIST, "\(directory)/\(name)", "cannot be created")
  }

  /// Writes `run.json` of a run that has just begun, so that the folder can be read however the run ends.
  /// Does not change `latest`.
  package func begin(_ document: RunDocument) throws {
    try AtomicFile.write(try document.json(), to: "\(path)/run.json")
  }

  /// Writes `run.json` and, unless `onlyRun` is set, all files made from it; points the link `latest` beside
  /// the folder to it. Each file is replaced atomically. When `run.json` itself cannot be written, it is
  /// saved to the temporary folder, and the error names that file.
  ///
  /// - Parameter json: The text of `run.json`, if it is already encoded.
  package func save(_ document: RunDocument, json: String? = nil, onlyRun: Bool = false) throws {
    let text = try json ?? document.json()
    do {
      try AtomicFile.write(text, to: "\(path)/run.json")
    } catch var error as RunFolderError {
      let refuge = "\(NSTemporaryDirectory())nylon-bench-\(runID)-run.json"
      if (try? AtomicFile.write(text, to: refuge)) != nil {
        error.remedy += "; the run was saved as \(refuge)"
      }
      throw error
    }
    for file in onlyRun ? [] : try ExportFormat.folderFiles(document) {
      try AtomicFile.write(file.contents, to: "\(path)/\(file.name)")
    }
    let parent = AtomicFile.folder(of: path)
    try AtomicFile.link("\(parent.isEmpty ? "." : parent)/latest", to: runID)
  }

  package static func write(_ files: [RenderedFile], to folder: String) throws {
    do {
      try AtomicFile.makeFolder(folder)
      for file in files { try AtomicFile.write(file.contents, to: "\(folder)/\(file.name)") }
    } catch var error as RunFolderError {
      error.remedy = "name another folder with --to"
      throw error
    }
  }

  /// Reads a run from its folder, a link to it such as `results/latest`, its `run.json`, or a folder of runs,
  /// in which case the latest run is read.
  package static func open(path: String) throws -> (folder: RunFolder, document: RunDocument) {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw RunFolderError(
        kind: .missing, path: path, problem: "there is no such run",
        remedy: "name a folder under results/, or its run.json")
    }
    let file = isFolder.boolValue ? runFile(in: path) : path
    let document = try RunDocument(json: try contents(file), path: file)
    let resolved = URL(fileURLWithPath: file).resolvingSymlinksInPath().deletingLastPathComponent()
    return (RunFolder(path: resolved.path), document)
  }

  /// A limit that no run reaches.
  static let mostBytes = 256 << 20

  private static func contents(_ path: String) throws -> Data {
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw RunFolderError(
        kind: .missing, path: path,
        problem: FileManager.default.fileExists(atPath: path) ? "it cannot be read" : "it is missing",
        remedy: "name a readable folder that nylon-bench wrote")
    }
    var bytes = Data()
    while let more = try? file.read(upToCount: 1 << 20), !more.isEmpty {
      bytes += more
      guard bytes.count <= mostBytes else {
        throw RunFolderError(
          kind: .invalid, path: path, problem: "it has more than \(mostBytes >> 20) MiB, so it is not a run",
          remedy: "name a folder that nylon-bench wrote")
      }
    }
    return bytes
  }

  /// The `run.json` of a run's folder, or of the latest run in a folder given to `--out`.
  private static func runFile(in folder: String) -> String {
    let own = "\(folder)/run.json"
    // A copy of the folder may lack the link. Run names begin with their time, so they sort.
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder))?.sorted().reversed() ?? []
    let runs = (["latest"] + names).map { "\(folder)/\($0)/run.json" }
    return ([own] + runs).first { FileManager.default.fileExists(atPath: $0) } ?? own
  }

  /// A scenario's name as part of a file name: letters, digits, `.`, `_`, `-`; others become `-`.
  static func safeName(_ name: String) -> String {
    let safe = name.unicodeScalars.prefix(80).map { scalar in
      scalar.isASCII && (scalar.properties.isAlphabetic || "0123456789._-".unicodeScalars.contains(scalar))
        ? Character(scalar) : "-"
    }
    return safe.isEmpty ? "run" : String(safe)
  }
}

/// Files that are written completely or not at all.
enum AtomicFile {
  static func write(_ text: String, to path: String) throws {
    try replace(path) { try fill($0, with: Array(text.utf8)) }
  }

  /// Creates a folder and its missing parents.
  static func makeFolder(_ path: String) throws {
    guard let (code, place) = failure(making: path) else { return }
    throw error(code, path, place == path ? "cannot be created" : "cannot be created, because of \(place)")
  }

  /// The path without its last component; empty for a single component. Foundation's own function crashes
  /// when that component has one character.
  static func folder(of path: String) -> String {
    let names = path.split(separator: "/")
    let above = names.dropLast().joined(separator: "/")
    return path.hasPrefix("/") ? "/" + above : above
  }

  /// Why a folder cannot be made, and the parent at fault; nil when the folder exists.
  private static func failure(making path: String) -> (code: Int32, place: String)? {
    var facts = stat()
    if stat(path, &facts) == 0 { return facts.st_mode & S_IFMT == S_IFDIR ? nil : (ENOTDIR, path) }
    let above = folder(of: path)
    if !above.isEmpty, above != path, let failure = failure(making: above) { return failure }
    return mkdir(path, 0o777) == 0 || errno == EEXIST ? nil : (errno, path)
  }

  /// Throws when a file or folder occupies the path of a link.
  static func checkLink(_ link: String) throws {
    var facts = stat()
    guard lstat(link, &facts) == 0, facts.st_mode & S_IFMT != S_IFLNK else { return }
    throw RunFolderError(
      kind: .unwritable, path: link, problem: "is a real file or folder, not a link",
      remedy: "move it away, or choose another folder with --out")
  }

  /// Makes `link` point to `target`; replaces a link, never a file or a folder.
  static func link(_ link: String, to target: String) throws {
    try checkLink(link)
    try replace(link) {
      guard symlink(target, $0) == 0 else { throw error(errno, link, "cannot be created") }
    }
  }

  /// Creates the file beside the path and renames it. On failure nothing remains, and the old file is kept.
  private static func replace(_ path: String, by make: (String) throws -> Void) throws {
    let temporary = "\(path).\(getpid()).part"
    unlink(temporary)
    do {
      try make(temporary)
      guard rename(temporary, path) == 0 else { throw error(errno, path, "cannot be replaced") }
    } catch {
      unlink(temporary)
      throw error
    }
  }

  static func error(_ code: Int32, _ path: String, _ problem: String) -> RunFolderError {
    let isFull = code == ENOSPC || code == EDQUOT
    return RunFolderError(
      kind: isFull ? .full : .unwritable, path: path,
      problem: "\(problem): \(String(cString: strerror(code)))",
      remedy: isFull
        ? "free some space, or choose a folder on another disk with --out"
        : "choose a writable folder with --out")
  }

  private static func fill(_ path: String, with bytes: [UInt8]) throws {
    // A file that already exists here belongs to somebody else, such as a link to another file.
    let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw error(errno, path, "cannot be created") }
    defer { close(file) }
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw error(errno, path, "cannot be written") }
      rest = rest.dropFirst(written)
    }
    guard fsync(file) == 0 else { throw error(errno, path, "cannot be written") }
  }
}
