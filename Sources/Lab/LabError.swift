/// An error around a load. Every text names the thing, the problem and the remedy; none contains a secret.
package struct LabError: Error, Sendable, Equatable, CustomStringConvertible {
  enum Kind: Sendable { case missing, invalid, failed }

  let kind: Kind
  package let description: String

  /// True when something required is missing or does not answer: the command then exits with code 69.
  package var isMissing: Bool { kind == .missing }

  /// True when something exists but did not do its work.
  package var hasFailed: Bool { kind == .failed }

  /// True when a value from the user is not valid: the command then exits with code 65.
  package var isInvalidInput: Bool { kind == .invalid }

  /// Something that must be installed or built is missing.
  package static func missing(_ thing: String, remedy: String) -> LabError {
    LabError(kind: .missing, description: "\(thing) is missing. \(remedy)")
  }

  package static func invalid(_ thing: String, remedy: String) -> LabError {
    LabError(kind: .invalid, description: "\(thing). \(remedy)")
  }

  /// The system refused a resource: a descriptor, memory, a thread.
  package static func system(_ what: String, errno number: Int32) -> LabError {
    LabError(kind: .failed, description: "\(what): \(systemErrorText(number)).")
  }

  /// A program exists but cannot be executed.
  package static func cannotStart(program: String, why: String) -> LabError {
    LabError(kind: .failed, description: "\(program) cannot be started: \(why).")
  }

  /// A program ended or stayed silent instead of becoming ready.
  static func notReady(_ thing: String, why: String, lastWords: String) -> LabError {
    LabError(kind: .failed, description: "\(thing) did not become ready: \(why).\(quoted(lastWords))")
  }

  static func workerDied(_ death: WorkerDeath) -> LabError {
    let how = "Worker \(death.index) \(death.status) while it was starting."
    return LabError(kind: .failed, description: how + quoted(death.lastWords))
  }

  /// No broker answers at this address.
  static func brokerUnreachable(address: String, why: String) -> LabError {
    LabError(kind: .missing, description: "The broker at \(address) does not answer: \(why).")
  }

  private static func quoted(_ words: String) -> String {
    words.isEmpty ? " It printed nothing." : " Its last output:\n\(words)"
  }
}
