import CLinux
import Foundation
import Glibc

/// The stage of a connection.
package enum WireStage: UInt8, Sendable {
  /// Waiting before the next attempt to connect.
  case resting
  case connecting
  /// Waiting for the broker's `INFO`.
  case greeting
  case securing
  /// `CONNECT` and `PING` are sent; waiting for the `PONG`.
  case introducing
  /// The subscriptions and a `PING` are sent; waiting for the `PONG`.
  case subscribing
  case connected
}

/// The state of one connection at a fixed address; `WireConnection` documents most of its fields.
package struct WireState {
  @usableFromInline var socket: Int32 = -1
  @usableFromInline var stage = WireStage.resting
  var stageEnd: UInt64 = 0
  /// The bytes not yet written.
  @usableFromInline var out: WireBuffer
  @usableFromInline var written: UInt64 = 0
  @usableFromInline var waitsForRoom = false
  @usableFromInline var pongsOwed = 0
  /// PONGs that answered the owner's PINGs.
  var pongs = 0
  /// The PONG that confirms the subscriptions is pending, though messages for them have already arrived.
  var lacksAgreement = false
  /// Whether the input violated the protocol.
  @usableFromInline var isBroken = false
  /// Whether the broker has announced that it will close the connection (lame duck mode).
  @usableFromInline var isEnding = false
  /// Bytes read and not yet handled.
  @usableFromInline var input = WireBuffer(capacity: WireConnection.bufferBytes)
  /// OpenSSL's state of the socket; nil without TLS.
  @usableFromInline var tls: OpaquePointer?
  @usableFromInline var holdsMore = false
  /// The OpenSSL error code that ended the connection; 0 when TLS did not end it.
  var tlsError: UInt = 0
  @usableFromInline var longestPayload = BrokerInfo.ordinaryPayload
  var reconnects: UInt64 = 0
  /// Whether this connection was started to replace another one, and how often such a replacement succeeded.
  var isSuccessor = false
  var moves: UInt64 = 0
  var rests: UInt64 = 0
}

/// A buffer; the bytes from `start` to `end` are pending.
@usableFromInline
struct WireBuffer {
  @usableFromInline var bytes: UnsafeMutableRawPointer
  @usableFromInline var capacity: Int
  @usableFromInline var start = 0
  @usableFromInline var end = 0

  init(capacity: Int) {
    self.capacity = capacity
    bytes = .allocate(byteCount: capacity, alignment: 64)
  }

  @inlinable var count: Int { end &- start }

  @inlinable
  mutating func clear() { (start, end) = (0, 0) }

  /// Moves the pending bytes to the front, and grows the buffer when `wanted` bytes in total do not fit.
  mutating func makeRoom(_ wanted: Int) {
    let waiting = count
    if wanted > capacity {
      let larger = WireBuffer(capacity: wanted + wanted / 2)
      memcpy(larger.bytes, bytes + start, waiting)
      bytes.deallocate()
      self = larger
    } else if start > 0 {
      memmove(bytes, bytes + start, waiting)
    }
    (start, end) = (0, waiting)
  }
}

