import Nylon

/// What can go wrong inside a handler. `description` names the call and the remedy.
public enum PluginError: Error, Equatable, Sendable {
  /// The host did not answer a read in time.
  case readTimedOut(method: Method, timeoutMilliseconds: Int)
  /// The session was closed while a read waited for its answer.
  case sessionClosed(method: Method)
  /// The handler went on after `next` or `end`.
  case phaseIsOver(method: Method)
  /// The host's answer is not what the interface says.
  case badAnswer(method: Method, wanted: String)
  /// A status outside 100-599.
  case badStatus(Int)
  /// A value cannot be made into JSON.
  case notEncodable(type: String)
  /// A header or body is larger than a table holds.
  case tooLarge(MessageError)
  /// The configuration is not what the plugin wants.
  case badConfiguration(reason: String)
}

extension PluginError: CustomStringConvertible {
  /// One sentence.
  public var description: String {
    switch self {
    case .readTimedOut(let method, let milliseconds):
      "\(method): the host did not answer within \(milliseconds) ms; check that it answers reads"
    case .sessionClosed(let method):
      "\(method): the host closed the session before it answered"
    case .phaseIsOver(let method):
      "\(method): the phase is over; read before next() or end()"
    case .badAnswer(let method, let wanted):
      "\(method): the host's answer is not \(wanted)"
    case .tooLarge(let error):
      error.description
    case .badStatus(let status):
      "set_response_status: \(status) is no HTTP status; use 100 to 599"
    case .notEncodable(let type):
      "json: a value of type \(type) cannot be made into JSON; check for NaN and infinity"
    case .badConfiguration(let reason):
      "plugin configuration: \(reason); correct the plugin's `config`"
    }
  }
}
