import CLinux
import Glibc
import NATS
import Nylon
import Synchronization

/// Runs a worker's connection on one thread: each turn reads, handles requests and writes the replies at
/// once.
///
/// With several handler threads the loop passes them copies of the requests and writes the replies from its
/// box. A reply is lost if its connection breaks, as in core NATS: the host retries.
final class WireLoop {
  /// The epoll tag of the box's descriptor; connections alternate between the tags 0 and 2.
  private static let wakePlace: UInt64 = 1
  /// The number of buffered reply bytes that triggers a flush, so that the host can continue while the rest
  /// is served.
  private static let mostUnsentBytes = 8 << 10
  /// The maximum number of broker errors to log, so that a bad minute cannot fill the disk.
  private static let mostComplaints = 10
  /// Shared with other threads.
  let box: ReplyBox
  private var wire: WireConnection
  /// The connection being made because the broker of `wire` is shutting down.
  private var next: WireConnection?
  /// The previous connection, until everything received on it is answered.
  private var leaving: Leaving?
  /// The SUB protocol lines.
  private let subscriptions: String
  private let epoll: Int32
  private let runner: RequestRunner
  private let pool: HandlerThreads?
  private let configuration: NATSConfiguration
  private let subject: Subject
  /// The phases by subscription id, starting at 1; nil is the lifecycle subject.
  private let phases: [Phase?]
  private static let mostEvents: Int32 = 3
  private let places = UnsafeMutablePointer<UInt64>.allocate(capacity: Int(mostEvents))
  private let events = UnsafeMutablePointer<UInt32>.allocate(capacity: Int(mostEvents))
  private var complaints = 0
  private var hasDropped = false
  /// The start of the last read in monotonic nanoseconds; 0 until a host has requested timestamps.
  private var readAt: UInt64 = 0

  /// Reads files, resolves names and starts handler threads, but does not connect yet.
  init(
    _ plugin: Plugin, _ configuration: NATSConfiguration, _ dialect: WorkerDialect, _ subject: Subject
  ) throws(NATSWorkerError) {
    let traits = dialect.dialect.traits
    phases = Phase.session + (traits.configuredOn == .phases ? [] : [nil])
    let security = try configuration.security()
    let ledger = try configuration.ledger()
    let servers: [BrokerServer]
    do {
      servers = try BrokerServer.all(configuration.servers, security: security)
    } catch {
      throw .noBroker(servers: configuration.redactedServers, reason: error.why)
    }
    guard let box = ReplyBox() else {
      throw .failed(step: "make an eventfd", reason: String(cString: strerror(errno)))
    }
    epoll = kernel_epoll_create()
    guard epoll >= 0,
      kernel_epoll_set(epoll, box.descriptor, UInt32(KERNEL_READABLE), WireLoop.wakePlace) == 0
    else {
      let reason = String(cString: strerror(errno))
      if epoll >= 0 { Glibc.close(epoll) }
      throw .failed(step: "make an epoll set", reason: reason)
    }
    let group = configuration.queueGroup
    let lines = phases.enumerated().map { place, phase in
      "SUB \(phase.map { "\(subject.phase($0)) \(group)" } ?? subject.lifecycle) \(place + 1)\r\n"
    }
    subscriptions = lines.joined()
    wire = WireConnection(
      to: servers, first: configuration.startsWithFirstServer ? 0 : Int.random(in: 0..<max(1, servers.count)),
      name: configuration.name,
      subscriptions: subscriptions,
      limitNanoseconds: UInt64(max(1, configuration.connectTimeoutMilliseconds)) * 1_000_000,
      restNanoseconds: UInt64(max(1, configuration.reconnectWaitMilliseconds)) * 1_000_000,
      epoll: epoll)
    let table = plugin.handlerTable()
    runner = RequestRunner(plugin: plugin, table: table, dialect: dialect, ledger: ledger)
    self.box = box
    self.configuration = configuration
    self.subject = subject
    let count = configuration.maxWorkers
    // While a handler waits for the answer to a read, the loop must be free to receive it.
    let needsThreads = count > 1 || traits.end == .call
    pool = needsThreads ? HandlerThreads(count: count, plugin, table, dialect, ledger, box) : nil
    if needsThreads, pool == nil {
      Glibc.close(epoll)
      throw .failed(step: "start \(count) threads", reason: "the system refused")
    }
  }

  deinit {
    places.deallocate()
    events.deallocate()
  }

  /// Connects and subscribes. Returns when the broker has processed all subscriptions.
  func connect() throws(NATSWorkerError) {
    do {
      try wire.connectFirst()
    } catch {
      let shown = configuration.redactedServers
      switch error.kind {
      case .credentials: throw .refused(servers: shown)
      case .tls: throw .noTLS(servers: shown, reason: error.why)
      case .silence, .noBroker: throw .noBroker(servers: shown, reason: error.why)
      }
    }
    logLine("Connected to NATS: nats://\(wire.server)")
    for phase in Phase.session {
      logLine("Subscribed to \(subject.phase(phase)) with queue group \(configuration.queueGroup)")
    }
    if phases.contains(nil) { logLine("Subscribed to \(subject.lifecycle)") }
  }

