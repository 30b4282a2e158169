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

  private let plugin: Plugin
  private let maxWorkers: Int
  private let readTimeoutMilliseconds: Int
  // Made once, with the handlers as they are at the first session; then read without a lock.
  private let pool = AtomicLazyReference<Pool>()
  /// Held while the pool is made, and while it is known that none will be.
  private let isStopped = Mutex(false)

  private final class Pool: Sendable {
    let table: HandlerTable
    let workers: [FFIWorker]
    let threads: [WorkerThread]

    /// nil when the system gives no threads.
    init?(_ table: HandlerTable, _ maxWorkers: Int, _ readTimeoutMilliseconds: Int) {
      self.table = table
      workers = (0..<maxWorkers).map { _ in
        FFIWorker(table: table, readTimeoutMilliseconds: readTimeoutMilliseconds)
      }
      threads = workers.compactMap { worker in WorkerThread { worker.run() } }
      if threads.count == workers.count { return }
      for worker in workers { worker.stop() }
      return nil
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

  deinit { stop() }

  /// `initialize`: takes the configuration. A configuration that the plugin refuses is reported
  /// on standard error, as the symbol has no way to say it.
  public func initialize(_ json: UnsafePointer<CChar>?, _ length: Int32) {
    let bytes = UnsafeRawBufferPointer(start: json, count: json == nil ? 0 : Int(max(0, length)))
    do {
      try plugin.initialize(PluginConfiguration(json: [UInt8](bytes)))
    } catch {
      logLine("initialize failed: \(error)", from: "NylonPlugin")
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
    return pool.worker(sessionID).open(sessionID, entry: index, callback: callback)
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
    worker.mailbox.fulfil(sessionID: event.sid, method: Method(rawValue: event.method), data: data)
  }

  /// `close_session_stream`: forgets the session and releases a handler that waits in it.
  public func closeSessionStream(_ sessionID: UInt32) { pool.load()?.worker(sessionID).close(sessionID) }

  /// `plugin_free`: frees memory that the plugin gave away; this SDK gives none.
  public func free(_ pointer: UnsafeMutablePointer<UInt8>?) { Glibc.free(pointer) }

  /// `shutdown`: ends the threads and runs the hooks. Sessions that are open end without an answer.
  public func shutdown() {
    if stop() { plugin.shutdown() }
  }

  /// The pool, started with the first session so that all handlers are there.
  private func startedPool() -> Pool? {
    if let pool = pool.load() { return pool }
    return isStopped.withLock { isStopped in
      if isStopped { return nil }
      if let pool = pool.load() { return pool }
      return Pool(plugin.handlerTable(), maxWorkers, readTimeoutMilliseconds).map { pool.storeIfNil($0) }
    }
  }

  /// Ends the threads; false when that was done before.
  @discardableResult
  private func stop() -> Bool {
    let isFirst = isStopped.withLock { isStopped in
      defer { isStopped = true }
      return !isStopped
    }
    guard isFirst else { return false }
    if let pool = pool.load() {
      for worker in pool.workers { worker.stop() }
      for thread in pool.threads { thread.join() }
    }
    return true
  }
}
