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
  /// The folder Scenarios/: below the current folder, else above the built command.
  static func scenarios() throws -> String {
    let current = FileManager.default.currentDirectoryPath
    let above = sequence(first: Executables.ownFolder) { ($0 as NSString).deletingLastPathComponent }
      .prefix { $0 != "/" && !$0.isEmpty }
    let found = ([current] + above).lazy.compactMap { try? ScenarioCatalog.folder(under: $0) }.first
    return try found ?? ScenarioCatalog.folder(under: current)
  }

  /// The path of an FFI plugin: as written, or a product of this package.
  static func plugin(_ file: String) throws(LabError) -> String {
    if file.contains("/") { return file }
    if let path = Executables.library(file) { return path }
    if FileManager.default.fileExists(atPath: file) {
      return FileManager.default.currentDirectoryPath + "/" + file
    }
    throw .missing(
      "The plugin '\(file)'",
      remedy:
        "It is neither a product of this package (build them: swift build -c release) nor a file; "
        + "write a path with a slash, such as ./\(file)."
    )
  }
}

extension Plan {
  /// The plan without optional targets whose plugin, or whose workers' program, is not there; a warning names each.
  func withoutMissingTargets() throws(ScenarioError) -> Plan {
    var plan = self
    plan.targets = []
    for target in targets {
      guard target.isOptional, let part = target.missingPart else {
        plan.targets.append(target)
        continue
      }
      plan.warnings.append(
        "the target '\(target.name)' is left out: \(part) is not there; scripts/plugins builds what this package has"
      )
    }
    guard plan.targets.isEmpty, !targets.isEmpty else { return plan }
    throw ScenarioError(
      at: .file(file), key: "targets", "are all optional, and of each a part is missing",
      remedy: "build them: scripts/plugins builds what this package has")
  }
}

extension Target {
  /// The file without which the target cannot be measured, nil when it is there.
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