  /// Serves until asked to stop, then drains; also returns when the connection is permanently lost.
  func run() {
    defer { close() }
    if wire.hasInput { handleInput(of: wire) }
    if wire.holdsMore { readInput(of: wire) }
    flush()
    while !box.isStopping.load(ordering: .acquiring) {
      turn(mostNanoseconds: 1_000_000_000)
      if isGivenUp { return box.isLost.store(true, ordering: .releasing) }
    }
    if !box.isAborted.load(ordering: .acquiring) { drain() }
  }

  /// Closes all connections. Replies are dropped from here on, so handler threads do not wait for room.
  func close() {
    box.setTaken(false)
    for one in [wire, next, leaving?.wire].compactMap({ $0 }) { one.close() }
    Glibc.close(epoll)
    pool?.stop()
  }

  /// Unsubscribes, serves the messages received until then, and writes the last replies.
  private func drain() {
    let milliseconds = configuration.drainTimeoutMilliseconds
    let deadline = kernel_now_ns() + UInt64(max(0, milliseconds)) * 1_000_000
    let pongs = wire.pongs
    if wire.isConnected {
      let words = farewell.utf8
      if !wire.put(words), reserveSlowly(words.count) != nil { wire.put(words) }
      flush()
    }
    while kernel_now_ns() < deadline {
      // Without a broker, no message can arrive and no reply can leave.
      guard wire.isConnected else { return }
      // The PING after the last UNSUB is answered: no more messages will arrive.
      if wire.pongs > pongs { pool?.closeMailboxes() }
      let isQuiet = wire.pongs > pongs && leaving == nil && (pool?.isIdle ?? true)
      turn(mostNanoseconds: isQuiet ? 0 : 2_000_000)
      if isQuiet, box.isEmpty, wire.unsentBytes == 0 { return }
    }
    logLine("gave up draining after \(milliseconds) ms")
  }

  /// The UNSUB lines, followed by a PING whose PONG arrives after the last message.
  private var farewell: String { phases.indices.map { "UNSUB \($0 + 1)\r\n" }.joined() + "PING\r\n" }

  // MARK: Turns

  /// Waits for events, handles them, and flushes the replies.
  private func turn(mostNanoseconds: UInt64) {
    var most = mostNanoseconds
    if !wire.isConnected { most = min(most, nextStep(of: wire)) }
    if let next { most = min(most, nextStep(of: next)) }
    if wire.holdsMore {
      readInput(of: wire)
      most = 0
    }
    if let old = leaving?.wire, old.holdsMore {
      readInput(of: old)
      most = 0
    }
    let count = kernel_epoll_wait_ns(epoll, places, events, Self.mostEvents, most)
    for place in 0..<max(0, Int(count)) { handle(places[place], events[place]) }
    takeReplies()
    flush()
    if wire.isToMove { beginToMove() }
    if leaving != nil { leave() }
  }

  /// Advances a connection attempt. Returns the nanoseconds until the next step is due.
  private func nextStep(of wire: WireConnection) -> UInt64 {
    wire.checkTime()
    let now = kernel_now_ns()
    return wire.stageEnd > now ? wire.stageEnd - now : 0
  }

  private func handle(_ place: UInt64, _ events: UInt32) {
    if place == Self.wakePlace {
      box.woken()
    } else if place != UInt64(wire.place) {
      handleElsewhere(events, at: Int(place))
    } else if wire.isConnected {
      if events & ~UInt32(KERNEL_WRITABLE) != 0 { readInput(of: wire) }
    } else if wire.dialOn(events) {
      logLine("Reconnected to NATS: nats://\(wire.server)")
      box.setTaken(true)
      handleInput(of: wire)
      if wire.holdsMore { readInput(of: wire) }
    }
  }

  // MARK: Moving

  /// A previous connection. Its requests are answered over the new one, since every broker routes a reply
  /// subject.
  private struct Leaving {
    let wire: WireConnection
    /// The number of PONGs when the loop moved to the new connection.
    let pongs: Int
    /// Whether the UNSUB lines have been sent.
    var isTold = false
  }

  /// Starts to connect to another broker because this one is shutting down. Requests are served on the old
  /// connection until the new broker has the subscriptions.
  private func beginToMove() {
    guard next == nil, leaving == nil, !box.isStopping.load(ordering: .relaxed) else { return }
    next = WireConnection(after: wire, subscriptions: subscriptions, place: wire.place == 0 ? 2 : 0)
  }

  /// Handles an event of a connection other than the current one.
  private func handleElsewhere(_ events: UInt32, at place: Int) {
    if let made = next, made.place == place {
      guard made.dialOn(events) else { return }
      logLine("Moved to NATS: nats://\(made.server)")
      leaving = Leaving(wire: wire, pongs: wire.pongs)
      (wire, next) = (made, nil)
      handleInput(of: wire)
      if wire.holdsMore { readInput(of: wire) }
    } else if let old = leaving?.wire, old.place == place, events & ~UInt32(KERNEL_WRITABLE) != 0 {
      readInput(of: old)
    }
  }

