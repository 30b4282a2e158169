import FoundationEssentials
import Glibc
import Nylon
import Synchronization

/// A plugin: named entries with phase handlers, which can be served in-process or through NATS.
///
/// ```swift
/// let plugin = Plugin()
/// plugin.addPhaseHandler("authz") { phase in
///   phase.requestFilter { ctx in
///     try ctx.response.setHeader("X-Plugin-Transport", ctx.transport.rawValue)
///     ctx.next()
///   }
/// }
/// ```
///
/// Add all handlers before serving the plugin; handlers added later are ignored.
public final class Plugin: Sendable {
  /// A handler of one phase. It runs on a thread of the SDK and may block.
  ///
  /// If a handler returns without calling `next()` or `end()`, the SDK calls `next()`. If it throws, the
  /// phase ends with an error; see `FFIServer` and `NATSWorker` for the host's view.
  public typealias Handler = @Sendable (PhaseContext) throws -> Void

  private struct State {
    var entries: [(name: String, handlers: [Phase: Handler])] = []
    var initialize: [@Sendable (PluginConfiguration) throws -> Void] = []
    var shutdown: [@Sendable () -> Void] = []
    var isShutDown = false
  }

  private let state = Mutex(State())

  /// Creates a plugin without handlers.
  public init() {}

  /// Adds an entry with its handlers, replacing an entry of the same name. A phase without a handler
  /// continues with `next` immediately.
  public func addPhaseHandler(_ entry: String, _ build: (PhaseHandler) -> Void) {
    let phase = PhaseHandler()
    build(phase)
    let added = (entry, phase.handlers)
    state.withLock { state in
      state.entries.removeAll { $0.name == entry }
      state.entries.append(added)
    }
  }

  /// Adds a hook that runs with the configuration on each initialization, before the first phase.
  public func onInitialize(_ hook: @escaping @Sendable (PluginConfiguration) throws -> Void) {
    state.withLock { $0.initialize.append(hook) }
  }

  /// Adds a hook that runs when the host or the worker shuts down.
  public func onShutdown(_ hook: @escaping @Sendable () -> Void) {
    state.withLock { $0.shutdown.append(hook) }
  }

  /// The names of the entries, in the order of their addition.
  public var entries: [String] { state.withLock { $0.entries.map(\.name) } }

  /// Runs the `onInitialize` hooks in order; rethrows the first error.
  public func initialize(_ configuration: PluginConfiguration) throws {
    // Outside the lock, because a hook may add handlers.
    let hooks = state.withLock { state in
      state.isShutDown = false
      return state.initialize
    }
    for hook in hooks { try hook(configuration) }
  }

  /// Runs the `onShutdown` hooks. Further calls do nothing until the next `initialize`.
  public func shutdown() {
    let hooks = state.withLock { state in
      defer { state.isShutDown = true }
      return state.isShutDown ? [] : state.shutdown
    }
    for hook in hooks { hook() }
  }

  /// Returns a snapshot of the handlers.
  func handlerTable() -> HandlerTable { HandlerTable(state.withLock { $0.entries }) }
}

/// Collects the phase handlers of one entry.
public final class PhaseHandler {
  fileprivate var handlers: [Phase: Plugin.Handler] = [:]

  /// Sets the handler that runs before the upstream is called; it may end the request.
  public func requestFilter(_ handler: @escaping Plugin.Handler) { handlers[.requestFilter] = handler }
  /// Sets the handler that runs when the response headers are available.
  public func responseFilter(_ handler: @escaping Plugin.Handler) { handlers[.responseFilter] = handler }
  /// Sets the handler that runs when the response body is available.
  public func responseBodyFilter(_ handler: @escaping Plugin.Handler) {
    handlers[.responseBodyFilter] = handler
  }
  /// Sets the handler that runs after the response was sent.
  public func logging(_ handler: @escaping Plugin.Handler) { handlers[.logging] = handler }
}

