import TestSupport
import CLinux
import Foundation
import Testing

@testable import NATS

/// A connection for one test, driven by waiting for its socket.
private final class Client {
  let wire: WireConnection
  private let epoll: Int32

  init(_ url: String, auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS()) throws {
    let security = try WireSecurity(auth: auth, tls: tls, servers: [url])
    epoll = kernel_epoll_create()
    wire = WireConnection(
      to: try BrokerServer.all([url], security: security),
      name: "test", subscriptions: "SUB here 1\r\n", restNanoseconds: 10_000_000, epoll: epoll)
    try wire.connectFirst()
  }

  deinit {
    wire.close()
    close(epoll)
  }

  /// Publishes to itself; false when the buffer has no room now.
  func publish(_ payload: [UInt8]) -> Bool {
    wire.put(Array("PUB here \(payload.count)\r\n".utf8) + payload + [13, 10])
  }

  /// Sends and reads until a number of messages arrived, the connection closed, or ten seconds have passed.
  func messages(_ count: Int) -> [[UInt8]] {
    let end = kernel_now_ns() + 10_000_000_000
    var found: [[UInt8]] = []
    while true {
      while let piece = wire.nextMessage() { found.append(Array(piece.payload)) }
      if found.count >= count { return found }
      if case .broken = wire.send() { return found }
      if wire.unsentBytes == 0 { wire.wantRoom(false) }
      if !wire.holdsMore, wire.waitForSocket(until: end) == nil { return found }
      if wire.fill() < 0 { return found }
    }
  }

  /// Whether a message of that many bytes comes back unharmed.
  func echoes(_ count: Int) -> Bool {
    let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    return publish(payload) && messages(1) == [payload]
  }
}

private func failure(
  _ url: String, auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS()
) throws -> BrokerError {
  try #require(throws: BrokerError.self) { _ = try Client(url, auth: auth, tls: tls) }
}

@Suite("A connection over TLS") struct WireTLSTests {
  let broker: SecureBroker
  let authority: Authority
  let server: Authority.Pair

  init() throws {
    broker = try SecureBroker()
    authority = try Authority("ca", in: broker.folder)
    server = try authority.issue("server")
  }

  private var trust: NATSTLS { NATSTLS(enabled: true, caFile: authority.file) }

