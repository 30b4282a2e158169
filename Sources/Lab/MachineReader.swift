import CLinux
import Engine
import Foundation

extension MachineFacts {
  /// Reads the machine's facts; those that cannot be read are nil. Adds the version of `nats-server`, if
  /// there is one, to the caller's library versions, with its path when it was chosen instead of the
  /// installed one.
  ///
  /// - Parameter broker: The path of the scenario's nats-server.
  package static func read(
    optimisedBuild: Bool, versions: [String: String] = [:], broker: String? = nil
  ) -> MachineFacts {
    var facts = MachineReader(root: "").facts()
    let cores = clinux_allowed_cores()
    if cores > 0 { facts.cores = Int(cores) }
    facts.optimisedBuild = optimisedBuild
    facts.versions = versions
    facts.versions["nats-server"] = versions["nats-server"] ?? Broker.version(of: broker)
    return facts
  }
}

extension Broker {
  /// The version of the nats-server that would be started; nil when there is none, or it does not report one.
  /// A chosen one is followed by its path.
  static func version(of path: String? = nil) -> String? {
    guard let program = try? Executables.broker(path) else { return nil }
    let said = said(by: program)
    return Executables.chosenBroker(path) == nil ? said : "\(said ?? "unknown"), \(program)"
  }

  private static func said(by program: String) -> String? {
    guard let child = try? ChildProcess.start(Launch(program, ["--version"])),
      child.wait(timeout: .seconds(5)) == .exited(0)
    else { return nil }
    // The output is: nats-server: v2.9.10
    return child.outputText.components(separatedBy: ": v").last?.trimmed
  }
}

/// Reads the machine's facts from the kernel's files, below a root that tests can choose.
struct MachineReader {
  let root: String

  func facts() -> MachineFacts {
    var facts = MachineFacts()
    let cpus = text("/proc/cpuinfo") ?? ""
    facts.cpuModel = value("model name", in: cpus) ?? value("Model", in: cpus)
    let cores = cpus.split(separator: "\n").filter { $0.hasPrefix("processor") }.count
    facts.cores = cores > 0 ? cores : nil
    facts.threadsPerCore = threadsPerCore()
    facts.governor = line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    facts.clockSource = line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    facts.kernel = line("/proc/sys/kernel/osrelease")
    facts.operatingSystem = value("PRETTY_NAME", in: text("/etc/os-release") ?? "", separator: "=")
    facts.hypervisor = hypervisor(cpus)
    facts.cgroupCores = cgroupCores()
    facts.memoryBytes = value("MemTotal", in: text("/proc/meminfo") ?? "")
      .flatMap { UInt64($0.prefix { $0.isNumber }) }.map { $0 &* 1024 }
    facts.loadAverage = line("/proc/loadavg")?.split(separator: " ").first.flatMap { Double($0) }
    return facts
  }

  /// The count from a list such as `0,4` or `0-1`.
  private func threadsPerCore() -> Int? {
    guard let list = line("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list") else { return nil }
    var count = 0
    for part in list.split(separator: ",") {
      let ends = part.split(separator: "-").compactMap { Int($0) }
      guard let first = ends.first, let last = ends.last, (0..<1024).contains(last - first) else {
        return nil
      }
      count += last - first + 1
    }
    return count > 0 ? count : nil
  }

  private func hypervisor(_ cpus: String) -> String? {
    if let type = line("/sys/hypervisor/type") { return type }
    let clocks = line("/sys/devices/system/clocksource/clocksource0/available_clocksource") ?? ""
    let signs = [("kvm-clock", "KVM"), ("hyperv_clocksource", "Hyper-V"), ("xen", "Xen")]
    if let sign = signs.first(where: { clocks.contains($0.0) }) { return sign.1 }
    let flags = value("flags", in: cpus)?.split(separator: " ") ?? []
    return flags.contains("hypervisor") ? line("/sys/class/dmi/id/sys_vendor") ?? "unknown" : nil
  }

