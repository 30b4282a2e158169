import Nylon

/// The part of a phase's policy that a configuration sets; nil parts fall to the next layer.
struct PolicyOverride: Equatable {
  var timeoutMilliseconds: Int?
  var onError: ErrorAction?
  /// `retry.max`: attempts in all, the first included.
  var attempts: Int?
  var backoffFirst: Int?
  var backoffMost: Int?

  static let keys = ["timeout_ms", "on_error", "retry"]
  static let retryKeys = ["max", "backoff_ms_initial", "backoff_ms_max"]
  static let timeoutRange = 1...600_000
  static let attemptsRange = 1...100
  static let backoffRange = 0...60_000

  /// Puts the set parts over a policy. Where only one end of the backoff is set, the other gives way.
  func over(_ base: PhasePolicy) -> PhasePolicy {
    var policy = base
    policy.timeoutMilliseconds = timeoutMilliseconds ?? base.timeoutMilliseconds
    policy.onError = onError ?? base.onError
    policy.attempts = attempts ?? base.attempts
    let first = backoffFirst ?? base.backoffFirstMilliseconds
    let most = backoffMost ?? base.backoffMostMilliseconds
    policy.backoffFirstMilliseconds = backoffFirst == nil ? min(first, most) : first
    policy.backoffMostMilliseconds = backoffMost == nil ? max(first, most) : most
    return policy
  }

  /// Reads a `retry:` block into the override.
  mutating func readRetry(of block: Block, lenient: Bool) {
    guard let retry = block.block("retry", keys: Self.retryKeys, lenient: lenient) else { return }
    attempts = retry.whole("max", in: Self.attemptsRange)
    backoffFirst = retry.whole("backoff_ms_initial", in: Self.backoffRange)
    backoffMost = retry.whole("backoff_ms_max", in: Self.backoffRange)
    if let first = backoffFirst, let most = backoffMost, first > most {
      retry.fail(
        "backoff_ms_initial", "is over \(retry.childPath("backoff_ms_max")) (\(most))",
        remedy: "the first wait is at most the longest one")
    }
  }

  /// Reads the `per_phase:` block of a plugin.
  static func readPerPhase(of plugin: Block, lenient: Bool) -> [Phase: PolicyOverride] {
    let names = Phase.session.map(\.subjectFragment)
    guard let perPhase = plugin.block("per_phase", keys: names, lenient: lenient) else { return [:] }
    var result: [Phase: PolicyOverride] = [:]
    for phase in Phase.session {
      guard let block = perPhase.block(phase.subjectFragment, keys: keys, lenient: lenient) else { continue }
      var override = PolicyOverride()
      override.timeoutMilliseconds = block.whole("timeout_ms", in: timeoutRange)
      override.onError = block.choice("on_error", of: ErrorAction.self)
      override.readRetry(of: block, lenient: lenient)
      result[phase] = override
    }
    return result
  }
}
