import ArgumentParser
import Foundation
import Lab
import Engine
import Results
import Report
import Scenario

/// The exit codes that the commands promise.
enum Exit {
  static let failure = ExitCode(1)
  static let badInput = ExitCode(65)
  static let missing = ExitCode(69)
  static let internalError = ExitCode(70)
  static let gateNotMet = ExitCode(80)
  static let invalid = ExitCode(81)
  static let inconclusive = ExitCode(82)
  static let interrupted = ExitCode(130)

  /// Runs a command's work; says on standard error what went wrong and turns it into an exit code.
  static func guarding(_ work: () throws -> Void) throws {
    do {
      try work()
    } catch let code as ExitCode {
      throw code
    } catch {
      Console.error("error: \(text(of: error))")
      throw code(for: error)
    }
  }

  private static func text(of error: any Error) -> String {
    if let failure = error as? LoadFailure { return failure.message }
    return "\(error)"
  }

  private static func code(for error: any Error) -> ExitCode {
    switch error {
    case is ScenarioError: return badInput
    case let error as LabError:
      if case .invalid = error { return badInput }
      return error.isMissing ? missing : failure
    case let error as LoadFailure:
      switch error.kind {
      case .missing: return missing
      case .scenario: return badInput
      case .failed: return failure
      }
    case let error as RunFolderError: return [.missing, .invalid].contains(error.kind) ? badInput : failure
    case is CountsDoNotClose: return internalError
    default: return failure
    }
  }
}

/// The sum of ends is not the number of requests: a fault of ours.
struct CountsDoNotClose: Error, CustomStringConvertible {
  let target: String
  let load: String
  let scope: String
  let sent: UInt64
  let ended: UInt64

  var description: String {
    "internal error: \(target) under \(load), \(scope): \(sent) sent but \(ended) ended. The run is saved; please report it with its run.json."
  }
}
