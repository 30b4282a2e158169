/// A phase of a proxied request, as the plugin ABI and the NATS subjects number it.
public enum Phase: UInt8, CaseIterable, Codable, Sendable, Hashable, Comparable {
  /// No phase: carries the answers to reads, and events.
  case zero = 0
  /// Before the upstream is called; may end the request.
  case requestFilter = 1
  /// The response's headers are there.
  case responseFilter = 2
  /// The response's body is there.
  case responseBodyFilter = 3
  /// After the response was sent.
  case logging = 4

  /// The four phases of a session, in the order in which they run.
  public static let session = Array(Phase.allCases.dropFirst())

  private static let names = ["zero", "request_filter", "response_filter", "response_body_filter", "logging"]

  /// The name in NATS subjects, scenario files and CSV, such as `request_filter`.
  public var subjectFragment: String { Self.names[Int(rawValue)] }

  /// The phase of that name, or nil.
  public init?(subjectFragment: String) {
    guard let number = Self.names.firstIndex(of: subjectFragment) else { return nil }
    self.init(rawValue: UInt8(number))
  }

  /// Orders phases as a session runs them.
  public static func < (lhs: Phase, rhs: Phase) -> Bool { lhs.rawValue < rhs.rawValue }
}

extension Phase: CodingKeyRepresentable {
  /// Phases are coded by name, as values and as keys.
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

  /// The name as a key.
  public var codingKey: any CodingKey { subjectFragment.codingKey }

  /// The phase of a key.
  public init?<T: CodingKey>(codingKey: T) { self.init(subjectFragment: codingKey.stringValue) }
}

/// What the host does when a phase fails or times out.
package enum ErrorAction: String, Codable, Sendable, CaseIterable {
  /// Try again with exponential backoff and the same request id.
  case retry
  /// Note the error and go on with the session.
  case `continue`
  /// End the session.
  case end
}

/// Timeout, error action and retries of one phase.
package struct PhasePolicy: Codable, Sendable, Hashable {
  /// Milliseconds until a phase request without an answer is a timeout.
  package var timeoutMilliseconds: Int
  package var onError: ErrorAction
  /// Attempts in all, the first included; at least 1. More than 1 has effect only with `retry`.
  package var attempts: Int
  /// Milliseconds before the first retry; doubled for each further one.
  package var backoffFirstMilliseconds: Int
  /// The most milliseconds before a retry.
  package var backoffMostMilliseconds: Int

  /// Nylon's "smart defaults": what holds for a phase when nothing is configured.
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
