import TestSupport
import Foundation
import NATS
@testable import Scenario
import Testing

@testable import Lab

/// Probe and pool against brokers that want TLS, nkeys or credentials files; the workers are real `nylon-worker`s.
@Suite struct SecureBrokerTests {
  let broker: SecureBroker
  let authority: Authority

  init() throws {
    broker = try SecureBroker()
    authority = try Authority("ca", in: broker.folder)
  }

  private var trust: NATSTLS { NATSTLS(enabled: true, caFile: authority.file) }

  private func target(auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS()) -> Target {
    Target(
      name: "pool", plugin: "p", handler: "noop",
      transport: .nats(
        NATSSpec(
          servers: [broker.url()], group: "workers", auth: auth, tls: tls,
          workers: WorkersSpec(count: 2, command: ["nylon-worker"]))),
      loads: [])
  }

  /// The pool starts, and nobody in it dies of what the broker wants.
  private func expectPool(auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS()) throws {
    let pool = try WorkerPool.start(for: target(auth: auth, tls: tls), monitors: [])
    #expect(pool.pids.count == 2)
    #expect(pool.stop().isEmpty)
  }

  @Test("a probe and a pool get in over TLS, with a client's certificate where one is wanted")
  func tls() throws {
    try broker.start(SecureBroker.tls(try authority.issue("server"), authority: authority))
    let own = try authority.issue("client")
    var tls = trust
    #expect {
      try Broker.probe(url: broker.url(), tls: tls)
    } throws: { error in
      "\(error)".hasPrefix("There is no TLS connection to the broker at 127.0.0.1:\(broker.port): ")
        && "\(error)".contains("cert_file")
    }
    (tls.certFile, tls.keyFile) = (own.certificate, own.key)
    #expect(try Broker.probe(url: broker.url(), tls: tls)?.longestPayload == 1 << 20)
    try expectPool(tls: tls)
    tls.enabled = false
    try Broker.probe(url: broker.url("localhost", scheme: "tls"), tls: tls)
  }

  @Test("the error for a broker that is not trusted, or has another name, says what to do")
  func distrust() throws {
    try broker.start(SecureBroker.tls(try authority.issue("elsewhere", for: "DNS:elsewhere.test")))
    let stranger = try Authority("stranger", in: broker.folder)
    for (file, words) in [(stranger.file, "not trusted"), (authority.file, "is not for '127.0.0.1'")] {
      #expect {
        try Broker.probe(url: broker.url(), tls: NATSTLS(enabled: true, caFile: file))
      } throws: { error in
        (error as? LabError)?.isMissing == true && "\(error)".contains(words)
      }
    }
  }

  @Test("a probe and a pool get in with an nkey; another's is refused")
  func nkey() throws {
    let user = Identity(.user)
    try broker.start("authorization { users: [ { nkey: \(user.name) } ] }")
    let auth = NATSAuth(nkey: try broker.write(user.seed, as: "user.nk"))
    try Broker.probe(url: broker.url(), auth: auth)
    try expectPool(auth: auth)
    let other = NATSAuth(nkey: try broker.write(Identity(.user).seed, as: "other.nk"))
    #expect {
      try Broker.probe(url: broker.url(), auth: other)
    } throws: { error in
      "\(error)".contains("refuses the credentials: ") && "\(error)".contains("Authorization Violation")
    }
  }

  @Test("a probe and a pool get in with a credentials file, over TLS")
  func credentials() throws {
    let operated = try Operated()
    try broker.start(operated.configuration + "\n" + SecureBroker.tls(try authority.issue("server")))
    let auth = NATSAuth(credentials: try broker.write(try operated.credentials(), as: "user.creds"))
    try Broker.probe(url: broker.url(), auth: auth, tls: trust)
    try expectPool(auth: auth, tls: trust)
  }

  @Test("a file that cannot be used is named as missing before a broker is contacted")
  func files() {
    #expect {
      try Broker.checkFiles(auth: NATSAuth(nkey: "/no/such.nk"), tls: NATSTLS(), servers: [])
    } throws: { error in
      (error as? LabError)?.isMissing == true && "\(error)".contains("'/no/such.nk' of `auth.nkey`")
    }
  }
}
