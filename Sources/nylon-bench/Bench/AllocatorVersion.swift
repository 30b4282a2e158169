import Results
import CJemalloc

/// Which malloc is linked.
enum AllocatorVersion {
  /// jemalloc's version.
  static var current: String {
    var text: UnsafePointer<CChar>?
    var size = MemoryLayout<UnsafePointer<CChar>?>.size
    guard mallctl("version", &text, &size, nil, 0) == 0, let text else { return "unknown" }
    return String(cString: text)
  }
}
