import CJemalloc
import Foundation
import Lab
import Scenario

enum ToolVersion {
  static let current = "0.1.0"

  static var isOptimised: Bool {
    #if DEBUG
      false
    #else
      true
    #endif
  }

  static var all: [String: String] {
    var versions = ["nylon-bench": current, "libnats": Libnats.version, "jemalloc": jemalloc]
    #if compiler(>=6.3)
      versions["swift"] = "6.3"
    #elseif compiler(>=6.2)
      versions["swift"] = "6.2"
    #endif
    return versions
  }

  private static var jemalloc: String {
    var text: UnsafePointer<CChar>?
    var size = MemoryLayout<UnsafePointer<CChar>?>.size
    guard mallctl("version", &text, &size, nil, 0) == 0, let text else { return "unknown" }
    return String(cString: text)
  }
}

enum PackageFiles {
  /// Finds the folder Scenarios/ in or above the current folder, or else in or above the command's folder.
  static func scenarios() throws -> String {
    let current = FileManager.default.currentDirectoryPath
    let folders = [current, Executables.ownFolder]
    let found = folders.lazy.compactMap { try? ScenarioCatalog.folder(under: $0) }.first
    return try found ?? ScenarioCatalog.folder(under: current)
  }

  /// The path of an FFI plugin, which may be given as a path or as the name of a product of this package.
  static func plugin(_ file: String) throws(LabError) -> String {
    if file.contains("/") { return file }
    if let path = Executables.library(file) { return path }
    if FileManager.default.fileExists(atPath: file) {
      return FileManager.default.currentDirectoryPath + "/" + file
    }
    throw .missing(
      "The plugin '\(file)'",
      remedy:
        "It is neither a file nor a product of this package (build these with: swift build -c release); "
        + "to name a file, write a path with a slash, such as ./\(file)."
    )
  }
}

extension Plan {
  /// The plan without optional targets whose plugin or worker program is missing, with a warning for each.
  func withoutMissingTargets() throws(ScenarioError) -> Plan {
    var plan = self
    plan.targets = []
    for target in targets {
      guard target.isOptional, let part = target.missingPart else {
        plan.targets.append(target)
        continue
      }
      plan.warnings.append(
        "the target '\(target.name)' is skipped: \(part) is missing; scripts/plugins builds those of this "
          + "package"
      )
    }
    guard plan.targets.isEmpty, !targets.isEmpty else { return plan }
    throw ScenarioError(
      at: .file(file), key: "targets", "are all optional, and each lacks its plugin or worker program",
      remedy: "build these: scripts/plugins builds those of this package")
  }
}

extension Target {
  /// A description of the missing plugin or worker program; nil when nothing is missing.
  fileprivate var missingPart: String? {
    switch transport {
    case .ffi(let spec):
      let path = try? PackageFiles.plugin(spec.file)
      return path.map(FileManager.default.fileExists) == true ? nil : "the plugin '\(path ?? spec.file)'"
    case .nats(let spec):
      guard let program = spec.workers?.command.first else { return nil }
      let isThere = (try? Executables.find(program, remedy: "")) != nil
      return isThere ? nil : "the workers' program '\(program)'"
    }
  }
}
