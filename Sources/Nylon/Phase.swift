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
  public static let session: [Phase] = [
    .requestFilter, .responseFilter, .responseBodyFilter, .logging,
  ]

  /// The name in NATS subjects, scenario files and CSV, such as `request_filter`.
  public var subjectFragment: String {
    switch self {
    case .zero: "zero"
    case .requestFilter: "request_filter"
    case .responseFilter: "response_filter"
    case .responseBodyFilter: "response_body_filter"
    case .logging: "logging"
    }
  }

  /// The phase of that name, or nil.
  public init?(subjectFragment: String) {
    guard let phase = Phase.allCases.first(where: { $0.subjectFragment == subjectFragment }) else {
      return nil
    }
    self = phase
  }

  /// Orders phases as a session runs them.
  public static func < (lhs: Phase, rhs: Phase) -> Bool { lhs.rawValue < rhs.rawValue }
}

extension Phase: CodingKeyRepresentable {
  /// Phases are coded by name, as values and as keys.
  public init(from decoder: any Decoder) throws {
    let name = try decoder.singleValueContainer().decode(String.self)
    guard let phase = Phase(subjectFragment: name) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "'\(name)' is not a phase"))
    }
    self = phase
  }

  /// Encodes the name.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(subjectFragment)
  }

  /// The name as a key.
  public var codingKey: any CodingKey { PhaseKey(stringValue: subjectFragment) }

  /// The phase of a key.
  public init?<T: CodingKey>(codingKey: T) { self.init(subjectFragment: codingKey.stringValue) }

  private struct PhaseKey: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }
}