/// The handlers, looked up by the UTF-8 bytes of the entry's name to avoid creating a String per request.
struct HandlerTable: Sendable {
  let names: [[UInt8]]
  /// The handlers of all phases of the first entry, followed by those of the next.
  private let handlers: [Plugin.Handler?]
  private let phaseCount = Phase.allCases.count

  init(_ entries: [(name: String, handlers: [Phase: Plugin.Handler])]) {
    names = entries.map { Array($0.name.utf8) }
    handlers = entries.flatMap { entry in Phase.allCases.map { entry.handlers[$0] } }
  }

  /// Returns the index of the entry, or nil if there is none.
  func index(of name: UnsafeRawBufferPointer) -> Int? {
    // A plugin has only a few entries, so a scan is faster than hashing.
    names.firstIndex { own in
      guard own.count == name.count else { return false }
      guard let start = name.baseAddress else { return true }
      return memcmp(own, start, own.count) == 0
    }
  }

  /// The entry's handler for a phase, or nil if it has none.
  @inline(__always)
  subscript(_ index: Int, _ phase: Phase) -> Plugin.Handler? {
    handlers[index &* phaseCount &+ Int(phase.rawValue)]
  }

  /// The names as a comma-separated list, for messages.
  var list: String { names.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ", ") }
}

/// The JSON configuration of a plugin.
public struct PluginConfiguration: Sendable {
  /// The JSON text in UTF-8; empty if nothing is configured.
  public let json: [UInt8]

  /// Creates a configuration from JSON text in UTF-8.
  public init(json: [UInt8] = []) { self.json = json }

  /// Decodes the configuration; returns nil if nothing is configured.
  ///
  /// - Throws: `PluginError.badConfiguration` if the JSON is invalid or does not match `type`.
  public func decoded<Value: Decodable>(as type: Value.Type) throws(PluginError) -> Value? {
    if json.isEmpty { return nil }
    do {
      return try JSONDecoder().decode(type, from: Data(json))
    } catch let error as DecodingError {
      throw .badConfiguration(reason: Self.reason(error))
    } catch {
      throw .badConfiguration(reason: "not JSON")
    }
  }

  /// Returns the key and the reason, without the value, which may be a secret.
  private static func reason(_ error: DecodingError) -> String {
    switch error {
    case .typeMismatch(let type, let context):
      "'\(path(context))' is not of type \(type)"
    case .valueNotFound(let type, let context):
      "'\(path(context))' is null, expected a \(type)"
    case .keyNotFound(let key, _):
      "'\(key.stringValue)' is missing"
    case .dataCorrupted(let context):
      context.codingPath.isEmpty ? "not JSON" : "'\(path(context))' is not valid"
    @unknown default:
      "not valid"
    }
  }

  private static func path(_ context: DecodingError.Context) -> String {
    context.codingPath.map(\.stringValue).joined(separator: ".")
  }
}

/// An error of a call in a handler. The description names the call and, where possible, the remedy.
public enum PluginError: Error, Equatable, Sendable {
  /// The host did not answer a read in time.
  case readTimedOut(method: Method, timeoutMilliseconds: Int)
  /// The session was closed while a read waited for its answer.
  case sessionClosed(method: Method)
  /// The handler read after the phase ended with `next()` or `end()`.
  case phaseIsOver(method: Method)
  /// The host's answer does not have the format that the interface requires.
  case badAnswer(method: Method, wanted: String)
  /// The status is outside 100...599.
  case badStatus(Int)
  /// The value cannot be encoded as JSON.
  case notEncodable(type: String)
  /// A header is too large for a FlatBuffers table.
  case tooLarge(MessageError)
  /// The configuration is invalid or does not match the requested type.
  case badConfiguration(reason: String)
}

extension PluginError: CustomStringConvertible {
  /// A sentence that names the call, the problem and, where possible, the remedy.
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
      "set_response_status: \(status) is not an HTTP status; use 100 to 599"
    case .notEncodable(let type):
      "json: a value of type \(type) cannot be encoded as JSON; check for NaN and infinity"
    case .badConfiguration(let reason):
      "plugin configuration: \(reason); correct the plugin's `config`"
    }
  }
}
