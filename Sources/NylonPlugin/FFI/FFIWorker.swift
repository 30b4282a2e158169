import CNylonABI
import FoundationEssentials
import Nylon
import Synchronization

/// One thread, the sessions that are its own, and the phases that wait for it.
///
/// A session stays with one thread, so its phases keep their order, and threads share nothing.
///
/// `@unchecked`: `queue`, `sessions`, `running`, `isAsleep` and `isStopping` are touched under `parker` only;
/// the rest is the thread's own or made for many threads.
final class FFIWorker: @unchecked Sendable {
  private struct Session {
    var callback: NylonCallback
    var entry: Int
  }

  private struct Start {
    var sessionID: UInt32
    var phase: Phase
  }

  private static let failures = Atomic<Int>(0)
  private static let failuresShown = 10

  private let table: HandlerTable
  private let mailbox: ReadMailbox
  private let parker = Parker()
  private let waiting = Atomic<Int>(0)
  private var queue = Ring<Start>()
  private var sessions: [UInt32: Session] = [:]
  private var running: UInt32?
  private var isAsleep = false
  private var isStopping = false

  init(table: HandlerTable, readTimeoutMilliseconds: Int) {
    self.table = table
    mailbox = ReadMailbox(timeoutMilliseconds: readTimeoutMilliseconds)
  }

  // MARK: the host's threads

  /// False when the thread is about to end.
  func open(_ sessionID: UInt32, entry: Int, callback: @escaping NylonCallback) -> Bool {
    parker.locked {
      if !isStopping { sessions[sessionID] = Session(callback: callback, entry: entry) }
      return !isStopping
    }
  }

  func close(_ sessionID: UInt32) {
    parker.locked {
      sessions[sessionID] = nil
      if running == sessionID { mailbox.close() }
    }
  }

  func start(_ phase: Phase, of sessionID: UInt32) {
    parker.locked {
      queue.append(Start(sessionID: sessionID, phase: phase))
      waiting.add(1, ordering: .relaxed)
      if isAsleep { parker.signal() }
    }
  }

  func answer(_ sessionID: UInt32, _ method: Method, _ data: UnsafeRawBufferPointer) {
    mailbox.fulfil(sessionID: sessionID, method: method, data: data)
  }

  func stop() {
    parker.locked {
      isStopping = true
      sessions.removeAll()
      mailbox.close()
      parker.broadcast()
    }
  }

  // MARK: its own thread

  func run() {
    let backend = FFIBackend(mailbox)
    var context = PhaseContext(backend: backend)
    while let (start, session) = take() {
      backend.begin(sessionID: start.sessionID, phase: start.phase, callback: session.callback)
      context.begin(phase: start.phase, sessionID: start.sessionID)
      if let error = context.run(table[session.entry, start.phase]) { fail(context, error) }
      // A handler that kept its context keeps a finished one, not another session's.
      if !isKnownUniquelyReferenced(&context) { context = PhaseContext(backend: backend) }
    }
  }

  /// The next phase of a session that is still open; nil at the end.
  private func take() -> (Start, Session)? {
    var turn = 0
    while turn < ReadMailbox.spins, waiting.load(ordering: .relaxed) == 0 { turn += 1 }
    parker.lock()
    defer { parker.unlock() }
    running = nil
    while true {
      if isStopping { return nil }
      if let start = queue.popFirst() {
        waiting.subtract(1, ordering: .relaxed)
        guard let session = sessions[start.sessionID] else { continue }
        running = start.sessionID
        mailbox.begin()
        return (start, session)
      }
      isAsleep = true
      parker.wait()
      isAsleep = false
    }
  }

  /// A handler threw: the request must not pass as if it had been let through. Standard error is the host's as
  /// well, so only the first failures are told.
  private func fail(_ context: PhaseContext, _ error: any Error) {
    let number = Self.failures.add(1, ordering: .relaxed).newValue
    if number <= Self.failuresShown {
      let rest = number == Self.failuresShown ? " (further ones are not shown)" : ""
      logLine(
        "handler failed in \(context.phase.subjectFragment): \(error)\(rest)", from: "NylonPlugin")
    }
    if context.phase != .logging { try? context.response.setStatus(500) }
    context.end()
  }
}

