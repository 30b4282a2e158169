import CLinux
import Foundation
import NATS
import Nylon
import Scenario

/// One connection of a load thread to the broker: a non-blocking socket with a buffer in each direction.
///
/// A request is copied into the output buffer and patched there; one write sends all pending requests. Input
/// is parsed and handled in place. The slot of a request that finds no room waits in a ring until there is
/// room.
///
/// When the connection breaks, requests that the kernel had not fully accepted are sent again on the next
/// one; the others get no answer and time out, or are retried by their policy.
struct PoolConnection {
  /// The id of a connection's only subscription.
  static let subscription = 1

  private(set) var wire: WireConnection
  /// The new or the previous connection during a broker's lame duck mode; nil at all other times.
  private var move: UnsafeMutablePointer<ConnectionMove>?
  /// The slots whose requests found no room, a ring of `slotCount` places.
  private let postponed: UnsafeMutablePointer<Int32>
  private var postponedHead = 0
  private var postponedCount = 0
  let place: Int
  private let slotCount: Int
  /// `PUB subject inbox.` of each phase.
  let heads: UnsafeMutableBufferPointer<UnsafeRawBufferPointer>
  /// The prefix of reply subjects before the token: the connection's unique inbox and a dot.
  let inbox: UnsafeRawBufferPointer
  static let tokenBytes = 8
  /// A reply subject, with the length that all have.
  static let sampleReply = newInbox() + String(repeating: "0", count: tokenBytes)
  /// Consecutive publications that found no room.
  let backlog: UnsafeMutablePointer<GrowingBytes>
  /// The maximum size of the backlog in bytes: a worker may request much more than the broker accepts.
  private static let mostBacklogBytes = 256 << 20

  /// Creates a connection and connects it.
  ///
  /// - Parameters:
  ///   - place: the index among the connections of the load thread.
  ///   - first: the index of the server to try first, so that connections spread over the servers.
  ///   - servers: the brokers' URLs. May contain secrets.
  ///   - longestRequest: the size of the longest request of the initial context, in bytes.
  init(
    place: Int, first: Int, servers: [String], security: WireSecurity, subjects: [String], epoll: Int32,
    slotCount: Int, longestRequest: Int
  ) throws {
    self.place = place
    self.slotCount = slotCount
    let inbox = Self.newInbox()
    let texts = subjects.map { Array("PUB \($0) \(inbox)".utf8) }
    let longestHead = Self.tokenBytes + (texts.map(\.count).max() ?? 0)
    wire = WireConnection(
      to: try BrokerServer.all(servers, security: security), first: first,
      subscriptions: "SUB \(inbox)* \(Self.subscription)\r\n", epoll: epoll, place: place,
      outBytes: 2 * (longestRequest + longestHead + 32))
    self.inbox = RequestAnswers.keep(inbox.utf8)
    heads = .allocate(capacity: texts.count)
    _ = heads.initialize(from: texts.map(RequestAnswers.keep))
    postponed = .allocate(capacity: slotCount)
    backlog = .allocate(capacity: 1)
    backlog.initialize(to: GrowingBytes(capacity: 0))
    do {
      try wire.connectFirst()
    } catch {
      close()
      throw error
    }
    guard longestRequest <= wire.longestPayload else {
      defer { close() }
      throw BrokerError(
        server: servers.map(Redaction.redactedURL).joined(separator: ", "),
        why: "a request has \(longestRequest) bytes, but it accepts at most \(wire.longestPayload)",
        remedy: "Lower `request.body_bytes`, or raise `max_payload` of the broker.")
    }
  }

  func close() {
    wire.close()
    if let move { forget(move) }
    for head in heads { head.deallocate() }
    heads.deallocate()
    inbox.deallocate()
    postponed.deallocate()
    backlog.pointee.deallocate()
    backlog.deallocate()
  }

  /// Unique by 71 random bits, like a NUID's prefix. Each byte crosses the broker four times per request.
  private static func newInbox() -> String {
    let characters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "_INBOX.\(String((0..<12).compactMap { _ in characters.randomElement() }))."
  }

  /// Events of the connection that the user should know about; empty when there were none.
  var remarks: [String] {
    func times(_ count: UInt64) -> String { count == 1 ? "once" : "\(count) times" }
    let lost =
      wire.reconnects > 0
      ? ["the connection to the broker was lost and made again \(times(wire.reconnects))"] : []
    let moved =
      wire.moves > 0
      ? ["the connection was moved to another broker \(times(wire.moves)), since its own was ending"] : []
    return lost + moved + wire.complaints
  }

