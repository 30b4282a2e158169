import Engine
import Foundation
import Glibc
import Lab
import Scenario

/// The command's output: results go to standard output, everything else to standard error.
enum Console {
  /// Writes a message. Errors are ignored: a closed standard error must not stop a measurement.
  static func error(_ text: String) { _ = write(harmless(text) + "\n", to: STDERR_FILENO) }

  /// Writes a result, and throws when it cannot be written completely.
  static func result(_ text: String) throws {
    let shown = isatty(STDOUT_FILENO) == 1 ? harmless(text) : text
    guard let number = write(shown.hasSuffix("\n") ? shown : shown + "\n", to: STDOUT_FILENO) else { return }
    // A reader that closed the pipe on purpose, such as `head`, needs no message.
    if number == EPIPE { throw ExitReason.failure }
    throw OutputError(why: String(cString: strerror(number)))
  }

  /// Removes terminal control sequences other than the colours used here. The text may quote a plugin, a
  /// worker, a broker or a file.
  static func harmless(_ text: String) -> String {
    let parts = text.split(separator: "\u{1b}", omittingEmptySubsequences: false)
    let colours = ["[0m", "[1m", "[31m", "[32m", "[33m"]
    return parts.enumerated().map { place, part in
      let mark = place == 0 ? "" : colours.contains { part.hasPrefix($0) } ? "\u{1b}" : " "
      return mark + String(part).harmless(keeping: ["\n", "\r", "\t"])
    }.joined()
  }

  /// Whether standard output shows colours; `NO_COLOR` is honoured.
  static func usesColour(_ wanted: Bool) -> Bool {
    let noColour = ProcessInfo.processInfo.environment["NO_COLOR"] ?? ""
    return wanted && noColour.isEmpty && isatty(STDOUT_FILENO) == 1
  }

  /// Writes a text. Returns the errno of a failed write; nil when everything was written.
  fileprivate static func write(_ text: String, to descriptor: Int32) -> Int32? {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count >= 0 {
        rest = rest.dropFirst(count)
      } else if errno == EAGAIN {
        // The parent process may have set the descriptor to non-blocking.
        var place = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&place, 1, -1)
      } else if errno != EINTR {
        return errno
      }
    }
    return nil
  }
}

/// A result could not be written to standard output.
struct OutputError: Error, CustomStringConvertible {
  let why: String
  var description: String {
    "standard output cannot be written: \(why). Redirect it elsewhere; a run's results are in its folder."
  }
}

/// A snapshot of a load, the elapsed seconds of its measured time (0 before it), and its process ID.
typealias LoadGlanceAt = (glance: LoadGlance, measuredSeconds: Double, pid: Int32)

/// A progress line on a terminal: the current step, rate, p50, p99, errors and time left.
final class ProgressLine {
  private let isDrawn: Bool
  private let verbose: Bool
  private var step = (place: 0, count: 0, secondsEach: 0.0, label: "", begun: UInt64(0))
  /// The response times of this step in the windows that are over.
  private var response = LatencyHistogram()
  private var nextWindow = 0

  init(quiet: Bool, verbose: Bool = false) {
    isDrawn = !quiet && isatty(STDERR_FILENO) == 1 && ProcessInfo.processInfo.environment["TERM"] != "dumb"
    self.verbose = verbose
  }

  func begin(
    place: Int, of count: Int, secondsEach: Double, _ label: String, now: UInt64 = MonotonicClock.nanoseconds
  ) {
    step = (place, count, secondsEach, label, now)
    (response, nextWindow) = (LatencyHistogram(), 0)
    if verbose { Console.error("[\(place + 1)/\(count)] \(label)") }
    draw("starting")
  }

  func show(_ at: LoadGlanceAt) {
    guard isDrawn else { return }
    let (glance, seconds) = (at.glance, at.measuredSeconds)
    switch glance.state {
    case .preparing: draw("starting")
    case .warmup: draw("warm-up")
    case .measuring, .draining, .done:
      glance.merge(into: &response, from: &nextWindow)
      let rate = seconds > 0 ? min(Double(glance.answered) / seconds, 1e12) : 0
      draw(
        "\(Int(rate).formatted()) req/s  p50 \(Self.time(response.value(atPercentile: 50)))"
          + "  p99 \(Self.time(response.value(atPercentile: 99)))"
          + (glance.errors > 0 ? "  \(glance.errors.formatted()) errors" : ""))
    }
  }

  func say(_ text: String) {
    if isDrawn { _ = Console.write("\r\u{1b}[K\(Console.harmless(text))", to: STDERR_FILENO) }
  }

  func clear() { say("") }

  private func draw(_ text: String) { say(line(text, now: MonotonicClock.nanoseconds)) }

  func line(_ text: String, now: UInt64) -> String {
    let spent = Double(now - step.begun) / 1e9
    let left = max(0, step.secondsEach - spent) + Double(step.count - step.place - 1) * step.secondsEach
    let clock = String(format: "%d:%02d", Int(left) / 60, Int(left) % 60)
    return "[\(step.place + 1)/\(step.count)] \(step.label)  \(text)  \(clock) left"
  }

  private static func time(_ nanoseconds: UInt64?) -> String {
    guard let nanoseconds else { return "–" }
    let value = Double(nanoseconds)
    if value < 1e3 { return "\(nanoseconds) ns" }
    return value < 1e6 ? String(format: "%.1f µs", value / 1e3) : String(format: "%.2f ms", value / 1e6)
  }
}

extension String {
  func padded(_ width: Int) -> String { padding(toLength: max(width, count), withPad: " ", startingAt: 0) }
}
