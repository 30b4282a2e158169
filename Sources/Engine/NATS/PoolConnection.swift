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

  let wire: WireConnection
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
    guard wire.reconnects > 0 else { return wire.complaints }
    let times = wire.reconnects == 1 ? "once" : "\(wire.reconnects) times"
    return ["the connection to the broker was lost and made again \(times)"] + wire.complaints
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
    wire.lose()
    backlog.pointee.count = 0
    for slot in stride(from: place, to: transport.slotCount, by: transport.connectionCount)
    where transport.slots[slot].isWaiting && transport.slots[slot].end > wire.written {
      postpone(slot, transport)
    }
  }

  // MARK: Replies

  mutating func handle(_ events: UInt32, _ transport: NATSTransport) {
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
    while let piece = wire.nextMessage() { deliver(piece, transport) }
    if wire.isBroken { lose(transport) }
    if wire.owesPongs { write(transport) }
  }

  @inline(__always)
  private func deliver(_ piece: WirePiece, _ transport: NATSTransport) {
    guard piece.sid == Self.subscription, let slot = slot(in: piece.subject), slot < slotCount else {
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

  /// The slot that a reply's subject tells; nil when it is not one of this connection's.
  @inline(__always)
  private func slot(in subject: UnsafeRawBufferPointer) -> Int? {
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
