import CLinux
import Foundation
import Glibc

/// How far a connection is.
package enum WireStage: UInt8, Sendable {
  /// Waits before it tries to connect again.
  case resting
  case connecting
  /// The broker is to greet.
  case greeting
  case securing
  /// The broker has our CONNECT, and is to agree.
  case introducing
  /// The broker has our subscriptions, and is to agree.
  case subscribing
  case connected
}

/// What is known of one connection, at a fixed address; `WireConnection` says what most of it means.
package struct WireState {
  @usableFromInline var socket: Int32 = -1
  @usableFromInline var stage = WireStage.resting
  var stageEnd: UInt64 = 0
  /// What is to be written.
  @usableFromInline var out: WireBuffer
  @usableFromInline var written: UInt64 = 0
  @usableFromInline var waitsForRoom = false
  @usableFromInline var pongsOwed = 0
  /// PONGs that agreed with a PING of the owner's.
  var pongs = 0
  /// The PONG that agrees to the subscriptions is still to come, though messages for them have come.
  var lacksAgreement = false
  /// Whether what was read is no piece of the protocol.
  @usableFromInline var isBroken = false
  /// Whether the broker has told that it will close the connection (lame duck mode).
  @usableFromInline var isEnding = false
  /// What was read and is not yet handled.
  @usableFromInline var input = WireBuffer(capacity: WireConnection.bufferBytes)
  /// OpenSSL's side of the socket; nil without TLS.
  @usableFromInline var tls: OpaquePointer?
  @usableFromInline var holdsMore = false
  /// OpenSSL's code of what ended the connection; 0 when it was nothing of TLS.
  var tlsError: UInt = 0
  @usableFromInline var longestPayload = BrokerInfo.ordinaryPayload
  var reconnects: UInt64 = 0
  /// Whether it was begun to take another one's place, and how often that came about.
  var isSuccessor = false
  var moves: UInt64 = 0
  var rests: UInt64 = 0
}

/// Bytes on their way: those from `start` to `end` wait.
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

  /// Moves what waits to the front, and grows when there is no room for so many bytes in all.
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

