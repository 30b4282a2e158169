import CKernel
import Glibc

/// What comes in.
extension NativeLink {
  /// More than the payload that a message may have: its headers.
  private static let headerBytes = 64 << 10

  func handle(_ events: UInt32, _ transport: NATSTransport<NativeLink>) {
    guard state.pointee.stage == .connected else {
      dialOn(events, transport)
      return
    }
    if events & UInt32(KERNEL_WRITABLE) != 0 { write(transport) }
    if events & ~UInt32(KERNEL_WRITABLE) != 0, state.pointee.stage == .connected { read(transport) }
  }

  static func wait(until time: UInt64, _ transport: NATSTransport<NativeLink>) {
    for place in 0..<transport.linkCount where transport.links[place].state.pointee.stage != .connected {
      transport.links[place].checkTime(transport)
    }
    transport.waitForSockets(transport.sleepNanoseconds(until: time))
  }

  /// Reads once and handles what came.
  private func read(_ transport: NATSTransport<NativeLink>) {
    let count = fill()
    if count > 0 {
      handleInput(transport)
    } else if count < 0 {
      lose(transport)
    }
  }

  /// Reads once; bytes read, 0 when there are none now, -1 when the connection is over.
  @inline(__always)
  func fill() -> Int {
    if state.pointee.inStart == state.pointee.inEnd {
      state.pointee.inStart = 0
      state.pointee.inEnd = 0
    }
    while true {
      let count = recv(
        state.pointee.socket, state.pointee.input + state.pointee.inEnd,
        state.pointee.inCapacity &- state.pointee.inEnd, 0)
      if count > 0 {
        state.pointee.inEnd &+= count
        return count
      }
      if count == 0 { return -1 }
      if errno == EAGAIN || errno == EWOULDBLOCK { return 0 }
      if errno != EINTR { return -1 }
    }
  }

  /// The piece that what was read begins with.
  @inline(__always)
  func nextPiece() -> WirePiece {
    WireParser.piece(
      UnsafeRawBufferPointer(
        start: state.pointee.input + state.pointee.inStart,
        count: state.pointee.inEnd &- state.pointee.inStart),
      longestMessage: state.pointee.longestPayload &+ Self.headerBytes)
  }

  /// Handles all pieces that are whole.
  func handleInput(_ transport: NATSTransport<NativeLink>) {
    while state.pointee.inStart < state.pointee.inEnd {
      let piece = nextPiece()
      guard piece.kind == .message else {
        guard handleOther(piece, transport) else { break }
        continue
      }
      state.pointee.inStart &+= piece.byteCount
      deliver(piece, transport)
    }
    if state.pointee.pongsOwed > 0 { write(transport) }
  }

  @inline(__always)
  private func deliver(_ piece: WirePiece, _ transport: NATSTransport<NativeLink>) {
    guard piece.sid == NativeDialer.subscription,
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
  private func handleOther(_ piece: WirePiece, _ transport: NATSTransport<NativeLink>) -> Bool {
    switch piece.kind {
    case .message, .pong, .ok: break
    case .ping: state.pointee.pongsOwed += 1
    case .info:
      if let info = NativeDialer.info(piece) { state.pointee.longestPayload = info.longestPayload }
    case .error: dialer.takeUnretainedValue().complain(piece.text)
    case .incomplete:
      keep(piece.byteCount)
      return false
    case .broken:
      dialer.takeUnretainedValue().complain(piece.fault.rawValue)
      lose(transport)
      return false
    }
    state.pointee.inStart += piece.byteCount
    return true
  }

  /// Makes room for a piece of so many bytes, whose beginning is here.
  func keep(_ count: Int) {
    let have = state.pointee.inEnd - state.pointee.inStart
    let start = state.pointee.input + state.pointee.inStart
    if count > state.pointee.inCapacity {
      let larger = UnsafeMutableRawPointer.allocate(byteCount: count + count / 2, alignment: 64)
      memcpy(larger, start, have)
      state.pointee.input.deallocate()
      state.pointee.input = larger
      state.pointee.inCapacity = count + count / 2
    } else if state.pointee.inStart > 0 {
      memmove(state.pointee.input, start, have)
    }
    state.pointee.inStart = 0
    state.pointee.inEnd = have
  }
}
