import Engine
import Foundation

/// The resource use of processes: CPU time, memory and context switches.
package enum ProcessClock {
  /// CPU time of a process over all its threads, ns; nil when it has ended.
  package static func cpuNanoseconds(pid: Int32) -> UInt64? {
    var clock = clockid_t()
    var time = timespec()
    guard pid > 0, clock_getcpuclockid(pid, &clock) == 0, clock_gettime(clock, &time) == 0 else { return nil }
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// CPU time of a session leader and of all others in its session, such as the worker behind a shell, ns;
  /// nil when the leader has ended. Processes that have left the session are not included.
  package static func cpuNanoseconds(session leader: Int32) -> UInt64? {
    guard let own = cpuNanoseconds(pid: leader) else { return nil }
    return members(ofSession: leader).filter { $0 != leader }
      .reduce(own) { $0 &+ (cpuNanoseconds(pid: $1) ?? 0) }
  }

  /// Resident memory of a process, bytes; nil when it has ended.
  package static func residentBytes(pid: Int32) -> UInt64? { memory(of: pid)?.resident }

  /// The anonymous part of it, neither backed by a file nor shared, bytes; nil when the process has ended.
  package static func anonymousBytes(pid: Int32) -> UInt64? {
    memory(of: pid).map { $0.resident - min($0.shared, $0.resident) }
  }

  private static func memory(of pid: Int32) -> (resident: UInt64, shared: UInt64)? {
    let page = UInt64(sysconf(Int32(_SC_PAGESIZE)))
    let sizes = fileText("/proc/\(pid)/statm")?.split(separator: " ").compactMap { UInt64($0) } ?? []
    return sizes.count > 2 ? (sizes[1] * page, sizes[2] * page) : nil
  }

  /// All processes of a session, including its leader. Reads all of `/proc`.
  package static func members(ofSession leader: Int32) -> [Int32] {
    numbers(in: "/proc").filter { relatives(of: $0)?[2] == leader }
  }

  /// The parent of a process, or the process that adopted it; nil when it has ended.
  package static func parent(of pid: Int32) -> Int32? { relatives(of: pid)?[0] }

  /// Whether a signal, such as SIGSTOP, has stopped a process.
  package static func isStopped(_ pid: Int32) -> Bool { facts(of: pid)?.first == "T" }

  /// A process's parent, group and session; nil when it has ended.
  private static func relatives(of pid: Int32) -> [Int32]? {
    guard let numbers = facts(of: pid)?.dropFirst().prefix(3).compactMap({ Int32($0) }) else { return nil }
    return numbers.count == 3 ? numbers : nil
  }

  /// The fields of `/proc/PID/stat` after the name in brackets: the state, then numbers; nil when it has
  /// ended.
  private static func facts(of pid: Int32) -> ArraySlice<Substring>? {
    guard let text = fileText("/proc/\(pid)/stat"), let bracket = text.lastIndex(of: ")") else { return nil }
    return text[bracket...].split(separator: " ").dropFirst()
  }

  package static func numbers(in folder: String) -> [Int32] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).compactMap { Int32($0) }
  }

  /// This process's own memory and context switches. The kernel's count includes the threads that have ended.
  package static func ownReading() -> ProcessReading {
    var usage = rusage()
    let isKnown = getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0
    let count = SIMD2(UInt64(max(0, usage.ru_nvcsw)), UInt64(max(0, usage.ru_nivcsw)))
    return (residentBytes(pid: getpid()), isKnown ? [getpid(): count] : nil)
  }

  /// The reading of session leaders with all others in their sessions, such as the worker behind a shell; nil
  /// when there is none or a leader has ended, so that no pool is measured in part.
  package static func reading(sessions leaders: [Int32]) -> ProcessReading? {
    guard !leaders.isEmpty, leaders.allSatisfy({ residentBytes(pid: $0) != nil }) else { return nil }
    var resident: UInt64 = 0
    var threads: ContextSwitches = [:]
    for pid in Set(leaders.flatMap({ [$0] + members(ofSession: $0) })) {
      guard let bytes = residentBytes(pid: pid) else { continue }
      resident += bytes
      for thread in numbers(in: "/proc/\(pid)/task") {
        threads[thread] = fileText("/proc/\(pid)/task/\(thread)/status").flatMap(parseSwitches)
      }
    }
    guard !threads.isEmpty else { return nil }
    return (resident, threads)
  }

  /// Parses the two counts of a thread's `status`; nil when they are missing.
  static func parseSwitches(_ text: String) -> SIMD2<UInt64>? {
    func count(_ name: String) -> UInt64? {
      text.range(of: "\n\(name):").flatMap { UInt64(text[$0.upperBound...].prefix { $0 != "\n" }.trimmed) }
    }
    guard let voluntary = count("voluntary_ctxt_switches"),
      let involuntary = count("nonvoluntary_ctxt_switches")
    else { return nil }
    return SIMD2(voluntary, involuntary)
  }
}

/// The machine's total CPU time at a moment, ticks, from `/proc/stat`.
package struct SystemTimes: Sendable, Equatable {
  package var total: UInt64
  /// The time that the hypervisor gave to others while this machine wanted to run.
  package var stolen: UInt64
  /// Idle time.
  var idle: UInt64 = 0

  /// The current times; nil when there is no `/proc/stat`.
  package static func now() -> SystemTimes? { fileText("/proc/stat").flatMap(parse) }

  /// Parses user, nice, system, idle, iowait, irq, softirq, steal. The guest times that follow are already
  /// included in user and nice.
  static func parse(_ text: String) -> SystemTimes? {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("cpu ") }) else { return nil }
    let ticks = line.split(separator: " ").dropFirst().prefix(8).map { UInt64($0) ?? 0 }
    guard ticks.count == 8 else { return nil }
    return SystemTimes(total: ticks.reduce(0, &+), stolen: ticks[7], idle: ticks[3] &+ ticks[4])
  }

  /// The share of CPU time, 0 to 1, that was stolen since an earlier moment; 0 when no time passed.
  func stealShare(since earlier: SystemTimes) -> Double {
    guard total > earlier.total, stolen >= earlier.stolen else { return 0 }
    return Double(stolen - earlier.stolen) / Double(total - earlier.total)
  }

  /// The share of all cores, 0 to 1, that was in use since an earlier moment; nil when no time passed.
  package func busyShare(since earlier: SystemTimes) -> Double? {
    guard total > earlier.total, idle >= earlier.idle else { return nil }
    return 1 - Double(idle - earlier.idle) / Double(total - earlier.total)
  }
}
