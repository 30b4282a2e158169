import Engine
import Lab
import Results
import Scenario

/// Why a command ends with another exit code than 0; the raw value is the code, which is promised.
package enum ExitReason: Int32, Error {
  case failure = 1
  case badInput = 65
  case missing = 69
  case internalError = 70
  case gateNotMet = 80
  case invalid = 81
  case inconclusive = 82
  case interrupted = 130

  /// The reason that an error stands for.
  init(_ error: any Error) {
    switch error {
    case let reason as ExitReason: self = reason
    case is ScenarioError: self = .badInput
    case let error as LabError:
      self = error.isInvalidInput ? .badInput : error.isMissing ? .missing : .failure
    case let error as LoadFailure:
      switch error.kind {
      case .missing: self = .missing
      case .scenario: self = .badInput
      case .failed: self = .failure
      }
    case let error as RunFolderError:
      self = [.missing, .invalid].contains(error.kind) ? .badInput : .failure
    case is CountsDoNotClose: self = .internalError
    default: self = .failure
    }
  }

  /// Does a command's work; an error is told on standard error, and the reason to end with returned.
  package static func of(_ work: () throws -> Void) -> ExitReason? {
    do {
      try work()
      return nil
    } catch {
      // A reason that was thrown as such has been told already.
      if !(error is ExitReason) {
        Console.error("error: \((error as? LoadFailure)?.message ?? "\(error)")")
      }
      return ExitReason(error)
    }
  }
}

/// The sum of all ends is not the number of requests, which is a defect of nylon-bench.
struct CountsDoNotClose: Error, CustomStringConvertible {
  let target: String
  let load: String
  let scope: String
  let sent: UInt64
  let ended: UInt64

  var description: String {
    "internal error: \(target) under \(load), \(scope): \(sent) sent but \(ended) ended. "
      + "The run is saved; please report it with its run.json."
  }
}
