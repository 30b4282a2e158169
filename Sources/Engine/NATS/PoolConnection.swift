import CLinux
import Glibc
import NATS
import Nylon
import Scenario

/// One connection of a load thread to the broker: a socket that never blocks and a buffer each way.
///
/// A request is copied into the buffer and patched there; one write takes all that waits. What
/// came is parsed and handled where it lies. A request that finds no room waits in a ring of slots
/// and is written when there is some.
///
/// When the connection breaks, requests that the kernel had not taken whole go out again on the
/// next one; the others get no answer and time out, or are retried by their policy.
struct PoolConnection {
  /// What all connections of a load thread are made from.
  struct Setup {
    let security: WireSecurity
    /// The brokers' URLs. May hold secrets.
    let servers: [String]
    /// Subjects of the phases, in the order of the session's.
    let subjects: [String]
    let replySubject: ReplySubject
    /// The load thread's epoll set.
    let epoll: Int32
    /// The thread's slots, and how many connections share them.
    let slotCount: Int
    let connectionCount: Int
    /// Bytes of the longest request that sessions begin with.
    let longestRequest: Int
    /// The load thread's place, so that threads begin with different brokers.
    let thread: Int
  }

  /// Requests that found no room, at a fixed address.
  struct State {
    /// Their slots, in a ring of `slotCount` places.
    var postponed: UnsafeMutablePointer<Int32>
    var postponedHead = 0
    var postponedCount = 0
  }

  /// The id of the one subscription of a connection.
  static let subscription = 1

  let wire: WireConnection
  let state: UnsafeMutablePointer<State>
  let place: Int
  private let slotCount: Int
  /// `PUB subject inbox.` of each phase.
  private let heads: UnsafeMutablePointer<(start: UnsafeMutableRawPointer, count: Int)>
  private let headCount: Int
  private static let tokenBytes = 8

  /// All connections of a load thread, or none and why.
  static func connect(_ setup: Setup) throws -> [PoolConnection] {
    var made: [PoolConnection] = []
    do {
      for place in 0..<setup.connectionCount { made.append(try PoolConnection(place: place, setup: setup)) }
      if let most = made.map(\.wire.longestPayload).min(), setup.longestRequest > most {
        throw BrokerError.tooLong(servers: setup.servers, request: setup.longestRequest, most: most)
      }
      return made
    } catch {
      made.forEach { $0.close() }
      throw error
    }
  }

  private init(place: Int, setup: Setup) throws {
    self.place = place
    slotCount = setup.slotCount
    let servers = try BrokerServer.all(setup.servers, security: setup.security)
    let pattern = setup.replySubject.pattern(connection: place)
    let prefix = Array(setup.replySubject.prefix(connection: place))
    let texts = setup.subjects.map { Array("PUB \($0) ".utf8) + prefix }
    let longestHead = Self.tokenBytes + (texts.map(\.count).max() ?? 0)
    // Connections spread over the servers; nothing here is left to chance.
    wire = WireConnection(
      to: servers, first: setup.thread + place, subscriptions: "SUB \(pattern) \(Self.subscription)\r\n",
      epoll: setup.epoll, place: place, outBytes: 2 * (setup.longestRequest + longestHead + 32))
    headCount = texts.count
    heads = .allocate(capacity: headCount)
    for (index, text) in texts.enumerated() {
      let copy = UnsafeMutableRawPointer.allocate(byteCount: text.count, alignment: 16)
      copy.copyMemory(from: text, byteCount: text.count)
      heads[index] = (copy, text.count)
    }
    state = .allocate(capacity: 1)
    state.initialize(to: State(postponed: .allocate(capacity: setup.slotCount)))
    do {
      try wire.connectFirst()
    } catch {
      close()
      throw error
    }
  }

  func close() {
    wire.close()
    for index in 0..<headCount { heads[index].start.deallocate() }
    heads.deallocate()
    state.pointee.postponed.deallocate()
    state.deallocate()
  }

  /// What the user should know about the connection's life; empty when it was an ordinary one.
  var remarks: [String] {
    guard wire.reconnects > 0 else { return wire.complaints }
    let times = wire.reconnects == 1 ? "once" : "\(wire.reconnects) times"
    return ["the connection to the broker was lost and made again \(times)"] + wire.complaints
  }

  // MARK: Requests

  @inline(__always)
  func publish(slot: Int, of transport: NATSTransport) {
    if wire.isConnected, state.pointee.postponedCount == 0, put(slot, transport) { return }
    postpone(slot, transport)
  }

