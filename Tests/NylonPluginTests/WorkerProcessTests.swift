import TestSupport
import Glibc
import Nylon
import Testing

/// The built command, beside the tests.
private func workerPath() -> String {
  var buffer = [CChar](repeating: 0, count: 4096)
  _ = readlink("/proc/self/exe", &buffer, buffer.count - 1)
  let path = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  return "/" + path.split(separator: "/").dropLast().joined(separator: "/") + "/nylon-worker"
}

/// What a worker process says on standard error, line by line.
final class Worker {
  let pid: pid_t
  private let errors: Int32
  private(set) var text = ""

  init(_ arguments: [String], environment: [String] = []) throws {
    (pid, errors) = try spawn([workerPath()] + arguments, environment: environment)
  }

  deinit { close(errors) }

  /// Reads until the text arrived, or the process ended.
  func wait(for part: String) {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while !text.contains(part) {
      let count = read(errors, &buffer, buffer.count)
      guard count > 0 else { return }
      text += String(decoding: buffer[..<count], as: UTF8.self)
    }
  }

  /// Reads the rest; gives the exit code, or minus the signal.
  func exitCode() -> Int32 {
    wait(for: "\u{0}")
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    return status & 0x7f == 0 ? (status >> 8) & 0xff : -(status & 0x7f)
  }
}