  // MARK: Requests

  @inline(__always)
  mutating func publish(slot: Int, of transport: NATSTransport) {
    if wire.isConnected, !holdsBack, put(slot, transport) { return }
    postpone(slot, transport)
  }

  /// Whether requests or publications are waiting for room.
  @inline(__always)
  private var holdsBack: Bool { postponedCount > 0 || backlog.pointee.count > 0 }

  /// Publishes a message on a phase's subject without a reply subject; false when it exceeds the broker's
  /// maximum payload or the backlog is full. Does not mutate this view, so it may be called while input is
  /// handled.
  @inline(never)
  func publish(_ payload: UnsafeRawBufferPointer, phaseIndex: Int) -> Bool {
    guard payload.count <= wire.longestPayload else { return false }
    // The connection over which this message was requested is gone.
    guard wire.isConnected else { return true }
    // Skip `PUB `.
    let subject = UnsafeRawBufferPointer(rebasing: headWithoutInbox(phaseIndex)[4...])
    let most = WirePublication.byteCount(subject: subject.count, payload: payload.count)
    if backlog.pointee.count == 0, let place = wire.reserve(most) {
      wire.commit(WirePublication.write(payload, to: subject, at: place))
    } else {
      guard backlog.pointee.count + most <= Self.mostBacklogBytes else { return false }
      let place = backlog.pointee.extend(by: most)
      backlog.pointee.count -= most - WirePublication.write(payload, to: subject, at: place)
    }
    return true
  }

