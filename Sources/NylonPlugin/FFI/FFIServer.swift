import CNylonABI
import Glibc
import Nylon
import Synchronization

/// Serves a plugin through the six C symbols of Nylon's plugin interface.
///
/// Define the symbols in the shared library that the host loads, since only that library can export them:
///
/// ```swift
/// let server = FFIServer(plugin: makePlugin())
///
/// @_cdecl("event_stream")
/// public func eventStream(_ event: UnsafePointer<NylonFfiBuffer>?) { server.eventStream(event) }
/// ```
///
/// `event_stream` returns before the handler has run. Handlers run on threads of the SDK, and all phases of a
/// session run on the same thread. If a handler throws, the server sets status 500 (except in the logging
/// phase) and calls `end`, so that a request that could not be checked never reaches the upstream.
public final class FFIServer: Sendable {
  /// The default number of handler threads: one fewer than the number of cores, at least 1 and at most 4.
  ///
  /// A read is a round trip to the host's thread. It takes about a microsecond if each side has its own core,
  /// and two context switches if there are more threads than cores. Use more threads for handlers that wait
  /// for something other than the host.
  public static let standardMaxWorkers = max(1, min(4, sysconf(Int32(_SC_NPROCESSORS_ONLN)) - 1))

  private let plugin: Plugin
  private let maxWorkers: Int
  private let readTimeoutMilliseconds: Int
  // Created at the first session with the handlers registered by then; read without a lock afterwards.
  private let pool = AtomicLazyReference<Pool>()
  /// Locked while the pool is created; true once no pool may be created any more.
  private let isStopped = Mutex(false)

  private final class Pool: Sendable {
    let table: HandlerTable
    let workers: [FFIWorker]
    let threads: [WorkerThread]

    /// Returns nil if the system cannot create the threads.
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

    /// Returns the worker that owns the session.
    func worker(_ sessionID: UInt32) -> FFIWorker { workers[Int(sessionID) % workers.count] }
  }

  /// Creates a server for a plugin.
  ///
  /// - Parameters:
  ///   - maxWorkers: The number of threads that run handlers, clamped to 1...256.
  ///   - readTimeoutMilliseconds: The time in which the host must answer a read. After it, the read throws
  ///     `PluginError.readTimedOut` in the handler.
  public init(
    plugin: Plugin, maxWorkers: Int = FFIServer.standardMaxWorkers,
    readTimeoutMilliseconds: Int = 10_000
  ) {
    self.plugin = plugin
    self.maxWorkers = max(1, min(maxWorkers, 256))
    self.readTimeoutMilliseconds = max(1, readTimeoutMilliseconds)
  }

  deinit { stop() }

  /// Implements `initialize`: passes the configuration to the plugin. If the plugin rejects it, the error is
  /// written to standard error, because the C symbol cannot return one.
  public func initialize(_ json: UnsafePointer<CChar>?, _ length: Int32) {
    let bytes = UnsafeRawBufferPointer(start: json, count: json == nil ? 0 : Int(max(0, length)))
    do {
      try plugin.initialize(PluginConfiguration(json: [UInt8](bytes)))
    } catch {
      logLine("initialize failed: \(error)", from: "NylonPlugin")
    }
  }

  /// Implements `register_session_stream`: opens a session. Returns false if the entry does not exist, the
  /// callback is missing, or the plugin has been shut down.
  public func registerSessionStream(
    _ sessionID: UInt32, _ entry: UnsafePointer<CChar>?, _ length: UInt32, _ callback: NylonCallback?
  ) -> Bool {
    guard let callback, let pool = startedPool() else { return false }
    let name = UnsafeRawBufferPointer(start: entry, count: entry == nil ? 0 : Int(length))
    guard let index = pool.table.index(of: name) else { return false }
    return pool.worker(sessionID).open(sessionID, entry: index, callback: callback)
  }

  /// Implements `event_stream`: starts a phase, or delivers the answer to a read. Events for a session that
  /// is not open are ignored.
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

  /// Implements `close_session_stream`: removes the session and releases a handler that is waiting in it.
  public func closeSessionStream(_ sessionID: UInt32) { pool.load()?.worker(sessionID).close(sessionID) }

  /// Implements `plugin_free`: frees memory that the plugin handed to the host. This SDK hands out none.
  public func free(_ pointer: UnsafeMutablePointer<UInt8>?) { Glibc.free(pointer) }

  /// Implements `shutdown`: stops the threads and runs the shutdown hooks. Open sessions end without an
  /// answer.
  public func shutdown() {
    if stop() { plugin.shutdown() }
  }

  /// Returns the pool, creating it with the first session so that all handlers have been registered.
  private func startedPool() -> Pool? {
    if let pool = pool.load() { return pool }
    return isStopped.withLock { isStopped in
      if isStopped { return nil }
      if let pool = pool.load() { return pool }
      return Pool(plugin.handlerTable(), maxWorkers, readTimeoutMilliseconds).map { pool.storeIfNil($0) }
    }
  }

  /// Stops the threads. Returns false if they were already stopped.
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
