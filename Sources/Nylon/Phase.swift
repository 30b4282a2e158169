/// A phase of a proxied request, numbered as in the plugin ABI.
public enum Phase: UInt8, CaseIterable, Codable, Sendable, Hashable, Comparable {
  /// No phase; used for answers to reads and for events.
  case zero = 0
  /// Before the upstream is called; may end the request.
  case requestFilter = 1
  /// When the response headers are available.
  case responseFilter = 2
  /// When the response body is available.
  case responseBodyFilter = 3
  /// After the response was sent.
  case logging = 4

  /// The four phases of a session, in the order in which they run.
  public static let session = Array(Phase.allCases.dropFirst())

  private static let names = ["zero", "request_filter", "response_filter", "response_body_filter", "logging"]

  /// The name in NATS subjects, scenario files and CSV, such as `request_filter`.
  public var subjectFragment: String { Self.names[Int(rawValue)] }

  /// Creates the phase with a name, or returns nil.
  public init?(subjectFragment: String) {
    guard let number = Self.names.firstIndex(of: subjectFragment) else { return nil }
    self.init(rawValue: UInt8(number))
  }

  /// Orders phases as they run in a session.
  public static func < (lhs: Phase, rhs: Phase) -> Bool { lhs.rawValue < rhs.rawValue }
}

extension Phase: CodingKeyRepresentable {
  /// Decodes a phase from its name.
  public init(from decoder: any Decoder) throws {
    let name = try String(from: decoder)
    guard let phase = Phase(subjectFragment: name) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "'\(name)' is not a phase"))
    }
    self = phase
  }

  /// Encodes the name.
  public func encode(to encoder: any Encoder) throws { try subjectFragment.encode(to: encoder) }

  /// The name as a coding key.
  public var codingKey: any CodingKey { subjectFragment.codingKey }

  /// Creates the phase named by a coding key, or returns nil.
  public init?<T: CodingKey>(codingKey: T) { self.init(subjectFragment: codingKey.stringValue) }
}

/// The host's reaction when a phase fails or times out.
package enum ErrorAction: String, Codable, Sendable, CaseIterable {
  /// Retry with exponential backoff and the same request id.
  case retry
  /// Record the error and continue the session.
  case `continue`
  /// End the session.
  case end
}

/// The timeout, error action and retries of one phase.
package struct PhasePolicy: Codable, Sendable, Hashable {
  /// The timeout of a phase request, in milliseconds.
  package var timeoutMilliseconds: Int
  package var onError: ErrorAction
  /// The total number of attempts, including the first; at least 1. More than 1 has an effect only with
  /// `retry`.
  package var attempts: Int
  /// The backoff before the first retry, in milliseconds; it doubles for each further retry.
  package var backoffFirstMilliseconds: Int
  /// The maximum backoff before a retry, in milliseconds.
  package var backoffMostMilliseconds: Int

  /// Nylon's "smart defaults", which apply to a phase that is not configured.
  package static func standard(for phase: Phase) -> PhasePolicy {
    let (timeout, onError, attempts, first, most): (Int, ErrorAction, Int, Int, Int) =
      switch phase {
      case .zero, .requestFilter: (5000, .retry, 3, 100, 1000)
      case .responseFilter, .responseBodyFilter: (3000, .continue, 2, 50, 500)
      case .logging: (200, .continue, 1, 0, 0)
      }
    return PhasePolicy(
      timeoutMilliseconds: timeout, onError: onError, attempts: attempts, backoffFirstMilliseconds: first,
      backoffMostMilliseconds: most)
  }
}
