import Results
import CNats

/// What this build is.
enum ToolVersion {
  /// The version of nylon-bench.
  static let current = "0.1.0"

  /// Whether the compiler optimised.
  static var isOptimised: Bool {
    #if DEBUG
      false
    #else
      true
    #endif
  }

  /// Versions of what takes part, for run.json.
  static var all: [String: String] {
    var versions = ["nylon-bench": current, "libnats": String(cString: nats_GetVersion())]
    #if compiler(>=6.3)
      versions["swift"] = "6.3"
    #elseif compiler(>=6.2)
      versions["swift"] = "6.2"
    #endif
    versions["jemalloc"] = AllocatorVersion.current
    return versions
  }
}
