import CLinux
import CNats
import Foundation
import NATS
import Scenario
import Synchronization

private let readable = UInt32(KERNEL_READABLE)
private let writable = UInt32(KERNEL_WRITABLE)

/// What libnats' event loop callbacks work on; one for each connection, at a fixed address.
///
/// libnats calls them from the load thread while it publishes and reads, and from a thread
/// of its own while it reconnects: hence the atomics.
struct LoopState: ~Copyable {
  let epoll: Int32
  let place: UInt64
  let socket = Atomic<Int32>(-1)
  /// Whether libnats has something to write.
  let wantsWrite = Atomic<Bool>(false)
  /// Whether the socket's buffer was full, so that epoll tells when it is not.
  let waitsForWrite = Atomic<Bool>(false)

  init(epoll: Int32, place: UInt64) {
    self.epoll = epoll
    self.place = place
  }

  func listen(_ events: UInt32) {
    let socket = socket.load(ordering: .acquiring)
    if socket >= 0 { _ = kernel_epoll_set(epoll, socket, events, place) }
  }
}

private typealias LoopPointer = UnsafeMutablePointer<LoopState>

private func loopState(_ data: UnsafeMutableRawPointer?) -> LoopPointer? {
  data?.assumingMemoryBound(to: LoopState.self)
}

private func attach(
  userData: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, loop: UnsafeMutableRawPointer?,
  connection: OpaquePointer?, socket: natsSock
) -> natsStatus {
  guard let state = loopState(loop) else { return NATS_INVALID_ARG }
  state.pointee.socket.store(Int32(socket), ordering: .releasing)
  state.pointee.waitsForWrite.store(false, ordering: .releasing)
  state.pointee.listen(readable)
  userData?.pointee = loop
  return NATS_OK
}

private func read(userData: UnsafeMutableRawPointer?, add: Bool) -> natsStatus {
  guard let state = loopState(userData) else { return NATS_INVALID_ARG }
  if add {
    state.pointee.listen(readable)
  } else {
    _ = kernel_epoll_remove(state.pointee.epoll, state.pointee.socket.load(ordering: .acquiring))
  }
  return NATS_OK
}

private func write(userData: UnsafeMutableRawPointer?, add: Bool) -> natsStatus {
  loopState(userData)?.pointee.wantsWrite.store(add, ordering: .releasing)
  return NATS_OK
}

private func detach(userData: UnsafeMutableRawPointer?) -> natsStatus {
  guard let state = loopState(userData) else { return NATS_INVALID_ARG }
  _ = kernel_epoll_remove(state.pointee.epoll, state.pointee.socket.load(ordering: .acquiring))
  state.pointee.socket.store(-1, ordering: .releasing)
  return NATS_OK
}

/// A libnats connection whose socket is served by the load thread's own loop.
///
/// Publishing only asks for a write; `flush` writes all that waits in one call. Replies lie in a
/// synchronous subscription until `next` takes them: no delivery thread, no flusher thread.
/// With `FlushMode.libraryDefault` the library's own threads do it all, for comparison.
final class LoopConnection {
  let connection: OpaquePointer
  let inbox: OpaquePointer
  let usesLoop: Bool
  private let state: UnsafeMutablePointer<LoopState>
  private let options: OpaquePointer
  private let statistics: OpaquePointer

  /// Connects and subscribes to `inboxSubject`.
  init(spec: NATSSpec, servers: [String], inboxSubject: String, epoll: Int32, place: Int) throws(BrokerError)
  {
    let shown = servers.map(redactedURL).joined(separator: ", ")
    func check(_ status: natsStatus) throws(BrokerError) {
      guard status == NATS_OK else { throw BrokerError(server: shown, status: status) }
    }
    usesLoop = spec.flush == .immediate
    state = .allocate(capacity: 1)
    state.initialize(to: LoopState(epoll: epoll, place: UInt64(place)))
    var made: OpaquePointer?
    try check(natsOptions_Create(&made))
    guard let options = made else { throw BrokerError(server: shown, status: NATS_NO_MEMORY) }
    self.options = options
    for status in ConnectionOptions.apply(spec, servers: servers, to: options) { try check(status) }
    if usesLoop {
      try check(natsOptions_SetSendAsap(options, true))
      try check(natsOptions_SetEventLoop(options, state, attach, read, write, detach))
    }
    var counted: OpaquePointer?
    try check(natsStatistics_Create(&counted))
    guard let statistics = counted else { throw BrokerError(server: shown, status: NATS_NO_MEMORY) }
    self.statistics = statistics
    var connected: OpaquePointer?
    try check(natsConnection_Connect(&connected, options))
    guard let connection = connected else { throw BrokerError(server: shown, status: NATS_NO_SERVER) }
    self.connection = connection
    var subscribed: OpaquePointer?
    try check(natsConnection_SubscribeSync(&subscribed, connection, inboxSubject))
    guard let inbox = subscribed else { throw BrokerError(server: shown, status: NATS_ERR) }
    self.inbox = inbox
    try check(natsSubscription_SetPendingLimits(inbox, -1, -1))
    try settle(shown)
  }

