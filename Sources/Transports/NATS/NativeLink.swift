import CKernel
import Glibc
import Measure
import NylonProtocol
import Scenario

/// How far a native connection is.
enum LinkStage: UInt8 {
  /// Waits before it tries to connect again.
  case resting
  /// The kernel connects.
  case connecting
  /// The broker is to greet.
  case greeting
  /// The broker has our CONNECT, and is to agree.
  case introducing
  /// The broker has our subscription, and is to agree.
  case subscribing
  case connected
}

/// What the native client knows of one connection, at a fixed address.
struct NativeState {
  var socket: Int32 = -1
  var stage = LinkStage.resting
  /// When the stage is over, monotonic nanoseconds.
  var stageEnd: UInt64 = 0
  /// To be written: from `outStart` to `outEnd`.
  var out: UnsafeMutableRawPointer
  var outCapacity: Int
  var outStart = 0
  var outEnd = 0
  /// Bytes that the kernel took, over all connections that this one was.
  var written: UInt64 = 0
  /// Whether the socket's buffer was full, so that epoll tells when it is not.
  var waitsForRoom = false
  /// PONGs to be written.
  var pongsOwed = 0
  /// Read and not yet handled: from `inStart` to `inEnd`.
  var input: UnsafeMutableRawPointer
  var inCapacity: Int
  var inStart = 0
  var inEnd = 0
  /// Slots whose requests found no room, in a ring of `slotCount` places.
  var postponed: UnsafeMutablePointer<Int32>
  var postponedHead = 0
  var postponedCount = 0
  /// Bytes of a message, at most.
  var longestPayload = BrokerInfo.ordinaryPayload
  /// How often the connection was made again.
  var reconnects: UInt64 = 0
}

/// A connection of the package's own: one socket that never blocks, a buffer each way.
///
/// A request is copied into the buffer and patched there; one write takes all that waits. What
/// came is parsed and handled where it lies. A request that finds no room waits in a ring of slots
/// and is written when there is some. Memory grows only for a message that is longer than any before.
///
/// When the connection breaks, requests that the kernel had not taken whole go out again on the
/// next one; the others get no answer and time out, or are retried by their policy.
struct NativeLink: BrokerLink {
  static let client = NATSClient.native

  let state: UnsafeMutablePointer<NativeState>
  let dialer: Unmanaged<NativeDialer>
  let place: Int
  let epoll: Int32
  private let slotCount: Int
  /// `PUB subject inbox.` of each phase.
  private let heads: UnsafeMutablePointer<(start: UnsafeMutableRawPointer, count: Int)>
  private let headCount: Int
  /// Bytes of the head's longest, its token included.
  private let longestHead: Int
  private static let tokenBytes = 8
  /// Bytes of a buffer, at least.
  private static let bufferBytes = 256 << 10

  init(place: Int, setup: LinkSetup) throws {
    self.place = place
    epoll = setup.epoll
    slotCount = setup.slotCount
    let dialer = try NativeDialer(place: place, setup: setup)
    headCount = setup.subjects.count
    heads = .allocate(capacity: headCount)
    let prefix = setup.replySubject.prefix(connection: place)
    for (index, subject) in setup.subjects.enumerated() {
      let text = Array("PUB \(String(cString: subject)) ".utf8) + Array(prefix)
      let copy = UnsafeMutableRawPointer.allocate(byteCount: text.count, alignment: 16)
      copy.copyMemory(from: text, byteCount: text.count)
      heads[index] = (copy, text.count)
    }
    longestHead = Self.tokenBytes + (0..<headCount).reduce(0) { [heads] in max($0, heads[$1].count) }
    let outBytes = max(Self.bufferBytes, 2 * (setup.longestRequest + longestHead + 32))
    state = .allocate(capacity: 1)
    state.initialize(
      to: NativeState(
        out: .allocate(byteCount: outBytes, alignment: 64), outCapacity: outBytes,
        input: .allocate(byteCount: Self.bufferBytes, alignment: 64), inCapacity: Self.bufferBytes,
        postponed: .allocate(capacity: setup.slotCount)))
    self.dialer = .passRetained(dialer)
    do {
      try connectFirst()
    } catch {
      close()
      throw error
    }
  }

  func close() {
    closeSocket()
    for index in 0..<headCount { heads[index].start.deallocate() }
    heads.deallocate()
    state.pointee.out.deallocate()
    state.pointee.input.deallocate()
    state.pointee.postponed.deallocate()
    state.deallocate()
    dialer.release()
  }

  var longestPayload: Int { state.pointee.longestPayload }

  var remarks: [String] {
    Remark.reconnects(state.pointee.reconnects) + dialer.takeUnretainedValue().complaints
  }

  // MARK: Out

  @inline(__always)
  func publish(slot: Int, of transport: NATSTransport<NativeLink>) {
    if state.pointee.stage == .connected, state.pointee.postponedCount == 0, put(slot, transport) { return }
    postpone(slot, transport)
  }

