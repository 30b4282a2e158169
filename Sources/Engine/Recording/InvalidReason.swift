/// Why a measurement is invalid.
package struct InvalidReason: Codable, Sendable, Equatable, Hashable {
  /// What scripts test.
  package var code: Code
  /// The figures behind it, in words.
  package var detail: String

  /// A reason.
  package init(code: Code, detail: String) {
    self.code = code
    self.detail = detail
  }

  /// Every reason, as `summary.csv` spells it.
  package enum Code: String, Codable, Sendable, CaseIterable {
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
    package var comesWithSaturation: Bool {
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
  package var description: String { "\(code.rawValue): \(detail)" }
}