@Suite("The worker process", .serialized, .thread("worker"))
struct WorkerProcessTests {
  @Test("says when it is ready, serves, and ends with 0 on a signal", arguments: [SIGTERM, SIGINT])
  func serves(signal: Int32) throws {
    let broker = try Broker()
    let secret = "nats://someone:s3cret@127.0.0.1:\(broker.port)"
    let worker = try Worker(
      ["--name", "p", "--group", "team"], environment: ["NATS_SERVERS=\(secret)", "NATS_GROUP=other"])
    worker.wait(for: "Plugin p started successfully\n")
    let reply = try NATSHost(broker.url).request(.logging, plugin: "p", entry: "noop", context: nil)
    #expect(reply?.action == .next)
    kill(worker.pid, signal)
    #expect(worker.exitCode() == 0)
    #expect(
      worker.text.contains(
        "[NatsPlugin] Subscribed to nylon.plugin.p.request_filter with queue group team\n"))
    #expect(!worker.text.contains("s3cret"))
  }

  @Test("leaves pending requests unanswered when SIGUSR1 asks it to close at once", arguments: ["1", "2"])
  func closes(maxWorkers: String) throws {
    let broker = try Broker()
    let worker = try Worker(
      ["--name", "p", "--servers", broker.url, "--max-workers", maxWorkers],
      environment: ["NYLON_PLUGIN_CONFIG={\"work_us\": 20000}"])
    worker.wait(for: "started successfully\n")
    let requests = try (0..<200).map { index in
      try WorkerMessage(
        requestID: RequestID(high: 1, low: UInt64(index)), sessionID: 1, phase: .requestFilter,
        timestampMilliseconds: 1, headers: [KeyValue(key: "entry", value: "work")]
      ).encoded()
    }
    // 20 ms each: most are still waiting then.
    let answered = try NATSHost(broker.url).burst("nylon.plugin.p.request_filter", requests) {
      kill(worker.pid, SIGUSR1)
    }
    #expect(answered < requests.count)
    #expect(worker.exitCode() == 0)
    #expect(!worker.text.contains("gave up draining"))
  }

  @Test("takes the group from the environment")
  func environmentGroup() throws {
    let broker = try Broker()
    let worker = try Worker(
      ["--name", "p", "--servers", broker.url, "--max-workers", "2"],
      environment: ["NATS_GROUP=other", "NYLON_PLUGIN_CONFIG={\"work_us\": 1}"])
    worker.wait(for: "started successfully\n")
    kill(worker.pid, SIGTERM)
    #expect(worker.exitCode() == 0)
    #expect(worker.text.contains("with queue group other\n"))
  }

  @Test("takes its secrets from the environment, and ends with 69 when they are refused")
  func secrets() throws {
    for (options, right) in [
      (["--auth", "t0ken"], ["NATS_TOKEN=t0ken"]),
      (["--user", "me", "--pass", "s3cret"], ["NATS_USER=me", "NATS_PASSWORD=s3cret"]),
    ] {
      let broker = try Broker(options)
      let arguments = ["--name", "p", "--servers", broker.url]
      let accepted = try Worker(arguments, environment: right)
      accepted.wait(for: "started successfully\n")
      kill(accepted.pid, SIGTERM)
      #expect(accepted.exitCode() == 0)
      let refused = try Worker(arguments, environment: ["NATS_USER=me", "NATS_PASSWORD=wr0ng"])
      #expect(refused.exitCode() == 69)
      #expect(refused.text.contains("refused the credentials"))
      #expect(!(accepted.text + refused.text).contains("s3cret"))
      #expect(!refused.text.contains("wr0ng"))
    }
  }

  @Test("ends with 69 when no broker answers, and says where it looked")
  func noBroker() throws {
    let worker = try Worker(["--name", "p", "--servers", "nats://u:s3cret@127.0.0.1:1"])
    #expect(worker.exitCode() == 69)
    #expect(worker.text.contains("127.0.0.1:1"))
    #expect(!worker.text.contains("s3cret"))
  }

  @Test(
    "ends with 64 on wrong usage",
    arguments: [
      [], ["--name", "a b"], ["--name", "p", "--max-workers", "0"], ["--name", "p", "--nope"],
      ["--name", "p", "--config", "no json"], ["--name", "p", "--creds-file", "/does/not/exist"],
      ["--name", "p", "--tls-cert", "/etc/hostname"], ["--name", "p", "--dialect", "replay"],
    ])
  func usage(arguments: [String]) throws {
    let worker = try Worker(arguments)
    #expect(worker.exitCode() == 64)
    #expect(!worker.text.isEmpty)
  }

  /// A worker that gets in with this environment; it has answered nothing wrong until it is asked to end.
  private func expectServing(_ environment: [String], _ arguments: [String] = []) throws {
    let worker = try Worker(["--name", "p"] + arguments, environment: environment)
    worker.wait(for: "started successfully\n")
    #expect(worker.text.contains("started successfully\n"), "\(worker.text)")
    kill(worker.pid, SIGTERM)
    #expect(worker.exitCode() == 0, "\(worker.text)")
  }

  /// A worker that ends with that code and says these words.
  private func expectRefused(_ code: Int32, _ words: String, _ environment: [String]) throws {
    let worker = try Worker(["--name", "p"], environment: environment)
    #expect(worker.exitCode() == code)
    #expect(worker.text.contains(words), "\(worker.text)")
  }

  @Test("speaks TLS as its environment says, and ends with 69 where either side is not trusted")
  func tls() throws {
    let broker = try SecureBroker()
    let authority = try Authority("ca", in: broker.folder)
    try broker.start(SecureBroker.tls(try authority.issue("server"), authority: authority))
    let own = try authority.issue("client")
    let stranger = try Authority("stranger", in: broker.folder)
    let servers = "NATS_SERVERS=\(broker.url())"
    let pair = ["NATS_CERT=\(own.certificate)", "NATS_KEY=\(own.key)"]
    try expectServing([servers, "NATS_TLS=1", "NATS_CA=\(authority.file)"] + pair)
    try expectServing([servers, "NATS_CA=\(stranger.file)"] + pair, ["--tls-ca", authority.file])
    try expectRefused(69, "is not trusted", [servers, "NATS_CA=\(stranger.file)"] + pair)
    try expectRefused(69, "the broker refused the TLS connection", [servers, "NATS_CA=\(authority.file)"])
    try expectRefused(64, "'/no/such' (NATS_CA)", [servers, "NATS_CA=/no/such"] + pair)
  }

  @Test("signs with an nkey or a credentials file of its environment")
  func signing() throws {
    let user = Identity(.user)
    let broker = try SecureBroker()
    try broker.start("authorization { users: [ { nkey: \(user.name) } ] }")
    let seed = try broker.write(user.seed, as: "user.nk")
    let other = try broker.write(Identity(.user).seed, as: "other.nk")
    let operated = try Operated()
    let managed = try SecureBroker()
    try managed.start(operated.configuration)
    let credentials = try managed.write(try operated.credentials(), as: "user.creds")
    try expectServing(["NATS_SERVERS=\(broker.url())", "NATS_NKEY=\(seed)"])
    try expectServing(["NATS_SERVERS=\(managed.url())", "NATS_CREDS=\(credentials)"])
    try expectServing(["NATS_SERVERS=\(broker.url())", "NATS_CREDS=\(credentials)"], ["--nkey-file", seed])
    try expectRefused(
      69, "refused the credentials", ["NATS_SERVERS=\(broker.url())", "NATS_NKEY=\(other)"])
    try expectRefused(
      64, "'\(other)' (NATS_CREDS)", ["NATS_SERVERS=\(managed.url())", "NATS_CREDS=\(other)"])
  }

  @Test("serves over TLS again when its broker comes back")
  func reconnects() throws {
    let broker = try SecureBroker()
    let authority = try Authority("ca", in: broker.folder)
    try broker.start(SecureBroker.tls(try authority.issue("server")))
    let worker = try Worker(
      ["--name", "p"], environment: ["NATS_SERVERS=\(broker.url())", "NATS_CA=\(authority.file)"])
    worker.wait(for: "started successfully\n")
    try broker.restart()
    worker.wait(for: "Reconnected to NATS")
    #expect(worker.text.contains("Reconnected to NATS"), "\(worker.text)")
    kill(worker.pid, SIGTERM)
    #expect(worker.exitCode() == 0)
  }
}