  /// Puts a slot's request into the buffer; false when it has no room. One that is longer than the
  /// broker takes ends here: the broker would end the connection.
  @inline(__always)
  private func put(_ slot: Int, _ transport: NATSTransport) -> Bool {
    let request = transport.request(ofSlot: slot)
    guard request.payloadCount <= wire.longestPayload else {
      transport.end(slot, .malformed)
      return true
    }
    let head = heads[Int(transport.slots[slot].phaseIndex)]
    let count = head.count &+ Self.tokenBytes &+ request.byteCount
    guard let start = wire.reserve(count) else { return false }
    memcpy(start, head.start, head.count)
    let token = start + head.count
    token.storeBytes(of: transport.slots[slot].tokenText, as: UInt64.self)
    let body = token + Self.tokenBytes
    memcpy(body, request.bytes, request.byteCount)
    transport.patch(request, slot: slot, at: body)
    wire.commit(count)
    transport.slots[slot].end = wire.written &+ UInt64(wire.unsentBytes)
    return true
  }

  /// Keeps a slot's request until there is room, or a connection.
  @inline(never)
  func postpone(_ slot: Int, _ transport: NATSTransport) {
    guard !transport.slots[slot].isPostponed else { return }
    transport.slots[slot].isPostponed = true
    let end = (state.pointee.postponedHead + state.pointee.postponedCount) % slotCount
    state.pointee.postponed[end] = Int32(truncatingIfNeeded: slot)
    state.pointee.postponedCount += 1
  }

  /// Puts requests that waited into the buffer, as many as have room.
  private func resume(_ transport: NATSTransport) {
    while state.pointee.postponedCount > 0 {
      let slot = Int(state.pointee.postponed[state.pointee.postponedHead])
      // Given up meanwhile: nobody waits for it any more.
      if transport.slots[slot].isWaiting, !put(slot, transport) { return }
      transport.slots[slot].isPostponed = false
      state.pointee.postponedHead = (state.pointee.postponedHead + 1) % slotCount
      state.pointee.postponedCount -= 1
    }
  }

  @inline(__always)
  func flush(_ transport: NATSTransport) {
    if wire.unsentBytes == 0, state.pointee.postponedCount == 0 { return }
    if wire.waitsForRoom { return }
    write(transport)
  }

  /// Writes until nothing is left or the kernel takes no more.
  func write(_ transport: NATSTransport) {
    while true {
      if wire.isConnected, state.pointee.postponedCount > 0 { resume(transport) }
      switch wire.send() {
      case .nothing:
        wire.wantRoom(false)
        return
      case .all:
        if state.pointee.postponedCount == 0, !wire.waitsForRoom { return }
      case .some: return
      case .broken:
        lose(transport)
        return
      }
    }
  }

  /// The connection is over: what the kernel had not taken whole goes out again on the next one.
  func lose(_ transport: NATSTransport) {
    wire.lose()
    for slot in stride(from: place, to: transport.slotCount, by: transport.connectionCount)
    where transport.slots[slot].isWaiting && transport.slots[slot].end > wire.written {
      postpone(slot, transport)
    }
  }

  // MARK: Replies

  func handle(_ events: UInt32, _ transport: NATSTransport) {
    guard wire.isConnected else {
      guard wire.dialOn(events) else { return }
      write(transport)
      if wire.isConnected { handleInput(transport) }
      if wire.holdsMore { read(transport) }
      return
    }
    if events & UInt32(KERNEL_WRITABLE) != 0 { write(transport) }
    if events & ~UInt32(KERNEL_WRITABLE) != 0, wire.isConnected { read(transport) }
  }

  /// Reads once, or over TLS until nothing is left that epoll does not know of, and handles what came.
  private func read(_ transport: NATSTransport) {
    repeat {
      let count = wire.fill()
      if count > 0 {
        handleInput(transport)
      } else if count < 0 {
        lose(transport)
      }
    } while wire.holdsMore
  }

  /// Handles all pieces that are whole.
  func handleInput(_ transport: NATSTransport) {
    while wire.hasInput {
      let piece = wire.nextPiece()
      guard piece.kind == .message else {
        guard handleOther(piece, transport) else { break }
        continue
      }
      wire.consume(piece)
      deliver(piece, transport)
    }
    if wire.owesPongs { write(transport) }
  }

  @inline(__always)
  private func deliver(_ piece: WirePiece, _ transport: NATSTransport) {
    guard piece.sid == Self.subscription,
      let token = transport.replySubject.token(in: piece.subject, connection: place)
    else {
      transport.unexpected()
      return
    }
    if !piece.header.isEmpty, piece.isNoResponders {
      transport.refused(token: token)
    } else {
      transport.receive(piece.payload, token: token)
    }
  }

  /// Handles a piece that is no message; false when nothing can be read behind it.
  @inline(never)
  private func handleOther(_ piece: WirePiece, _ transport: NATSTransport) -> Bool {
    var pongs = 0
    switch wire.handleOther(piece, pongs: &pongs) {
    case .handled: return true
    case .needsMore: return false
    case .broken:
      lose(transport)
      return false
    }
  }
}

extension BrokerError {
  /// A request is longer than the broker lets through.
  fileprivate static func tooLong(servers: [String], request: Int, most: Int) -> BrokerError {
    BrokerError(
      server: servers.map(redactedURL).joined(separator: ", "),
      why: "a request has \(request) bytes, it takes \(most) at most",
      remedy: "Lower `request.body_bytes`, or raise `max_payload` of the broker.")
  }
}
