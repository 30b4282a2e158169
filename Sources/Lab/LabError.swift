import NATS

/// What can go wrong around a load. Every text names the thing, what is the matter with it, and
/// what to do; none holds a secret.
package enum LabError: Error, Sendable, Equatable {
  /// Something that must be installed or built is not there (exit code 69).
  case missing(String, remedy: String)
  /// A program is there but cannot be executed.
  case cannotStart(program: String, why: String)
  /// A program ended, or said nothing, where it should have become ready.
  case notReady(String, why: String, lastWords: String)
  /// A worker ended while it was starting; `status` says how.
  case workerDied(index: Int, status: ExitStatus, lastWords: String)
  /// A broker does not answer as one (exit code 69).
  case brokerUnreachable(address: String, why: String)
  /// A broker refuses the credentials (exit code 69).
  case brokerRefusesCredentials(address: String, why: String)
  /// TLS with a broker does not come about: one side does not accept the other's (exit code 69).
  case noTLS(address: String, why: String, remedy: String)
  /// A file of credentials or TLS is missing, unreadable or malformed (exit code 69).
  case unusableFile(SecurityFileError)
  /// A value that cannot be used (exit code 65).
  case invalid(String, remedy: String)
  /// The system refused something: a descriptor, memory, a thread.
  case system(String, errno: Int32)

  /// True when something needed is missing: the command then ends with code 69.
  package var isMissing: Bool {
    switch self {
    case .missing, .brokerUnreachable, .brokerRefusesCredentials, .noTLS, .unusableFile: true
    default: false
    }
  }

  /// True when a value of the user's cannot be used: the command then ends with code 65.
  package var isInvalidInput: Bool {
    if case .invalid = self { true } else { false }
  }
}

extension LabError: CustomStringConvertible {
  /// What is wrong, and what to do about it.
  package var description: String {
    switch self {
    case .missing(let thing, let remedy):
      return "\(thing) is missing. \(remedy)"
    case .cannotStart(let program, let why):
      return "\(program) cannot be started: \(why)."
    case .notReady(let thing, let why, let words):
      return "\(thing) did not become ready: \(why).\(LabError.quoted(words))"
    case .workerDied(let index, let status, let words):
      return "Worker \(index) \(status) while it was starting.\(LabError.quoted(words))"
    case .brokerUnreachable(let address, let why):
      return "The broker at \(address) does not answer: \(why)."
    case .brokerRefusesCredentials(let address, let why):
      return "The broker at \(address) refuses the credentials: \(why). Check the `auth:` block."
    case .noTLS(let address, let why, let remedy):
      return "There is no TLS connection to the broker at \(address): \(why). \(remedy)"
    case .unusableFile(let error):
      return error.description
    case .invalid(let thing, let remedy):
      return "\(thing). \(remedy)"
    case .system(let what, let number):
      return "\(what): \(systemErrorText(number))."
    }
  }

  private static func quoted(_ words: String) -> String {
    words.isEmpty ? " It said nothing." : " Its last words:\n\(words)"
  }
}