/// A connection to a broker: one socket that never blocks, a buffer each way. For one thread.
///
/// Its owner writes messages into the buffer and sends all that waits at once; what came is read and handled
/// where it lies. A view: copies share the same connection, which lives until `close`. Memory grows only for a
/// message that is longer than any before.
package struct WireConnection {
  @usableFromInline let state: UnsafeMutablePointer<WireState>
  let dialer: UnsafeMutablePointer<WireDialer>
  package let place: Int
  let epoll: Int32
  /// Bytes of a buffer, at least.
  package static let bufferBytes = 256 << 10
  /// How often its owner reads in one go while `holdsMore`.
  package static let mostFills = 16
  /// More than the payload that a message may have: its headers.
  @inlinable static var headerBytes: Int { 64 << 10 }

  /// What the generator's connections are called in the broker's monitoring.
  package static let generatorName = "nylon-bench"

  /// A connection that is not yet made.
  ///
  /// - Parameters:
  ///   - first: the place of the server to begin with: it is not left to chance.
  ///   - epoll: the set that the socket is put into, with `place` as what the set tells of it; none for an owner
  ///     that only ever calls `waitForSocket`.
  ///   - outBytes: bytes that are to have room unsent, at least.
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

  /// One that is to take the place of a connection whose broker is ending, not yet made: `checkTime` begins with the
  /// server behind that one.
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

  /// Counts what is written from here on.
  package func countWritten(from count: UInt64) { state.pointee.written = count }

  /// Closes the socket and gives all memory back; no call may follow.
  package func close() {
    closeSocket()
    state.pointee.out.bytes.deallocate()
    state.pointee.input.bytes.deallocate()
    state.deallocate()
    dialer.deinitialize(count: 1)
    dialer.deallocate()
  }

  /// Whether messages go both ways.
  @inlinable package var isConnected: Bool { state.pointee.stage == .connected }
  /// Bytes of a message's payload, at most, as the broker says.
  @inlinable package var longestPayload: Int { state.pointee.longestPayload }
  /// Bytes that the kernel took so far, over all connections that this one was.
  @inlinable package var written: UInt64 { state.pointee.written }
  @inlinable package var unsentBytes: Int { state.pointee.out.count }
  /// Whether the kernel takes no more for now; epoll tells when it does.
  @inlinable package var waitsForRoom: Bool { state.pointee.waitsForRoom }
  /// Whether the broker asked for PONGs that are not yet in the buffer.
  @inlinable package var owesPongs: Bool { state.pointee.pongsOwed > 0 }
  /// PINGs of its owner's that the broker has agreed with.
  package var pongs: Int { state.pointee.pongs }
  /// Whether the broker sent what is no piece of the protocol.
  @inlinable package var isBroken: Bool { state.pointee.isBroken }
  /// Whether the broker is about to close the connection, and there is another one to go to.
  @inlinable package var isToMove: Bool { state.pointee.isEnding && hasOtherServers }
  @usableFromInline var hasOtherServers: Bool { dialer.pointee.hasOthers }
  /// How often it took the place of one whose broker was ending.
  package var moves: UInt64 { state.pointee.moves }
  /// How often it was made again.
  package var reconnects: UInt64 { state.pointee.reconnects }
  /// Rests since it was there last: one when it was lost, and one for each time that all brokers were tried since.
  package var rests: UInt64 { state.pointee.rests }
  /// When the next step of connecting is due, monotonic nanoseconds.
  package var stageEnd: UInt64 { state.pointee.stageEnd }
  /// What the broker complained of, each once.
  package var complaints: [String] { dialer.pointee.complaints }
  /// What the broker said of itself; nil before it did.
  package var greeting: BrokerInfo? { dialer.pointee.info }
  /// Host and port of the server under way, for messages.
  package var server: String { dialer.pointee.current.address.shown }

  // MARK: Out

  /// Room for so many bytes behind all that waits; nil when there is none until something was sent. What is
  /// written there counts with `commit`.
  @inlinable @inline(__always)
  package func reserve(_ count: Int) -> UnsafeMutableRawPointer? {
    if state.pointee.out.end &+ count > state.pointee.out.capacity {
      guard makeRoom(count) else { return nil }
    }
    return state.pointee.out.bytes + state.pointee.out.end
  }

  /// So many of the reserved bytes are to be sent.
  @inlinable @inline(__always)
  package func commit(_ count: Int) { state.pointee.out.end &+= count }

  /// Moves what waits to the buffer's front; an empty buffer grows to what it is to hold.
  @inline(never)
  package func makeRoom(_ count: Int) -> Bool {
    let wanted = unsentBytes + count
    guard wanted <= state.pointee.out.capacity || unsentBytes == 0 else { return false }
    state.pointee.out.makeRoom(wanted)
    return true
  }

  /// Puts a line of the protocol into the buffer; false when it has no room.
  @discardableResult
  package func put(_ text: some Collection<UInt8>) -> Bool {
    guard let place = reserve(text.count) else { return false }
    UnsafeMutableRawBufferPointer(start: place, count: text.count).copyBytes(from: text)
    commit(text.count)
    return true
  }

  /// How much of the buffer the kernel took; `some` when it takes no more for now, `nothing` when there was nothing.
  package enum Sent: Sendable { case nothing, all, some, broken }

  /// Gives the kernel what the buffer holds; when it does not take all, epoll tells of room.
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

  /// Whether epoll is to tell of room in the socket's buffer.
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

  /// Reads once; bytes read, 0 when there are none now, -1 when the connection is over. When `holdsMore` is true
  /// afterwards, handle what came and call again before waiting: epoll does not tell of the rest.
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

  /// Whether TLS may hold more than the buffer had room for: only ever after a `fill`.
  @inlinable package var holdsMore: Bool { state.pointee.holdsMore }

  @inlinable package var hasInput: Bool { state.pointee.input.count > 0 }

  /// The piece that what was read begins with.
  @inlinable @inline(__always)
  package func nextPiece() -> WirePiece {
    WireParser.piece(
      UnsafeRawBufferPointer(
        start: state.pointee.input.bytes + state.pointee.input.start, count: state.pointee.input.count),
      longestMessage: state.pointee.longestPayload &+ Self.headerBytes)
  }

  /// Goes on behind a piece; its bytes stay where they are until the next `fill`.
  @inlinable @inline(__always)
  package func consume(_ piece: WirePiece) { state.pointee.input.start &+= piece.byteCount }

  /// The next message, once it is here whole, with all before it handled; nil when there is none, or what comes is
  /// no piece of the protocol. Then `isBroken` is true, and the owner must give the connection up.
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

  /// Handles a piece that is no message; false when nothing can be read behind it.
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

/// How a connection comes about, breaks, and is made again; never waits, but for the first one.
extension WireConnection {
  // MARK: The first connection

  /// Tries all servers once; returns when one has taken us. Throws the failure that tells most.
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

  /// Waits for the socket, for owners without an epoll set; what it is ready for, nil when the time is over.
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

  /// Waits until the kernel takes more, or the connection is over; false when the time is.
  package func waitForRoom(milliseconds: Int32) -> Bool {
    var entry = pollfd(fd: state.pointee.socket, events: Int16(POLLOUT), revents: 0)
    return Glibc.poll(&entry, 1, milliseconds) > 0
  }

  // MARK: Steps

  /// Begins to connect to the next address that does not fail at once; false when none is left.
  private func dial() -> Bool {
    while let address = dialer.pointee.nextAddress() {
      let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
      let socket = Glibc.socket(address.family, type, 0)
      guard socket >= 0 else {
        dialer.pointee.failed(unreachable(errno))
        continue
      }
      // What is written goes out at once; a broker that acknowledges nothing for a minute is gone.
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

  /// Goes on with connecting and greeting, as far as the socket lets it.
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

  /// Handles what the broker says until it has agreed to everything.
  func answerGreeting() throws(BrokerError) {
    while !isConnected, state.pointee.stage != .securing, hasInput {
      let piece = nextPiece()
      switch piece.kind {
      case .incomplete:
        state.pointee.input.makeRoom(piece.byteCount)
        return
      case .message where state.pointee.stage == .subscribing:
        // Others send to the subjects already, and the broker delivers before it answers the PING behind the SUB.
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
    // Plain text behind the greeting could come from anybody: TLS would not vouch for it.
    if hasInput { throw noBroker() }
    try beginTLS()
  }

  /// The broker has greeted: says who we are.
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
        "the broker offers no TLS, which is asked for",
        "Leave the `tls:` block and `tls://` out, or give the broker a certificate.", .tls)
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

  /// The broker has agreed to what was said so far.
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
    if case .broken = send() { throw closed() }
    if state.pointee.waitsForRoom, unsentBytes == 0 { wantRoom(false) }
  }

  // MARK: Later connections

  /// The socket of a connection that is being made is ready; whether it is made now.
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

  /// Looks whether a stage without a connection is over.
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
    // Connections that were lost together do not come back all at once.
    let rest = dialer.pointee.restNanoseconds
    state.pointee.stageEnd = kernel_now_ns() + rest + UInt64.random(in: 0...rest / 5)
  }

  /// Gives the connection up, and with it all that the kernel had not taken. It is made again: with another server at
  /// once, with the same one after a rest.
  package func lose() {
    closeSocket()
    dialer.pointee.startBehind()
    rest()
    if hasOtherServers { state.pointee.stageEnd = kernel_now_ns() }
  }

  func closeSocket() {
    endTLS()
    // A closed socket leaves its epoll set by itself.
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
        ? "the connection is refused, nothing listens there" : String(cString: strerror(number)),
      "Is a broker running there? Start one (nats-server), or leave `servers` empty.")
  }

  private func tooSlow() -> BrokerError {
    failure(
      "it did not answer in time", "Is the broker overloaded, or something else listening there?")
  }

  private func noBroker() -> BrokerError {
    failure("it does not speak as a NATS server does", Self.isOther, .noBroker)
  }

  private func refusal(_ words: String) -> BrokerError {
    failure(
      "the broker refuses us: \(words)", "Check the `auth:` block of the messaging entry.", .credentials,
      words: words)
  }

  /// A broker may close before its `-ERR` is read.
  func closed() -> BrokerError {
    let why = "it closed the connection"
    return tlsRefusal() ?? (greeting?.auth_required == true ? refusal(why) : failure(why, Self.isOther))
  }

  private static var isOther: String { "Is something else listening there?" }
}
