import CNats
import Glibc
import Nylon
import Synchronization

/// Carries a worker's messages by libnats, on an event loop of the package, where it is asked for.
final class LibnatsEngine: WorkerEngine {
  private let service: WorkerService
  private let loop: NATSLoop
  private let pool: NATSPool<NATSJob>?
  private let subscriptions = Mutex<NATSSubscriptions?>(nil)
  private let stopRequested = Atomic<Bool>(false)
  private let connectionLost = Atomic<Bool>(false)
  private let running = Mutex<Running?>(nil)

  private struct Running: Sendable {
    let connection: NATSHandle
    let events: NATSEvents
    let thread: WorkerThread
  }

  init(_ service: WorkerService) throws(NATSWorkerError) {
    guard let loop = NATSLoop() else {
      throw .failed(step: "make a pipe", reason: String(cString: strerror(errno)))
    }
    self.loop = loop
    self.service = service
    pool = service.configuration.maxWorkers > 1 ? NATSPool() : nil
  }

  func start() throws(NATSWorkerError) {
    let configuration = service.configuration
    let events = NATSEvents(servers: configuration.redactedServers) { [weak self] in self?.closed() }
    let connection = try NATSConnection.connect(configuration, loop: loop, events: events)
    logLine("Connected to NATS: \(NATSConnection.connectedURL(connection.pointer))")
    try serve(connection, events)
    do {
      try subscribe(connection)
    } catch {
      stop()
      _ = wait()
      throw error
    }
  }

  func stop() {
    stopRequested.store(true, ordering: .releasing)
    loop.wake()
  }

  func wait() -> Bool {
    guard let running = running.withLock({ $0.take() }) else { return false }
    running.thread.join()
    pool?.stop()
    running.events.end()
    subscriptions.withLock { $0.take() }?.destroy()
    natsConnection_Close(running.connection.pointer)
    natsConnection_Destroy(running.connection.pointer)
    return connectionLost.load(ordering: .acquiring)
  }

  private func closed() {
    // Closed by ourselves comes after `stop`; any other way is a loss.
    guard !stopRequested.load(ordering: .acquiring) else { return }
    connectionLost.store(true, ordering: .releasing)
    stop()
  }

  private func serve(
    _ connection: NATSHandle, _ events: NATSEvents
  ) throws(NATSWorkerError) {
    let table = service.plugin.handlerTable()
    let plugin = service.plugin
    let loop = loop
    let make: @Sendable () -> (NATSJob) -> Void = {
      let server = JobServer(
        runner: RequestRunner(plugin: plugin, table: table), connection: connection, loop: loop)
      return server.serve
    }
    if let pool, !pool.start(service.configuration.maxWorkers, make) {
      throw .failed(step: "start \(service.configuration.maxWorkers) threads", reason: "the system refused")
    }
    guard let thread = WorkerThread({ [self] in serveLoop(connection, make) }) else {
      throw .failed(step: "start the loop's thread", reason: "the system refused")
    }
    running.withLock { $0 = Running(connection: connection, events: events, thread: thread) }
  }

  private func subscribe(_ connection: NATSHandle) throws(NATSWorkerError) {
    let made = try NATSSubscriptions(
      connection, subject: service.subject, group: service.configuration.queueGroup)
    subscriptions.withLock { $0 = made }
    // What came before they were all there is waiting.
    loop.wake()
    let status = natsConnection_FlushTimeout(
      connection.pointer, Int64(max(1000, service.configuration.connectTimeoutMilliseconds)))
    guard status == NATS_OK else {
      throw .failed(step: "subscribe", reason: NATSConnection.text(status))
    }
    service.logSubscriptions()
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
    let deadline = ContinuousClock.now + .milliseconds(service.configuration.drainTimeoutMilliseconds)
    all?.beginDrain(timeoutMilliseconds: service.configuration.drainTimeoutMilliseconds)
    while ContinuousClock.now < deadline {
      // Without a broker there is nobody to drain from, nor to answer.
      guard natsConnection_Status(connection.pointer) == NATS_CONN_STATUS_CONNECTED else { return }
      loop.turn(timeoutMilliseconds: 2)
      all?.drain(readAt: loop.readAt, take)
      loop.flush()
      let isQuiet = (all?.isDrained ?? true) && (pool?.isIdle ?? true)
      if isQuiet, !loop.hasUnwritten, natsConnection_Buffered(connection.pointer) <= 0 { return }
    }
    logLine("gave up draining after \(service.configuration.drainTimeoutMilliseconds) ms")
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
