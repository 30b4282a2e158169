import TestSupport
import ExampleHandlers
import Glibc
@testable import NylonPlugin
import Nylon
import Synchronization
import Testing

@Suite("A worker in a queue group", .serialized, .thread("worker"))
struct NATSTests {
  /// One handler thread and several.
  static let kinds = [1, 3]

  private func withWorker(
    maxWorkers: Int = 1,
    plugin: Plugin = ExampleHandlers.makePlugin(), _ body: (NATSHost, NATSWorker, Broker) throws -> Void
  ) throws {
    let broker = try Broker()
    var configuration = NATSConfiguration(name: "p", url: broker.url, group: "g")
    configuration.maxWorkers = maxWorkers
    configuration.reconnectWaitMilliseconds = 20
    let worker = try NATSWorker(
      plugin: plugin, configuration: configuration)
    try worker.start()
    defer { worker.close() }
    try body(try NATSHost(broker.url), worker, broker)
  }

  @Test("serves authz as the guide says, with one thread and with several", arguments: kinds)
  func authz(maxWorkers: Int) throws {
    try withWorker(maxWorkers: maxWorkers) { host, _, _ in
      for _ in 0..<20 {
        let (context, actions) = try host.session(plugin: "p", entry: "authz", context: sampleContext)
        #expect(actions == [.next, .next, .next, .next])
        let headers = context.response?.headers ?? []
        #expect(headers.contains(KeyValue(key: "X-Plugin-Transport", value: "NATS")))
        #expect(headers.contains(KeyValue(key: "X-Processed-By", value: "NATS-Worker")))
      }
      #expect(AccessLog.shared.lines.last?.path == "/api/users")
    }
  }

  @Test("a reply echoes the id with its type, and has no data when nothing changed")
  func echoesID() throws {
    try withWorker { host, _, _ in
      for id in [RequestID.text("an-id"), RequestID(high: 1, low: 2), .bytes([1, 2, 3])] {
        let reply = try host.message(
          "nylon.plugin.p.logging",
          WorkerMessage(
            requestID: id, sessionID: 9, phase: .logging, timestampMilliseconds: 1,
            headers: [KeyValue(key: "entry", value: "noop")]))
        #expect(reply == WorkerMessage(requestID: id, sessionID: 9, action: .next))
      }
    }
  }

  @Test("a request that asks for stamps gets them in their order, and no other does", arguments: kinds)
  func stamps(maxWorkers: Int) throws {
    try withWorker(maxWorkers: maxWorkers) { host, _, _ in
      var last = WorkerStamps(read: 0)
      for place in 0..<20 {
        let asks = place % 4 != 3
        let request = WorkerMessage(
          requestID: RequestID(high: 1, low: UInt64(place)), sessionID: 1, phase: .logging,
          timestampMilliseconds: 1,
          headers: [KeyValue(key: "entry", value: "noop")] + (asks ? [WorkerStamps.question] : []))
        let reply = try #require(host.raw("nylon.plugin.p.logging", request.encoded()))
        try reply.withUnsafeBytes { bytes in
          let view = try #require(MessageView(reply: bytes))
          #expect(view.action == .next)
          let text = view.header(WorkerStamps.header)
          #expect((text != nil) == asks)
          guard let text else { return }
          let stamps = try #require(WorkerStamps(text))
          #expect(last.packed <= stamps.read)
          #expect(stamps.read <= stamps.begun)
          #expect(stamps.begun <= stamps.ended)
          #expect(stamps.ended <= stamps.packed)
          last = stamps
        }
      }
    }
  }

  @Test("a request that cannot be served is answered with the reason")
  func refusals() throws {
    try withWorker { host, _, _ in
      let unknown = try host.request(.logging, plugin: "p", entry: "nobody", context: nil)
      #expect(unknown?.action == .error)
      #expect(unknown?.error?.contains("'nobody'") == true)
      #expect(unknown?.error?.contains("noop, authz, echo, work, api, wait, crash") == true)
      let noEntry = try host.request(.logging, plugin: "p", entry: nil, context: nil)
      #expect(noEntry?.action == .error)
      let method = try host.request(.logging, plugin: "p", entry: "noop", context: nil, method: 0)
      #expect(method?.action == .error)
      #expect(method?.error?.contains("dialect") == true)
      let otherPhase = try host.message(
        "nylon.plugin.p.logging",
        WorkerMessage(
          requestID: .text("x"), sessionID: 1, phase: .requestFilter, timestampMilliseconds: 1))
      #expect(otherPhase?.action == .empty)
    }
  }

