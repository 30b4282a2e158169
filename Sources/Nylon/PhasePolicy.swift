/// What the host does when a phase fails or times out.
package enum ErrorAction: String, Codable, Sendable, CaseIterable {
  /// Try again with exponential backoff and the same request id.
  case retry
  /// Note the error and go on with the session.
  case `continue`
  /// Fail the session at once.
  case end
}

/// Timeout, error action and retries of one phase.
package struct PhasePolicy: Codable, Sendable, Hashable {
  /// Milliseconds until a phase request without an answer is a timeout.
  package var timeoutMilliseconds: Int
  /// What follows a failure.
  package var onError: ErrorAction
  /// Attempts in all, the first included; at least 1. More than 1 has effect only with `retry`.
  package var attempts: Int
  /// Milliseconds before the first retry; doubled for each further one.
  package var backoffFirstMilliseconds: Int
  /// The most milliseconds before a retry.
  package var backoffMostMilliseconds: Int

  /// A policy.
  package init(
    timeoutMilliseconds: Int, onError: ErrorAction, attempts: Int, backoffFirstMilliseconds: Int,
    backoffMostMilliseconds: Int
  ) {
    self.timeoutMilliseconds = timeoutMilliseconds
    self.onError = onError
    self.attempts = attempts
    self.backoffFirstMilliseconds = backoffFirstMilliseconds
    self.backoffMostMilliseconds = backoffMostMilliseconds
  }

  /// Nylon's "smart defaults": what holds for a phase when nothing is configured.
  package static func standard(for phase: Phase) -> PhasePolicy {
    switch phase {
    case .zero, .requestFilter:
      PhasePolicy(
        timeoutMilliseconds: 5000, onError: .retry, attempts: 3, backoffFirstMilliseconds: 100,
        backoffMostMilliseconds: 1000)
    case .responseFilter, .responseBodyFilter:
      PhasePolicy(
        timeoutMilliseconds: 3000, onError: .continue, attempts: 2, backoffFirstMilliseconds: 50,
        backoffMostMilliseconds: 500)
    case .logging:
      PhasePolicy(
        timeoutMilliseconds: 200, onError: .continue, attempts: 1, backoffFirstMilliseconds: 0,
        backoffMostMilliseconds: 0)
    }
  }
}
