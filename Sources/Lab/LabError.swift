/// What can go wrong around a load. Every text names the thing, what is the matter with it, and
/// what to do; none holds a secret.
package struct LabError: Error, Sendable, Equatable, CustomStringConvertible {
  enum Kind: Sendable { case missing, invalid, failed }

  let kind: Kind
  package let description: String

  /// True when something needed is missing, or does not answer: the command then ends with code 69.
  package var isMissing: Bool { kind == .missing }

  /// True when something was there and did not do what it had to.
  package var hasFailed: Bool { kind == .failed }

  /// True when a value of the user's cannot be used: the command then ends with code 65.
  package var isInvalidInput: Bool { kind == .invalid }

  /// Something that must be installed or built is not there.
  package static func missing(_ thing: String, remedy: String) -> LabError {
    LabError(kind: .missing, description: "\(thing) is missing. \(remedy)")
  }

  /// Something is there that is no program.
  static func notExecutable(_ thing: String, remedy: String) -> LabError {
    LabError(kind: .missing, description: "\(thing) is not an executable file. \(remedy)")
  }

  /// A value that cannot be used.
  package static func invalid(_ thing: String, remedy: String) -> LabError {
    LabError(kind: .invalid, description: "\(thing). \(remedy)")
  }

  /// The system refused something: a descriptor, memory, a thread.
  package static func system(_ what: String, errno number: Int32) -> LabError {
    LabError(kind: .failed, description: "\(what): \(systemErrorText(number)).")
  }

  /// A program is there but cannot be executed.
  package static func cannotStart(program: String, why: String) -> LabError {
    LabError(kind: .failed, description: "\(program) cannot be started: \(why).")
  }

  /// A program ended, or said nothing, where it should have become ready.
  static func notReady(_ thing: String, why: String, lastWords: String) -> LabError {
    LabError(kind: .failed, description: "\(thing) did not become ready: \(why).\(quoted(lastWords))")
  }

  static func workerDied(_ death: WorkerDeath) -> LabError {
    let how = "Worker \(death.index) \(death.status) while it was starting."
    return LabError(kind: .failed, description: how + quoted(death.lastWords))
  }

  /// A broker does not answer as one.
  static func brokerUnreachable(address: String, why: String) -> LabError {
    LabError(kind: .missing, description: "The broker at \(address) does not answer: \(why).")
  }

  private static func quoted(_ words: String) -> String {
    words.isEmpty ? " It said nothing." : " Its last words:\n\(words)"
  }
}
