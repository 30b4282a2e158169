import FoundationEssentials
import Glibc
import Nylon
import Synchronization

/// A plugin: handlers by name, written once and served in-process or through NATS.
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
/// Add handlers before the plugin is served; later ones are not seen.
public final class Plugin: Sendable {
  /// A handler of one phase. It runs to its end on a thread of the SDK and may block there.
  ///
  /// A handler that returns without `next` or `end` is taken as `next`. One that throws ends the
  /// phase as an error: see `FFIServer` and `NATSWorker` for what the host then sees.
  public typealias Handler = @Sendable (PhaseContext) throws -> Void

  private struct State {
    var entries: [(name: String, handlers: [Phase: Handler])] = []
    var initialize: [@Sendable (PluginConfiguration) throws -> Void] = []
    var shutdown: [@Sendable () -> Void] = []
    var isShutDown = false
  }

  private let state = Mutex(State())

  /// A plugin without handlers.
  public init() {}

  /// Adds the handlers of an entry; the last one of a name counts. A phase without a handler
  /// answers `next` at once.
  public func addPhaseHandler(_ entry: String, _ build: (PhaseHandler) -> Void) {
    let phase = PhaseHandler()
    build(phase)
    let added = (entry, phase.handlers)
    state.withLock { state in
      state.entries.removeAll { $0.name == entry }
      state.entries.append(added)
    }
  }

  /// Adds what runs once with the configuration, before the first phase.
  public func onInitialize(_ hook: @escaping @Sendable (PluginConfiguration) throws -> Void) {
    state.withLock { $0.initialize.append(hook) }
  }

  /// Adds what runs once when the host or the worker goes.
  public func onShutdown(_ hook: @escaping @Sendable () -> Void) {
    state.withLock { $0.shutdown.append(hook) }
  }

  /// The names of the entries, in the order in which they were added.
  public var entries: [String] { state.withLock { $0.entries.map(\.name) } }

  /// Runs the hooks of `onInitialize`; throws what they throw.
  public func initialize(_ configuration: PluginConfiguration) throws {
    // Outside the lock: a hook may add handlers.
    let hooks = state.withLock { state in
      state.isShutDown = false
      return state.initialize
    }
    for hook in hooks { try hook(configuration) }
  }

  /// Runs the hooks of `onShutdown`; a second call does nothing until the next `initialize`.
  public func shutdown() {
    let hooks = state.withLock { state in
      defer { state.isShutDown = true }
      return state.isShutDown ? [] : state.shutdown
    }
    for hook in hooks { hook() }
  }

  /// The handlers as they are now.
  func handlerTable() -> HandlerTable { HandlerTable(state.withLock { $0.entries }) }
}

/// Takes the handlers of one entry.
public final class PhaseHandler {
  fileprivate var handlers: [Phase: Plugin.Handler] = [:]

  /// Before the upstream is called; may end the request.
  public func requestFilter(_ handler: @escaping Plugin.Handler) { handlers[.requestFilter] = handler }
  /// The response's headers are there.
  public func responseFilter(_ handler: @escaping Plugin.Handler) { handlers[.responseFilter] = handler }
  /// The response's body is there.
  public func responseBodyFilter(_ handler: @escaping Plugin.Handler) {
    handlers[.responseBodyFilter] = handler
  }
  /// After the response was sent.
  public func logging(_ handler: @escaping Plugin.Handler) { handlers[.logging] = handler }
}

/// Entries, found by the bytes of their names: no String is made on the way of a request.
struct HandlerTable: Sendable {
  let names: [[UInt8]]
  /// Those of all phases of the first entry, then those of the next.
  private let handlers: [Plugin.Handler?]
  private let phaseCount = Phase.allCases.count

  init(_ entries: [(name: String, handlers: [Phase: Plugin.Handler])]) {
    names = entries.map { Array($0.name.utf8) }
    handlers = entries.flatMap { entry in Phase.allCases.map { entry.handlers[$0] } }
  }

  /// The index of the entry, nil when there is none.
  func index(of name: UnsafeRawBufferPointer) -> Int? {
    // A plugin has a handful of entries: a scan beats a hash.
    names.firstIndex { own in
      guard own.count == name.count else { return false }
      guard let start = name.baseAddress else { return true }
      return memcmp(own, start, own.count) == 0
    }
  }

  /// An entry's handler of one phase.
  @inline(__always)
  subscript(_ index: Int, _ phase: Phase) -> Plugin.Handler? {
    handlers[index &* phaseCount &+ Int(phase.rawValue)]
  }

  /// The names, for messages.
  var list: String { names.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ", ") }
}

/// The JSON that a plugin is initialized with.
public struct PluginConfiguration: Sendable {
  /// The bytes, empty when nothing is configured.
  public let json: [UInt8]

  /// A configuration.
  public init(json: [UInt8] = []) { self.json = json }

  /// The configuration as a value; nil when nothing is configured. Throws
  /// `PluginError.badConfiguration`.
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

  /// Key and reason without the value, which may be a secret.
  private static func reason(_ error: DecodingError) -> String {
    switch error {
    case .typeMismatch(let type, let context):
      "'\(path(context))' is not of type \(type)"
    case .valueNotFound(let type, let context):
      "'\(path(context))' is null, a \(type) is wanted"
    case .keyNotFound(let key, _):
      "'\(key.stringValue)' is missing"
    case .dataCorrupted(let context):
      context.codingPath.isEmpty ? "not JSON" : "'\(path(context))' is not valid"
    @unknown default:
      "not as wanted"
    }
  }

  private static func path(_ context: DecodingError.Context) -> String {
    context.codingPath.map(\.stringValue).joined(separator: ".")
  }
}

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