/// A phase that came through `event_stream`: every call goes to the host's callback at once.
private final class FFIBackend: PhaseBackend {
  private let mailbox: ReadMailbox
  private let writer = FlatBufferWriter()
  private var callback: NylonCallback?
  private var sessionID: UInt32 = 0
  private var phase = Phase.zero

  init(_ mailbox: ReadMailbox) { self.mailbox = mailbox }

  func begin(sessionID: UInt32, phase: Phase, callback: NylonCallback) {
    self.sessionID = sessionID
    self.phase = phase
    self.callback = callback
  }

  var transport: Transport { .ffi }

  private func send(_ method: Method, _ payload: UnsafeRawBufferPointer, in phase: Phase) {
    let start = payload.isEmpty ? nil : payload.baseAddress
    var buffer = NylonFfiBuffer(
      sid: sessionID, phase: phase.rawValue, method: method.rawValue,
      ptr: start?.assumingMemoryBound(to: UInt8.self), len: UInt64(payload.count))
    callback?(&buffer)
  }

  private func send(_ method: Method, _ bytes: [UInt8] = []) {
    bytes.withUnsafeBytes { send(method, $0, in: phase) }
  }

  private func send(_ method: Method, text: String, in phase: Phase) {
    var text = text
    text.withUTF8 { send(method, UnsafeRawBufferPointer($0), in: phase) }
  }

  /// Asks the host and waits; the answer's bytes are valid until the next read.
  private func read(
    _ method: Method, argument: String = ""
  ) throws(PluginError) -> UnsafeRawBufferPointer {
    guard mailbox.expect(sessionID: sessionID, method: method) else {
      throw .sessionClosed(method: method)
    }
    send(method, text: argument, in: .zero)
    return try mailbox.answer(to: method)
  }

  func text(_ method: Method) throws(PluginError) -> String {
    String(decoding: try read(method), as: UTF8.self)
  }

  func bytes(_ method: Method) throws(PluginError) -> [UInt8] { [UInt8](try read(method)) }

  func headers(_ method: Method) throws(PluginError) -> [KeyValue] {
    let bytes = try read(method)
    // A host that has none to tell may answer nothing at all.
    if bytes.isEmpty { return [] }
    do {
      return try HeaderTable.decode(bytes)
    } catch {
      throw .badAnswer(method: method, wanted: "a NylonHttpHeaders table")
    }
  }

  func params() throws(PluginError) -> [String: String] {
    let json = try read(.readRequestParams)
    if json.isEmpty { return [:] }
    guard let params = try? JSONDecoder().decode([String: String].self, from: Data(json)) else {
      throw .badAnswer(method: .readRequestParams, wanted: "a JSON object of strings")
    }
    return params
  }

  func requestHeader(_ name: String) throws(PluginError) -> String {
    String(decoding: try read(.readRequestHeader, argument: name), as: UTF8.self)
  }

  func setHeader(_ name: String, _ value: String) throws(PluginError) {
    do {
      let pair = try HeaderKeyValueCodec.encode(key: name, value: value, with: writer)
      send(.setResponseHeader, pair, in: phase)
    } catch {
      throw .tooLarge(error)
    }
  }

  func removeHeader(_ name: String) { send(.removeResponseHeader, text: name, in: phase) }

  func setStatus(_ status: UInt16) {
    withUnsafeBytes(of: status.bigEndian) { send(.setResponseStatus, $0, in: phase) }
  }

  func setBody(_ bytes: [UInt8]) { send(.setResponseFullBody, bytes) }

  func streamHeader() { send(.setResponseStreamHeader) }

  func streamData(_ bytes: [UInt8]) { send(.setResponseStreamData, bytes) }

  func finish(_ method: Method) { send(method) }
}
