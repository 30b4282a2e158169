import Foundation

/// Where programs and products of this package are found.
package enum Executables {
  /// Folder of the running program, where this package's other products are too.
  package static var ownFolder: String {
    (ownPath as NSString).deletingLastPathComponent
  }

  /// The running program. When its file was replaced since (by a new build), a path of /proc that
  /// still leads to it.
  package static var ownPath: String {
    let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    guard let path, isExecutable(path) else { return "/proc/\(getpid())/exe" }
    return path
  }

  /// The path of a program: as it is when it has a slash, else beside the running program, else
  /// in PATH, else where Debian keeps servers.
  package static func find(_ name: String, remedy: String) throws(LabError) -> String {
    if name.contains("/") {
      guard isExecutable(name) else { throw .missing("The program \(name)", remedy: remedy) }
      return name
    }
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
    let folders =
      [ownFolder] + path.split(separator: ":").map(String.init) + ["/usr/local/sbin", "/usr/sbin"]
    for folder in folders where !name.isEmpty && isExecutable("\(folder)/\(name)") {
      return "\(folder)/\(name)"
    }
    throw .missing("The program \(name)", remedy: remedy)
  }

  /// The broker's program.
  package static func broker() throws(LabError) -> String {
    do {
      return try find("nats-server", remedy: "")
    } catch {
      throw .missing("nats-server", remedy: "Install it: apt-get install nats-server, or scripts/setup.")
    }
  }

  /// A program of this package.
  package static func own(_ name: String) throws(LabError) -> String {
    try find(name, remedy: "It is built into the folder of nylon-bench: swift build.")
  }

  /// The path of a shared library product of this package, nil when it is not built.
  package static func library(_ product: String) -> String? {
    let path = "\(ownFolder)/lib\(product).so"
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }

  private static func isExecutable(_ path: String) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && !isFolder.boolValue
      && FileManager.default.isExecutableFile(atPath: path)
  }
}

/// What is known of a process under a keeper.
struct KeptState: Sendable {
  /// Its id, once it runs.
  var pid: Int32?
  /// Why it could not be executed.
  var startErrno: Int32?
  /// How it ended, as its keeper told.
  var status: ExitStatus?
  var use: ResourceUse?
  /// True when it has ended, all that descended from it too, and its keeper is reaped.
  var isFinished = false
  var output = OutputTail()
  /// What it said on standard error.
  var errors = OutputTail()
  /// What came through the document pipe.
  var document: [UInt8] = []
  /// True when the document was longer than allowed.
  var documentIsCut = false
  /// The part of the keeper's report that has no line end yet.
  private var line: [UInt8] = []

  /// Takes in a part of the keeper's report.
  mutating func note(_ bytes: [UInt8]) {
    for byte in bytes {
      if byte == 10 {
        note(line: String(decoding: line, as: UTF8.self))
        line = []
      } else {
        line.append(byte)
      }
    }
  }

  private mutating func note(line: String) {
    let words = line.split(separator: " ")
    guard words.count >= 2, let number = Int32(words[1]) else { return }
    switch words[0] {
    case "started": pid = number
    case "failed": startErrno = number
    case "exited": (status, use) = (.exited(number), resourceUse(words))
    case "signaled": (status, use) = (.signaled(number), resourceUse(words))
    default: break
    }
  }

  private func resourceUse(_ words: [Substring]) -> ResourceUse {
    func value(_ name: String) -> UInt64 {
      words.first { $0.hasPrefix(name + "=") }.flatMap { UInt64($0.dropFirst(name.count + 1)) } ?? 0
    }
    return ResourceUse(
      userNanoseconds: value("user_ns"), systemNanoseconds: value("system_ns"),
      maxResidentBytes: value("max_rss_bytes"))
  }

  /// Takes in a part of the document.
  mutating func collect(_ bytes: [UInt8], limit: Int) {
    if document.count + bytes.count > limit {
      documentIsCut = true
    } else if !documentIsCut {
      document += bytes
    }
  }
}
