import TestSupport
import Foundation
import Results
import Report
import Testing

extension EndToEnd {
  @Suite("Runs against brokers that want TLS, nkeys or credentials files") struct SecureRunTests {
    let sandbox: Sandbox
    let broker: SecureBroker
    let authority: Authority

    init() throws {
      sandbox = try Sandbox()
      broker = try SecureBroker()
      authority = try Authority("ca", in: broker.folder)
    }

    /// A pool of two workers behind the broker; `config:` also goes to the workers, as a message of its own.
    private func scenario(_ settings: String, url: String? = nil, bodyBytes: Int = 0) -> String {
      """
      name: secure
      messaging: [{name: default, servers: ["\(url ?? broker.url())"], \(settings)}]
      plugins: [{name: example, messaging: default, group: workers, config: {work_us: 1}}]
      request: {body_bytes: \(bodyBytes)}
      targets:
        - {name: nats, plugin: example, handler: echo, workers: {count: 2, command: nylon-worker}}
      loads: [{mode: closed, concurrency: 4}]
      \(Small.times)
      """
    }

    /// The run ends well, and everything was answered.
    private func expectAnswers(_ finished: Finished) throws {
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      let one = try #require(document.measurements.first)
      #expect(one.client == "native")
      let counts = try #require(one.request?.counts)
      #expect(counts.ok == counts.sent, "\(counts)")
    }

