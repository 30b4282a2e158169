/// Why a measurement is invalid.
public struct InvalidReason: Codable, Sendable, Equatable, Hashable {
  /// What scripts test.
  public var code: Code
  /// The figures behind it, in words.
  public var detail: String

  /// A reason.
  public init(code: Code, detail: String) {
    self.code = code
    self.detail = detail
  }

  /// Every reason, as `summary.csv` spells it.
  public enum Code: String, Codable, Sendable, CaseIterable {
    case noAnswers = "no_answers"
    case stalled
    case wrongDialect = "wrong_dialect"
    case generatorLate = "generator_late"
    case saturated
    case neverSteady = "never_steady"
    case steal
    case unoptimisedBuild = "unoptimised_build"
    case pluginCrashed = "plugin_crashed"
    case pluginHung = "plugin_hung"
    case workerDied = "worker_died"
    case brokerDied = "broker_died"
    case linkDied = "link_died"
    case interrupted
    case failed

    /// Whether a load beyond what the target or the generator can do brings this reason with it: it says
    /// nothing against the verdict that the rate is out of reach.
    public var comesWithSaturation: Bool {
      switch self {
      case .saturated, .generatorLate, .neverSteady: true
      case .noAnswers, .stalled, .wrongDialect, .steal, .unoptimisedBuild, .pluginCrashed, .pluginHung,
        .workerDied, .brokerDied, .linkDied, .interrupted, .failed:
        false
      }
    }
  }
}

extension InvalidReason: CustomStringConvertible {
  /// `steal: the hypervisor took 7.1 % of CPU time`.
  public var description: String { "\(code.rawValue): \(detail)" }
}
