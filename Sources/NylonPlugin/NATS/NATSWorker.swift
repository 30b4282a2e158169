import CNats
import Glibc
import NylonProtocol
import Synchronization

/// Serves a plugin as a worker of a NATS queue group, in the `reply` dialect.
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
  private let loop: NATSLoop
  private let pool: NATSPool?
  private let subscriptions = Mutex<NATSSubscriptions?>(nil)
  private let stopRequested = Atomic<Bool>(false)
  private let connectionLost = Atomic<Bool>(false)
  private let running = Mutex<Running?>(nil)

  private struct Running: Sendable {
    let connection: NATSHandle
    let events: NATSEvents
    let thread: WorkerThread
  }

  /// Checks names and numbers; connects to nothing yet.
  public init(plugin: Plugin, configuration: NATSConfiguration) throws(NATSWorkerError) {
    do {
      subject = try Subject(prefix: configuration.subjectPrefix, plugin: configuration.name)
      try Subject.checkQueueGroup(configuration.queueGroup)
    } catch {
      throw .badOption(key: "name, prefix or group", reason: error.description)
    }
    guard (1...256).contains(configuration.maxWorkers) else {
      throw .badOption(key: "max-workers", reason: "\(configuration.maxWorkers) is not 1 to 256")
    }
    guard let loop = NATSLoop() else {
      throw .failed(step: "make a pipe", reason: String(cString: strerror(errno)))
    }
    self.loop = loop
    self.plugin = plugin
    self.configuration = configuration
    pool = configuration.maxWorkers > 1 ? NATSPool() : nil
  }

  /// The short form: one URL and a group, the rest by default.
  public convenience init(
    plugin: Plugin, name: String, url: String, group: String
  ) throws(NATSWorkerError) {
    try self.init(
      plugin: plugin, configuration: NATSConfiguration(name: name, url: url, group: group))
  }

  /// Serves until SIGTERM or SIGINT, or until `stop`; then finishes what it has and returns. Call it
  /// on the main thread, before other threads are started: they inherit the blocked signals.
  public func run() throws(NATSWorkerError) {
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    try start()
    let waiting = signals
    let watcher = WorkerThread { [weak self] in
      var set = waiting
      var number: Int32 = 0
      sigwait(&set, &number)
      self?.stop()
    }
    watcher?.detach()
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
    let events = NATSEvents(servers: configuration.redactedServers) { [weak self] in self?.closed() }
    let connection = try NATSConnection.connect(configuration, loop: loop, events: events)
    logLine("Connected to NATS: \(NATSConnection.connectedURL(connection.pointer))")
    try serve(connection, events)
    do {
      try subscribe(connection)
    } catch {
      close()
      throw error
    }
    logLine("Plugin \(configuration.name) started successfully")
  }

  /// Asks the worker to finish what it has and to stop; returns at once.
  public func stop() {
    stopRequested.store(true, ordering: .releasing)
    loop.wake()
  }

  /// Waits until the worker has stopped. Throws when the connection was lost for good.
  public func wait() throws(NATSWorkerError) {
    guard let running = running.withLock({ $0.take() }) else { return }
    running.thread.join()
    pool?.stop()
    running.events.end()
    subscriptions.withLock { $0.take() }?.destroy()
    natsConnection_Close(running.connection.pointer)
    natsConnection_Destroy(running.connection.pointer)
    plugin.shutdown()
    logLine("Plugin \(configuration.name) stopped")
    if connectionLost.load(ordering: .acquiring) {
      throw .connectionLost(servers: configuration.redactedServers)
    }
  }

  /// Stops and waits.
  public func close() {
    stop()
    try? wait()
  }

  // MARK: the parts

  private func closed() {
    // Closed by ourselves comes after `stop`; any other way is a loss.
    guard !stopRequested.load(ordering: .acquiring) else { return }
    connectionLost.store(true, ordering: .releasing)
    stop()
  }

  private func serve(
    _ connection: NATSHandle, _ events: NATSEvents
  ) throws(NATSWorkerError) {
    let table = plugin.handlerTable()
    let plugin = plugin
    let loop = loop
    let make: @Sendable () -> (NATSJob) -> Void = {
      let server = JobServer(
        runner: RequestRunner(plugin: plugin, table: table), connection: connection, loop: loop)
      return server.serve
    }
    if let pool, !pool.start(configuration.maxWorkers, make) {
      throw .failed(step: "start \(configuration.maxWorkers) threads", reason: "the system refused")
    }
    guard let thread = WorkerThread({ [self] in serveLoop(connection, make) }) else {
      throw .failed(step: "start the loop's thread", reason: "the system refused")
    }
    running.withLock { $0 = Running(connection: connection, events: events, thread: thread) }
  }

  private func subscribe(_ connection: NATSHandle) throws(NATSWorkerError) {
    let made = try NATSSubscriptions(connection, subject: subject, group: configuration.queueGroup)
    subscriptions.withLock { $0 = made }
    // What came before they were all there is waiting.
    loop.wake()
    let status = natsConnection_FlushTimeout(
      connection.pointer, Int64(max(1000, configuration.connectTimeoutMilliseconds)))
    guard status == NATS_OK else {
      throw .failed(step: "subscribe", reason: NATSConnection.text(status))
    }
    for phase in Phase.session {
      logLine("Subscribed to \(subject.phase(phase)) with queue group \(configuration.queueGroup)")
    }
    logLine("Subscribed to \(subject.lifecycle)")
  }

  private func serveLoop(_ connection: NATSHandle, _ make: () -> (NATSJob) -> Void) {
    loop.adopt()
    let serveHere = make()
    let take: (NATSJob) -> Void = pool.map { pool in { pool.submit($0) } } ?? serveHere
    var all: NATSSubscriptions?
    while !stopRequested.load(ordering: .acquiring) {
      loop.turn(timeoutMilliseconds: -1)
      if all == nil { all = subscriptions.withLock { $0 } }
      all?.drain(readAt: loop.readAt, take)
      loop.flush()
    }
    finish(connection, all ?? subscriptions.withLock { $0 }, take)
  }

  /// Takes back the subscriptions, serves what has come until then, and writes the last reply.
  private func finish(
    _ connection: NATSHandle, _ all: NATSSubscriptions?, _ take: (NATSJob) -> Void
  ) {
    let deadline = ContinuousClock.now + .milliseconds(configuration.drainTimeoutMilliseconds)
    all?.beginDrain(timeoutMilliseconds: configuration.drainTimeoutMilliseconds)
    while ContinuousClock.now < deadline {
      // Without a broker there is nobody to drain from, nor to answer.
      guard natsConnection_Status(connection.pointer) == NATS_CONN_STATUS_CONNECTED else { return }
      loop.turn(timeoutMilliseconds: 2)
      all?.drain(readAt: loop.readAt, take)
      loop.flush()
      let isQuiet = (all?.isDrained ?? true) && (pool?.isIdle ?? true)
      if isQuiet, !loop.hasUnwritten, natsConnection_Buffered(connection.pointer) <= 0 { return }
    }
    logLine("gave up draining after \(configuration.drainTimeoutMilliseconds) ms")
  }
}