  @Test(
    "messages go both ways, of any length, by address and by name, whether the client or the broker asks for TLS"
  )
  func serves() throws {
    try broker.start(SecureBroker.tls(server))
    #expect(try Client(broker.url(), tls: trust).echoes(5))
    var settings = trust
    settings.enabled = false
    let client = try Client(broker.url("localhost", scheme: "tls"), tls: settings)
    for count in [0, 1, 16_383, 16_384, 200_000, 1_000_000] { #expect(client.echoes(count), "\(count)") }
    #expect(client.wire.greeting?.version != nil)
  }

  @Test("what OpenSSL holds when the buffer is full is read although the socket has no more")
  func holdsMore() throws {
    try broker.start(SecureBroker.tls(server))
    let client = try Client(broker.url(), tls: trust)
    #expect(client.echoes(5))
    // A hundred bytes more than the buffer takes: they come within the record that fills it.
    let payload = [UInt8](repeating: 7, count: WireConnection.bufferBytes + 80)
    #expect(client.publish(payload))
    let wire = client.wire
    let end = kernel_now_ns() + 10_000_000_000
    while !wire.state.pointee.holdsMore, wire.waitForSocket(until: end) != nil {
      if !wire.flush() { break }
      if wire.fill() < 0 { break }
    }
    #expect(wire.holdsMore)
    #expect(client.messages(1) == [payload])
  }

  @Test("many messages in flight arrive whole and in order")
  func floods() throws {
    try broker.start(SecureBroker.tls(server))
    let client = try Client(broker.url(), tls: trust)
    // More than the buffers of both sides hold, of a length that no buffer is a multiple of.
    func payload(_ number: Int) -> [UInt8] {
      [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 9973)
    }
    var published = 0
    var came = 0
    while came < 2000 {
      while published < min(2000, came + 200), client.publish(payload(published)) { published += 1 }
      let next = client.messages(1)
      guard !next.isEmpty else { break }
      for message in next {
        #expect(message == payload(came))
        came += 1
      }
    }
    #expect(came == 2000)
  }

  @Test("a certificate of an unknown authority is refused, and so is one for another name")
  func distrusts() throws {
    try broker.start(
      SecureBroker.tls(try authority.issue("elsewhere", for: "DNS:elsewhere.test,IP:127.0.0.2")))
    let stranger = try Authority("stranger", in: broker.folder)
    for tls in [NATSTLS(enabled: true, caFile: stranger.file), NATSTLS(enabled: true), NATSTLS()] {
      let error = try failure(broker.url(), tls: tls)
      #expect(error.kind == .tls)
      #expect(error.why.contains("its certificate is not trusted"))
      #expect(error.remedy.contains("`ca_file`"))
    }
    for (host, words) in [("127.0.0.1", "IP address mismatch"), ("localhost", "ostname mismatch")] {
      let error = try failure(broker.url(host), tls: trust)
      #expect(error.kind == .tls)
      #expect(error.why.contains("is not for '\(host)'") && error.why.contains(words), "\(error)")
    }
  }

  @Test("a broker that requires a client certificate gets it, and reports a missing or untrusted one")
  func clientCertificates() throws {
    try broker.start(SecureBroker.tls(server, authority: authority))
    var tls = trust
    let missing = try failure(broker.url(), tls: tls)
    #expect(missing.kind == .tls)
    #expect(missing.remedy.contains("`cert_file`"), "\(missing)")
    let stranger = try Authority("stranger", in: broker.folder).issue("impostor")
    (tls.certFile, tls.keyFile) = (stranger.certificate, stranger.key)
    #expect(try failure(broker.url(), tls: tls).kind == .tls)
    let own = try authority.issue("client")
    (tls.certFile, tls.keyFile) = (own.certificate, own.key)
    #expect(try Client(broker.url(), tls: tls).echoes(100))
  }

  @Test("a broker without TLS is an error where TLS is wanted")
  func withoutTLS() throws {
    try broker.start("")
    for (url, tls) in [(broker.url(), trust), (broker.url(scheme: "tls"), NATSTLS())] {
      let error = try failure(url, tls: tls)
      #expect(error.kind == .tls)
      #expect(error.why == "the broker does not offer TLS, which is required")
    }
  }

  @Test("a connection reconnects over TLS when its broker is back on the same port")
  func reconnects() throws {
    try broker.start(SecureBroker.tls(server))
    let client = try Client(broker.url(), tls: trust)
    #expect(client.echoes(10))
    broker.stop()
    // A write to a socket that the broker has closed must not end the process.
    for _ in 0..<100 where client.publish([1]) { if case .broken = client.wire.send() { break } }
    client.wire.lose()
    try broker.restart()
    let end = kernel_now_ns() + 10_000_000_000
    while !client.wire.isConnected, kernel_now_ns() < end {
      client.wire.checkTime()
      guard client.wire.state.pointee.stage != .resting else { continue }
      if let events = client.wire.waitForSocket(until: min(end, client.wire.stageEnd)) {
        _ = client.wire.dialOn(events)
      }
    }
    #expect(client.wire.isConnected && client.wire.reconnects == 1)
    #expect(client.echoes(200_000))
  }
}

@Suite("A connection that signs") struct WireSigningTests {
  let broker: SecureBroker

  init() throws { broker = try SecureBroker() }

  private func nkeyBroker(_ user: Identity) throws {
    try broker.start("authorization { users: [ { nkey: \(user.name) } ] }")
  }

  @Test("an nkey's seed file authenticates, with any text around the seed")
  func nkeys() throws {
    let user = Identity(.user)
    try nkeyBroker(user)
    for text in [user.seed, "\n  \(user.seed)\r\n", "# a comment\n\(user.seed)\n\(user.name)\n"] {
      let file = try broker.write(text, as: "user.nk")
      #expect(try SignedIdentity(seedFile: file).publicText == user.name)
      #expect(try Client(broker.url(), auth: NATSAuth(nkey: file)).echoes(3))
    }
    let other = try broker.write(Identity(.user).seed, as: "other.nk")
    let refused = try failure(broker.url(), auth: NATSAuth(nkey: other))
    #expect(refused.kind == .credentials)
    #expect(refused.words.contains("Authorization Violation"), "\(refused)")
    #expect(try failure(broker.url()).kind == .credentials)
  }

