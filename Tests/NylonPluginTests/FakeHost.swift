import TestSupport
import CNylonABI
import Glibc
import Nylon
import Synchronization

/// The host's side of a session, as the proxy has it: answers reads, applies changes.
final class FakeSession: Sendable {
  struct State {
    var context: HTTPContext
    var calls: [Method] = []
    var ended: [Method] = []
    var streamed: [UInt8]?
  }

  let state: Mutex<State>
  init(_ context: HTTPContext) { state = Mutex(State(context: context)) }

  /// Applies a call; gives the answer of a read.
  func take(_ method: Method, _ payload: [UInt8]) -> [UInt8]? {
    state.withLock { state in
      state.calls.append(method)
      if method.isRead { return Self.answer(method, payload, state.context) }
      if method.endsPhase { state.ended.append(method) }
      Self.apply(method, payload, &state)
      return nil
    }
  }

  private static func apply(_ method: Method, _ payload: [UInt8], _ state: inout State) {
    var response = state.context.response ?? HTTPResponse()
    defer { state.context.response = response }
    let text = String(decoding: payload, as: UTF8.self)
    switch method {
    case .setResponseHeader:
      payload.withUnsafeBytes { raw in
        guard let view = HeaderKeyValueCodec.decode(raw) else { return }
        let key = String(decoding: view.key, as: UTF8.self)
        response.headers.removeAll { HeaderName.equal($0.key, key) }
        response.headers.append(
          KeyValue(key: key, value: String(decoding: view.value, as: UTF8.self)))
      }
    case .removeResponseHeader: response.headers.removeAll { HeaderName.equal($0.key, text) }
    case .setResponseStatus: response.status = UInt16(payload[0]) << 8 | UInt16(payload[1])
    case .setResponseFullBody: response.body = payload
    case .setResponseStreamData:
      state.streamed = (state.streamed ?? []) + payload
      response.body = state.streamed ?? []
    default: break
    }
  }

  private static func answer(_ method: Method, _ payload: [UInt8], _ context: HTTPContext) -> [UInt8] {
    let request = context.request ?? HTTPRequest(method: "", path: "")
    let response = context.response ?? HTTPResponse()
    let name = String(decoding: payload, as: UTF8.self)
    let value = { (name: String) in
      request.headers.first { HeaderName.equal($0.key, name) }?.value ?? ""
    }
    switch method {
    case .readRequestFullBody: return request.body
    case .readRequestHeader: return Array(value(name).utf8)
    case .readRequestHeaders: return HeaderTable.encode(request.headers)
    case .readRequestURL: return Array("\(request.path)?\(request.query)".utf8)
    case .readRequestPath: return Array(request.path.utf8)
    case .readRequestQuery: return Array(request.query.utf8)
    case .readRequestParams:
      return Array("{\(request.params.map { "\"\($0.key)\":\"\($0.value)\"" }.joined(separator: ","))}".utf8)
    case .readRequestHost: return Array(value("host").utf8)
    case .readRequestClientIP: return Array(value("x-real-ip").utf8)
    case .readRequestMethod: return Array(request.method.utf8)
    case .readRequestBytes: return Array("\(request.body.count)".utf8)
    case .readRequestTimestamp: return Array("1761000000000".utf8)
    case .readResponseFullBody: return response.body
    case .readResponseStatus: return Array("\(response.status)".utf8)
    case .readResponseBytes: return Array("\(response.body.count)".utf8)
    case .readResponseHeaders: return HeaderTable.encode(response.headers)
    case .readResponseDuration: return Array("12".utf8)
    default: return []
    }
  }
}

/// The six symbols of a plugin, wherever they come from.
struct PluginSymbols: Sendable {
  var initialize: @Sendable (String) -> Void
  var register: @Sendable (UInt32, String, @escaping NylonCallback) -> Bool
  var event: @Sendable (UInt32, Phase, Method, [UInt8]) -> Void
  var close: @Sendable (UInt32) -> Void
  var shutdown: @Sendable () -> Void
}

/// A host whose callback has, as the real one's, nothing but the session's id to go by.
enum FakeHost {
  private struct Open {
    let session: FakeSession
    let symbols: PluginSymbols
    /// Where calls wait that the host does not answer inside the callback.
    let queue: CallQueue?
  }

  private static let open = Mutex<[UInt32: Open]>([:])
  private static let lastID = Atomic<UInt32>(0)

  /// A new session id; never the same twice in this process.
  static func newID() -> UInt32 { lastID.add(1, ordering: .relaxed).newValue }

  static let callback: NylonCallback = { event in
    guard let event = event?.pointee else { return }
    let payload = [UInt8](UnsafeRawBufferPointer(start: event.ptr, count: Int(event.len)))
    guard let open = FakeHost.open.withLock({ $0[event.sid] }) else { return }
    let method = Method(rawValue: event.method)
    if let queue = open.queue {
      queue.append(method, payload)
    } else if let answer = open.session.take(method, payload) {
      open.symbols.event(event.sid, .zero, method, answer)
    }
  }

  /// Opens a session, runs the phases one after the other, closes it. nil: no such entry, or a phase that hangs.
  static func run(
    _ symbols: PluginSymbols, entry: String, context: HTTPContext, phases: [Phase] = Phase.session,
    queued: Bool
  ) -> FakeSession? {
    let session = FakeSession(context)
    let id = newID()
    let queue = queued ? CallQueue() : nil
    open.withLock { $0[id] = Open(session: session, symbols: symbols, queue: queue) }
    defer { _ = open.withLock { $0.removeValue(forKey: id) } }
    guard symbols.register(id, entry, callback) else { return nil }
    defer { symbols.close(id) }
    for phase in phases {
      let before = session.state.withLock { $0.ended.count }
      symbols.event(id, phase, Method(rawValue: 0), [])
      let hasEnded = eventually(every: 50) {
        // The host's own thread: takes the calls that the callback queued.
        while session.state.withLock({ $0.ended.count }) == before, let (method, payload) = queue?.popFirst()
        {
          if let answer = session.take(method, payload) { symbols.event(id, .zero, method, answer) }
        }
        return session.state.withLock { $0.ended.count } > before
      }
      guard hasEnded else { return nil }
    }
    return session
  }

  /// Opens a session whose reads nobody answers; `body` gets its id.
  static func withSilentSession(
    _ symbols: PluginSymbols, entry: String, _ body: (UInt32, CallQueue) -> Void
  ) -> Bool {
    let id = newID()
    let queue = CallQueue()
    let session = FakeSession(HTTPContext())
    open.withLock { $0[id] = Open(session: session, symbols: symbols, queue: queue) }
    defer { _ = open.withLock { $0.removeValue(forKey: id) } }
    guard symbols.register(id, entry, callback) else { return false }
    body(id, queue)
    symbols.close(id)
    return true
  }
}

/// Calls in the order in which the plugin made them.
final class CallQueue: Sendable {
  private let calls = Mutex<[(Method, [UInt8])]>([])

  func append(_ method: Method, _ payload: [UInt8]) {
    calls.withLock { $0.append((method, payload)) }
  }

  func popFirst() -> (Method, [UInt8])? {
    calls.withLock { $0.isEmpty ? nil : $0.removeFirst() }
  }

  /// Waits for the next call; nil when none comes.
  func next() -> Method? {
    var method: Method?
    let isCalled = eventually(every: 50) {
      method = popFirst()?.0
      return method != nil
    }
    return isCalled ? method : nil
  }
}
