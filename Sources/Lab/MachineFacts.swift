import Engine

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

    /// A core's jitter.
    package init(core: Int, interruptionsPerSecond: Double, lostShare: Double, longestMicroseconds: Double) {
      self.core = core
      self.interruptionsPerSecond = interruptionsPerSecond
      self.lostShare = lostShare
      self.longestMicroseconds = longestMicroseconds
    }
  }

  /// The grade, the worst that a reason gives.
  package var grade: Grade
  /// Why it is not better, a sentence each.
  package var reasons: [String]
  /// Each core's jitter; empty when it could not be measured.
  package var jitter: [CoreJitter]

  /// A judgement.
  package init(grade: Grade, reasons: [String], jitter: [CoreJitter]) {
    self.grade = grade
    self.reasons = reasons
    self.jitter = jitter
  }
}