/// Serves messages on one thread: runs the handler, publishes the reply, frees the message.
private final class JobServer {
  private let runner: RequestRunner
  private let connection: NATSHandle
  private let loop: NATSLoop
  /// Messages that were answered and not yet given back.
  private let used = UnsafeMutablePointer<OpaquePointer?>.allocate(capacity: JobServer.mostUsed)
  private var usedCount = 0
  private static let mostUsed = 128

  init(runner: RequestRunner, connection: NATSHandle, loop: NATSLoop) {
    self.runner = runner
    self.connection = connection
    self.loop = loop
  }

  deinit {
    destroyUsed()
    used.deallocate()
  }

  /// libnats hands a destroyed message to a collector thread and wakes it: once for each message
  /// that costs more than the message. So they are handed over many at a time.
  private func discard(_ message: OpaquePointer) {
    used[usedCount] = message
    usedCount += 1
    if usedCount == Self.mostUsed { destroyUsed() }
  }

  private func destroyUsed() {
    for place in 0..<usedCount { natsMsg_Destroy(used[place]) }
    usedCount = 0
  }

  func serve(_ job: NATSJob) {
    let message = job.message.pointer
    defer { discard(message) }
    let bytes = UnsafeRawBufferPointer(
      start: natsMsg_GetData(message), count: Int(natsMsg_GetDataLength(message)))
    let reply =
      job.phase.map { runner.reply(to: bytes, phase: $0, readAt: job.readAt) }
      ?? runner.lifecycleReply(to: bytes)
    if runner.isStamping { loop.stampReads() }
    guard let inbox = natsMsg_GetReply(message) else { return }
    let status = publish(reply, to: inbox)
    if status == NATS_MAX_PAYLOAD {
      let most = natsConnection_GetMaxPayload(connection.pointer)
      _ = publish(
        runner.tooLargeReply(to: bytes, byteCount: reply.count, byteCountMost: Int(most)), to: inbox)
    }
  }

  private func publish(
    _ reply: UnsafeRawBufferPointer, to inbox: UnsafePointer<CChar>
  ) -> natsStatus {
    natsConnection_Publish(
      connection.pointer, inbox, reply.baseAddress, Int32(clamping: reply.count))
  }
}
