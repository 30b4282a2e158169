import CLinux
import Glibc
import NATS
import Nylon
import Synchronization

/// Carries a worker's messages by the package's own connection, all on one thread: read, handle, write once.
///
/// With several handler threads the loop hands copies of the requests over and writes the replies that they
/// leave in its box. A reply to a connection that broke is lost with it, as in core NATS: the host retries.
final class WireLoop {
  /// What the epoll set tells of the box's descriptor; the sockets of connections have the places 0 and 2, in turn.
  private static let wakePlace: UInt64 = 1
  /// Bytes of replies that wait for each other, at most: the host can go on while the rest is served.
  private static let mostUnsentBytes = 8 << 10
  /// Complaints of the broker that are told: one slow minute must not fill the disk.
  private static let mostComplaints = 10
  /// For other threads.
  let box: ReplyBox
  private var wire: WireConnection
  /// The connection to come, when the broker of `wire` is ending.
  private var next: WireConnection?
  /// The connection of before, until all that came over it is answered.
  private var leaving: Leaving?
  /// The subscriptions' lines.
  private let subscriptions: String
  private let epoll: Int32
  private let runner: RequestRunner
  private let pool: HandlerThreads?
  private let configuration: NATSConfiguration
  private let subject: Subject
  /// Phases by subscription id, from 1; nil is the lifecycle's.
  private let phases: [Phase?]
  private static let mostEvents: Int32 = 3
  private let places = UnsafeMutablePointer<UInt64>.allocate(capacity: Int(mostEvents))
  private let events = UnsafeMutablePointer<UInt32>.allocate(capacity: Int(mostEvents))
  private var complaints = 0
  private var hasDropped = false
  /// When the last read began, monotonic nanoseconds; 0 until a host asked for stamps.
  private var readAt: UInt64 = 0

  /// Reads files, looks names up and starts handler threads, but does not connect yet.
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
    // While a handler waits for the answer to a read, the loop must be free to take it.
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

  /// Connects and subscribes; returns when the broker has all subscriptions.
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

  /// Serves until it is asked to stop and has finished what it has, or the connection is lost for good.
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

  /// Nothing is served any more: handler threads need not wait for room.
  func close() {
    box.setTaken(false)
    for one in [wire, next, leaving?.wire].compactMap({ $0 }) { one.close() }
    Glibc.close(epoll)
    pool?.stop()
  }

  /// Takes back the subscriptions, serves what has come until then, and writes the last reply.
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
      // Without a broker there is nobody to drain from, nor to answer.
      guard wire.isConnected else { return }
      // The PING behind the last UNSUB is answered: nothing more will come.
      if wire.pongs > pongs { pool?.closeMailboxes() }
      let isQuiet = wire.pongs > pongs && leaving == nil && (pool?.isIdle ?? true)
      turn(mostNanoseconds: isQuiet ? 0 : 2_000_000)
      if isQuiet, box.isEmpty, wire.unsentBytes == 0 { return }
    }
    logLine("gave up draining after \(milliseconds) ms")
  }

  /// Takes all subscriptions back, and asks for an answer behind the last message.
  private var farewell: String { phases.indices.map { "UNSUB \($0 + 1)\r\n" }.joined() + "PING\r\n" }

  // MARK: Turns

  /// Waits for something to do, does it, and writes what came of it.
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

  /// Goes on with a connection that is being made; nanoseconds until that is due again.
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

  /// A connection of before. What is served over it is answered over the new one: a reply's subject leads everywhere.
  private struct Leaving {
    let wire: WireConnection
    /// Its PONGs when it was left.
    let pongs: Int
    /// Whether the subscriptions were taken back.
    var isTold = false
  }

  /// Begins to connect to another broker, since this one is ending. Both are served until that one has the
  /// subscriptions.
  private func beginToMove() {
    guard next == nil, leaving == nil, !box.isStopping.load(ordering: .relaxed) else { return }
    next = WireConnection(after: wire, subscriptions: subscriptions, place: wire.place == 0 ? 2 : 0)
  }

  /// Something happened at a connection that is not the one in use.
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

  /// Closes the connection of before as soon as nothing more can come over it.
  private func leave() {
    guard var old = leaving else { return }
    if !old.isTold { old.isTold = old.wire.put(farewell.utf8) }
    leaving = old
    switch old.wire.send() {
    case .nothing, .all: old.wire.wantRoom(false)
    case .some: return
    case .broken: return forgetLeaving()
    }
    if old.wire.pongs > old.pongs { forgetLeaving() }
  }

  private func forgetLeaving() {
    leaving?.wire.close()
    leaving = nil
  }

  /// Reads once, or over TLS until nothing is left that epoll does not know of, and serves what came. What a broker
  /// sends without end is read on by the next turn.
  private func readInput(of wire: WireConnection) {
    for _ in 0..<WireConnection.mostFills {
      if box.stampsReads.load(ordering: .relaxed) { readAt = kernel_now_ns() }
      var isOpen = true
      let count = wire.fill()
      if count > 0 { isOpen = handleInput(of: wire) } else if count < 0 { isOpen = lose(wire) }
      guard isOpen, wire.holdsMore else { return }
    }
  }

  /// The connection is over; false, for those who were about to go on with it.
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

  /// Whether the connection was tried again as often as it may be.
  private var isGivenUp: Bool {
    let most = configuration.maxReconnects
    return most >= 0 && !wire.isConnected && wire.rests > UInt64(most)
  }

  // MARK: In

  /// Serves all that came whole; false when the connection is over.
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

  /// Says once that requests are dropped.
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

  /// Writes until there is room; nil when the connection broke meanwhile. The broker reads on whatever it has
  /// to write, so waiting here cannot be for ever.
  @inline(never)
  private func reserveSlowly(_ count: Int) -> UnsafeMutableRawPointer? {
    while wire.isConnected {
      flush()
      if let place = wire.reserve(count) { return place }
      if wire.waitsForRoom { _ = wire.waitForRoom(milliseconds: 1) }
    }
    return nil
  }

  /// Puts what the handler threads left into the buffer.
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
    switch wire.send() {
    case .nothing, .all: wire.wantRoom(false)
    case .some: break
    case .broken: lose(wire)
    }
  }
}