  /// Puts a slot's request into the buffer; false when it has no room. One that is longer than the
  /// broker takes ends here: the broker would end the connection.
  @inline(__always)
  private func put(_ slot: Int, _ transport: NATSTransport<NativeLink>) -> Bool {
    let request = transport.request(ofSlot: slot)
    guard request.payloadCount <= state.pointee.longestPayload else {
      transport.complete(slot, .malformed)
      return true
    }
    let head = heads[Int(transport.slots[slot].phaseIndex)]
    let count = head.count &+ Self.tokenBytes &+ request.byteCount
    if state.pointee.outEnd &+ count > state.pointee.outCapacity {
      guard makeRoom(count) else { return false }
    }
    let start = state.pointee.out + state.pointee.outEnd
    memcpy(start, head.start, head.count)
    let token = start + head.count
    token.storeBytes(of: transport.slots[slot].tokenText, as: UInt64.self)
    let body = token + Self.tokenBytes
    memcpy(body, request.bytes, request.byteCount)
    transport.patch(request, slot: slot, at: body)
    state.pointee.outEnd &+= count
    transport.slots[slot].sequence =
      state.pointee.written &+ UInt64(state.pointee.outEnd &- state.pointee.outStart)
    return true
  }

  /// Moves what waits to the buffer's front; an empty buffer grows to what it is to hold.
  @inline(never)
  private func makeRoom(_ count: Int) -> Bool {
    let waiting = state.pointee.outEnd - state.pointee.outStart
    guard waiting + count <= state.pointee.outCapacity || waiting == 0 else { return false }
    if waiting + count > state.pointee.outCapacity {
      state.pointee.out.deallocate()
      state.pointee.outCapacity = count * 2
      state.pointee.out = .allocate(byteCount: count * 2, alignment: 64)
    } else {
      memmove(state.pointee.out, state.pointee.out + state.pointee.outStart, waiting)
    }
    state.pointee.outStart = 0
    state.pointee.outEnd = waiting
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
    if state.pointee.outEnd == state.pointee.outStart, state.pointee.postponedCount == 0 { return }
    if state.pointee.waitsForRoom { return }
    write(transport)
  }

  /// Writes until nothing is left or the kernel takes no more.
  func write(_ transport: NATSTransport<NativeLink>) {
    while true {
      if state.pointee.stage == .connected, state.pointee.postponedCount > 0 { resume(transport) }
      switch send() {
      case .nothing:
        if state.pointee.waitsForRoom { wantRoom(false) }
        return
      case .all:
        if state.pointee.postponedCount == 0, !state.pointee.waitsForRoom { return }
      case .some: return
      case .broken:
        lose(transport)
        return
      }
    }
  }

  /// What became of the bytes in the buffer.
  enum Sent { case nothing, all, some, broken }

  /// Gives the kernel what the buffer holds; when it does not take all, epoll tells of room.
  @inline(__always)
  func send() -> Sent {
    if state.pointee.pongsOwed > 0 { putPongs() }
    while state.pointee.outStart < state.pointee.outEnd {
      let count = Glibc.send(
        state.pointee.socket, state.pointee.out + state.pointee.outStart,
        state.pointee.outEnd &- state.pointee.outStart, Int32(MSG_NOSIGNAL))
      if count > 0 {
        state.pointee.written &+= UInt64(count)
        state.pointee.outStart &+= count
        guard state.pointee.outStart == state.pointee.outEnd else { continue }
        state.pointee.outStart = 0
        state.pointee.outEnd = 0
        return .all
      }
      if errno == EAGAIN || errno == EWOULDBLOCK {
        wantRoom(true)
        return .some
      }
      if errno != EINTR { return .broken }
    }
    return .nothing
  }

  func wantRoom(_ wants: Bool) {
    guard state.pointee.waitsForRoom != wants else { return }
    state.pointee.waitsForRoom = wants
    listen(wants ? UInt32(KERNEL_READABLE) | UInt32(KERNEL_WRITABLE) : UInt32(KERNEL_READABLE))
  }

  func listen(_ events: UInt32) {
    _ = kernel_epoll_set(epoll, state.pointee.socket, events, UInt64(place))
  }

  private func putPongs() {
    while state.pointee.pongsOwed > 0, put("PONG\r\n".utf8) { state.pointee.pongsOwed -= 1 }
  }

  /// Puts a line of the protocol into the buffer; false when it has no room.
  @discardableResult
  func put(_ text: some Collection<UInt8>) -> Bool {
    let count = text.count
    if state.pointee.outEnd + count > state.pointee.outCapacity {
      guard makeRoom(count) else { return false }
    }
    UnsafeMutableRawBufferPointer(start: state.pointee.out + state.pointee.outEnd, count: count)
      .copyBytes(from: text)
    state.pointee.outEnd += count
    return true
  }

  @inline(__always)
  func resolved(_ slot: Int, _ transport: NATSTransport<NativeLink>) {}
}
