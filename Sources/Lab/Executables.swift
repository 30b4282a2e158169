import Foundation

/// Locates programs and products of this package.
package enum Executables {
  /// The folder of the running program, which also holds this package's other products.
  package static var ownFolder: String { (ownPath as NSString).deletingLastPathComponent }

  /// The running program. If its file was replaced (by a new build), a path in /proc that still leads to it.
  package static var ownPath: String {
    let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    guard let path, isExecutable(path) else { return "/proc/\(getpid())/exe" }
    return path
  }

  /// The path of a program: unchanged when it contains a slash, else beside the running program, else in
  /// PATH, else where Debian installs servers.
  package static func find(
    _ name: String, shown: String? = nil, remedy: String
  ) throws(LabError) -> String {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
    let folders =
      [ownFolder] + path.split(separator: ":").map(String.init) + ["/usr/local/sbin", "/usr/sbin"]
    let places = name.contains("/") ? [name] : folders.map { "\($0)/\(name)" }
    if let found = places.first(where: isExecutable) { return found }
    let exists = name.contains("/") && FileManager.default.fileExists(atPath: name)
    let why = "\(shown ?? "The program \(name)") is \(exists ? "not an executable file" : "missing")"
    throw LabError(kind: .missing, description: "\(why). \(remedy)")
  }

  /// The environment variable that names the nats-server to start.
  private static let brokerVariable = "NYLON_BENCH_NATS_SERVER"

  /// The nats-server that was chosen, by the scenario's path or the environment; nil for the installed one.
  static func chosenBroker(_ path: String?) -> (path: String, by: String)? {
    if let path { return (path, "`broker:`") }
    let named = ProcessInfo.processInfo.environment[brokerVariable] ?? ""
    return named.isEmpty ? nil : (named, brokerVariable)
  }

  /// The nats-server to start: from a path, else from the environment, else the installed one.
  package static func broker(_ path: String? = nil) throws(LabError) -> String {
    guard let chosen = chosenBroker(path) else {
      return try find(
        "nats-server", shown: "nats-server",
        remedy: "Install it: apt-get install nats-server, or scripts/setup.")
    }
    return try find(
      chosen.path, shown: "The nats-server '\(chosen.path)' of \(chosen.by)",
      remedy: "Correct \(chosen.by), or leave it out to start the installed one.")
  }

  /// A program of this package.
  package static func own(_ name: String) throws(LabError) -> String {
    try find(name, remedy: "swift build puts it into the folder of nylon-bench.")
  }

  /// The path of a shared library product of this package; nil when it is not built.
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
