import CLinux
import Engine
import Foundation

/// The result of one check of whether this machine is fit for measuring.
package struct DoctorFinding: Codable, Sendable, Equatable {
  package enum State: String, Codable, Sendable {
    /// The check passed.
    case ok
    /// Figures may be affected.
    case warn
    /// Something required is missing.
    case missing
  }

  package var name: String
  package var state: State
  package var detail: String
  /// How to fix it; nil when nothing needs fixing.
  package var remedy: String?
  /// The machine's grade that this finding causes; nil when it does not affect the grade.
  var grade: MachineFitness.Grade?

  enum CodingKeys: String, CodingKey { case name, state, detail, remedy }

  package init(
    _ name: String, _ state: State, _ detail: String, remedy: String? = nil,
    grade: MachineFitness.Grade? = nil
  ) {
    self.name = name
    self.state = state
    self.detail = detail
    self.remedy = remedy
    self.grade = grade ?? (state == .missing ? .unfit : nil)
  }

  /// Creates a finding that passed, or a warning with its remedy and grade.
  fileprivate init(
    _ name: String, _ detail: String, isRight: Bool, remedy: String, grade: MachineFitness.Grade
  ) {
    self = isRight ? Self(name, .ok, detail) : Self(name, .warn, detail, remedy: remedy, grade: grade)
  }
}

