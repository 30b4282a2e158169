import CLinux
import Glibc
import NATS

/// What comes in.
extension NativeLink {
  func handle(_ events: UInt32, _ transport: NATSTransport<NativeLink>) {
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

  static func wait(until time: UInt64, _ transport: NATSTransport<NativeLink>) {
    for place in 0..<transport.linkCount where !transport.links[place].wire.isConnected {
      transport.links[place].wire.checkTime()
    }
    transport.waitForSockets(transport.sleepNanoseconds(until: time))
  }

  /// Reads once, or over TLS until nothing is left that epoll does not know of, and handles what came.
  private func read(_ transport: NATSTransport<NativeLink>) {
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
  func handleInput(_ transport: NATSTransport<NativeLink>) {
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
  private func deliver(_ piece: WirePiece, _ transport: NATSTransport<NativeLink>) {
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
  private func handleOther(_ piece: WirePiece, _ transport: NATSTransport<NativeLink>) -> Bool {
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