/// A connection to a broker: one non-blocking socket with a buffer in each direction. For one thread.
///
/// The owner writes messages into the output buffer and sends all of it at once; input is parsed and handled
/// in place. A view: copies share the same connection, which lives until `close`. Memory grows only for a
/// message longer than any before.
package struct WireConnection {
  @usableFromInline let state: UnsafeMutablePointer<WireState>
  let dialer: UnsafeMutablePointer<WireDialer>
  package let place: Int
  let epoll: Int32
  /// The minimum capacity of a buffer, in bytes.
  package static let bufferBytes = 256 << 10
  /// The maximum number of reads in a row while `holdsMore`.
  package static let mostFills = 16
  /// The allowance for a message's headers, on top of the maximum payload.
  @inlinable static var headerBytes: Int { 64 << 10 }

  /// The name of the generator's connections in the broker's monitoring.
  package static let generatorName = "nylon-bench"

  /// Creates a connection without connecting it.
  ///
  /// - Parameters:
  ///   - first: the index of the server to try first; the order is never random.
  ///   - epoll: the epoll set that the socket is added to, with `place` as its event data; -1 for an owner
  ///     that only calls `waitForSocket`.
  ///   - outBytes: the minimum capacity for unsent bytes.
  package init(
    to servers: [BrokerServer], first: Int = 0, name: String = generatorName, subscriptions: String = "",
    limitNanoseconds: UInt64 = 5_000_000_000, restNanoseconds: UInt64 = 100_000_000, epoll: Int32 = -1,
    place: Int = 0, outBytes: Int = 0
  ) {
    self.place = place
    self.epoll = epoll
    state = .allocate(capacity: 1)
    state.initialize(to: WireState(out: WireBuffer(capacity: max(Self.bufferBytes, outBytes))))
    let start = first % max(1, servers.count)
    dialer = .allocate(capacity: 1)
    dialer.initialize(
      to: WireDialer(
        name: name, subscriptions: subscriptions, limitNanoseconds: limitNanoseconds,
        restNanoseconds: restNanoseconds,
        targets: (servers[start...] + servers[..<start]).flatMap { server in
          server.addresses.map { (server, $0.family, $0.bytes) }
        }))
  }

  /// Creates a connection to replace `other`, whose broker is shutting down. `checkTime` connects it,
  /// starting with the server after that of `other`.
  package init(after other: WireConnection, subscriptions: String, place: Int) {
    self.place = place
    epoll = other.epoll
    let old = other.state.pointee
    state = .allocate(capacity: 1)
    state.initialize(to: WireState(out: WireBuffer(capacity: old.out.capacity)))
    (state.pointee.reconnects, state.pointee.moves) = (old.reconnects, old.moves)
    state.pointee.isSuccessor = true
    dialer = .allocate(capacity: 1)
    dialer.initialize(to: other.dialer.pointee.successor(subscriptions: subscriptions))
  }

  /// Sets the starting value of `written`.
  package func countWritten(from count: UInt64) { state.pointee.written = count }

  /// Closes the socket and frees all memory; no call may follow.
  package func close() {
    closeSocket()
    state.pointee.out.bytes.deallocate()
    state.pointee.input.bytes.deallocate()
    state.deallocate()
    dialer.deinitialize(count: 1)
    dialer.deallocate()
  }

  /// Whether messages can be sent and received.
  @inlinable package var isConnected: Bool { state.pointee.stage == .connected }
  /// The maximum payload of a message in bytes, as stated by the broker.
  @inlinable package var longestPayload: Int { state.pointee.longestPayload }
  /// Bytes that the kernel has accepted so far, including those before a reconnect.
  @inlinable package var written: UInt64 { state.pointee.written }
  @inlinable package var unsentBytes: Int { state.pointee.out.count }
  /// Whether the kernel's send buffer is full; epoll reports when there is room.
  @inlinable package var waitsForRoom: Bool { state.pointee.waitsForRoom }
  /// Whether the broker expects PONGs that are not yet in the buffer.
  @inlinable package var owesPongs: Bool { state.pointee.pongsOwed > 0 }
  /// The owner's PINGs that the broker has answered.
  package var pongs: Int { state.pointee.pongs }
  /// Whether the broker violated the protocol.
  @inlinable package var isBroken: Bool { state.pointee.isBroken }
  /// Whether the broker is about to close the connection and there is another server to move to.
  @inlinable package var isToMove: Bool { state.pointee.isEnding && hasOtherServers }
  @usableFromInline var hasOtherServers: Bool { dialer.pointee.hasOthers }
  /// How often a connection was replaced because its broker was shutting down.
  package var moves: UInt64 { state.pointee.moves }
  /// The number of reconnects.
  package var reconnects: UInt64 { state.pointee.reconnects }
  /// Rests since the connection was last up: one when it was lost, and one after each round over all brokers.
  package var rests: UInt64 { state.pointee.rests }
  /// When the next step of connecting is due, monotonic nanoseconds.
  package var stageEnd: UInt64 { state.pointee.stageEnd }
  /// The broker's distinct complaints.
  package var complaints: [String] { dialer.pointee.complaints }
  /// The broker's `INFO`; nil before it arrived.
  package var greeting: BrokerInfo? { dialer.pointee.info }
  /// Host and port of the current server, for messages.
  package var server: String { dialer.pointee.current.address.shown }

  // MARK: Out

  /// Reserves `count` bytes after the pending ones; nil when there is no room until something is sent. Call
  /// `commit` after writing them.
  @inlinable @inline(__always)
  package func reserve(_ count: Int) -> UnsafeMutableRawPointer? {
    if state.pointee.out.end &+ count > state.pointee.out.capacity {
      guard makeRoom(count) else { return nil }
    }
    return state.pointee.out.bytes + state.pointee.out.end
  }

  /// Marks `count` of the reserved bytes as ready to send.
  @inlinable @inline(__always)
  package func commit(_ count: Int) { state.pointee.out.end &+= count }

  /// Moves the pending bytes to the buffer's front; an empty buffer grows to the size needed.
  @inline(never)
  package func makeRoom(_ count: Int) -> Bool {
    let wanted = unsentBytes + count
    guard wanted <= state.pointee.out.capacity || unsentBytes == 0 else { return false }
    state.pointee.out.makeRoom(wanted)
    return true
  }

  /// Appends protocol text to the output buffer; false when there is no room.
  @discardableResult
  package func put(_ text: some Collection<UInt8>) -> Bool {
    guard let place = reserve(text.count) else { return false }
    UnsafeMutableRawBufferPointer(start: place, count: text.count).copyBytes(from: text)
    commit(text.count)
    return true
  }

  /// The outcome of a send: `some` when the kernel's buffer is full, `nothing` when nothing was pending.
  package enum Sent: Sendable { case nothing, all, some, broken }

  /// Sends the pending bytes; when the kernel does not accept all of them, epoll reports when there is room.
  @inlinable
  package func send() -> Sent {
    if state.pointee.pongsOwed > 0 { putPongs() }
    if let tls = state.pointee.tls { return sendSecured(tls) }
    while unsentBytes > 0 {
      let count = Glibc.send(
        state.pointee.socket, state.pointee.out.bytes + state.pointee.out.start, unsentBytes,
        Int32(MSG_NOSIGNAL))
      if count > 0 {
        state.pointee.written &+= UInt64(count)
        state.pointee.out.start &+= count
        guard unsentBytes == 0 else { continue }
        state.pointee.out.clear()
        return .all
      }
      if errno == Int32(KERNEL_WOULD_WAIT) {
        wantRoom(true)
        return .some
      }
      if errno != Int32(KERNEL_INTERRUPTED) { return .broken }
    }
    return .nothing
  }

  /// Sends the pending bytes; once all are sent, stops waiting for room. False when the connection is over.
  package func flush() -> Bool {
    if case .broken = send() { return false }
    if unsentBytes == 0 { wantRoom(false) }
    return true
  }

  /// Sets whether epoll reports room in the socket's send buffer.
  package func wantRoom(_ wants: Bool) {
    guard state.pointee.waitsForRoom != wants else { return }
    state.pointee.waitsForRoom = wants
    listen(forRoom: wants)
  }

  func listen(forRoom: Bool) {
    let events = forRoom ? KERNEL_READABLE | KERNEL_WRITABLE : KERNEL_READABLE
    _ = kernel_epoll_set(epoll, state.pointee.socket, UInt32(events), UInt64(place))
  }

  @usableFromInline
  func putPongs() {
    while state.pointee.pongsOwed > 0, put("PONG\r\n".utf8) { state.pointee.pongsOwed -= 1 }
  }

  // MARK: In

  /// Reads once. Returns the bytes read, 0 when none are available, or -1 when the connection is over. While
  /// `holdsMore` is true, handle the input and call again before waiting: epoll does not report the rest.
  @inlinable
  package func fill() -> Int {
    if !hasInput { state.pointee.input.clear() }
    if let tls = state.pointee.tls { return fillSecured(tls) }
    while true {
      let count = recv(
        state.pointee.socket, state.pointee.input.bytes + state.pointee.input.end,
        state.pointee.input.capacity &- state.pointee.input.end, 0)
      if count > 0 {
        state.pointee.input.end &+= count
        return count
      }
      if count == 0 { return -1 }
      if errno == Int32(KERNEL_WOULD_WAIT) { return 0 }
      if errno != Int32(KERNEL_INTERRUPTED) { return -1 }
    }
  }

  /// Whether TLS may hold bytes that the buffer had no room for; only true after a `fill`.
  @inlinable package var holdsMore: Bool { state.pointee.holdsMore }

  @inlinable package var hasInput: Bool { state.pointee.input.count > 0 }

  /// Parses the first protocol message of the pending input.
  @inlinable @inline(__always)
  package func nextPiece() -> WirePiece {
    WireParser.piece(
      UnsafeRawBufferPointer(
        start: state.pointee.input.bytes + state.pointee.input.start, count: state.pointee.input.count),
      longestMessage: state.pointee.longestPayload &+ Self.headerBytes)
  }

  /// Skips a parsed message; its bytes stay in place until the next `fill`.
  @inlinable @inline(__always)
  package func consume(_ piece: WirePiece) { state.pointee.input.start &+= piece.byteCount }

  /// Returns the next complete message, after handling what precedes it. nil when there is none, or when the
  /// input violates the protocol: then `isBroken` is true, and the owner must give up the connection.
  @inlinable @inline(__always)
  package func nextMessage(complaint: (String) -> Void = { _ in }) -> WirePiece? {
    while hasInput {
      let piece = nextPiece()
      if piece.kind == .message {
        consume(piece)
        return piece
      }
      if piece.kind == .error { complaint(piece.text) }
      guard handleOther(piece) else { return nil }
    }
    return nil
  }

  /// Handles a protocol message that is not `MSG` or `HMSG`; false when nothing after it can be parsed yet.
  @usableFromInline @inline(never)
  func handleOther(_ piece: WirePiece) -> Bool {
    switch piece.kind {
    case .message, .ok: break
    case .pong where state.pointee.lacksAgreement: state.pointee.lacksAgreement = false
    case .pong: state.pointee.pongs += 1
    case .ping: state.pointee.pongsOwed += 1
    case .info:
      if let info = piece.info {
        state.pointee.longestPayload = info.longestPayload
        state.pointee.isEnding = info.ldm == true
      }
    case .error: dialer.pointee.complain(piece.text)
    case .incomplete:
      state.pointee.input.makeRoom(piece.byteCount)
      return false
    case .broken:
      dialer.pointee.complain(piece.fault.rawValue)
      state.pointee.isBroken = true
      return false
    }
    consume(piece)
    return true
  }

}

