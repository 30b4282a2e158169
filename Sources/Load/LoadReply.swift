import struct Measure.Measurement

/// What a load process brings: a measurement, or why there is none.
public struct LoadReply: Codable, Sendable {
  /// The measurement; nil when the load could not start.
  public var measurement: Measurement?
  /// Why the load could not start; nil when it did.
  public var failure: LoadFailure?

  /// A reply.
  public init(measurement: Measurement? = nil, failure: LoadFailure? = nil) {
    self.measurement = measurement
    self.failure = failure
  }
}

/// Why a load could not start.
public struct LoadFailure: Codable, Sendable, Equatable, Error {
  /// What kind of fault it is, which decides the command's exit code.
  public enum Kind: String, Codable, Sendable {
    /// Something needed is missing or unusable: a plugin file, a broker.
    case missing
    /// The scenario is wrong: a handler that the plugin does not have.
    case scenario
    /// Anything else.
    case failed
  }

  /// What kind.
  public var kind: Kind
  /// What is wrong and what to do about it, without secrets.
  public var message: String

  /// A failure.
  public init(kind: Kind, message: String) {
    self.kind = kind
    self.message = message
  }
}
