import CLinux
import Foundation
import Glibc

/// How a connection comes about, breaks, and is made again; never waits, but for the first one.
extension WireConnection {
  private var isOver: Bool { kernel_now_ns() >= state.pointee.stageEnd }

  // MARK: The first connection

  /// Tries all servers once; returns when one has taken us. Throws the failure that tells most.
  package func connectFirst() throws(LinkFailure) {
    let dialer = dialer.takeUnretainedValue()
    while dial() {
      do throws(LinkFailure) {
        while state.pointee.stage != .connected {
          guard let events = waitForSocket(until: state.pointee.stageEnd) else { throw tooSlow() }
          try advance(events)
        }
        return
      } catch {
        dialer.failed(error)
        closeSocket()
      }
    }
    throw dialer.failure
      ?? LinkFailure(
        server: "", why: "there is no broker to connect to", remedy: "Check `servers`.", kind: .silence)
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
      if Glibc.poll(&entry, 1, Int32(clamping: left)) > 0 { break }
    }
    let writable = entry.revents & Int16(POLLOUT) != 0
    let readable = entry.revents & ~Int16(POLLOUT) != 0
    return (writable ? UInt32(KERNEL_WRITABLE) : 0) | (readable ? UInt32(KERNEL_READABLE) : 0)
  }

  // MARK: Steps

  /// Begins to connect to the next address that does not fail at once; false when none is left.
  private func dial() -> Bool {
    let dialer = dialer.takeUnretainedValue()
    while let address = dialer.nextAddress() {
      let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
      let socket = Glibc.socket(address.family, type, 0)
      guard socket >= 0 else {
        dialer.failed(unreachable(errno))
        continue
      }
      Self.prepare(socket)
      let outcome = address.bytes.withUnsafeBytes {
        Glibc.connect(socket, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t($0.count))
      }
      guard outcome == 0 || errno == EINPROGRESS else {
        dialer.failed(unreachable(errno))
        Glibc.close(socket)
        continue
      }
      state.pointee.socket = socket
      state.pointee.stage = .connecting
      state.pointee.stageEnd = kernel_now_ns() + dialer.settings.limitNanoseconds
      listen(UInt32(KERNEL_READABLE) | UInt32(KERNEL_WRITABLE))
      return true
    }
    return false
  }

  /// What is written goes out at once; a broker that acknowledges nothing for a minute is gone.
  private static func prepare(_ socket: Int32) {
    var one: Int32 = 1
    setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    var most: UInt32 = 60_000
    setsockopt(socket, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &most, socklen_t(MemoryLayout<UInt32>.size))
  }

  /// Goes on with connecting and greeting, as far as the socket lets it.
  private func advance(_ events: UInt32) throws(LinkFailure) {
    if state.pointee.stage == .connecting {
      var number: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      getsockopt(state.pointee.socket, SOL_SOCKET, SO_ERROR, &number, &size)
      guard number == 0 else { throw unreachable(number) }
      guard events & UInt32(KERNEL_WRITABLE) != 0 else { return }
      state.pointee.stage = .greeting
      listen(UInt32(KERNEL_READABLE))
      return
    }
    if state.pointee.stage == .securing { return try shakeHands() }
    if events & UInt32(KERNEL_WRITABLE) != 0 { try sendOut() }
    guard events & ~UInt32(KERNEL_WRITABLE) != 0 else { return }
    if fill() < 0 { throw closed() }
    try answerGreeting()
  }

  /// Handles what the broker says until it has agreed to everything.
  func answerGreeting() throws(LinkFailure) {
    while state.pointee.stage != .connected, state.pointee.stage != .securing,
      state.pointee.inStart < state.pointee.inEnd
    {
      let piece = nextPiece()
      switch piece.kind {
      case .incomplete:
        keep(piece.byteCount)
        return
      case .broken, .message: throw noBroker()
      case .error: throw refusal(piece.text)
      case .ping: state.pointee.pongsOwed += 1
      case .ok: break
      case .info: try greeted(piece)
      case .pong: try agreed()
      }
      state.pointee.inStart += piece.byteCount
    }
    guard state.pointee.stage == .securing else { return try sendOut() }
    // Plain text behind the greeting could come from anybody: TLS would not vouch for it.
    guard state.pointee.inStart == state.pointee.inEnd else { throw noBroker() }
    try beginTLS()
  }

  /// The broker has greeted: says who we are.
  private func greeted(_ piece: WirePiece) throws(LinkFailure) {
    guard let info = WireDialer.info(piece) else { throw noBroker() }
    let dialer = dialer.takeUnretainedValue()
    dialer.info = info
    state.pointee.longestPayload = info.longestPayload
    guard state.pointee.stage == .greeting else { return }
    let server = dialer.servers[dialer.server]
    guard server.wantsTLS || info.tls_required == true else { return try introduce() }
    guard info.offersTLS else {
      throw LinkFailure(
        server: server.shown, why: "the broker offers no TLS, which is asked for",
        remedy: "Leave the `tls:` block and `tls://` out, or give the broker a certificate.", kind: .tls)
    }
    state.pointee.stage = .securing
  }

  /// Says who we are.
  func introduce() throws(LinkFailure) {
    let dialer = dialer.takeUnretainedValue()
    let server = dialer.servers[dialer.server]
    guard let info = dialer.info,
      let hello = try? server.hello(info, name: dialer.settings.name, overTLS: state.pointee.tls != nil)
    else { throw noBroker() }
    put(hello)
    put("PING\r\n".utf8)
    state.pointee.stage = .introducing
  }

  /// The broker has agreed to what was said so far.
  private func agreed() throws(LinkFailure) {
    switch state.pointee.stage {
    case .introducing:
      put(dialer.takeUnretainedValue().settings.subscriptions)
      put("PING\r\n".utf8)
      state.pointee.stage = .subscribing
    case .subscribing:
      state.pointee.stage = .connected
      state.pointee.rests = 0
      state.pointee.stageEnd = .max
      dialer.takeUnretainedValue().startOver()
    default: throw noBroker()
    }
  }

  private func sendOut() throws(LinkFailure) {
    if case .broken = send() { throw closed() }
    if state.pointee.waitsForRoom, state.pointee.outStart == state.pointee.outEnd { wantRoom(false) }
  }

  // MARK: Later connections

  /// The socket of a connection that is being made is ready; whether it is made now.
  package func dialOn(_ events: UInt32) -> Bool {
    do throws(LinkFailure) {
      try advance(events)
      guard state.pointee.stage == .connected else { return false }
      state.pointee.reconnects += 1
      return true
    } catch {
      tryNext(error)
      return false
    }
  }

  /// Looks whether a stage without a connection is over.
  package func checkTime() {
    guard isOver else { return }
    if state.pointee.stage == .resting {
      if !dial() { rest() }
    } else {
      tryNext(tooSlow())
    }
  }

  private func tryNext(_ failure: LinkFailure) {
    let dialer = dialer.takeUnretainedValue()
    dialer.failed(failure)
    if failure.isAnswer { dialer.complain(failure.why) }
    closeSocket()
    if !dial() { rest() }
  }

  private func rest() {
    state.pointee.rests += 1
    state.pointee.stage = .resting
    // Connections that were lost together do not come back all at once.
    let spread = UInt64(place % 20) * 1_000_000
    state.pointee.stageEnd = kernel_now_ns() + dialer.takeUnretainedValue().settings.restNanoseconds + spread
  }

  /// Gives the connection up, and with it all that the kernel had not taken; it is made again after a rest.
  package func lose() {
    closeSocket()
    dialer.takeUnretainedValue().startOver()
    rest()
  }

  func closeSocket() {
    endTLS()
    if state.pointee.socket >= 0 {
      _ = kernel_epoll_remove(epoll, state.pointee.socket)
      Glibc.close(state.pointee.socket)
    }
    state.pointee.socket = -1
    state.pointee.stage = .resting
    state.pointee.outStart = 0
    state.pointee.outEnd = 0
    state.pointee.inStart = 0
    state.pointee.inEnd = 0
    state.pointee.waitsForRoom = false
    state.pointee.pongsOwed = 0
  }

  // MARK: Failures

  private func unreachable(_ number: Int32) -> LinkFailure {
    let why =
      number == ECONNREFUSED
      ? "the connection is refused, nothing listens there" : String(cString: strerror(number))
    return LinkFailure(
      server: server, why: why,
      remedy: "Is a broker running there? Start one (nats-server), or leave `servers` empty.", kind: .silence
    )
  }

  private func tooSlow() -> LinkFailure {
    LinkFailure(
      server: server, why: "it did not answer in time",
      remedy: "Is the broker overloaded, or something else listening there?", kind: .silence)
  }

  private func noBroker() -> LinkFailure {
    LinkFailure(
      server: server, why: "it does not speak as a NATS server does",
      remedy: "Is something else listening there?", kind: .noBroker)
  }

  private func refusal(_ words: String) -> LinkFailure {
    LinkFailure(
      server: server, why: "the broker refuses us: \(words)",
      remedy: "Check the `auth:` block of the messaging entry.", kind: .credentials, words: words)
  }

  /// A broker may close before its `-ERR` is read.
  func closed() -> LinkFailure {
    if let refusal = tlsRefusal() { return refusal }
    let dialer = dialer.takeUnretainedValue()
    if dialer.info?.auth_required == true { return refusal("it closed the connection") }
    return LinkFailure(
      server: server, why: "it closed the connection", remedy: "Is something else listening there?",
      kind: .silence)
  }
}
