import CNylonABI
import Glibc
import Nylon
import Synchronization

/// One handler thread with its sessions and their queued phases.
///
/// A session stays on one thread, so its phases keep their order and the threads share no state.
///
/// `@unchecked`: `queue`, `sessions`, `running`, `isAsleep` and `isStopping` are accessed only with `parker`
/// locked; the rest belongs to the thread or is thread-safe.
final class FFIWorker: @unchecked Sendable {
  private struct Session {
    var callback: NylonCallback
    var entry: Int
  }

  private struct Start {
    var sessionID: UInt32
    var phase: Phase
  }

  private static let failures = Atomic(0)
  private static let failuresShown = 10

  private let table: HandlerTable
  let mailbox: ReadMailbox
  private let parker = Parker()
  private let waiting = Atomic(0)
  private var queue = Ring<Start>()
  private var sessions: [UInt32: Session] = [:]
  private var running: UInt32?
  private var isAsleep = false
  private var isStopping = false

  init(table: HandlerTable, readTimeoutMilliseconds: Int) {
    self.table = table
    mailbox = ReadMailbox(timeoutMilliseconds: readTimeoutMilliseconds)
  }

  // MARK: Called on the host's threads

  /// Returns false if the thread is about to end.
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

  func stop() {
    parker.locked {
      isStopping = true
      sessions.removeAll()
      mailbox.close()
      parker.broadcast()
    }
  }

  // MARK: Called on the worker's own thread

  func run() {
    let backend = CallBackend(mailbox, port: FFIPort())
    var context = PhaseContext(backend: backend)
    while let (start, session) = take() {
      backend.port.callback = session.callback
      (backend.sessionID, backend.phase) = (start.sessionID, start.phase)
      context.begin(phase: start.phase, sessionID: start.sessionID)
      if let error = context.run(table[session.entry, start.phase]) { fail(context, error) }
      // A handler that kept its context must not see another session through it.
      if !isKnownUniquelyReferenced(&context) { context = PhaseContext(backend: backend) }
    }
  }

  /// Waits for the next phase of a session that is still open. Returns nil when the worker stops.
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

  /// Ends the request with status 500 after its handler threw, so that it does not pass as if the handler had
  /// allowed it. Only the first failures are logged, because the host shares standard error.
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

/// Sends calls through the host's callback.
private struct FFIPort: CallPort {
  static var transport: Transport { .ffi }
  var callback: NylonCallback?

  func send(_ method: Method, _ payload: UnsafeRawBufferPointer, in phase: Phase, of sessionID: UInt32) {
    let start = payload.isEmpty ? nil : payload.baseAddress
    var buffer = NylonFfiBuffer(
      sid: sessionID, phase: phase.rawValue, method: method.rawValue,
      ptr: start?.assumingMemoryBound(to: UInt8.self), len: UInt64(payload.count))
    callback?(&buffer)
  }
}
