import FoundationEssentials
import Nylon

/// The way on which a phase reached the plugin.
public enum Transport: String, Sendable, CaseIterable {
  /// In the host's process.
  case ffi = "FFI"
  /// Through a queue group.
  case nats = "NATS"
}

/// What a transport does for a phase. One object serves one phase at a time.
protocol PhaseBackend: AnyObject {
  var transport: Transport { get }
  /// The argument is a header's name; an absent one's text is empty.
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
  /// `next`, `end` or `setResponseStreamEnd`; called once.
  func finish(_ method: Method)
}

/// One phase of one session, as its handler sees it. Valid until the handler returns.
///
/// After `next()` or `end()` the phase is over: further changes are ignored, reads throw.
public final class PhaseContext {
  let backend: any PhaseBackend
  private(set) var finishedBy: Method?

  /// The phase that runs.
  public private(set) var phase = Phase.zero
  /// The session: one proxied HTTP request.
  public private(set) var sessionID: UInt32 = 0

  init(backend: any PhaseBackend) { self.backend = backend }

  /// Makes it the context of another phase.
  func begin(phase: Phase, sessionID: UInt32) {
    self.phase = phase
    self.sessionID = sessionID
    finishedBy = nil
  }

  /// The way on which the phase came.
  public var transport: Transport { backend.transport }
  /// The HTTP request.
  public var request: PluginRequest { PluginRequest(context: self) }
  /// The HTTP response.
  public var response: PluginResponse { PluginResponse(context: self) }

  /// Goes on. A second call, or one after `end()`, is harmless.
  public func next() { finish(.next) }

  /// Ends the request with the response as the plugin made it. A second call, or one after
  /// `next()`, is harmless.
  public func end() { finish(.end) }

  /// Short for `response.setHeader`.
  public func setResponseHeader(_ name: String, _ value: String) throws(PluginError) {
    try response.setHeader(name, value)
  }

  /// The payload that the route gives its middleware, JSON; empty when there is none. Through
  /// NATS it does not travel: empty.
  public func payload() throws(PluginError) -> [UInt8] { try bytes(.getPayload) }

  /// The payload as a value; nil when there is none.
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

  /// The backend for a read, unless the phase is over.
  func reading(_ method: Method) throws(PluginError) -> any PhaseBackend {
    if finishedBy != nil { throw .phaseIsOver(method: method) }
    return backend
  }

  /// The backend for a change, nil when the phase is over.
  var writing: (any PhaseBackend)? { finishedBy == nil ? backend : nil }

  /// Runs a handler and ends the phase if it did not; gives the error that it threw.
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

/// Reads for the request and the response.
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
