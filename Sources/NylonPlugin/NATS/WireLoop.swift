import CLinux
import Glibc
import NATS
import Nylon
import Synchronization

/// The loop of a worker's connection. All calls come from its thread.
final class WireLoop {
  /// What the epoll set tells of the connection's socket, and of the box's descriptor.
  static let socketPlace: UInt64 = 0
  static let wakePlace: UInt64 = 1
  /// Bytes of replies that wait for each other, at most: the host can go on while the rest is served.
  private static let mostUnsentBytes = 8 << 10
  /// How a loop ends.
  enum End { case stopped, lost }

  private let wire: WireConnection
  private let epoll: Int32
  private let box: ReplyBox
  private let runner: RequestRunner
  private let pool: HandlerThreads?
  private let service: WorkerService
  /// Phases by subscription id, from 1; nil is the lifecycle's.
  private let phases: [Phase?]
  /// When the last read began, monotonic nanoseconds; 0 until a host asked for stamps.
  private var readAt: UInt64 = 0
  /// The PING behind the last UNSUB was answered: nothing more will come.
  private var isDrained = false
  private var isDraining = false

  init(
    _ wire: WireConnection, epoll: Int32, box: ReplyBox, runner: RequestRunner,
    pool: HandlerThreads?, service: WorkerService
  ) {
    self.wire = wire
    self.epoll = epoll
    self.box = box
    self.runner = runner
    self.pool = pool
    self.service = service
    phases = service.subscriptions.map(\.phase)
  }

  /// Serves until it is asked to stop and has finished what it has, or the connection is lost for good.
  func run(until stopRequested: borrowing Atomic<Bool>) -> End {
    if wire.hasInput { handleInput() }
    if wire.holdsMore { readInput() }
    flush()
    while !stopRequested.load(ordering: .acquiring) {
      turn(mostNanoseconds: 1_000_000_000)
      if isGivenUp { return .lost }
    }
    drain()
    return .stopped
  }

  /// Nothing is served any more: handler threads need not wait for room.
  func end() { box.setTaken(false) }

  /// Takes back the subscriptions, serves what has come until then, and writes the last reply.
  private func drain() {
    let milliseconds = service.configuration.drainTimeoutMilliseconds
    let deadline = kernel_now_ns() + UInt64(max(0, milliseconds)) * 1_000_000
    isDraining = true
    if wire.isConnected {
      say(phases.indices.map { "UNSUB \($0 + 1)\r\n" }.joined() + "PING\r\n")
      flush()
    }
    while kernel_now_ns() < deadline {
      // Without a broker there is nobody to drain from, nor to answer.
      guard wire.isConnected else { return }
      let isQuiet = isDrained && (pool?.isIdle ?? true)
      turn(mostNanoseconds: isQuiet ? 0 : 2_000_000)
      if isQuiet, box.isEmpty, wire.unsentBytes == 0 { return }
    }
    logLine("gave up draining after \(milliseconds) ms")
  }

  // MARK: Turns

  /// Waits for something to do, does it, and writes what came of it.
  private func turn(mostNanoseconds: UInt64) {
    var most = mostNanoseconds
    if !wire.isConnected {
      wire.checkTime()
      let now = kernel_now_ns()
      most = min(most, wire.stageEnd > now ? wire.stageEnd - now : 0)
    }
    var places: (UInt64, UInt64) = (0, 0)
    var events: (UInt32, UInt32) = (0, 0)
    let count = withUnsafeMutableBytes(of: &places) { places in
      withUnsafeMutableBytes(of: &events) { events in
        kernel_epoll_wait_ns(
          epoll, places.assumingMemoryBound(to: UInt64.self).baseAddress,
          events.assumingMemoryBound(to: UInt32.self).baseAddress, 2, most)
      }
    }
    if count > 0 { handle(places.0, events.0) }
    if count > 1 { handle(places.1, events.1) }
    takeReplies()
    flush()
  }

  private func handle(_ place: UInt64, _ events: UInt32) {
    if place == Self.wakePlace {
      box.pipe.woken()
      return
    }
    guard wire.isConnected else {
      if wire.dialOn(events) {
        logLine("Reconnected to NATS: nats://\(wire.server)")
        box.setTaken(true)
        box.longestPayload.store(wire.longestPayload, ordering: .relaxed)
        handleInput()
        if wire.holdsMore { readInput() }
      }
      return
    }
    guard events & ~UInt32(KERNEL_WRITABLE) != 0 else { return }
    readInput()
  }

