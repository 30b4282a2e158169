import Foundation
import Engine

/// Memory and context switches of processes.
extension ProcessClock {
  /// This process's own. The kernel's count for a whole process holds the threads that have ended, too.
  package static func ownReading() -> ProcessReading {
    var usage = rusage()
    guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else {
      return ProcessReading(residentBytes: residentBytes(pid: getpid()), switches: nil)
    }
    let count = ContextSwitches.Count(
      voluntary: UInt64(max(0, usage.ru_nvcsw)), involuntary: UInt64(max(0, usage.ru_nivcsw)))
    return ProcessReading(
      residentBytes: residentBytes(pid: getpid()), switches: ContextSwitches(threads: [getpid(): count]))
  }

  /// Those of another process; nil when it is gone.
  package static func reading(pid: Int32) -> ProcessReading? { reading(of: [pid]) }

  /// Those of processes that each head a session, with all others in their sessions, such as the worker
  /// behind a shell; nil when there is none, or one of the heads is gone: a pool is not half measured.
  package static func reading(sessions leaders: [Int32]) -> ProcessReading? {
    guard !leaders.isEmpty, leaders.allSatisfy({ residentBytes(pid: $0) != nil }) else { return nil }
    return reading(of: Set(leaders.flatMap { [$0] + members(ofSession: $0) }))
  }

  private static func reading(of pids: some Sequence<Int32>) -> ProcessReading? {
    var resident: UInt64 = 0
    var threads: [Int32: ContextSwitches.Count] = [:]
    for pid in pids {
      guard let bytes = residentBytes(pid: pid) else { continue }
      resident += bytes
      threads.merge(switches(pid: pid)) { $1 }
    }
    guard !threads.isEmpty else { return nil }
    return ProcessReading(residentBytes: resident, switches: ContextSwitches(threads: threads))
  }

  private static func switches(pid: Int32) -> [Int32: ContextSwitches.Count] {
    let folder = "/proc/\(pid)/task"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.reduce(into: [:]) { counts, name in
      guard let thread = Int32(name),
        let text = try? String(contentsOfFile: "\(folder)/\(name)/status", encoding: .utf8)
      else { return }
      counts[thread] = parseSwitches(text)
    }
  }

  /// The two counts of a thread's `status`; nil when they are not there.
  static func parseSwitches(_ text: String) -> ContextSwitches.Count? {
    var voluntary: UInt64?
    var involuntary: UInt64?
    for line in text.split(separator: "\n").reversed() {
      let words = line.split(whereSeparator: \.isWhitespace)
      guard words.count == 2 else { continue }
      if words[0] == "voluntary_ctxt_switches:" { voluntary = UInt64(words[1]) }
      if words[0] == "nonvoluntary_ctxt_switches:" { involuntary = UInt64(words[1]) }
      if let voluntary, let involuntary {
        return ContextSwitches.Count(voluntary: voluntary, involuntary: involuntary)
      }
    }
    return nil
  }
}