  /// The tightest CPU limit of this process's control group and its ancestors, in cores.
  func cgroupCores() -> Double? {
    let groups = (text("/proc/self/cgroup") ?? "").split(separator: "\n").map {
      $0.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
    }
    return groups.filter { $0.count == 3 }.flatMap { group -> [Double] in
      let folders = upwards(group[2])
      if group[0] == "0" {
        // The format is `MAX PERIOD`, where MAX may be the word max.
        return ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].flatMap { mount in
          folders.compactMap { folder in
            let words = line("\(mount)\(folder)/cpu.max")?.split(separator: " ") ?? []
            return words.count == 2 ? cores(words[0], a: words[1]) : nil
          }
        }
      }
      guard group[1].split(separator: ",").contains("cpu") else { return [] }
      return ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"].flatMap { mount in
        folders.compactMap { folder in
          cores(line("\(mount)\(folder)/cpu.cfs_quota_us"), a: line("\(mount)\(folder)/cpu.cfs_period_us"))
        }
      }
    }.min()
  }

  /// `/a/b` gives `/a/b`, `/a`, and the empty path of the mount itself.
  private func upwards(_ path: Substring) -> [String] {
    let parts = path.split(separator: "/")
    return (0...parts.count).reversed().map { parts.prefix($0).map { "/" + $0 }.joined() }
  }

  /// The number of cores in a quota per period; nil without a quota.
  private func cores(_ quota: (some StringProtocol)?, a period: (some StringProtocol)?) -> Double? {
    guard let quota = quota.flatMap({ Double($0) }), let period = period.flatMap({ Double($0) }), quota > 0,
      period > 0
    else { return nil }
    return quota / period
  }

  private func value(_ name: String, in text: String, separator: Character = ":") -> String? {
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: separator, maxSplits: 1)
      if parts.count == 2, parts[0].trimmed == name {
        return parts[1].trimmingCharacters(in: CharacterSet(charactersIn: " \t\""))
      }
    }
    return nil
  }

  private func text(_ path: String) -> String? { fileText(root + path) }

  private func line(_ path: String) -> String? {
    let first = text(path)?.split(separator: "\n").first?.trimmed
    return first?.isEmpty == false ? first : nil
  }
}

extension StringProtocol {
  /// The text without white space at its ends.
  var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }
}

/// The machine of a run. A fact that could not be read is nil.
package struct MachineFacts: Codable, Sendable, Equatable {
  /// The processor's name.
  package var cpuModel: String?
  /// Logical cores that this process may use.
  package var cores: Int?
  /// Threads per core; 1 without SMT.
  package var threadsPerCore: Int?
  /// The kernel's CPU frequency governor, such as `performance`.
  package var governor: String?
  /// Kernel clock source, such as `tsc`.
  package var clockSource: String?
  /// The kernel's release.
  package var kernel: String?
  /// Operating system, such as `Debian GNU/Linux 12 (bookworm)`.
  package var operatingSystem: String?
  /// Hypervisor, nil on bare metal or when unknown.
  package var hypervisor: String?
  /// cgroup CPU limit in cores; nil when there is none.
  package var cgroupCores: Double?
  /// Memory of the whole machine, bytes.
  package var memoryBytes: UInt64?
  /// One-minute load average when the run began.
  package var loadAverage: Double?
  /// Whether this build of nylon-bench is optimised.
  package var optimisedBuild: Bool = false
  /// Versions: `nylon-bench`, `swift`, `nats-server`, `libnats`, `jemalloc`, …
  package var versions: [String: String] = [:]

  /// The machine's fitness when the run began; nil when not checked.
  package var fitness: MachineFitness?
}

/// The fitness of a machine for measuring.
package struct MachineFitness: Codable, Sendable, Equatable {
  /// Grades from good to bad.
  package enum Grade: String, Codable, Sendable, Comparable, CaseIterable {
    /// Nothing was found that would spoil a figure.
    case fit = "A"
    /// Its own properties limit what can be measured: few cores, a CPU limit, a power-saving governor.
    case limited = "B"
    /// Something else is running or takes CPU time away right now.
    case disturbed = "C"
    /// Figures from this machine are invalid or cannot be measured.
    case unfit = "D"

    package static func < (lhs: Self, rhs: Self) -> Bool { lhs.rawValue < rhs.rawValue }
  }

  /// The time that the operating system took from an otherwise idle core.
  package struct CoreJitter: Codable, Sendable, Equatable {
    /// The core's index among those that the process may use, from 0.
    package var core: Int
    /// Interruptions of more than 10 us, per second.
    package var interruptionsPerSecond: Double
    /// Share of the time lost to interruptions, 0-1.
    package var lostShare: Double
    /// The longest interruption, microseconds.
    package var longestMicroseconds: Double
  }

  /// The grade: the worst that any reason gives.
  package var grade: Grade
  /// Why the grade is not better, one sentence each.
  package var reasons: [String]
  /// Each core's jitter; empty when it could not be measured.
  package var jitter: [CoreJitter]
}
