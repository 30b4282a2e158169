import CNylonABI
import Glibc
import Nylon
import Synchronization

/// Serves a plugin through the six C symbols.
///
/// The symbols live in the shared library that the host loads, since only it can export them:
///
/// ```swift
/// let server = FFIServer(plugin: makePlugin())
///
/// @_cdecl("event_stream")
/// public func eventStream(_ event: UnsafePointer<NylonFfiBuffer>?) { server.eventStream(event) }
/// ```
///
/// `event_stream` returns before the handler has run: handlers run on threads of the SDK, a
/// session always on the same one. A handler that throws sets status 500 (but in logging) and
/// answers END: a request that could not be judged does not reach the upstream.
public final class FFIServer: Sendable {
  /// Threads when nothing is said: as many as leave the host a core of its own, at most 4.
  ///
  /// A read is a question to the host's thread and its answer: with a core for each side it takes
  /// a microsecond, with more threads than cores two switches of the kernel's. Handlers that
  /// wait for something else than the host want more threads.
  public static let standardMaxWorkers = max(1, min(4, sysconf(Int32(_SC_NPROCESSORS_ONLN)) - 1))

  private enum State {
    case idle
    case running([WorkerThread])
    case stopped
  }

  private let plugin: Plugin
  private let maxWorkers: Int
  private let readTimeoutMilliseconds: Int
  private let state = Mutex(State.idle)
  // Made once, with the handlers as they are at the first session; then read without a lock.
  private let pool = AtomicLazyReference<Pool>()
  private let isStopped = Atomic<Bool>(false)

  private final class Pool: Sendable {
    let table: HandlerTable
    let workers: [FFIWorker]

    init(table: HandlerTable, workers: [FFIWorker]) {
      self.table = table
      self.workers = workers
    }

    /// The one that has the session.
    func worker(_ sessionID: UInt32) -> FFIWorker { workers[Int(sessionID) % workers.count] }
  }

  /// A server. `maxWorkers` threads run handlers; a read that the host does not answer within
  /// `readTimeoutMilliseconds` throws in the handler.
  public init(
    plugin: Plugin, maxWorkers: Int = FFIServer.standardMaxWorkers,
    readTimeoutMilliseconds: Int = 10_000
  ) {
    self.plugin = plugin
    self.maxWorkers = max(1, min(maxWorkers, 256))
    self.readTimeoutMilliseconds = max(1, readTimeoutMilliseconds)
  }

  deinit { shutdown(runningHooks: false) }

  /// `initialize`: takes the configuration. A configuration that the plugin refuses is reported
  /// on standard error, as the symbol has no way to say it.
  public func initialize(_ json: UnsafePointer<CChar>?, _ length: Int32) {
    let bytes = UnsafeRawBufferPointer(start: json, count: json == nil ? 0 : Int(max(0, length)))
    do {
      try plugin.initialize(PluginConfiguration(json: [UInt8](bytes)))
    } catch {
      FFILog.initializeFailed(error)
    }
  }

  /// `register_session_stream`: opens a session; false when there is no such entry, no
  /// callback, or the plugin was shut down.
  public func registerSessionStream(
    _ sessionID: UInt32, _ entry: UnsafePointer<CChar>?, _ length: UInt32, _ callback: NylonCallback?
  ) -> Bool {
    guard let callback, let pool = startedPool() else { return false }
    let name = UnsafeRawBufferPointer(start: entry, count: entry == nil ? 0 : Int(length))
    guard let index = pool.table.index(of: name) else { return false }
    pool.worker(sessionID).open(sessionID, entry: index, callback: callback)
    return true
  }

  /// `event_stream`: starts a phase, or answers a read. What is for no open session is ignored.
  public func eventStream(_ event: UnsafePointer<NylonFfiBuffer>?) {
    guard let event = event?.pointee, let pool = pool.load(),
      let phase = Phase(rawValue: event.phase)
    else { return }
    let worker = pool.worker(event.sid)
    guard phase == .zero else { return worker.start(phase, of: event.sid) }
    let data = UnsafeRawBufferPointer(
      start: event.ptr, count: event.ptr == nil ? 0 : Int(clamping: event.len))
    worker.answer(event.sid, Method(rawValue: event.method), data)
  }

  /// `close_session_stream`: forgets the session and releases a handler that waits in it.
  public func closeSessionStream(_ sessionID: UInt32) {
    guard let pool = pool.load() else { return }
    pool.worker(sessionID).close(sessionID)
  }

  /// `plugin_free`: frees memory that the plugin gave away; this SDK gives none.
  public func free(_ pointer: UnsafeMutablePointer<UInt8>?) { Glibc.free(pointer) }

  /// `shutdown`: ends the threads and runs the hooks. Sessions that are open end without an answer.
  public func shutdown() { shutdown(runningHooks: true) }

  /// The pool, started with the first session so that all handlers are there.
  private func startedPool() -> Pool? {
    if isStopped.load(ordering: .acquiring) { return nil }
    if let pool = pool.load() { return pool }
    return state.withLock { state in
      guard case .idle = state else { return pool.load() }
      let table = plugin.handlerTable()
      let workers = (0..<maxWorkers).map { _ in
        FFIWorker(table: table, readTimeoutMilliseconds: readTimeoutMilliseconds)
      }
      let threads = workers.map { worker in WorkerThread { worker.run() } }
      guard threads.allSatisfy({ $0 != nil }) else {
        for worker in workers { worker.stop() }
        return nil
      }
      state = .running(threads.compactMap { $0 })
      return pool.storeIfNil(Pool(table: table, workers: workers))
    }
  }

  private func shutdown(runningHooks: Bool) {
    let threads: [WorkerThread]? = state.withLock { state in
      defer { state = .stopped }
      return switch state {
      case .idle: []
      case .running(let threads): threads
      case .stopped: nil
      }
    }
    guard let threads else { return }
    isStopped.store(true, ordering: .releasing)
    if let pool = pool.load() {
      for worker in pool.workers { worker.stop() }
    }
    for thread in threads { thread.join() }
    if runningHooks { plugin.shutdown() }
  }
}

/// What an in-process plugin says on standard error: little, as it shares it with the host.
enum FFILog {
  private static let failures = Atomic<Int>(0)
  private static let failuresShown = 10

  static func handlerFailed(_ error: any Error, phase: Phase) {
    let number = failures.add(1, ordering: .relaxed).newValue
    guard number <= failuresShown else { return }
    let rest = number == failuresShown ? " (further ones are not shown)" : ""
    line("handler failed in \(phase.subjectFragment): \(error)\(rest)")
  }

  static func initializeFailed(_ error: any Error) { line("initialize failed: \(error)") }

  private static func line(_ text: String) {
    var line = "[NylonPlugin] \(text)\n"
    line.withUTF8 { bytes in _ = write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
  }
}
