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