  /// `PUB subject` of a phase.
  func headWithoutInbox(_ phaseIndex: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: heads[phaseIndex].dropLast(inbox.count + 1))
  }

  /// Puts a slot's request into the buffer; false when there is no room. A request that exceeds the maximum
  /// payload ends its phase here, because the broker would close the connection.
  @inline(__always)
  private func put(_ slot: Int, _ transport: NATSTransport) -> Bool {
    if let host = transport.nylonHost { return put(slot, transport, as: host) }
    let asked = transport.slots + slot
    let phaseIndex = Int(asked.pointee.phaseIndex)
    let request = transport.contexts.request(Int(asked.pointee.context), phaseIndex: phaseIndex)
    guard request.payloadCount <= wire.longestPayload else {
      transport.end(slot, .malformed)
      return true
    }
    let head = heads[phaseIndex]
    let count = head.count &+ Self.tokenBytes &+ request.byteCount
    guard let start = wire.reserve(count) else { return false }
    if let bytes = head.baseAddress { memcpy(start, bytes, head.count) }
    let token = start + head.count
    token.storeBytes(of: asked.pointee.token, as: UInt64.self)
    let body = token + Self.tokenBytes
    memcpy(body, request.bytes, request.byteCount)
    request.patch(
      body, requestID: asked.pointee.requestID, sessionID: asked.pointee.lastSID,
      timestampMilliseconds: transport.unixMilliseconds)
    request.patchReply(body, inbox: inbox, token: asked.pointee.token)
    wire.commit(count)
    asked.pointee.end = wire.written &+ UInt64(wire.unsentBytes)
    return true
  }

  /// Queues a slot's request until there is room or a connection.
  @inline(never)
  mutating func postpone(_ slot: Int, _ transport: NATSTransport) {
    guard !transport.slots[slot].isPostponed else { return }
    transport.slots[slot].isPostponed = true
    let end = (postponedHead + postponedCount) % slotCount
    postponed[end] = Int32(truncatingIfNeeded: slot)
    postponedCount += 1
  }

  /// Puts queued requests into the buffer, as far as there is room.
  private mutating func resume(_ transport: NATSTransport) {
    if backlog.pointee.count > 0 {
      guard wire.put(backlog.pointee.bytes) else { return }
      backlog.pointee.count = 0
    }
    while postponedCount > 0 {
      let slot = Int(postponed[postponedHead])
      // Skip a request that was given up meanwhile.
      if transport.slots[slot].isWaiting, !put(slot, transport) { return }
      transport.slots[slot].isPostponed = false
      postponedHead = (postponedHead + 1) % slotCount
      postponedCount -= 1
    }
  }

  @inline(__always)
  mutating func flush(_ transport: NATSTransport) {
    if wire.unsentBytes == 0, !holdsBack { return }
    if wire.waitsForRoom { return }
    write(transport)
  }

  /// Writes until nothing is pending or the kernel's send buffer is full.
  mutating func write(_ transport: NATSTransport) {
    while true {
      if wire.isConnected, holdsBack { resume(transport) }
      switch wire.send() {
      case .nothing:
        wire.wantRoom(false)
        return
      case .all:
        if !holdsBack, !wire.waitsForRoom { return }
      case .some: return
      case .broken:
        lose(transport)
        return
      }
    }
  }

  /// Handles a lost connection: the next one resends requests that the kernel had not fully accepted.
  mutating func lose(_ transport: NATSTransport) {
    if let begun = move, !begun.pointee.isLeft {
      forget(begun)
      move = nil
    }
    wire.lose()
    transport.recorder.noteTrouble(at: MonotonicClock.nanoseconds)
    backlog.pointee.count = 0
    for slot in stride(from: place, to: transport.slotCount, by: transport.connectionCount)
    where transport.slots[slot].isWaiting && transport.slots[slot].end > wire.written {
      postpone(slot, transport)
    }
  }

  // MARK: Replies

  /// Handles epoll events of the socket that has this place in the epoll set.
  mutating func handle(_ events: UInt32, at socket: Int, _ transport: NATSTransport) {
    if socket != wire.place { return handleMove(events, at: socket, transport) }
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

  /// Reads once, or over TLS until OpenSSL holds no more data that epoll does not report, and handles the
  /// input. When the broker sends without end, the next `poll` continues.
  private mutating func read(_ transport: NATSTransport) {
    for _ in 0..<WireConnection.mostFills {
      let count = wire.fill()
      if count > 0 {
        handleInput(transport)
      } else if count < 0 {
        lose(transport)
      }
      guard wire.holdsMore else { return }
    }
  }

  /// Handles all complete messages.
  mutating func handleInput(_ transport: NATSTransport) {
    while let piece = wire.nextMessage() { deliver(piece, to: inbox, transport) }
    if wire.isBroken { lose(transport) }
    if wire.owesPongs { write(transport) }
    if wire.isToMove { beginToMove(transport) }
  }

  @inline(__always)
  private func deliver(_ piece: WirePiece, to inbox: UnsafeRawBufferPointer, _ transport: NATSTransport) {
    guard piece.sid == Self.subscription, let slot = slot(in: piece.subject, of: inbox), slot < slotCount
    else {
      transport.receiveElsewhere(piece, over: self)
      return
    }
    if !piece.header.isEmpty, piece.isNoResponders {
      transport.refused(slot: slot)
    } else {
      transport.receive(piece.payload, slot: slot, over: self)
    }
  }

  /// The last part of a slot's reply subject: 8 hexadecimal digits, in memory order.
  static func token(ofSlot slot: Int) -> UInt64 {
    let digits = String(1 << (4 * tokenBytes) + slot, radix: 16).utf8.dropFirst()
    return digits.reversed().reduce(0) { $0 << 8 | UInt64($1) }.littleEndian
  }

  /// The slot that a reply's subject identifies; nil when the subject does not belong to the inbox.
  @inline(__always)
  private func slot(in subject: UnsafeRawBufferPointer, of inbox: UnsafeRawBufferPointer) -> Int? {
    guard subject.count == inbox.count + Self.tokenBytes, let start = subject.baseAddress,
      let prefix = inbox.baseAddress, memcmp(start, prefix, inbox.count) == 0
    else { return nil }
    var slot = 0
    for place in inbox.count..<subject.count {
      let character = start.load(fromByteOffset: place, as: UInt8.self)
      switch character {
      case 48...57: slot = slot << 4 | Int(character - 48)
      case 97...102: slot = slot << 4 | Int(character - 87)
      default: return nil
      }
    }
    return slot
  }
}

/// The second connection while requests move from a broker that is shutting down to another one.
private struct ConnectionMove {
  let wire: WireConnection
  /// The prefix of its reply subjects.
  let inbox: UnsafeRawBufferPointer
  /// Whether it is the previous connection, which is kept for the answers to requests sent over it.
  var isLeft = false
  /// The number of bytes written up to the move.
  var end: UInt64 = 0
  var nextLook: UInt64 = 0

  /// The interval between checks for pending answers, nanoseconds; each check scans all slots.
  static let lookNanoseconds: UInt64 = 5_000_000
}

