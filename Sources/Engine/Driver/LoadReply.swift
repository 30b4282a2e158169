import NATS

/// What a load process brings: a measurement, or why there is none.
package struct LoadReply: Codable, Sendable {
  /// The measurement; nil when the load could not start.
  package var measurement: Measurement?
  /// Why the load could not start; nil when it did.
  package var failure: LoadFailure?

  /// A reply.
  package init(measurement: Measurement? = nil, failure: LoadFailure? = nil) {
    self.measurement = measurement
    self.failure = failure
  }
}

/// Why a load could not start.
package struct LoadFailure: Codable, Sendable, Equatable, Error {
  /// What kind of fault it is, which decides the command's exit code.
  package enum Kind: String, Codable, Sendable {
    /// Something needed is missing or unusable: a plugin file, a broker.
    case missing
    /// The scenario is wrong: a handler that the plugin does not have.
    case scenario
    /// Anything else.
    case failed
  }

  /// What kind.
  package var kind: Kind
  /// What is wrong and what to do about it, without secrets.
  package var message: String

  /// A failure.
  package init(kind: Kind, message: String) {
    self.kind = kind
    self.message = message
  }
  /// The failure that an error of a load means.
  package init(_ error: any Error) {
    switch error {
    case let failure as LoadFailure: self = failure
    case PluginError.noSuchEntry: self.init(kind: .scenario, message: "\(error)")
    case is PluginError, is BrokerError, is SecurityFileError: self.init(kind: .missing, message: "\(error)")
    default: self.init(kind: .failed, message: "\(error)")
    }
  }
}