  @Test("malformed bytes get an empty action and the reason, and the worker serves on", arguments: kinds)
  func malformed(maxWorkers: Int) throws {
    try withWorker(maxWorkers: maxWorkers) { host, _, _ in
      let subject = "nylon.plugin.p.request_filter"
      for bytes in [[], [0xc1], [0xdf, 0xff, 0xff, 0xff, 0xff], [0x80], Array("hello".utf8)] as [[UInt8]] {
        let reply = try #require(host.raw(subject, bytes))
        let response = try reply.withUnsafeBytes { try WorkerMessage(reply: $0) }
        #expect(response.action == .empty)
        #expect(response.error?.isEmpty == false)
      }
      let badData = try host.message(
        subject,
        WorkerMessage(
          requestID: .text("x"), sessionID: 1, phase: .requestFilter, data: [1, 2, 3],
          timestampMilliseconds: 1, headers: [KeyValue(key: "entry", value: "noop")]))
      #expect(badData?.action == .empty)
      #expect(try host.request(.logging, plugin: "p", entry: "noop", context: nil)?.action == .next)
    }
  }

  @Test("the lifecycle subject runs the hooks, and a refused configuration is answered")
  func lifecycle() throws {
    let seen = Mutex<[String]>([])
    let plugin = Plugin()
    plugin.onInitialize { configuration in
      if configuration.json == Array("bad".utf8) { throw PluginError.badConfiguration(reason: "bad") }
      seen.withLock { $0.append(String(decoding: configuration.json, as: UTF8.self)) }
    }
    plugin.onShutdown { seen.withLock { $0.append("shutdown") } }
    let broker = try Broker()
    let worker = try NATSWorker(plugin: plugin, name: "p", url: broker.url, group: "g")
    try worker.start()
    defer { worker.close() }
    let host = try NATSHost(broker.url)
    let send = { (method: String, data: String) in
      try host.message(
        "nylon.plugin.p.lifecycle",
        WorkerMessage(
          requestID: .text("x"), sessionID: 0, phase: .zero, data: Array(data.utf8),
          timestampMilliseconds: 1, headers: [KeyValue(key: "method", value: method)]))?.action
    }
    #expect(try send("initialize", "{\"a\":1}") == .next)
    #expect(try send("initialize", "bad") == .error)
    #expect(try send("shutdown", "") == .next)
    #expect(try send("other", "") == .empty)
    #expect(seen.withLock { $0 } == ["", "{\"a\":1}", "shutdown"])
  }

  @Test("a reply that the broker would not carry becomes an error", arguments: kinds)
  func tooLarge(maxWorkers: Int) throws {
    let plugin = Plugin()
    plugin.addPhaseHandler("large") { phase in
      phase.responseBodyFilter { try $0.response.setBody([UInt8](repeating: 1, count: 2_000_000)) }
    }
    try withWorker(maxWorkers: maxWorkers, plugin: plugin) { host, _, _ in
      let reply = try host.request(
        .responseBodyFilter, plugin: "p", entry: nil, context: nil)
      #expect(reply?.action == .error)
      #expect(reply?.error?.contains("too many") == true)
    }
  }

  @Test("a worker serves again when its broker is back", arguments: kinds)
  func reconnects(maxWorkers: Int) throws {
    try withWorker(maxWorkers: maxWorkers) { host, _, broker in
      #expect(try host.request(.logging, plugin: "p", entry: "noop", context: nil)?.action == .next)
      broker.stop()
      try broker.start()
      var action: ReplyAction?
      let isAnswered = try eventually {
        let host = try NATSHost(broker.url)
        action = try host.request(.logging, plugin: "p", entry: "noop", context: nil)?.action
        return action != nil
      }
      #expect(isAnswered && action == .next)
    }
  }

  @Test("a worker that stops first answers its pending requests", arguments: kinds)
  func drains(maxWorkers: Int) throws {
    try withWorker(maxWorkers: maxWorkers) { host, worker, _ in
      let requests = try (0..<3000).map { index in
        try WorkerMessage(
          requestID: RequestID(high: 1, low: UInt64(index)), sessionID: 1, phase: .requestFilter,
          timestampMilliseconds: 1,
          headers: [KeyValue(key: "entry", value: "work"), KeyValue(key: "x", value: "y")]
        ).encoded()
      }
      // 100 µs each: most are still waiting when the worker is told to stop.
      let answered = host.burst("nylon.plugin.p.request_filter", requests) { worker.stop() }
      #expect(answered == 3000)
    }
  }