/// A broker in lame duck mode announces it to its clients and closes their connections a while later.
/// Requests then use a connection to another broker, with its own inbox; answers still arrive over both.
///
/// Nylon's own host stays until it is disconnected, as its client does.
extension PoolConnection {
  /// Whether the connection is up and no move to another broker is in progress.
  @inline(__always)
  var isSteady: Bool { wire.isConnected && move == nil }

  /// Advances a reconnect or a move to another broker.
  @inline(never)
  mutating func care(_ transport: NATSTransport) {
    if !wire.isConnected { wire.checkTime() }
    guard let move else { return }
    guard move.pointee.isLeft else { return move.pointee.wire.checkTime() }
    let now = MonotonicClock.nanoseconds
    guard now >= move.pointee.nextLook else { return }
    move.pointee.nextLook = now + ConnectionMove.lookNanoseconds
    if !slots(of: transport).contains(where: { isAwaited(transport.slots[$0], over: move) }) {
      endMove(transport)
    }
  }

  @inline(never)
  private mutating func beginToMove(_ transport: NATSTransport) {
    guard move == nil, transport.nylonHost == nil else { return }
    let inbox = Self.newInbox()
    let successor = WireConnection(
      after: wire, subscriptions: "SUB \(inbox)* \(Self.subscription)\r\n",
      place: wire.place == place ? place + transport.connectionCount : place)
    move = .allocate(capacity: 1)
    move?.initialize(to: ConnectionMove(wire: successor, inbox: RequestAnswers.keep(inbox.utf8)))
  }

  @inline(never)
  private mutating func handleMove(_ events: UInt32, at socket: Int, _ transport: NATSTransport) {
    guard let move, move.pointee.wire.place == socket else { return }
    let other = move.pointee.wire
    guard move.pointee.isLeft else {
      if other.dialOn(events) { takeOver(move, transport) }
      return
    }
    if events & UInt32(KERNEL_WRITABLE) != 0, !other.flush() { endMove(transport) }
    guard self.move != nil, events & ~UInt32(KERNEL_WRITABLE) != 0 else { return }
    repeat {
      let count = other.fill()
      if count < 0 { return endMove(transport) }
      while let piece = other.nextMessage() { deliver(piece, to: move.pointee.inbox, transport) }
      if other.isBroken { return endMove(transport) }
    } while other.holdsMore
    if other.owesPongs, !other.flush() { endMove(transport) }
  }

  /// Switches to the new connection: requests use it from now on.
  private mutating func takeOver(_ move: UnsafeMutablePointer<ConnectionMove>, _ transport: NATSTransport) {
    let (old, new) = (wire, move.pointee.wire)
    let end = old.written &+ UInt64(old.unsentBytes)
    new.countWritten(from: end)
    // Swap the bytes of both inboxes, including the copies at the end of each request head.
    let inboxOfOld = RequestAnswers.keep(inbox)
    for place in [inbox] + heads.map({ UnsafeRawBufferPointer(rebasing: $0.suffix(inbox.count)) }) {
      UnsafeMutableRawBufferPointer(mutating: place).copyMemory(from: move.pointee.inbox)
    }
    UnsafeMutableRawBufferPointer(mutating: move.pointee.inbox).copyMemory(from: inboxOfOld)
    inboxOfOld.deallocate()
    move.initialize(
      to: ConnectionMove(wire: old, inbox: move.pointee.inbox, isLeft: true, end: end))
    wire = new
    if !old.flush() { endMove(transport) }
    write(transport)
    if wire.isConnected { handleInput(transport) }
    if wire.holdsMore { read(transport) }
  }

  /// Drops the previous connection; requests that it had not fully sent go out over the new one.
  private mutating func endMove(_ transport: NATSTransport) {
    guard let move else { return }
    let sent = move.pointee.wire.written
    for slot in slots(of: transport)
    where isAwaited(transport.slots[slot], over: move) && transport.slots[slot].end > sent {
      postpone(slot, transport)
    }
    forget(move)
    self.move = nil
  }

  private func forget(_ move: UnsafeMutablePointer<ConnectionMove>) {
    move.pointee.wire.close()
    move.pointee.inbox.deallocate()
    move.deallocate()
  }

  private func slots(of transport: NATSTransport) -> StrideTo<Int> {
    stride(from: place, to: transport.slotCount, by: transport.connectionCount)
  }

  /// Whether the answer to a slot's request is expected over the previous connection.
  private func isAwaited(_ slot: NATSSlot, over move: UnsafeMutablePointer<ConnectionMove>) -> Bool {
    slot.isWaiting && !slot.isPostponed && slot.end <= move.pointee.end
  }
}