/// Connecting and reconnecting. Only the first connection blocks.
extension WireConnection {
  // MARK: The first connection

  /// Tries each server once and returns when one accepts the connection. Throws the most informative failure.
  package func connectFirst() throws(BrokerError) {
    while dial() {
      do throws(BrokerError) {
        while state.pointee.stage != .connected {
          guard let events = waitForSocket(until: state.pointee.stageEnd) else { throw tooSlow() }
          try advance(events)
        }
        return
      } catch {
        dialer.pointee.failed(error)
        closeSocket()
      }
    }
    throw dialer.pointee.failure
      ?? BrokerError(
        server: "", why: "there is no broker to connect to", remedy: "Check `servers`.")
  }

  /// Waits for the socket, for owners without an epoll set. Returns the ready events; nil on a timeout.
  package func waitForSocket(until time: UInt64) -> UInt32? {
    let wantsRoom = state.pointee.stage == .connecting || state.pointee.waitsForRoom
    var entry = pollfd(
      fd: state.pointee.socket, events: Int16(wantsRoom ? POLLIN | POLLOUT : POLLIN), revents: 0)
    while true {
      let now = kernel_now_ns()
      guard now < time else { return nil }
      let left = (time - now) / 1_000_000 + 1
      // Linux gives the events of poll and epoll the same numbers.
      if Glibc.poll(&entry, 1, Int32(clamping: left)) > 0 { return UInt32(entry.revents) }
    }
  }

