import Glibc
import NATS
import Nylon
import Scenario

/// What the native client knows of the requests of one connection, at a fixed address.
struct NativeState {
  /// Slots whose requests found no room, in a ring of `slotCount` places.
  var postponed: UnsafeMutablePointer<Int32>
  var postponedHead = 0
  var postponedCount = 0
}

/// A connection of the package's own: one socket that never blocks, a buffer each way.
///
/// A request is copied into the buffer and patched there; one write takes all that waits. What
/// came is parsed and handled where it lies. A request that finds no room waits in a ring of slots
/// and is written when there is some.
///
/// When the connection breaks, requests that the kernel had not taken whole go out again on the
/// next one; the others get no answer and time out, or are retried by their policy.
struct NativeLink: BrokerLink {
  static let client = NATSClient.native
  /// The id of the one subscription of a connection.
  static let subscription = 1

  let wire: WireConnection
  let state: UnsafeMutablePointer<NativeState>
  let place: Int
  private let slotCount: Int
  /// `PUB subject inbox.` of each phase.
  private let heads: UnsafeMutablePointer<(start: UnsafeMutableRawPointer, count: Int)>
  private let headCount: Int
  private static let tokenBytes = 8

  init(place: Int, setup: LinkSetup) throws {
    self.place = place
    slotCount = setup.slotCount
    let security = try WireSecurity(auth: setup.spec.auth, tls: setup.spec.tls, servers: setup.servers)
    let servers = try BrokerServer.all(setup.servers, security: security)
    let pattern = setup.replySubject.pattern(connection: place)
    let prefix = Array(setup.replySubject.prefix(connection: place))
    let texts = setup.subjects.map { Array("PUB \(String(cString: $0)) ".utf8) + prefix }
    let longestHead = Self.tokenBytes + (texts.map(\.count).max() ?? 0)
    // Connections spread over the servers; nothing here is left to chance.
    wire = WireConnection(
      to: servers, first: setup.lane + place,
      settings: WireSettings(
        name: "nylon-bench", subscriptions: Array("SUB \(pattern) \(Self.subscription)\r\n".utf8)),
      epoll: setup.epoll, place: place, outBytes: 2 * (setup.longestRequest + longestHead + 32))
    headCount = texts.count
    heads = .allocate(capacity: headCount)
    for (index, text) in texts.enumerated() {
      let copy = UnsafeMutableRawPointer.allocate(byteCount: text.count, alignment: 16)
      copy.copyMemory(from: text, byteCount: text.count)
      heads[index] = (copy, text.count)
    }
    state = .allocate(capacity: 1)
    state.initialize(to: NativeState(postponed: .allocate(capacity: setup.slotCount)))
    do throws(LinkFailure) {
      try wire.connectFirst()
    } catch {
      close()
      throw error.error
    }
  }

  func close() {
    wire.close()
    for index in 0..<headCount { heads[index].start.deallocate() }
    heads.deallocate()
    state.pointee.postponed.deallocate()
    state.deallocate()
  }

  var longestPayload: Int { wire.longestPayload }

  var remarks: [String] { Remark.reconnects(wire.reconnects) + wire.complaints }

  // MARK: Out

  @inline(__always)
  func publish(slot: Int, of transport: NATSTransport<NativeLink>) {
    if wire.isConnected, state.pointee.postponedCount == 0, put(slot, transport) { return }
    postpone(slot, transport)
  }

  /// Puts a slot's request into the buffer; false when it has no room. One that is longer than the
  /// broker takes ends here: the broker would end the connection.
  @inline(__always)
  private func put(_ slot: Int, _ transport: NATSTransport<NativeLink>) -> Bool {
    let request = transport.request(ofSlot: slot)
    guard request.payloadCount <= wire.longestPayload else {
      transport.complete(slot, .malformed)
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
    transport.slots[slot].sequence = wire.written &+ UInt64(wire.unsentBytes)
    return true
  }

  /// Keeps a slot's request until there is room, or a connection.
  @inline(never)
  func postpone(_ slot: Int, _ transport: NATSTransport<NativeLink>) {
    guard !transport.slots[slot].isPostponed else { return }
    transport.slots[slot].isPostponed = true
    let end = (state.pointee.postponedHead + state.pointee.postponedCount) % slotCount
    state.pointee.postponed[end] = Int32(truncatingIfNeeded: slot)
    state.pointee.postponedCount += 1
  }

  /// Puts requests that waited into the buffer, as many as have room.
  private func resume(_ transport: NATSTransport<NativeLink>) {
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
  func flush(_ transport: NATSTransport<NativeLink>) {
    if wire.unsentBytes == 0, state.pointee.postponedCount == 0 { return }
    if wire.waitsForRoom { return }
    write(transport)
  }

  /// Writes until nothing is left or the kernel takes no more.
  func write(_ transport: NATSTransport<NativeLink>) {
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
  func lose(_ transport: NATSTransport<NativeLink>) {
    wire.lose()
    for slot in stride(from: place, to: transport.slotCount, by: transport.linkCount)
    where transport.slots[slot].isWaiting && transport.slots[slot].sequence > wire.written {
      postpone(slot, transport)
    }
  }

  @inline(__always)
  func resolved(_ slot: Int, _ transport: NATSTransport<NativeLink>) {}
}