  @Test("a credentials file authenticates, over TLS as well, and another operator's does not")
  func credentials() throws {
    let operated = try Operated()
    let authority = try Authority("ca", in: broker.folder)
    try broker.start(operated.configuration + "\n" + SecureBroker.tls(try authority.issue("server")))
    let file = try broker.write(try operated.credentials(), as: "user.creds")
    let tls = NATSTLS(enabled: true, caFile: authority.file)
    #expect(try Client(broker.url(), auth: NATSAuth(credentials: file), tls: tls).echoes(3))
    let foreign = try broker.write(try Operated().credentials(), as: "foreign.creds")
    #expect(try failure(broker.url(), auth: NATSAuth(credentials: foreign), tls: tls).kind == .credentials)
  }

  @Test("the error for a missing or wrong file names its setting, its path and what is wrong with it")
  func files() throws {
    let authority = try Authority("ca", in: broker.folder)
    let pair = try authority.issue("client")
    let other = try authority.issue("other")
    let user = Identity(.user)
    let operated = try Operated()
    func written(_ text: String) throws -> String { try broker.write(text, as: "\(UUID().uuidString)") }
    let missing = broker.folder + "/missing"
    let noise = try written("no certificate")
    let certificate = try String(contentsOfFile: pair.certificate, encoding: .utf8)
    var wrongSum = Array(user.seed)
    wrongSum[20] = wrongSum[20] == "A" ? "B" : "A"
    let cases: [(SecurityFileKey, NATSAuth, NATSTLS, String)] = [
      (.caFile, NATSAuth(), NATSTLS(enabled: true, caFile: missing), "No such file"),
      (.caFile, NATSAuth(), NATSTLS(enabled: true, caFile: broker.folder), "it is a folder"),
      (.caFile, NATSAuth(), NATSTLS(enabled: true, caFile: noise), "no readable certificate"),
      (.certFile, NATSAuth(), NATSTLS(enabled: true, certFile: missing, keyFile: pair.key), "No such file"),
      (
        .certFile, NATSAuth(), NATSTLS(enabled: true, certFile: noise, keyFile: pair.key),
        "no readable certificate"
      ),
      (
        .certFile, NATSAuth(), NATSTLS(enabled: true, certFile: pair.certificate),
        "`tls.key_file` is not given"
      ),
      (.keyFile, NATSAuth(), NATSTLS(enabled: true, keyFile: pair.key), "`tls.cert_file` is not given"),
      (
        .keyFile, NATSAuth(), NATSTLS(enabled: true, certFile: pair.certificate, keyFile: missing),
        "No such file"
      ),
      (
        .keyFile, NATSAuth(), NATSTLS(enabled: true, certFile: pair.certificate, keyFile: other.key),
        "key values mismatch"
      ),
      (
        .keyFile, NATSAuth(),
        NATSTLS(enabled: true, certFile: pair.certificate, keyFile: try written(certificate)),
        "no readable key"
      ),
      (.nkey, NATSAuth(nkey: missing), NATSTLS(), "No such file"),
      (.nkey, NATSAuth(nkey: try written("")), NATSTLS(), "no seed"),
      (.nkey, NATSAuth(nkey: try written("hello")), NATSTLS(), "not a seed"),
      (.nkey, NATSAuth(nkey: try written(String(wrongSum))), NATSTLS(), "checksum"),
      (.nkey, NATSAuth(nkey: try written(String(user.seed.prefix(30)))), NATSTLS(), "length"),
      (.nkey, NATSAuth(nkey: try written(Identity(.account).seed)), NATSTLS(), "no user's seed (SU…)"),
      (.credentials, NATSAuth(credentials: missing), NATSTLS(), "No such file"),
      (.credentials, NATSAuth(credentials: try written(user.seed)), NATSTLS(), "no user JWT"),
      (
        .credentials, NATSAuth(credentials: try written(try operated.credentials(seedOf: user))), NATSTLS(),
        "does not belong to its JWT"
      ),
    ]
    for (key, auth, tls, words) in cases {
      let error = try #require(throws: SecurityFileError.self, "\(key) \(words)") {
        _ = try WireSecurity(auth: auth, tls: tls, servers: [])
      }
      #expect(error.key == key && error.why.contains(words), "\(error)")
      #expect(error.description.contains("'\(error.path)' of `\(key.rawValue)`"))
      #expect(!error.description.contains(user.seed.dropFirst(4).prefix(10)))
    }
  }

  @Test("files for TLS that is switched off are not looked at")
  func switchedOff() throws {
    _ = try WireSecurity(
      auth: NATSAuth(), tls: NATSTLS(enabled: false, caFile: "/no/such"), servers: ["nats://h"])
  }
}
