import TestSupport
import Foundation
import NATS
import Scenario
import Testing

@testable import Lab

@Suite struct BrokerTests {
  @Test func aBrokerAnswersWhenItHasStartedAndIsGoneWhenItIsStopped() throws {
    let broker = try Broker.start()
    #expect(broker.isRunning)
    let greeting = try Broker.probe(url: broker.url)
    #expect(greeting?.longestPayload == 1 << 20)
    #expect(greeting?.version == Broker.version())
    let statistics = try broker.statistics()
    #expect(statistics.version == greeting?.version)
    #expect(statistics.slowConsumers == 0)
    #expect(try broker.monitor.pendingBytes() == 0)
    #expect(try #require(ProcessClock.cpuNanoseconds(pid: broker.pid)) > 0)
    #expect(try #require(ProcessClock.residentBytes(pid: broker.pid)) > 1_000_000)
    let pid = broker.pid
    #expect(broker.stop() != nil)
    #expect(!broker.isRunning)
    #expect(!isAlive(pid))
    #expect(ProcessClock.cpuNanoseconds(pid: pid) == nil)
  }

  @Test func aBrokerCanComeBackOnItsPort() throws {
    let first = try Broker.start()
    first.kill()
    let second = try first.again()
    #expect(second.port == first.port)
    // Those who knew the first one get in.
    try Broker.probe(url: first.url)
    second.stop()
  }

