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

  /// Nothing known.
  public init() {}
}
