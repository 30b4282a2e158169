import CLinux
import Engine
import Foundation

/// What other processes cost.
package enum ProcessClock {
  /// CPU time that a process has used, all its threads together, ns; nil when it is gone.
  package static func cpuNanoseconds(pid: Int32) -> UInt64? {
    let time = clinux_cpu_ns(pid)
    return pid > 0 && time >= 0 ? UInt64(time) : nil
  }

  /// CPU time of a process that heads a session, and of all others in the session, such as the
  /// worker behind a shell, ns; nil when it is gone. Who has left meanwhile is not in it.
  package static func cpuNanoseconds(session leader: Int32) -> UInt64? {
    guard let own = cpuNanoseconds(pid: leader) else { return nil }
    return members(ofSession: leader).filter { $0 != leader }
      .reduce(own) { $0 &+ (cpuNanoseconds(pid: $1) ?? 0) }
  }

  /// Resident memory of a process, bytes; nil when it is gone.
  package static func residentBytes(pid: Int32) -> UInt64? {
    guard let pages = words("/proc/\(pid)/statm")?.dropFirst().first.flatMap({ UInt64($0) }) else {
      return nil
    }
    return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
  }

  /// All processes of the session that a process heads, itself among them. It reads all of `/proc`.
  package static func members(ofSession leader: Int32) -> [Int32] {
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return entries.compactMap { Int32($0) }.filter { pid in
      relatives(of: pid)?[2] == leader
    }
  }

  /// The process that started another, or has adopted it; nil when it is gone.
  package static func parent(of pid: Int32) -> Int32? { relatives(of: pid)?[0] }

  /// A process's parent, group and session; nil when it is gone.
  private static func relatives(of pid: Int32) -> [Int32]? {
    guard let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
      let bracket = text.lastIndex(of: ")")
    else { return nil }
    // Behind the name in brackets: the state, then these.
    let numbers = text[bracket...].split(separator: " ").dropFirst(2).prefix(3).compactMap { Int32($0) }
    return numbers.count == 3 ? numbers : nil
  }

  private static func words(_ path: String) -> [Substring]? {
    (try? String(contentsOfFile: path, encoding: .utf8))?.split(separator: " ")
  }
}

/// The machine's CPU time up to a moment, from `/proc/stat`.
package struct SystemTimes: Sendable, Equatable {
  /// All of it, ticks.
  package var total: UInt64
  /// What the hypervisor gave to others while we wanted to run, ticks.
  package var stolen: UInt64
  /// Nobody's, ticks.
  var idle: UInt64 = 0

  /// The times now; nil where there is no `/proc/stat`.
  package static func now() -> SystemTimes? {
    (try? String(contentsOfFile: "/proc/stat", encoding: .utf8)).flatMap(parse)
  }

  /// user, nice, system, idle, iowait, irq, softirq, steal; the guests' times behind them are in
  /// user and nice already.
  static func parse(_ text: String) -> SystemTimes? {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("cpu ") }) else { return nil }
    let ticks = line.split(separator: " ").dropFirst().prefix(8).map { UInt64($0) ?? 0 }
    guard ticks.count == 8 else { return nil }
    return SystemTimes(total: ticks.reduce(0, &+), stolen: ticks[7], idle: ticks[3] &+ ticks[4])
  }

  /// The share of CPU time, 0 to 1, that was stolen since an earlier moment; 0 when none passed.
  package func stealShare(since earlier: SystemTimes) -> Double {
    guard total > earlier.total, stolen >= earlier.stolen else { return 0 }
    return Double(stolen - earlier.stolen) / Double(total - earlier.total)
  }

  /// The share of all cores, 0 to 1, that somebody used since an earlier moment; nil when no time passed.
  package func busyShare(since earlier: SystemTimes) -> Double? {
    guard total > earlier.total, idle >= earlier.idle else { return nil }
    return 1 - Double(idle - earlier.idle) / Double(total - earlier.total)
  }
}

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
