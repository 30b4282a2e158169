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
    var entries: [(name: String, handlers: PhaseHandlers)] = []
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
    let handlers = phase.handlers
    state.withLock { state in
      state.entries.removeAll { $0.name == entry }
      state.entries.append((entry, handlers))
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
  var handlers = PhaseHandlers()

  /// Before the upstream is called; may end the request.
  public func requestFilter(_ handler: @escaping Plugin.Handler) { handlers.requestFilter = handler }
  /// The response's headers are there.
  public func responseFilter(_ handler: @escaping Plugin.Handler) {
    handlers.responseFilter = handler
  }
  /// The response's body is there.
  public func responseBodyFilter(_ handler: @escaping Plugin.Handler) {
    handlers.responseBodyFilter = handler
  }
  /// After the response was sent.
  public func logging(_ handler: @escaping Plugin.Handler) { handlers.logging = handler }
}

/// The handlers of one entry.
struct PhaseHandlers: Sendable {
  var requestFilter: Plugin.Handler?
  var responseFilter: Plugin.Handler?
  var responseBodyFilter: Plugin.Handler?
  var logging: Plugin.Handler?

  subscript(_ phase: Phase) -> Plugin.Handler? {
    switch phase {
    case .zero: nil
    case .requestFilter: requestFilter
    case .responseFilter: responseFilter
    case .responseBodyFilter: responseBodyFilter
    case .logging: logging
    }
  }
}

/// Entries, found by the bytes of their names: no String is made on the way of a request.
struct HandlerTable: Sendable {
  private let names: [[UInt8]]
  private let handlers: [PhaseHandlers]

  init(_ entries: [(name: String, handlers: PhaseHandlers)]) {
    names = entries.map { Array($0.name.utf8) }
    handlers = entries.map(\.handlers)
  }

  /// The index of the entry, nil when there is none.
  func index(of name: UnsafeRawBufferPointer) -> Int? {
    // A plugin has a handful of entries: a scan beats a hash.
    for index in names.indices where names[index].count == name.count {
      let isSame = names[index].withUnsafeBytes { bytes in
        guard let left = bytes.baseAddress, let right = name.baseAddress else { return true }
        return memcmp(left, right, name.count) == 0
      }
      if isSame { return index }
    }
    return nil
  }

  subscript(_ index: Int) -> PhaseHandlers { handlers[index] }

  /// One phase's handler of an entry: the other three need not be copied.
  @inline(__always)
  func handler(_ index: Int, _ phase: Phase) -> Plugin.Handler? { handlers[index][phase] }

  /// The only entry, nil when there are none or several.
  var only: Int? { handlers.count == 1 ? 0 : nil }

  /// The names, for messages.
  var list: String { names.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ", ") }
}
