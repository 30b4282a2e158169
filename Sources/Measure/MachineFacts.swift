/// What machine a run was made on. A fact that could not be read is nil.
public struct MachineFacts: Codable, Sendable, Equatable {
  /// CPU model name.
  public var cpuModel: String?
  /// Logical cores that this process may use.
  public var cores: Int?
  /// Threads per core; 1 without SMT.
  public var threadsPerCore: Int?
  /// Frequency governor.
  public var governor: String?
  /// Kernel clock source, such as `tsc`.
  public var clockSource: String?
  /// Kernel release.
  public var kernel: String?
  /// Operating system, such as `Debian GNU/Linux 12 (bookworm)`.
  public var operatingSystem: String?
  /// Hypervisor, nil on bare metal or when unknown.
  public var hypervisor: String?
  /// cgroup CPU limit in cores; nil when there is none.
  public var cgroupCores: Double?
  /// Memory, bytes.
  public var memoryBytes: UInt64?
  /// One-minute load average when the run began.
  public var loadAverage: Double?
  /// Whether our own build is optimised.
  public var optimisedBuild: Bool = false
  /// Versions: `nylon-bench`, `swift`, `nats-server`, `libnats`, `jemalloc`, …
  public var versions: [String: String] = [:]

  /// How fit it was when the run began; nil when nobody looked.
  public var fitness: MachineFitness?

  /// Nothing known.
  public init() {}
}

/// How fit a machine is to measure on.
public struct MachineFitness: Codable, Sendable, Equatable {
  /// From good to bad.
  public enum Grade: String, Codable, Sendable, Comparable {
    /// Nothing was found that would spoil a figure.
    case fit = "A"
    /// Its own nature limits what can be measured: few cores, a CPU limit, a saving governor.
    case limited = "B"
    /// Something else runs, or takes CPU time away, right now.
    case disturbed = "C"
    /// Figures from here are invalid, or cannot be had.
    case unfit = "D"

    /// Better grades are less.
    public static func < (lhs: Self, rhs: Self) -> Bool { lhs.rawValue < rhs.rawValue }
  }

  /// What the operating system took from a core that was not asked to do anything else.
  public struct CoreJitter: Codable, Sendable, Equatable {
    /// Place among the cores that the process may use, from 0.
    public var core: Int
    /// Interruptions of over 10 us, a second.
    public var interruptionsPerSecond: Double
    /// Share of the time that they took, 0-1.
    public var lostShare: Double
    /// The longest, microseconds.
    public var longestMicroseconds: Double

    /// A core's jitter.
    public init(core: Int, interruptionsPerSecond: Double, lostShare: Double, longestMicroseconds: Double) {
      self.core = core
      self.interruptionsPerSecond = interruptionsPerSecond
      self.lostShare = lostShare
      self.longestMicroseconds = longestMicroseconds
    }
  }

  /// The grade, the worst that a reason gives.
  public var grade: Grade
  /// Why it is not better, a sentence each.
  public var reasons: [String]
  /// Each core's jitter; empty when it could not be measured.
  public var jitter: [CoreJitter]

  /// A judgement.
  public init(grade: Grade, reasons: [String], jitter: [CoreJitter]) {
    self.grade = grade
    self.reasons = reasons
    self.jitter = jitter
  }
}
