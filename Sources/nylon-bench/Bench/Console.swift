import Results
import Foundation

/// What goes to people: results to standard output, the rest to standard error.
enum Console {
  /// A line on standard error.
  static func error(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

  /// Text on standard output.
  static func result(_ text: String) { write(text.hasSuffix("\n") ? text : text + "\n", to: STDOUT_FILENO) }

  /// Text on standard error as it is.
  static func raw(_ text: String) { write(text, to: STDERR_FILENO) }

  /// Whether standard error is a terminal that shows progress.
  static var drawsProgress: Bool {
    isatty(STDERR_FILENO) == 1 && ProcessInfo.processInfo.environment["TERM"] != "dumb"
  }

  /// Whether standard output shows colours; `NO_COLOR` is honoured.
  static func usesColour(_ wanted: Bool) -> Bool {
    let noColour = ProcessInfo.processInfo.environment["NO_COLOR"] ?? ""
    return wanted && noColour.isEmpty && isatty(STDOUT_FILENO) == 1
  }

  private static func write(_ text: String, to descriptor: Int32) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if count <= 0 {
        if count < 0, errno == EINTR { continue }
        return
      }
      rest = rest.dropFirst(count)
    }
  }
}