  /// Reads once, or over TLS until nothing is left that epoll does not know of, and serves what came.
  private func readInput() {
    repeat {
      if box.stampsReads.load(ordering: .relaxed) { readAt = kernel_now_ns() }
      let count = wire.fill()
      if count > 0 {
        handleInput()
      } else if count < 0 {
        lose()
      }
    } while wire.holdsMore
  }

  private func lose() {
    logLine("Disconnected from NATS: \(service.configuration.redactedServers)")
    wire.lose()
    box.setTaken(false)
  }

  /// Whether the connection was tried again as often as it may be.
  private var isGivenUp: Bool {
    let most = service.configuration.maxReconnects
    return most >= 0 && !wire.isConnected && wire.rests > UInt64(most)
  }

  // MARK: In

  private func handleInput() {
    while wire.hasInput {
      let piece = wire.nextPiece()
      guard piece.kind == .message else {
        guard handleOther(piece) else { break }
        continue
      }
      wire.consume(piece)
      serve(piece)
      if wire.unsentBytes >= Self.mostUnsentBytes, !wire.waitsForRoom { flush() }
    }
  }

  /// False when nothing can be read behind it.
  private func handleOther(_ piece: WirePiece) -> Bool {
    if piece.kind == .error { box.complain(piece.text) }
    var pongs = 0
    switch wire.handleOther(piece, pongs: &pongs) {
    case .handled:
      if piece.kind == .info { box.longestPayload.store(wire.longestPayload, ordering: .relaxed) }
      if isDraining, pongs > 0 { isDrained = true }
      return true
    case .needsMore: return false
    case .broken:
      lose()
      return false
    }
  }

  @inline(__always)
  private func serve(_ piece: WirePiece) {
    guard piece.sid >= 1, piece.sid <= phases.count else { return }
    let phase = phases[piece.sid - 1]
    if let pool {
      pool.submit(WireJob(payload: piece.payload, reply: piece.reply, phase: phase, readAt: readAt))
      return
    }
    let reply =
      phase.map { runner.reply(to: piece.payload, phase: $0, readAt: readAt) }
      ?? runner.lifecycleReply(to: piece.payload)
    if runner.isStamping { box.stampsReads.store(true, ordering: .relaxed) }
    guard !piece.reply.isEmpty else { return }
    if reply.count <= wire.longestPayload {
      publish(reply, to: piece.reply)
    } else {
      publish(
        runner.tooLargeReply(to: piece.payload, byteCount: reply.count, byteCountMost: wire.longestPayload),
        to: piece.reply)
    }
  }

  // MARK: Out

  private func say(_ text: String) {
    let bytes = Array(text.utf8)
    guard let place = wire.reserve(bytes.count) ?? reserveSlowly(bytes.count) else { return }
    place.copyMemory(from: bytes, byteCount: bytes.count)
    wire.commit(bytes.count)
  }

  @inline(__always)
  private func publish(_ payload: UnsafeRawBufferPointer, to subject: UnsafeRawBufferPointer) {
    let count = Publication.byteCount(subject: subject.count, payload: payload.count)
    guard let place = wire.reserve(count) ?? reserveSlowly(count) else { return }
    wire.commit(Publication.write(payload, to: subject, at: place))
  }

  /// Writes until there is room; nil when the connection broke meanwhile. The broker reads on whatever it has
  /// to write, so waiting here cannot be for ever.
  @inline(never)
  private func reserveSlowly(_ count: Int) -> UnsafeMutableRawPointer? {
    while wire.isConnected {
      flush()
      if let place = wire.reserve(count) { return place }
      guard wire.waitsForRoom else { continue }
      waitForRoom()
    }
    return nil
  }

  private func waitForRoom() {
    var place: UInt64 = 0
    var events: UInt32 = 0
    let count = kernel_epoll_wait_ns(epoll, &place, &events, 1, 1_000_000)
    guard count > 0, place == Self.socketPlace, events & UInt32(KERNEL_WRITABLE) == 0 else { return }
    // Readable and not writable: asking again at once would be a spin.
    kernel_sleep_until(kernel_now_ns() + 50_000)
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
    case .broken: lose()
    }
  }
}
