import CNylonABI
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

  private let table: HandlerTable
  private let readTimeoutMilliseconds: Int
  private let mailbox = ReadMailbox()
  private let parker = Parker()
  private let waiting = Atomic<Int>(0)
  private var queue = Ring<Start>()
  private var sessions: [UInt32: Session] = [:]
  private var running: UInt32?
  private var isAsleep = false
  private var isStopping = false

  init(table: HandlerTable, readTimeoutMilliseconds: Int) {
    self.table = table
    self.readTimeoutMilliseconds = readTimeoutMilliseconds
  }

  // MARK: the host's threads

  func open(_ sessionID: UInt32, entry: Int, callback: @escaping NylonCallback) {
    parker.lock()
    sessions[sessionID] = Session(callback: callback, entry: entry)
    parker.unlock()
  }

  func close(_ sessionID: UInt32) {
    parker.lock()
    sessions[sessionID] = nil
    if running == sessionID { mailbox.close() }
    parker.unlock()
  }

  func start(_ phase: Phase, of sessionID: UInt32) {
    parker.lock()
    queue.append(Start(sessionID: sessionID, phase: phase))
    waiting.add(1, ordering: .relaxed)
    if isAsleep { parker.signal() }
    parker.unlock()
  }

  func answer(_ sessionID: UInt32, _ method: Method, _ data: UnsafeRawBufferPointer) {
    mailbox.fulfil(sessionID: sessionID, method: method, data: data)
  }

  func stop() {
    parker.lock()
    isStopping = true
    sessions.removeAll()
    mailbox.close()
    parker.broadcast()
    parker.unlock()
  }

  // MARK: its own thread

  func run() {
    let backend = FFIBackend(mailbox: mailbox, readTimeoutMilliseconds: readTimeoutMilliseconds)
    var context = PhaseContext(backend: backend)
    while let (start, session) = take() {
      backend.begin(sessionID: start.sessionID, phase: start.phase, callback: session.callback)
      context.begin(phase: start.phase, sessionID: start.sessionID)
      if let error = context.run(table[session.entry][start.phase]) { fail(context, error) }
      // A handler that kept its context keeps a finished one, not another session's.
      if !isKnownUniquelyReferenced(&context) { context = PhaseContext(backend: backend) }
    }
  }

  /// The next phase of a session that is still open; nil at the end.
  private func take() -> (Start, Session)? {
    var turn = 0
    while turn < Spin.turns, waiting.load(ordering: .relaxed) == 0 { turn += 1 }
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
      } else {
        isAsleep = true
        parker.wait()
        isAsleep = false
      }
    }
  }

  /// A handler threw: the request must not pass as if it had been let through.
  private func fail(_ context: PhaseContext, _ error: any Error) {
    FFILog.handlerFailed(error, phase: context.phase)
    if context.phase != .logging { try? context.response.setStatus(500) }
    context.end()
  }
}

/// A queue that keeps its memory.
struct Ring<Element> {
  private var slots: [Element?] = Array(repeating: nil, count: 64)
  private var first = 0
  private(set) var count = 0

  mutating func append(_ element: Element) {
    if count == slots.count {
      slots = (0..<count).map { slots[(first + $0) % count] } + Array(repeating: nil, count: count)
      first = 0
    }
    slots[(first + count) & (slots.count - 1)] = element
    count += 1
  }

  mutating func popFirst() -> Element? {
    guard count > 0 else { return nil }
    let element = slots[first]
    slots[first] = nil
    first = (first + 1) & (slots.count - 1)
    count -= 1
    return element
  }
}
