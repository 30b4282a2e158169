import Foundation
import Testing

@testable import Engine

/// A temporary folder in which plugins are compiled; gone when the value is.
final class Workshop {
  let folder: String

  init() throws {
    folder = NSTemporaryDirectory() + "nylon-bench-tests-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path

  /// Compiles a plugin; the path of the shared library.
  func compile(_ source: String, name: String = "plugin") throws -> String {
    let file = "\(folder)/\(name).c"
    try source.write(toFile: file, atomically: true, encoding: .utf8)
    return try compile(file: file, name: name)
  }

  func compile(file: String, name: String) throws -> String {
    let library = "\(folder)/\(name).so"
    let arguments = [
      "cc", "-shared", "-fPIC", "-O2", "-pthread", "-I\(Self.package)/Sources/Nylon/ABI/include", file, "-o",
      library,
    ]
    let words = arguments.map { strdup($0) } + [nil]
    defer { words.forEach { free($0) } }
    var pid: pid_t = 0
    try #require(posix_spawnp(&pid, "cc", nil, nil, words, environ) == 0)
    var status: Int32 = 0
    while waitpid(pid, &status, 0) == -1, errno == EINTR {}
    try #require(status == 0, "the test's plugin does not compile")
    return library
  }
}