  /// Waits until the kernel accepts more bytes or the connection is over; false on a timeout.
  package func waitForRoom(milliseconds: Int32) -> Bool {
    var entry = pollfd(fd: state.pointee.socket, events: Int16(POLLOUT), revents: 0)
    return Glibc.poll(&entry, 1, milliseconds) > 0
  }

  // MARK: Steps

  /// Starts to connect to the next address that does not fail at once; false when none is left.
  private func dial() -> Bool {
    while let address = dialer.pointee.nextAddress() {
      let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
      let socket = Glibc.socket(address.family, type, 0)
      guard socket >= 0 else {
        dialer.pointee.failed(unreachable(errno))
        continue
      }
      // Disable Nagle's algorithm, and drop a broker that acknowledges nothing for a minute.
      for (option, value) in [(TCP_NODELAY, 1), (TCP_USER_TIMEOUT, 60_000)] as [(Int32, Int32)] {
        var value = value
        setsockopt(socket, Int32(IPPROTO_TCP), option, &value, socklen_t(MemoryLayout<Int32>.size))
      }
      let outcome = address.bytes.withUnsafeBytes {
        Glibc.connect(socket, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t($0.count))
      }
      guard outcome == 0 || errno == EINPROGRESS else {
        dialer.pointee.failed(unreachable(errno))
        Glibc.close(socket)
        continue
      }
      state.pointee.socket = socket
      state.pointee.stage = .connecting
      state.pointee.stageEnd = kernel_now_ns() + dialer.pointee.limitNanoseconds
      listen(forRoom: true)
      return true
    }
    return false
  }

