import Foundation
import Nylon
import Synchronization

/// Serves a plugin as a worker of a NATS queue group.
///
/// ```swift
/// let worker = try NATSWorker(plugin: plugin, name: "my-plugin", url: "nats://localhost:4222", group: "workers")
/// try worker.run()  // until SIGTERM or SIGINT
/// ```
///
/// A handler that throws answers `error` with the error's text; its changes are dropped. A request
/// that is malformed answers the empty action with the reason.
public final class NATSWorker: Sendable {
  private let plugin: Plugin
  private let configuration: NATSConfiguration
  private let subject: Subject
  private let dialect: WorkerDialect
  /// The loop's thread is nil as soon as somebody waits for its end.
  private let running = Mutex<(box: ReplyBox?, thread: WorkerThread?)>((nil, nil))

  /// Checks names and numbers; connects to nothing yet.
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
      throw .badOption(key: "dialect", reason: "'\(configuration.dialect)' is none of \(names)")
    }
    dialect = WorkerDialect(dialect: spoken, writesNilData: configuration.writesNilData)
    self.plugin = plugin
    self.configuration = configuration
  }

  /// The short form: one URL and a group, the rest by default.
  public convenience init(
    plugin: Plugin, name: String, url: String, group: String
  ) throws(NATSWorkerError) {
    try self.init(
      plugin: plugin, configuration: NATSConfiguration(name: name, url: url, group: group))
  }

  /// Serves until SIGTERM or SIGINT, or until `stop`; then finishes what it has and returns. SIGUSR1 is `abort`. Call
  /// it on the main thread, before other threads are started: they inherit the blocked signals.
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

  /// Connects, subscribes and serves on a thread of its own. Returns when the broker has all
  /// subscriptions.
  public func start() throws(NATSWorkerError) {
    do {
      try plugin.initialize(configuration.pluginConfiguration)
    } catch {
      throw .initializeFailed(reason: "\(error)")
    }
    // Used by one thread at a time: this one as long as it connects, then the loop's alone.
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

  /// Asks the worker to finish what it has and to stop; returns at once.
  public func stop() { running.withLock { $0.box }?.stop() }

  /// Asks the worker to close its connection at once and to stop: requests that it has and has not answered are lost,
  /// as with a worker that crashes. For trying what a host does then; returns at once.
  public func abort() { running.withLock { $0.box }?.abort() }

  /// Waits until the worker has stopped. Throws when the connection was lost for good.
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

  /// Stops and waits.
  public func close() {
    stop()
    try? wait()
  }
}