/// Checks whether this machine is fit: missing requirements, and conditions that would spoil figures.
package enum Doctor {
  /// Runs all checks; takes about two seconds.
  package static func examine(
    optimisedBuild: Bool
  ) -> (findings: [DoctorFinding], fitness: MachineFitness) {
    let facts = MachineFacts.read(optimisedBuild: optimisedBuild)
    let (findings, jitter) = machine(facts, sleeps: 200, jitterMilliseconds: 500)
    let all = programs(facts) + findings
    return (all, judge(all, jitter))
  }

  /// Checks only the machine, before a run; takes about a fifth of a second.
  package static func fitness(_ facts: MachineFacts) -> MachineFitness {
    let (findings, jitter) = machine(facts, sleeps: 50, jitterMilliseconds: 50)
    return judge(findings, jitter)
  }

  private static func machine(
    _ facts: MachineFacts, sleeps: Int, jitterMilliseconds: Int64
  ) -> ([DoctorFinding], [MachineFitness.CoreJitter]) {
    let before = SystemTimes.now()
    let timer = timer(sleeps: sleeps)
    let jitter = measureJitter(cores: facts.cores ?? 1, milliseconds: jitterMilliseconds)
    let steal = before.flatMap { earlier in SystemTimes.now()?.stealShare(since: earlier) }
    return (findings(facts, steal: steal) + [timer, self.jitter(jitter), descriptors()], jitter)
  }

  /// The grade that follows from the findings, and why it is not better.
  static func judge(
    _ findings: [DoctorFinding], _ jitter: [MachineFitness.CoreJitter]
  ) -> MachineFitness {
    let against = findings.filter { $0.grade != nil }
    let grade = against.compactMap(\.grade).max() ?? .fit
    return MachineFitness(grade: grade, reasons: against.map { "\($0.name): \($0.detail)" }, jitter: jitter)
  }

  private static func programs(_ facts: MachineFacts) -> [DoctorFinding] {
    let build = "swift build -c release"
    let beside = "not beside nylon-bench"
    let chosen = Executables.chosenBroker(nil)
    let broker = (try? Executables.broker()).map { path in
      let version = facts.versions["nats-server"] ?? "unknown version"
      return chosen == nil ? "\(version), \(path)" : version
    }
    let helpers = ["nylon-keeper", "nylon-worker", "nylon-link"].map {
      (name: $0, found: try? Executables.own($0), missing: beside, remedy: build)
    }
    let wanted =
      [
        (
          "nats-server", broker, chosen.map { "'\($0.path)' of \($0.by) is not a program" } ?? "not in PATH",
          chosen.map { "Correct \($0.by), or unset it." } ?? "apt-get install nats-server, or scripts/setup"
        )
      ] + helpers + [
        (
          "ExamplePlugin", Executables.library("ExamplePlugin"), beside,
          "\(build) (with --product nylon-bench the plugin is not built)"
        )
      ]
    return wanted.map { name, found, missing, remedy in
      found.map { DoctorFinding(name, .ok, $0) } ?? DoctorFinding(name, .missing, missing, remedy: remedy)
    }
  }

  /// Findings from the machine's facts and from the share of CPU time that was stolen.
  static func findings(_ facts: MachineFacts, steal: Double?) -> [DoctorFinding] {
    let cores = facts.cores ?? 1
    let usable = "\(cores) usable" + (facts.cpuModel.map { ", \($0)" } ?? "")
    let limited = facts.cgroupCores.flatMap { $0 < Double(cores) ? $0 : nil }.map {
      DoctorFinding(
        "cores", .warn, "\(usable), limited to \($0) by the control group",
        remedy: "Raise or lift the CPU limit: it throttles the load in bursts.", grade: .limited)
    }
    var resolution = timespec()
    clock_getres(CLOCK_MONOTONIC, &resolution)
    let clock = "\(facts.clockSource ?? "unknown"), resolution \(resolution.tv_nsec) ns"
    let isCheap = facts.clockSource.map { ["tsc", "kvm-clock", "arch_sys_counter"].contains($0) } ?? true
    return [
      DoctorFinding(
        "build", facts.optimisedBuild ? "optimised" : "not optimised, so every measurement is invalid",
        isRight: facts.optimisedBuild, remedy: "swift build -c release", grade: .unfit),
      limited
        ?? DoctorFinding(
          "cores", cores < 4 ? "\(usable): generator, broker and workers share them" : usable,
          isRight: cores >= 4, remedy: "Use 4 cores or more for NATS throughput figures.", grade: .limited),
      DoctorFinding(
        "clock source", isCheap ? clock : "\(clock): reading it is a system call", isRight: isCheap,
        remedy: "Choose tsc in /sys/devices/system/clocksource, if the machine has it.", grade: .limited),
      DoctorFinding(
        "governor", facts.governor ?? "not visible" + (facts.hypervisor.map { ", under \($0)" } ?? ""),
        isRight: [nil, "performance"].contains(facts.governor),
        remedy: "cpupower frequency-set -g performance", grade: .limited),
      DoctorFinding(
        "load", facts.loadAverage.map { "\($0) over the last minute" } ?? "unknown",
        isRight: facts.loadAverage ?? 0 <= 0.3 * Double(cores),
        remedy: "Stop other processes, or wait for them to end.", grade: .disturbed),
      DoctorFinding(
        "steal", steal.map { String(format: "%.1f %% of CPU time", $0 * 100) } ?? "unknown",
        isRight: steal ?? 0 <= 0.05,
        remedy: "Use a machine whose cores are not shared; over 5 % is invalid.", grade: .unfit),
    ]
  }

  /// Measures how late sleeps of this length end, ns; sorted.
  package static func overshoots(_ sleeps: Int, of nanoseconds: UInt64) -> [UInt64] {
    (0..<sleeps).map { _ in
      let wanted = kernel_now_ns() + nanoseconds
      kernel_sleep_until(wanted)
      return kernel_now_ns() - wanted
    }.sorted()
  }

  /// Measures how late sleeps of a millisecond end.
  private static func timer(sleeps: Int) -> DoctorFinding {
    let overshoots = overshoots(sleeps, of: 1_000_000)
    let p50 = Double(overshoots[sleeps / 2]) / 1000
    let p99 = Double(overshoots[sleeps * 99 / 100]) / 1000
    let slack = fileText("/proc/self/timerslack_ns")?.trimmed ?? "unknown"
    return DoctorFinding(
      "timer",
      String(format: "sleeps end %.0f us late at p50, %.0f us at p99; slack ", p50, p99) + "\(slack) ns",
      isRight: p99 <= 1000,
      remedy: "Wait for other processes to end; uneven arrivals appear as send lag.", grade: .disturbed)
  }

  /// Checks the limit on open descriptors.
  private static func descriptors() -> DoctorFinding {
    let line = fileText("/proc/self/limits")?.split(separator: "\n").first { $0.hasPrefix("Max open files") }
    let soft = line?.dropFirst("Max open files".count).split(separator: " ").first
    return DoctorFinding(
      "descriptors", soft.map { "limit \($0)" } ?? "limit unknown",
      isRight: soft.map { $0 == "unlimited" || Int($0) ?? 0 >= 1024 } ?? true, remedy: "ulimit -n 4096",
      grade: .limited)
  }

  /// Measures the time that the operating system takes from each core in turn, while a thread only reads the
  /// clock for `milliseconds`. On big machines only the first cores are measured.
  static func measureJitter(cores: Int, milliseconds: Int64) -> [MachineFitness.CoreJitter] {
    (0..<min(max(cores, 0), 8)).compactMap { core in
      var seen = ClinuxJitter()
      // A gap of more than 10 us between two reads counts as an interruption.
      guard clinux_jitter(Int32(core), UInt64(milliseconds) * 1_000_000, 10_000, &seen) == 0, seen.seen_ns > 0
      else { return nil }
      let seconds = Double(seen.seen_ns) / 1e9
      return MachineFitness.CoreJitter(
        core: core, interruptionsPerSecond: Double(seen.gaps) / seconds,
        lostShare: Double(seen.lost_ns) / Double(seen.seen_ns),
        longestMicroseconds: Double(seen.longest_ns) / 1000)
    }
  }

  /// The finding about jitter; it names the worst core.
  static func jitter(_ jitter: [MachineFitness.CoreJitter]) -> DoctorFinding {
    guard let worst = jitter.max(by: { $0.lostShare < $1.lostShare }) else {
      return .init("OS jitter", .ok, "could not be measured")
    }
    let share = (worst.lostShare * 1000).rounded() / 10
    let detail =
      "core \(worst.core) loses \(share) % to \(Int(worst.interruptionsPerSecond.rounded())) interruptions a "
      + "second of over 10 us, the longest \(Int(worst.longestMicroseconds.rounded())) us"
    // More than 2 % is a disturbance, since it is part of every latency measured here.
    return DoctorFinding(
      "OS jitter", detail, isRight: worst.lostShare <= 0.02,
      remedy: "Stop other processes, or wait for them; keep interrupts off the cores.", grade: .disturbed)
  }
}