  /// Continues connecting and the handshake as far as the socket allows.
  private func advance(_ events: UInt32) throws(BrokerError) {
    if state.pointee.stage == .connecting {
      var number: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      getsockopt(state.pointee.socket, SOL_SOCKET, SO_ERROR, &number, &size)
      guard number == 0 else { throw unreachable(number) }
      guard events & UInt32(KERNEL_WRITABLE) != 0 else { return }
      state.pointee.stage = .greeting
      listen(forRoom: false)
      return
    }
    if state.pointee.stage == .securing { return try shakeHands() }
    if events & UInt32(KERNEL_WRITABLE) != 0 { try sendOut() }
    guard events & ~UInt32(KERNEL_WRITABLE) != 0 else { return }
    if fill() < 0 { throw closed() }
    try answerGreeting()
  }

  /// Handles the broker's messages until the handshake is complete.
  func answerGreeting() throws(BrokerError) {
    while !isConnected, state.pointee.stage != .securing, hasInput {
      let piece = nextPiece()
      switch piece.kind {
      case .incomplete:
        state.pointee.input.makeRoom(piece.byteCount)
        return
      case .message where state.pointee.stage == .subscribing:
        // Others already publish to these subjects, and the broker delivers before it answers the PING.
        state.pointee.lacksAgreement = true
        try agreed()
        continue
      case .broken, .message: throw noBroker()
      case .error: throw refusal(piece.text)
      case .ping: state.pointee.pongsOwed += 1
      case .ok: break
      case .info: try greeted(piece)
      case .pong: try agreed()
      }
      consume(piece)
    }
    guard state.pointee.stage == .securing else { return try sendOut() }
    // Plain text after `INFO` could come from anybody: TLS does not authenticate it.
    if hasInput { throw noBroker() }
    try beginTLS()
  }

  /// Handles `INFO`: starts TLS or sends `CONNECT`.
  private func greeted(_ piece: WirePiece) throws(BrokerError) {
    guard let info = piece.info else { throw noBroker() }
    dialer.pointee.info = info
    state.pointee.longestPayload = info.longestPayload
    guard state.pointee.stage == .greeting else { return }
    let server = dialer.pointee.current
    guard server.security.enablesTLS || server.address.usesTLS || info.tls_required == true else {
      return try introduce()
    }
    guard info.tls_required == true || info.tls_available == true else {
      throw failure(
        "the broker does not offer TLS, which is required",
        "Remove the `tls:` block and `tls://`, or give the broker a certificate.", .tls)
    }
    state.pointee.stage = .securing
  }

  func introduce() throws(BrokerError) {
    guard let info = greeting,
      let hello = try? dialer.pointee.current.hello(
        info, name: dialer.pointee.name, overTLS: state.pointee.tls != nil)
    else { throw noBroker() }
    put(hello)
    put("PING\r\n".utf8)
    state.pointee.stage = .introducing
  }