  /// Closes the previous connection as soon as no more messages can arrive on it.
  private func leave() {
    guard var old = leaving else { return }
    if !old.isTold { old.isTold = old.wire.put(farewell.utf8) }
    leaving = old
    if !old.wire.flush() || old.wire.unsentBytes == 0 && old.wire.pongs > old.pongs { forgetLeaving() }
  }

  private func forgetLeaving() {
    leaving?.wire.close()
    leaving = nil
  }

  /// Reads once and serves what arrived. Over TLS, repeats while data is buffered that epoll does not report,
  /// up to a limit; the next turn continues from there.
  private func readInput(of wire: WireConnection) {
    for _ in 0..<WireConnection.mostFills {
      if box.stampsReads.load(ordering: .relaxed) { readAt = kernel_now_ns() }
      var isOpen = true
      let count = wire.fill()
      if count > 0 { isOpen = handleInput(of: wire) } else if count < 0 { isOpen = lose(wire) }
      guard isOpen, wire.holdsMore else { return }
    }
  }

  /// Handles the loss of a connection. Always returns false, for callers that return whether it is open.
  @discardableResult
  private func lose(_ lost: WireConnection) -> Bool {
    guard lost.place == wire.place else {
      forgetLeaving()
      return false
    }
    logLine("Disconnected from NATS: \(configuration.redactedServers)")
    next?.close()
    next = nil
    wire.lose()
    box.setTaken(false)
    return false
  }

  /// Whether the reconnect attempts are used up.
  private var isGivenUp: Bool {
    let most = configuration.maxReconnects
    return most >= 0 && !wire.isConnected && wire.rests > UInt64(most)
  }

  // MARK: In

  /// Serves all complete messages. Returns false if the connection is lost.
  @discardableResult
  private func handleInput(of source: WireConnection) -> Bool {
    while !box.isAborted.load(ordering: .relaxed), let piece = source.nextMessage(complaint: { tell($0) }) {
      serve(piece)
      if wire.unsentBytes >= Self.mostUnsentBytes, !wire.waitsForRoom { flush() }
    }
    return source.isBroken ? lose(source) : true
  }

  private func tell(_ complaint: String) {
    complaints += 1
    if complaints <= Self.mostComplaints { logLine("error: \(complaint)") }
  }

  /// Logs once that requests are dropped.
  @inline(never)
  private func tellOfDrop() {
    guard !hasDropped else { return }
    hasDropped = true
    let mebibytes = HandlerThreads.mostQueuedBytes >> 20
    logLine("requests are dropped: over \(mebibytes) MiB wait for a handler; run more workers")
  }

  @inline(__always)
  private func serve(_ piece: WirePiece) {
    guard piece.sid >= 1, piece.sid <= phases.count else { return }
    let phase = phases[piece.sid - 1]
    if let pool {
      if pool.takeAnswer(piece.payload) { return }
      let job = WireJob(
        payload: Array(piece.payload), reply: Array(piece.reply), phase: phase, readAt: readAt,
        most: wire.longestPayload)
      if !pool.submit(job) { tellOfDrop() }
      return
    }
    let answer = runner.answer(
      to: piece.payload, phase: phase, readAt: readAt, most: wire.longestPayload)
    if runner.isStamping { box.stampsReads.store(true, ordering: .relaxed) }
    if let answer, !piece.reply.isEmpty { publish(answer, to: piece.reply) }
  }

  // MARK: Out

  @inline(__always)
  private func publish(_ payload: UnsafeRawBufferPointer, to subject: UnsafeRawBufferPointer) {
    let count = WirePublication.byteCount(subject: subject.count, payload: payload.count)
    guard let place = wire.reserve(count) ?? reserveSlowly(count) else { return }
    wire.commit(WirePublication.write(payload, to: subject, at: place))
  }

  /// Flushes until there is room; nil if the connection broke meanwhile. The wait is bounded, because the
  /// broker keeps reading whatever it has to write.
  @inline(never)
  private func reserveSlowly(_ count: Int) -> UnsafeMutableRawPointer? {
    while wire.isConnected {
      flush()
      if let place = wire.reserve(count) { return place }
      if wire.waitsForRoom { _ = wire.waitForRoom(milliseconds: 1) }
    }
    return nil
  }

  /// Copies the replies of the handler threads into the connection's buffer.
  private func takeReplies() {
    guard pool != nil, wire.isConnected else { return }
    box.take { bytes in
      guard let start = bytes.baseAddress else { return }
      var done = 0
      while done < bytes.count, wire.isConnected {
        let count = min(bytes.count - done, WireConnection.bufferBytes / 2)
        guard let place = wire.reserve(count) ?? reserveSlowly(count) else { return }
        memcpy(place, start + done, count)
        wire.commit(count)
        done += count
      }
    }
  }

  private func flush() {
    guard wire.isConnected, wire.unsentBytes > 0 || wire.owesPongs || wire.waitsForRoom else { return }
    if !wire.flush() { lose(wire) }
  }
}