  deinit {
    natsSubscription_Destroy(inbox)
    natsConnection_Close(connection)
    natsConnection_Destroy(connection)
    natsOptions_Destroy(options)
    natsStatistics_Destroy(statistics)
    // `state` stays: libnats may still call `detach` on a thread of its own.
  }

  /// Makes sure that the subscription is known to the broker before the first request.
  private func settle(_ shown: String) throws(BrokerError) {
    guard usesLoop else {
      let status = natsConnection_FlushTimeout(connection, 5000)
      guard status == NATS_OK else { throw BrokerError(server: shown, status: status) }
      return
    }
    // A flush would wait for the PONG that only our own loop reads; the order of one
    // connection's messages does the same for us.
    flush()
  }

  /// Writes what libnats has ready.
  @inline(__always)
  func flush() {
    guard usesLoop, state.pointee.wantsWrite.load(ordering: .relaxed) else { return }
    natsConnection_ProcessWriteEvent(connection)
    if state.pointee.wantsWrite.load(ordering: .relaxed) {
      waitForRoom()
    } else if state.pointee.waitsForWrite.load(ordering: .relaxed) {
      state.pointee.waitsForWrite.store(false, ordering: .relaxed)
      state.pointee.listen(readable)
    }
  }

  private func waitForRoom() {
    guard !state.pointee.waitsForWrite.load(ordering: .relaxed) else { return }
    state.pointee.waitsForWrite.store(true, ordering: .relaxed)
    state.pointee.listen(readable | writable)
  }

  /// Reads the socket; the messages then lie in the inbox.
  @inline(__always)
  func readEvent() { natsConnection_ProcessReadEvent(connection) }

  /// How often libnats has connected again.
  var reconnects: UInt64 {
    var count: UInt64 = 0
    guard natsConnection_GetStats(connection, statistics) == NATS_OK else { return 0 }
    natsStatistics_GetCounts(statistics, nil, nil, nil, nil, &count)
    return count
  }

  /// Whether libnats has given up on the broker.
  var isClosed: Bool { natsConnection_IsClosed(connection) }
}

/// A scenario's connection settings as libnats wants them.
enum ConnectionOptions {
  /// Sets all; the statuses tell what was refused. Values are secrets and are never printed.
  static func apply(_ spec: NATSSpec, servers: [String], to options: OpaquePointer) -> [natsStatus] {
    var statuses = [setServers(servers, options)]
    statuses.append(natsOptions_SetName(options, "nylon-bench"))
    statuses.append(natsOptions_SetTimeout(options, 5000))
    statuses.append(natsOptions_SetMaxReconnect(options, -1))
    statuses.append(natsOptions_SetReconnectWait(options, 100))
    statuses.append(natsOptions_SetReconnectJitter(options, 20, 20))
    statuses.append(natsOptions_SetIOBufSize(options, 128 << 10))
    // A cluster tells its members' addresses; a reconnect to one would go round the link.
    if spec.links != nil { statuses.append(natsOptions_SetIgnoreDiscoveredServers(options, true)) }
    statuses.append(contentsOf: setAuth(spec.auth, options))
    if spec.tls.isUsed(for: servers) {
      statuses.append(natsOptions_SetSecure(options, true))
      if let file = spec.tls.caFile { statuses.append(natsOptions_LoadCATrustedCertificates(options, file)) }
      if let certificate = spec.tls.certFile, let key = spec.tls.keyFile {
        statuses.append(natsOptions_LoadCertificatesChain(options, certificate, key))
      }
    }
    return statuses
  }

  private static func setServers(_ servers: [String], _ options: OpaquePointer) -> natsStatus {
    let texts = servers.map { strdup($0) }
    defer { texts.forEach { free($0) } }
    var pointers = texts.map { UnsafePointer<CChar>($0) }
    return natsOptions_SetServers(options, &pointers, Int32(pointers.count))
  }

  private static func setAuth(_ auth: NATSAuth, _ options: OpaquePointer) -> [natsStatus] {
    var statuses: [natsStatus] = []
    if let token = auth.token { statuses.append(natsOptions_SetToken(options, token)) }
    if let user = auth.user { statuses.append(natsOptions_SetUserInfo(options, user, auth.password ?? "")) }
    if let file = auth.credentials {
      statuses.append(natsOptions_SetUserCredentialsFromFiles(options, file, nil))
    }
    if let file = auth.nkey { statuses.append(setNKey(seedFile: file, options)) }
    return statuses
  }

  /// libnats wants the public key beside the seed's file.
  private static func setNKey(seedFile: String, _ options: OpaquePointer) -> natsStatus {
    guard let key = try? NKey(seedFile: seedFile) else { return NATS_NOT_FOUND }
    return natsOptions_SetNKeyFromSeed(options, key.publicText, seedFile)
  }
}