    /// The command ends with 69 before anything has started, and says these words and no secret.
    private func expectMissing(_ scenario: String, _ words: [String], hides secrets: [String] = []) throws {
      let finished = try sandbox.run(scenario)
      #expect(finished.code == 69, "\(finished.err)")
      for word in words { #expect(finished.err.contains(word), "\(finished.err)") }
      for secret in secrets { #expect(!(finished.err + finished.out).contains(secret)) }
      #expect(!FileManager.default.fileExists(atPath: "\(sandbox.results)/latest"))
    }

    @Test("An nkey over TLS with client certificates: answers, also of 200 KB both ways")
    func nkey() throws {
      let user = Identity(.user)
      let own = try authority.issue("client")
      try broker.start(
        "authorization { users: [ { nkey: \(user.name) } ] }\n"
          + SecureBroker.tls(try authority.issue("server"), authority: authority))
      let seed = try broker.write(user.seed, as: "user.nk")
      let settings =
        "tls: {ca_file: \(authority.file), cert_file: \(own.certificate), key_file: \(own.key)}, "
        + "auth: {nkey: \(seed)}"
      for bodyBytes in [0, 200_000] {
        try expectAnswers(try sandbox.run(scenario(settings, bodyBytes: bodyBytes)))
      }
      let document = try String(contentsOfFile: "\(sandbox.results)/latest/run.json", encoding: .utf8)
      #expect(!document.contains(user.seed))
    }

    @Test("A credentials file over TLS: answers")
    func credentials() throws {
      let operated = try Operated()
      try broker.start(operated.configuration + "\n" + SecureBroker.tls(try authority.issue("server")))
      let file = try broker.write(try operated.credentials(), as: "user.creds")
      let settings = "tls: {ca_file: \(authority.file)}, auth: {credentials: \(file)}"
      try expectAnswers(try sandbox.run(scenario(settings, url: broker.url("localhost", scheme: "tls"))))
    }

    @Test(
      "Over TLS, more bytes than the worker can handle: the counts close, and each request is accounted for")
    func flood() throws {
      try broker.start(SecureBroker.tls(try authority.issue("server")))
      let finished = try sandbox.run(
        """
        name: flood
        messaging: [{name: default, servers: ["\(broker.url())"], tls: {ca_file: \(authority.file)}}]
        plugins:
          - {name: example, messaging: default, group: workers, per_phase: {request_filter: {on_error: end}}}
        targets:
          - {name: nats, plugin: example, handler: wait, phases: [request_filter], timeout_ms: 200,
             max_in_flight: 4096, workers: {count: 1, command: nylon-worker}}
        request: {body_bytes: 20000, headers: {x-wait-us: "1000"}}
        accounting: true
        loads: [{mode: open, rate_per_second: 2000, arrivals: uniform}]
        warmup_seconds: 0.2
        measure_seconds: 1.5
        drain_seconds: 0.5
        """)
      let document = try sandbox.latest()
      #expect(finished.code == (document.isValid ? 0 : 81), "\(finished.err)")
      let measurement = try #require(document.measurements.first)
      // Requests may wait for longer than their timeout from the first one on.
      for scope in measurement.scopes { #expect(scope.counts.closes) }
      let counts = try #require(measurement.request?.counts)
      #expect(counts.timeouts > 0 && counts.lost == 0, "\(counts)")
      let accounting = try #require(measurement.accounting)
      #expect(accounting.gap == nil && accounting.unknown == 0, "\(accounting.words)")
      #expect(accounting.handled > counts.sent / 10, "\(accounting.words)")
      #expect(accounting.defects(of: measurement).isEmpty)
    }

    @Test(
      "A broker that is not trusted, goes by another name or speaks no TLS ends the command with 69",
      .tags(.besideOthers))
    func distrust() throws {
      try broker.start(SecureBroker.tls(try authority.issue("elsewhere", for: "DNS:elsewhere.test")))
      let place = "127.0.0.1:\(broker.port)"
      let stranger = try Authority("stranger", in: broker.folder)
      try expectMissing(
        scenario("tls: {ca_file: \(stranger.file)}"), [place, "its certificate is not trusted", "`ca_file`"])
      try expectMissing(
        scenario("tls: {ca_file: \(authority.file)}"), [place, "its certificate is not for '127.0.0.1'"])
      let plain = try SecureBroker()
      try plain.start("")
      try expectMissing(
        scenario("tls: {enabled: true}", url: plain.url()),
        ["the broker does not offer TLS, which is required"])
    }

    @Test(
      "A seed that the broker does not know, and files that are missing or wrong, end the command with 69",
      .tags(.besideOthers))
    func files() throws {
      let user = Identity(.user)
      let other = Identity(.user)
      try broker.start("authorization { users: [ { nkey: \(user.name) } ] }")
      let file = try broker.write(other.seed, as: "other.nk")
      try expectMissing(
        scenario("auth: {nkey: \(file)}"), ["127.0.0.1:\(broker.port) refuses the credentials"],
        hides: [other.seed])
      let missing = "\(broker.folder)/missing"
      for (settings, key, path) in [
        ("auth: {nkey: \(missing)}", "auth.nkey", missing),
        ("auth: {credentials: \(missing)}", "auth.credentials", missing),
        ("auth: {credentials: \(file)}", "auth.credentials", file),
        ("tls: {ca_file: \(missing)}", "tls.ca_file", missing),
        ("tls: {cert_file: \(file), key_file: \(file)}", "tls.cert_file", file),
      ] {
        try expectMissing(scenario(settings), ["'\(path)' of `\(key)`"], hides: [other.seed])
      }
    }

    @Test(
      "A broker that a run starts has no nkeys and no TLS: a fault of the scenario, with its place",
      .tags(.besideOthers))
    func ownBroker() throws {
      let seed = try broker.write(Identity(.user).seed, as: "user.nk")
      for (settings, code, words) in [
        ("auth: {nkey: \(seed)}", 65, "supports neither nkeys nor credentials files"),
        ("tls: {enabled: true}", 65, "does not support TLS"),
        ("auth: {nkey: /no/such}", 65, "messaging.0.auth: "),
      ] {
        let text = scenario(settings).replacingOccurrences(
          of: "servers: [\"\(broker.url())\"]", with: "servers: []")
        let finished = try sandbox.run(text)
        #expect(finished.code == Int32(code), "\(finished.err)")
        #expect(finished.err.contains(words), "\(finished.err)")
      }
    }
  }
}
