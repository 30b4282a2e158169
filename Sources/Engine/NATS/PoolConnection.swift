import CLinux
import Foundation
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
  /// The id of the one subscription of a connection.
  static let subscription = 1

  private(set) var wire: WireConnection
  /// The connection that is to come, or the one of before; nil but for a while in a broker's lame duck mode.
  private var move: UnsafeMutablePointer<ConnectionMove>?
  /// The slots whose requests found no room, in a ring of `slotCount` places.
  private let postponed: UnsafeMutablePointer<Int32>
  private var postponedHead = 0
  private var postponedCount = 0
  let place: Int
  private let slotCount: Int
  /// `PUB subject inbox.` of each phase.
  let heads: UnsafeMutableBufferPointer<UnsafeRawBufferPointer>
  /// What the subjects of its replies have before their token: the inbox, which no other connection has, and a dot.
  let inbox: UnsafeRawBufferPointer
  static let tokenBytes = 8
  /// A reply subject of the length of all.
  static let sampleReply = newInbox() + String(repeating: "0", count: tokenBytes)
  /// Publications that found no room, behind one another.
  let backlog: UnsafeMutablePointer<GrowingBytes>
  /// Bytes of them, at most: a worker may ask for much more than the broker takes.
  private static let mostBacklogBytes = 256 << 20

  /// A connection, made.
  ///
  /// - Parameters:
  ///   - place: its place among those of the load thread.
  ///   - first: which of the servers it tries first, so that connections spread over them.
  ///   - servers: the brokers' URLs. May hold secrets.
  ///   - longestRequest: bytes of the longest request that sessions begin with.
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
        why: "a request has \(longestRequest) bytes, it takes \(wire.longestPayload) at most",
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

  /// Unique by 71 random bits, as the prefix of a NUID is. Each byte of it crosses the broker four times a request.
  private static func newInbox() -> String {
    let characters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "_INBOX.\(String((0..<12).compactMap { _ in characters.randomElement() }))."
  }

  /// What the user should know about the connection's life; empty when it was an ordinary one.
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

  /// Whether something waits for room.
  @inline(__always)
  private var holdsBack: Bool { postponedCount > 0 || backlog.pointee.count > 0 }

  /// Publishes a message on a phase's subject, without a reply subject; false when it is longer than the broker takes,
  /// or too much waits for it already.
  /// Changes nothing of this view, so that it may be called while what came is handled.
  @inline(never)
  func publish(_ payload: UnsafeRawBufferPointer, phaseIndex: Int) -> Bool {
    guard payload.count <= wire.longestPayload else { return false }
    // Who asked for it did so over a connection that is gone.
    guard wire.isConnected else { return true }
    // Behind `PUB `.
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

  /// Puts a slot's request into the buffer; false when it has no room. One that is longer than the
  /// broker takes ends here: the broker would end the connection.
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

  /// Keeps a slot's request until there is room, or a connection.
  @inline(never)
  mutating func postpone(_ slot: Int, _ transport: NATSTransport) {
    guard !transport.slots[slot].isPostponed else { return }
    transport.slots[slot].isPostponed = true
    let end = (postponedHead + postponedCount) % slotCount
    postponed[end] = Int32(truncatingIfNeeded: slot)
    postponedCount += 1
  }

  /// Puts what waited into the buffer, as far as there is room.
  private mutating func resume(_ transport: NATSTransport) {
    if backlog.pointee.count > 0 {
      guard wire.put(backlog.pointee.bytes) else { return }
      backlog.pointee.count = 0
    }
    while postponedCount > 0 {
      let slot = Int(postponed[postponedHead])
      // Given up meanwhile: nobody waits for it any more.
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

  /// Writes until nothing is left or the kernel takes no more.
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

  /// The connection is over: what the kernel had not taken whole goes out again on the next one.
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

  /// Something happened at the socket that has this place in the epoll set.
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

  /// Reads once, or over TLS until nothing is left that epoll does not know of, and handles what came. What a broker
  /// sends without end is read on by the next `poll`.
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

  /// Handles all pieces that are whole.
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

  /// The last part of a slot's reply subject: 8 hexadecimal digits, as they lie in memory.
  static func token(ofSlot slot: Int) -> UInt64 {
    let digits = String(1 << (4 * tokenBytes) + slot, radix: 16).utf8.dropFirst()
    return digits.reversed().reduce(0) { $0 << 8 | UInt64($1) }.littleEndian
  }

  /// The slot that a reply's subject tells; nil when it is not one of the inbox.
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

/// A connection beside the one in use, while requests move from a broker that is ending to another one.
private struct ConnectionMove {
  let wire: WireConnection
  /// The inbox of its replies.
  let inbox: UnsafeRawBufferPointer
  /// Whether it is the one of before: it stays for the answers to what was sent over it.
  var isLeft = false
  /// Where the bytes end that were written to it.
  var end: UInt64 = 0
  var nextLook: UInt64 = 0

  /// Between two looks whether answers are still awaited, nanoseconds: each goes through all slots.
  static let lookNanoseconds: UInt64 = 5_000_000
}

/// A broker in lame duck mode tells its clients so, and closes their connections a while later. Requests then go over a
/// connection to another broker, with an inbox of its own; answers still come over both.
///
/// Nylon's own host stays until it is cut off, as its client does.
extension PoolConnection {
  /// Whether it is connected, and no move to another broker is under way.
  @inline(__always)
  var isSteady: Bool { wire.isConnected && move == nil }

  /// Does what is due when it is not steady.
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
    if events & UInt32(KERNEL_WRITABLE) != 0 { sendRest(other, transport) }
    guard self.move != nil, events & ~UInt32(KERNEL_WRITABLE) != 0 else { return }
    repeat {
      let count = other.fill()
      if count < 0 { return endMove(transport) }
      while let piece = other.nextMessage() { deliver(piece, to: move.pointee.inbox, transport) }
      if other.isBroken { return endMove(transport) }
    } while other.holdsMore
    if other.owesPongs { sendRest(other, transport) }
  }

  /// The connection to another broker is made: requests go there from now on.
  private mutating func takeOver(_ move: UnsafeMutablePointer<ConnectionMove>, _ transport: NATSTransport) {
    let (old, new) = (wire, move.pointee.wire)
    let end = old.written &+ UInt64(old.unsentBytes)
    new.countWritten(from: end)
    // The bytes of both inboxes change places, also at the end of what requests begin with.
    let inboxOfOld = RequestAnswers.keep(inbox)
    for place in [inbox] + heads.map({ UnsafeRawBufferPointer(rebasing: $0.suffix(inbox.count)) }) {
      UnsafeMutableRawBufferPointer(mutating: place).copyMemory(from: move.pointee.inbox)
    }
    UnsafeMutableRawBufferPointer(mutating: move.pointee.inbox).copyMemory(from: inboxOfOld)
    inboxOfOld.deallocate()
    move.initialize(
      to: ConnectionMove(wire: old, inbox: move.pointee.inbox, isLeft: true, end: end))
    wire = new
    sendRest(old, transport)
    write(transport)
    if wire.isConnected { handleInput(transport) }
    if wire.holdsMore { read(transport) }
  }

  /// Sends what waits in the connection of before.
  private mutating func sendRest(_ old: WireConnection, _ transport: NATSTransport) {
    switch old.send() {
    case .nothing, .all: old.wantRoom(false)
    case .some: break
    case .broken: endMove(transport)
    }
  }

  /// The connection of before is over, or nothing is awaited from it: what it had not sent goes out over the new one.
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

  /// Whether the answer to a slot's request is to come over the connection of before.
  private func isAwaited(_ slot: NATSSlot, over move: UnsafeMutablePointer<ConnectionMove>) -> Bool {
    slot.isWaiting && !slot.isPostponed && slot.end <= move.pointee.end
  }
}
