import CLinux
import Engine
import Foundation

extension MachineFacts {
  /// Reads what machine this is. What cannot be read stays nil.
  /// - Parameters:
  ///   - optimisedBuild: whether the caller was built with optimisation.
  ///   - versions: of the tool and the libraries that the caller links; that of `nats-server` is
  ///     added when one is installed.
  package static func read(optimisedBuild: Bool, versions: [String: String] = [:]) -> MachineFacts {
    var facts = MachineReader(root: "").facts()
    let cores = clinux_allowed_cores()
    if cores > 0 { facts.cores = Int(cores) }
    facts.optimisedBuild = optimisedBuild
    facts.versions = versions
    if facts.versions["nats-server"] == nil { facts.versions["nats-server"] = Broker.installedVersion() }
    return facts
  }
}

extension Broker {
  /// Version of the nats-server that would be started; nil when there is none, or it does not say.
  static func installedVersion() -> String? {
    guard let path = try? Executables.broker(),
      let child = try? ChildProcess.start(Launch(path, ["--version"])),
      child.wait(timeout: .seconds(5)) == .exited(0)
    else { return nil }
    // It says: nats-server: v2.9.10
    return child.outputText.components(separatedBy: ": v").last?.trimmingTrailingWhitespace()
  }
}

/// Reads facts of the machine from the files of the kernel, below a root that tests can choose.
struct MachineReader {
  let root: String

  func facts() -> MachineFacts {
    var facts = MachineFacts()
    let cpus = text("/proc/cpuinfo") ?? ""
    facts.cpuModel = value("model name", in: cpus, separator: ":") ?? value("Model", in: cpus, separator: ":")
    facts.cores = cpus.components(separatedBy: "\n").filter { $0.hasPrefix("processor") }.count
    if facts.cores == 0 { facts.cores = nil }
    facts.threadsPerCore = threadsPerCore()
    facts.governor = line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    facts.clockSource = line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    facts.kernel = line("/proc/sys/kernel/osrelease")
    facts.operatingSystem = value("PRETTY_NAME", in: text("/etc/os-release") ?? "", separator: "=")
    facts.hypervisor = hypervisor(cpus)
    facts.cgroupCores = cgroupCores()
    facts.memoryBytes = value("MemTotal", in: text("/proc/meminfo") ?? "", separator: ":")
      .flatMap { UInt64($0.prefix { $0.isNumber }) }.flatMap { $0.multipliedOrNil(by: 1024) }
    facts.loadAverage = line("/proc/loadavg")?.split(separator: " ").first.flatMap { Double($0) }
    return facts
  }

  /// From a list such as `0,4` or `0-1`.
  private func threadsPerCore() -> Int? {
    guard let list = line("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list") else { return nil }
    var count = 0
    for part in list.split(separator: ",") {
      let ends = part.split(separator: "-").compactMap { Int($0) }
      guard let first = ends.first, let last = ends.last, (first...max(first, last)).count <= 1024 else {
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
    let flags = value("flags", in: cpus, separator: ":")?.split(separator: " ") ?? []
    guard flags.contains("hypervisor") else { return nil }
    return line("/sys/class/dmi/id/sys_vendor") ?? "unknown"
  }

  /// The tightest CPU limit of our control group and those above it, in cores.
  func cgroupCores() -> Double? {
    var limits: [Double] = []
    for entry in (text("/proc/self/cgroup") ?? "").split(separator: "\n") {
      let parts = entry.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      let path = String(parts[2])
      if parts[0] == "0" {
        for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
          limits += upwards(path).compactMap { limitOfVersion2("\(mount)\($0)/cpu.max") }
        }
      } else if parts[1].split(separator: ",").contains("cpu") {
        for mount in ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"] {
          limits += upwards(path).compactMap { limitOfVersion1("\(mount)\($0)") }
        }
      }
    }
    return limits.min()
  }

  /// `/a/b` -> `/a/b`, `/a`, and the empty path of the mount itself.
  private func upwards(_ path: String) -> [String] {
    let parts = path.split(separator: "/")
    return (0...parts.count).reversed().map { parts.prefix($0).map { "/" + $0 }.joined() }
  }