  /// Handles a PONG: the broker has processed everything sent so far.
  private func agreed() throws(BrokerError) {
    switch state.pointee.stage {
    case .introducing:
      put(dialer.pointee.subscriptions.utf8)
      put("PING\r\n".utf8)
      state.pointee.stage = .subscribing
    case .subscribing:
      state.pointee.stage = .connected
      state.pointee.rests = 0
      state.pointee.stageEnd = .max
    default: throw noBroker()
    }
  }

  private func sendOut() throws(BrokerError) {
    if !flush() { throw closed() }
  }

  // MARK: Later connections

  /// Continues connecting when the socket is ready; true when the connection has just been established.
  package func dialOn(_ events: UInt32) -> Bool {
    do throws(BrokerError) {
      try advance(events)
      guard state.pointee.stage == .connected else { return false }
      if state.pointee.isSuccessor { state.pointee.moves += 1 } else { state.pointee.reconnects += 1 }
      state.pointee.isSuccessor = false
      return true
    } catch {
      tryNext(error)
      return false
    }
  }

  /// Ends a stage of connecting whose time is over: reconnects after a rest, or tries the next server.
  package func checkTime() {
    guard kernel_now_ns() >= state.pointee.stageEnd else { return }
    if state.pointee.stage == .resting {
      if !dial() { rest() }
    } else {
      tryNext(tooSlow())
    }
  }

  private func tryNext(_ failure: BrokerError) {
    dialer.pointee.failed(failure)
    if failure.kind != .silence { dialer.pointee.complain(failure.why) }
    closeSocket()
    if !dial() { rest() }
  }

  private func rest() {
    state.pointee.rests += 1
    state.pointee.stage = .resting
    // Add jitter, so that connections lost together do not all return at once.
    let rest = dialer.pointee.restNanoseconds
    state.pointee.stageEnd = kernel_now_ns() + rest + UInt64.random(in: 0...rest / 5)
  }

  /// Gives up the connection, including all bytes that the kernel had not accepted. It reconnects to another
  /// server at once, or to the same one after a rest.
  package func lose() {
    closeSocket()
    dialer.pointee.startBehind()
    rest()
    if hasOtherServers { state.pointee.stageEnd = kernel_now_ns() }
  }

  func closeSocket() {
    endTLS()
    // Closing a socket removes it from its epoll set.
    if state.pointee.socket >= 0 { Glibc.close(state.pointee.socket) }
    state.pointee.socket = -1
    state.pointee.stage = .resting
    state.pointee.out.clear()
    state.pointee.input.clear()
    state.pointee.waitsForRoom = false
    state.pointee.pongsOwed = 0
    state.pointee.lacksAgreement = false
    state.pointee.isBroken = false
    state.pointee.isEnding = false
  }

  // MARK: Failures

  func failure(
    _ why: String, _ remedy: String, _ kind: BrokerError.Kind = .silence, words: String = ""
  ) -> BrokerError {
    BrokerError(server: server, why: why, remedy: remedy, kind: kind, words: words)
  }

  private func unreachable(_ number: Int32) -> BrokerError {
    failure(
      number == ECONNREFUSED
        ? "the connection was refused: nothing is listening there" : String(cString: strerror(number)),
      "Is a broker running there? Start one (nats-server), or leave `servers` empty.")
  }

  private func tooSlow() -> BrokerError {
    failure(
      "it did not answer in time", "Is the broker overloaded, or something else listening there?")
  }

  private func noBroker() -> BrokerError {
    failure("it does not speak the NATS protocol", Self.isOther, .noBroker)
  }

  private func refusal(_ words: String) -> BrokerError {
    failure(
      "the broker refused access: \(words)", "Check the `auth:` block of the messaging entry.", .credentials,
      words: words)
  }

  /// The failure for a closed connection; a broker may close it before its `-ERR` is read.
  func closed() -> BrokerError {
    let why = "it closed the connection"
    return tlsRefusal() ?? (greeting?.auth_required == true ? refusal(why) : failure(why, Self.isOther))
  }

  private static var isOther: String { "Is something else listening there?" }
}