  @Test func aPortThatIsTakenIsAnErrorWithTheBrokersLastWords() throws {
    let first = try Broker.start()
    defer { first.stop() }
    #expect {
      try Broker.start(port: first.port)
    } throws: { error in
      "\(error)".hasPrefix("nats-server did not become ready: ")
        && "\(error)".contains("address already in use")
    }
  }

  @Test func aProgramThatIsNoBrokerIsAnErrorWithItsLastWords() {
    #expect {
      try Broker.start(program: "/bin/cat")
    } throws: { error in
      "\(error)".hasPrefix("nats-server did not become ready: it exited with code 1.")
        && "\(error)".contains("invalid option")
    }
  }

  @Test(arguments: [
    NATSAuth(token: "t0p-s3cret \"\\$2a'ü"), NATSAuth(token: "12345"),
    NATSAuth(user: "ann", password: "p@ss:w/ord"),
  ])
  func credentialsLetInAndAreSeenNowhere(auth: NATSAuth) throws {
    let broker = try Broker.start(auth: auth)
    defer { broker.stop() }
    try Broker.probe(url: broker.url, auth: auth)
    let secret = auth.token ?? auth.password ?? ""
    let title = FileManager.default.contents(atPath: "/proc/\(broker.pid)/cmdline") ?? Data()
    #expect(!String(decoding: title, as: UTF8.self).contains(secret))
    #expect(!broker.lastWords.contains(secret))
    #expect {
      try Broker.probe(url: broker.url)
    } throws: { error in
      "\(error)".hasPrefix("The broker at 127.0.0.1:\(broker.port) refuses the credentials: ")
    }
    #expect {
      try Broker.probe(url: "nats://wrong-guess@127.0.0.1:\(broker.port)")
    } throws: { error in
      "\(error)".contains("refuses the credentials") && !"\(error)".contains("wrong-guess")
    }
  }

  @Test func aBrokerWithoutCredentialsOfItsOwnLetsNobodyInWithoutItsToken() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let token = try #require(broker.token)
    #expect(try Broker.start().token != token)
    #expect(token.count == 32)
    try Broker.probe(url: broker.url)
    #expect {
      try Broker.probe(url: "nats://127.0.0.1:\(broker.port)")
    } throws: { error in
      "\(error)".contains("refuses the credentials")
    }
    // The monitoring shows clients' tokens to everybody, so it is only reachable through a secret path.
    #expect(broker.monitor.root.count == 33)
    #expect(throws: LabError.self) { try BrokerMonitor(port: broker.monitor.port).clients() }
    #expect(try broker.monitor.clients().isEmpty)
    let processes = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap(Int32.init)
    for pid in processes {
      let title = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
      let words = String(decoding: title, as: UTF8.self)
      #expect(!words.contains(token) && !words.contains(broker.monitor.root))
    }
    #expect(!broker.lastWords.contains(token) && !broker.lastWords.contains(broker.monitor.root))
  }

  @Test func aBrokerThatAsksForNoTokenLetsEverybodyIn() throws {
    let broker = try Broker.start(asksForToken: false)
    defer { broker.stop() }
    #expect(broker.token == nil)
    #expect(broker.url == "nats://127.0.0.1:\(broker.port)")
    try Broker.probe(url: broker.url)
  }

  @Test func credentialsOfTheURLCount() throws {
    let broker = try Broker.start(auth: NATSAuth(user: "ann", password: "p@ss"))
    defer { broker.stop() }
    try Broker.probe(url: "nats://ann:p%40ss@127.0.0.1:\(broker.port)")
  }

  @Test func aPortWithoutABrokerIsToldWithoutTheCredentials() throws {
    let broker = try Broker.start()
    broker.stop()
    #expect(
      throws: LabError.brokerUnreachable(
        address: "127.0.0.1:\(broker.port)", why: "the connection was refused: nothing is listening there")
    ) { try Broker.probe(url: "nats://ann:s3cret@127.0.0.1:\(broker.port)") }
  }

  @Test func aServerThatIsNoBrokerIsTold() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    // The broker's own monitoring speaks HTTP, and waits for a request.
    #expect(
      throws: LabError.brokerUnreachable(
        address: "127.0.0.1:\(broker.monitor.port)", why: "it did not answer in time")
    ) { try Broker.probe(url: "nats://127.0.0.1:\(broker.monitor.port)", timeout: .milliseconds(200)) }
    #expect(throws: LabError.self) { try BrokerMonitor(port: broker.port).statistics() }
  }

  @Test func aBrokerThatHangsRunsIntoTheTimeout() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    kill(broker.pid, SIGSTOP)
    #expect(eventually { processState(broker.pid) == "T" })
    #expect(throws: LabError.self) { try Broker.probe(url: broker.url, timeout: .milliseconds(300)) }
    kill(broker.pid, SIGCONT)
    try Broker.probe(url: broker.url)
  }

  @Test func aBrokerWithoutTLSIsToldWhereTLSIsWanted() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    for (url, tls) in [
      ("tls://127.0.0.1:\(broker.port)", NATSTLS()), (broker.url, NATSTLS(enabled: true)),
    ] {
      #expect {
        try Broker.probe(url: url, tls: tls)
      } throws: { "\($0)".contains("the broker does not offer TLS, which is required") }
    }
  }

  @Test func aURLThatCannotBeUsedIsABadValueAndShowsNoSecret() {
    #expect {
      try Broker.probe(url: "nats://s3cret@h:0")
    } throws: { error in
      guard let error = error as? LabError else { return false }
      return error.isInvalidInput && "\(error)".contains("nats://127.0.0.1:4222")
        && !"\(error)".contains("s3cret")
    }
  }

  @Test func aHostThatDoesNotExistIsTold() {
    #expect(throws: LabError.self) {
      try Broker.probe(url: "nats://no-such-host.invalid", timeout: .seconds(2))
    }
  }

  @Test func credentialsFilesNeedABrokerOfTheUsersOwn() {
    #expect {
      try Broker.start(auth: NATSAuth(credentials: "/some/file"))
    } throws: { "\($0)".contains("--server") }
  }

  @Test func brokersAreEndedWhenNobodyHoldsThemAnyMore() throws {
    let pid = try Broker.start().pid
    #expect(eventually { !isAlive(pid) })
  }
}

@Suite struct BrokerMonitorTests {
  @Test(arguments: [
    ("a.b.c", "a.b.c", true), ("a.*.c", "a.b.c", true), ("a.>", "a.b.c", true), (">", "a", true),
    ("a.b", "a.b.c", false), ("a.b.c", "a.b", false), ("a.b.>", "a.b", false), ("*", "a.b", false),
    ("a.b.d", "a.b.c", false),
  ])
  func subscriptionsCoverSubjectsAsInNATS(subscription: String, subject: String, covers: Bool) {
    #expect(BrokerMonitor.covers(subscription, subject) == covers)
  }
}
