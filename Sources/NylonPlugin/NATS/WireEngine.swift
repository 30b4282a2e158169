import CLinux
import Glibc
import NATS
import Nylon
import Synchronization

/// Carries a worker's messages by the package's own connection, all on one thread: read, handle, write once.
///
/// With several handler threads the loop hands copies of the requests over and writes the replies that they
/// leave in its box. A reply to a connection that broke is lost with it, as in core NATS: the host retries.
final class WireEngine: Sendable {
  private let service: WorkerService
  private let servers: [BrokerServer]
  private let box: ReplyBox
  private let pool: HandlerThreads?
  private let stopRequested = Atomic<Bool>(false)
  private let connectionLost = Atomic<Bool>(false)
  private let thread = Mutex<WorkerThread?>(nil)

  init(_ service: WorkerService) throws(NATSWorkerError) {
    let configuration = service.configuration
    let security = try configuration.security()
    do throws(BrokerError) {
      servers = try BrokerServer.all(configuration.servers, security: security)
    } catch {
      throw .noBroker(servers: configuration.redactedServers, reason: error.why)
    }
    guard let box = ReplyBox() else {
      throw .failed(step: "make a pipe", reason: String(cString: strerror(errno)))
    }
    self.box = box
    self.service = service
    pool = configuration.maxWorkers > 1 ? HandlerThreads() : nil
  }

  /// Connects, subscribes and serves; returns when the broker has all subscriptions.
  func start() throws(NATSWorkerError) {
    let wire = try connect()
    logLine("Connected to NATS: nats://\(wire.value.server)")
    service.logSubscriptions()
    let table = service.plugin.handlerTable()
    let plugin = service.plugin
    let box = box
    box.longestPayload.store(wire.value.longestPayload, ordering: .relaxed)
    if let pool {
      let isStarted = pool.start(service.configuration.maxWorkers) {
        let runner = RequestRunner(plugin: plugin, table: table)
        return { job in job.serve(with: runner, into: box) }
      }
      guard isStarted else {
        wire.close()
        throw .failed(
          step: "start \(service.configuration.maxWorkers) threads", reason: "the system refused")
      }
    }
    let started = WorkerThread { [self] in
      let loop = WireLoop(
        wire.value, epoll: wire.epoll, box: box, runner: RequestRunner(plugin: plugin, table: table),
        pool: pool, service: service)
      let end = loop.run(until: stopRequested)
      loop.end()
      connectionLost.store(end == .lost, ordering: .releasing)
      wire.close()
    }
    guard let started else {
      pool?.stop()
      wire.close()
      throw .failed(step: "start the loop's thread", reason: "the system refused")
    }
    thread.withLock { $0 = started }
  }

  private func connect() throws(NATSWorkerError) -> WorkerWire {
    let configuration = service.configuration
    let lines = service.subscriptions.enumerated().map { place, one in
      "SUB \(one.subject) \(one.group.map { $0 + " " } ?? "")\(place + 1)\r\n"
    }
    let settings = WireSettings(
      name: configuration.name, subscriptions: Array(lines.joined().utf8),
      limitNanoseconds: UInt64(max(1, configuration.connectTimeoutMilliseconds)) * 1_000_000,
      restNanoseconds: UInt64(max(1, configuration.reconnectWaitMilliseconds)) * 1_000_000)
    let epoll = kernel_epoll_create()
    guard epoll >= 0,
      kernel_epoll_set(epoll, box.pipe.descriptor, UInt32(KERNEL_READABLE), WireLoop.wakePlace) == 0
    else { throw .failed(step: "make an epoll set", reason: String(cString: strerror(errno))) }
    let wire = WorkerWire(
      WireConnection(
        to: servers, first: Int.random(in: 0..<max(1, servers.count)), settings: settings, epoll: epoll,
        place: Int(WireLoop.socketPlace), outBytes: 0), epoll: epoll)
    do throws(LinkFailure) {
      try wire.value.connectFirst()
      return wire
    } catch {
      wire.close()
      let shown = configuration.redactedServers
      switch error.kind {
      case .credentials: throw .refused(servers: shown)
      case .tls: throw .noTLS(servers: shown, reason: error.why)
      case .silence, .noBroker: throw .noBroker(servers: shown, reason: error.why)
      }
    }
  }

  /// Asks it to finish what it has and to stop; returns at once.
  func stop() {
    stopRequested.store(true, ordering: .releasing)
    box.pipe.wake()
  }

  /// Waits until it has stopped; whether the connection was lost for good.
  func wait() -> Bool {
    guard let thread = thread.withLock({ $0.take() }) else { return false }
    thread.join()
    pool?.stop()
    return connectionLost.load(ordering: .acquiring)
  }
}

/// What a worker serves.
struct WorkerService: Sendable {
  let plugin: Plugin
  let configuration: NATSConfiguration
  let subject: Subject

  /// The phases' subjects with the queue group, and the lifecycle's without.
  var subscriptions: [(subject: String, group: String?, phase: Phase?)] {
    Phase.session.map { (subject.phase($0), configuration.queueGroup, $0) } + [(subject.lifecycle, nil, nil)]
  }

  /// Logs what was subscribed to.
  func logSubscriptions() {
    for phase in Phase.session {
      logLine("Subscribed to \(subject.phase(phase)) with queue group \(configuration.queueGroup)")
    }
    logLine("Subscribed to \(subject.lifecycle)")
  }
}

/// A worker's connection and its epoll set, on their way from who made them to the loop's thread.
///
/// `@unchecked`: used by one thread at a time, first by the one that connects, then by the loop's alone.
private struct WorkerWire: @unchecked Sendable {
  let value: WireConnection
  let epoll: Int32

  init(_ value: WireConnection, epoll: Int32) {
    self.value = value
    self.epoll = epoll
  }

  func close() {
    value.close()
    Glibc.close(epoll)
  }
}