  /// `MAX PERIOD`, where MAX may be the word max.
  private func limitOfVersion2(_ path: String) -> Double? {
    let words = line(path)?.split(separator: " ").map { Double($0) } ?? []
    guard words.count == 2, let quota = words[0], let period = words[1], period > 0 else { return nil }
    return quota / period
  }

  private func limitOfVersion1(_ folder: String) -> Double? {
    guard let quota = line("\(folder)/cpu.cfs_quota_us").flatMap({ Double($0) }), quota > 0,
      let period = line("\(folder)/cpu.cfs_period_us").flatMap({ Double($0) }), period > 0
    else { return nil }
    return quota / period
  }

  private func value(_ name: String, in text: String, separator: Character) -> String? {
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: separator, maxSplits: 1)
      if parts.count == 2, parts[0].trimmingCharacters(in: .whitespaces) == name {
        return parts[1].trimmingCharacters(in: CharacterSet(charactersIn: " \t\""))
      }
    }
    return nil
  }

  private func text(_ path: String) -> String? {
    FileManager.default.contents(atPath: root + path).map { String(decoding: $0, as: UTF8.self) }
  }

  private func line(_ path: String) -> String? {
    let first = text(path)?.split(separator: "\n").first.map { $0.trimmingCharacters(in: .whitespaces) }
    return first?.isEmpty == false ? first : nil
  }
}

extension UInt64 {
  fileprivate func multipliedOrNil(by factor: UInt64) -> UInt64? {
    let (product, overflow) = multipliedReportingOverflow(by: factor)
    return overflow ? nil : product
  }
}

/// What machine a run was made on. A fact that could not be read is nil.
package struct MachineFacts: Codable, Sendable, Equatable {
  /// CPU model name.
  package var cpuModel: String?
  /// Logical cores that this process may use.
  package var cores: Int?
  /// Threads per core; 1 without SMT.
  package var threadsPerCore: Int?
  /// Frequency governor.
  package var governor: String?
  /// Kernel clock source, such as `tsc`.
  package var clockSource: String?
  /// Kernel release.
  package var kernel: String?
  /// Operating system, such as `Debian GNU/Linux 12 (bookworm)`.
  package var operatingSystem: String?
  /// Hypervisor, nil on bare metal or when unknown.
  package var hypervisor: String?
  /// cgroup CPU limit in cores; nil when there is none.
  package var cgroupCores: Double?
  /// Memory, bytes.
  package var memoryBytes: UInt64?
  /// One-minute load average when the run began.
  package var loadAverage: Double?
  /// Whether our own build is optimised.
  package var optimisedBuild: Bool = false
  /// Versions: `nylon-bench`, `swift`, `nats-server`, `libnats`, `jemalloc`, …
  package var versions: [String: String] = [:]

  /// How fit it was when the run began; nil when nobody looked.
  package var fitness: MachineFitness?

  /// Nothing known.
  package init() {}
}

/// How fit a machine is to measure on.
package struct MachineFitness: Codable, Sendable, Equatable {
  /// From good to bad.
  package enum Grade: String, Codable, Sendable, Comparable {
    /// Nothing was found that would spoil a figure.
    case fit = "A"
    /// Its own nature limits what can be measured: few cores, a CPU limit, a saving governor.
    case limited = "B"
    /// Something else runs, or takes CPU time away, right now.
    case disturbed = "C"
    /// Figures from here are invalid, or cannot be had.
    case unfit = "D"

    /// Better grades are less.
    package static func < (lhs: Self, rhs: Self) -> Bool { lhs.rawValue < rhs.rawValue }
  }

  /// What the operating system took from a core that was not asked to do anything else.
  package struct CoreJitter: Codable, Sendable, Equatable {
    /// Place among the cores that the process may use, from 0.
    package var core: Int
    /// Interruptions of over 10 us, a second.
    package var interruptionsPerSecond: Double
    /// Share of the time that they took, 0-1.
    package var lostShare: Double
    /// The longest, microseconds.
    package var longestMicroseconds: Double
  }

  /// The grade, the worst that a reason gives.
  package var grade: Grade
  /// Why it is not better, a sentence each.
  package var reasons: [String]
  /// Each core's jitter; empty when it could not be measured.
  package var jitter: [CoreJitter]
}
