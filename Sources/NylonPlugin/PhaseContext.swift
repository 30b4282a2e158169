import FoundationEssentials
import Nylon

/// The transport through which a phase reached the plugin.
public enum Transport: String, Sendable, CaseIterable {
  /// In the host's process, through C symbols.
  case ffi = "FFI"
  /// In a worker process, through a NATS queue group.
  case nats = "NATS"
}

/// The operations that a transport provides for a phase. An object serves one phase at a time.
protocol PhaseBackend: AnyObject {
  var transport: Transport { get }
  /// Reads a text. The argument is a header's name; the text of an absent header is empty.
  func text(_ method: Method, _ argument: String) throws(PluginError) -> String
  func bytes(_ method: Method) throws(PluginError) -> [UInt8]
  func headers(_ method: Method) throws(PluginError) -> [KeyValue]
  func params() throws(PluginError) -> [String: String]
  func setHeader(_ name: String, _ value: String) throws(PluginError)
  func removeHeader(_ name: String) throws(PluginError)
  func setStatus(_ status: UInt16) throws(PluginError)
  func setBody(_ bytes: [UInt8]) throws(PluginError)
  func streamHeader() throws(PluginError)
  func streamData(_ bytes: [UInt8]) throws(PluginError)
  /// Ends the phase with `next`, `end` or `setResponseStreamEnd`; called once.
  func finish(_ method: Method)
}

/// A phase of a session, as passed to its handler. Valid until the handler returns.
///
/// The phase is over after `next()` or `end()`: later changes are ignored, and reads throw
/// `PluginError.phaseIsOver`.
public final class PhaseContext {
  let backend: any PhaseBackend
  private(set) var finishedBy: Method?

  /// The current phase.
  public private(set) var phase = Phase.zero
  /// The session's identifier. A session is one proxied HTTP request.
  public private(set) var sessionID: UInt32 = 0

  init(backend: any PhaseBackend) { self.backend = backend }

  /// Reuses the context for another phase.
  func begin(phase: Phase, sessionID: UInt32) {
    self.phase = phase
    self.sessionID = sessionID
    finishedBy = nil
  }

  /// The transport through which the phase reached the plugin.
  public var transport: Transport { backend.transport }
  /// The HTTP request.
  public var request: PluginRequest { PluginRequest(context: self) }
  /// The HTTP response.
  public var response: PluginResponse { PluginResponse(context: self) }

  /// Ends the phase and lets the request continue. Does nothing if the phase is already over.
  public func next() { finish(.next) }

  /// Ends the request with the plugin's response. Does nothing if the phase is already over.
  public func end() { finish(.end) }

  /// Sets a response header; equivalent to `response.setHeader`.
  public func setResponseHeader(_ name: String, _ value: String) throws(PluginError) {
    try response.setHeader(name, value)
  }

  /// Returns the JSON payload of the route's middleware, or an empty array if there is none. The payload is
  /// not transmitted through NATS, where the result is always empty.
  public func payload() throws(PluginError) -> [UInt8] { try bytes(.getPayload) }

  /// Decodes the payload of the route's middleware; returns nil if there is none.
  ///
  /// - Throws: `PluginError.badAnswer` if the payload is not valid JSON for `type`.
  public func payload<Value: Decodable>(as type: Value.Type) throws(PluginError) -> Value? {
    let json = try payload()
    if json.isEmpty { return nil }
    guard let value = try? JSONDecoder().decode(type, from: Data(json)) else {
      throw .badAnswer(method: .getPayload, wanted: "JSON of type \(type)")
    }
    return value
  }

  func finish(_ method: Method) {
    guard finishedBy == nil else { return }
    finishedBy = method
    backend.finish(method)
  }

  /// Returns the backend for a read; throws if the phase is over.
  func reading(_ method: Method) throws(PluginError) -> any PhaseBackend {
    if finishedBy != nil { throw .phaseIsOver(method: method) }
    return backend
  }

  /// The backend for a change; nil if the phase is over.
  var writing: (any PhaseBackend)? { finishedBy == nil ? backend : nil }

  /// Runs a handler and calls `next()` unless it ended the phase. Returns the error that it threw, if any.
  func run(_ handler: Plugin.Handler?) -> (any Error)? {
    do {
      try handler?(self)
    } catch {
      return error
    }
    next()
    return nil
  }
}

/// Reads shared by the request and the response.
extension PhaseContext {
  func text(_ method: Method, _ argument: String = "") throws(PluginError) -> String {
    try reading(method).text(method, argument)
  }

  func bytes(_ method: Method) throws(PluginError) -> [UInt8] { try reading(method).bytes(method) }

  func headers(_ method: Method) throws(PluginError) -> [KeyValue] { try reading(method).headers(method) }

  func number(_ method: Method) throws(PluginError) -> Int {
    guard let number = Int(try text(method)) else {
      throw .badAnswer(method: method, wanted: "a decimal number")
    }
    return number
  }
}
