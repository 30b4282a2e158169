import Foundation
import Nylon
import Synchronization

/// Serves a plugin as a worker of a NATS queue group.
///
/// ```swift
/// let worker = try NATSWorker(
///   plugin: plugin, name: "my-plugin", url: "nats://localhost:4222", group: "workers")
/// try worker.run()  // until SIGTERM or SIGINT
/// ```
///
/// If a handler throws, the worker replies with the action `error` and the error's text, and drops the
/// handler's changes. A malformed request is answered with the empty action and the reason.
public final class NATSWorker: Sendable {
  private let plugin: Plugin
  private let configuration: NATSConfiguration
  private let subject: Subject
  private let dialect: WorkerDialect
  /// The thread is nil once a caller has started to wait for its end.
  private let running = Mutex<(box: ReplyBox?, thread: WorkerThread?)>((nil, nil))

  /// Creates a worker that is not yet connected.
  ///
  /// - Throws: `NATSWorkerError.badOption` if a name, the number of threads or the dialect is invalid.
  public init(plugin: Plugin, configuration: NATSConfiguration) throws(NATSWorkerError) {
    do {
      subject = try Subject(prefix: configuration.subjectPrefix, plugin: configuration.name)
      try Subject.check(configuration.queueGroup, what: "queue group")
    } catch {
      throw .badOption(key: "name, prefix or group", reason: error.description)
    }
    guard (1...256).contains(configuration.maxWorkers) else {
      throw .badOption(key: "max-workers", reason: "\(configuration.maxWorkers) is not 1 to 256")
    }
    guard let spoken = Dialect(rawValue: configuration.dialect) else {
      let names = Dialect.allCases.map(\.rawValue).joined(separator: ", ")
      throw .badOption(key: "dialect", reason: "'\(configuration.dialect)' is not one of \(names)")
    }
    dialect = WorkerDialect(dialect: spoken, writesNilData: configuration.writesNilData)
    self.plugin = plugin
    self.configuration = configuration
  }

  /// Creates a worker for one URL and a queue group, with default values for all other settings.
  public convenience init(
    plugin: Plugin, name: String, url: String, group: String
  ) throws(NATSWorkerError) {
    try self.init(
      plugin: plugin, configuration: NATSConfiguration(name: name, url: url, group: group))
  }

  /// Serves until SIGTERM, SIGINT or `stop()`, then finishes pending requests and returns. SIGUSR1 calls
  /// `abort()`. Call this on the main thread before starting other threads, so that they inherit the blocked
  /// signals.
  public func run() throws(NATSWorkerError) {
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    sigaddset(&signals, SIGUSR1)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    try start()
    Thread.detachNewThread { [weak self, signals] in
      var set = signals
      var number: Int32 = 0
      sigwait(&set, &number)
      if number == SIGUSR1 { self?.abort() } else { self?.stop() }
    }
    try wait()
  }

  /// Connects, subscribes and serves on its own thread. Returns when the broker has processed all
  /// subscriptions.
  public func start() throws(NATSWorkerError) {
    do {
      try plugin.initialize(configuration.pluginConfiguration)
    } catch {
      throw .initializeFailed(reason: "\(error)")
    }
    // Used by one thread at a time: by this one while connecting, then only by the loop's thread.
    nonisolated(unsafe) let loop = try WireLoop(plugin, configuration, dialect, subject)
    do throws(NATSWorkerError) {
      try loop.connect()
      guard let thread = WorkerThread({ loop.run() }) else {
        throw .failed(step: "start the loop's thread", reason: "the system refused")
      }
      running.withLock { $0 = (loop.box, thread) }
    } catch {
      loop.close()
      throw error
    }
    logLine("Plugin \(configuration.name) started successfully")
  }

  /// Asks the worker to finish pending requests and stop. Returns immediately.
  public func stop() { running.withLock { $0.box }?.stop() }

  /// Asks the worker to close its connection and stop without answering pending requests, as if it had
  /// crashed. Use this to test how a host reacts. Returns immediately.
  public func abort() { running.withLock { $0.box }?.abort() }

  /// Waits until the worker has stopped.
  ///
  /// - Throws: `NATSWorkerError.connectionLost` if the connection is permanently lost.
  public func wait() throws(NATSWorkerError) {
    let awaited = running.withLock { running in
      defer { running.thread = nil }
      return running
    }
    guard let thread = awaited.thread else { return }
    thread.join()
    plugin.shutdown()
    logLine("Plugin \(configuration.name) stopped")
    if awaited.box?.isLost.load(ordering: .acquiring) == true {
      throw .connectionLost(servers: configuration.redactedServers)
    }
  }

  /// Finishes pending requests, stops the worker and waits for it.
  public func close() {
    stop()
    try? wait()
  }
}