  @Test("replies that exceed every buffer still arrive", arguments: kinds)
  func largeReplies(maxWorkers: Int) throws {
    let plugin = Plugin()
    plugin.addPhaseHandler("large") { phase in
      phase.responseBodyFilter { try $0.response.setBody([UInt8](repeating: 7, count: 500_000)) }
    }
    try withWorker(maxWorkers: maxWorkers, plugin: plugin) { host, _, _ in
      let requests = try (0..<100).map { index in
        try WorkerMessage(
          requestID: RequestID(high: 1, low: UInt64(index)), sessionID: 1, phase: .responseBodyFilter,
          timestampMilliseconds: 1
        ).encoded()
      }
      // 50 MB of replies to one socket: the worker must wait for room, and the broker must still read.
      #expect(host.burst("nylon.plugin.p.response_body_filter", requests) {} == 100)
    }
  }

  @Test(
    "a worker that may not reconnect says that the connection is lost")
  func givesUp() throws {
    let broker = try Broker()
    var configuration = NATSConfiguration(name: "p", url: broker.url, group: "g")
    configuration.maxReconnects = 2
    configuration.reconnectWaitMilliseconds = 20
    let worker = try NATSWorker(plugin: Plugin(), configuration: configuration)
    try worker.start()
    broker.stop()
    #expect(throws: NATSWorkerError.connectionLost(servers: broker.url)) { try worker.wait() }
  }

  @Test("the environment of a started worker sets servers, group, credentials and TLS")
  func environment() {
    var configuration = NATSConfiguration(name: "p")
    configuration.tlsCAFile = "mine"
    configuration.apply(environment: ["NATS_TLS": "0", "NATS_CA": "", "NATS_SERVERS": " a, b"])
    #expect(
      configuration.servers == ["a", "b"] && configuration.tlsCAFile == "mine" && !configuration.tlsEnabled)
    let names = [
      "SERVERS", "GROUP", "TLS", "TOKEN", "USER", "PASSWORD", "CREDS", "NKEY", "CA", "CERT", "KEY",
    ]
    configuration.apply(
      environment: Dictionary(uniqueKeysWithValues: names.map { ("NATS_\($0)", "nats_\($0.lowercased())") }))
    #expect(configuration.tlsEnabled && configuration.queueGroup == "nats_group")
    #expect(configuration.token == "nats_token" && configuration.user == "nats_user")
    #expect(configuration.password == "nats_password" && configuration.credentialsFile == "nats_creds")
    configuration.apply(environment: ["NYLON_DIALECT": "stream-sdk", "NYLON_NIL_DATA": "1"])
    #expect(configuration.dialect == "stream-sdk" && configuration.writesNilData)
    #expect(configuration.nkeySeedFile == "nats_nkey" && configuration.tlsCAFile == "nats_ca")
    #expect(configuration.tlsCertificateFile == "nats_cert" && configuration.tlsKeyFile == "nats_key")
  }

  @Test("two workers of a group share the requests")
  func sharing() throws {
    let broker = try Broker()
    let counts = [Counter(), Counter()]
    let workers = try counts.map { counter in
      let plugin = Plugin()
      plugin.addPhaseHandler("count") { $0.logging { _ in counter.add() } }
      let worker = try NATSWorker(plugin: plugin, name: "p", url: broker.url, group: "g")
      try worker.start()
      return worker
    }
    let host = try NATSHost(broker.url)
    for _ in 0..<200 {
      #expect(try host.request(.logging, plugin: "p", entry: "count", context: nil)?.action == .next)
    }
    for worker in workers { worker.close() }
    #expect(counts[0].value + counts[1].value == 200)
    #expect(counts[0].value > 0 && counts[1].value > 0)
  }

  @Test("names that would change the subjects are refused before anything is connected")
  func badNames() {
    for (name, group) in [("a b", "g"), ("p", "g g"), ("p", ""), ("", "g")] {
      #expect(throws: NATSWorkerError.self) {
        try NATSWorker(plugin: Plugin(), name: name, url: "nats://127.0.0.1:1", group: group)
      }
    }
  }

  @Test("URLs are shown without user and password")
  func redaction() {
    #expect(NATSConfiguration.redacted("nats://u:p@h:4222") == "nats://h:4222")
    #expect(NATSConfiguration.redacted("tls://t0ken@h") == "tls://h")
    #expect(NATSConfiguration.redacted("u:p@@h:1") == "h:1")
    #expect(NATSConfiguration.redacted("nats://h:4222") == "nats://h:4222")
    #expect(NATSConfiguration.servers(of: " a , b,,") == ["a", "b"])
  }
}

/// A count that a handler adds to.
private final class Counter: Sendable {
  private let count = Atomic(0)
  func add() { count.add(1, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}
