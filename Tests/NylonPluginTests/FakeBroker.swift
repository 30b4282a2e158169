import TestSupport
import CNats
import Foundation
import NylonPlugin
import Nylon

/// A real nats-server on a loopback port that it chooses itself, ended by its process id.
final class Broker {
  /// The same after a restart.
  private(set) var port: UInt16 = 0
  private var pid: pid_t = 0
  private let options: [String]
  private let folder = NSTemporaryDirectory() + "/nylon-bench-broker-\(UUID().uuidString)"
  var url: String { "nats://127.0.0.1:\(port)" }

  init(_ options: [String] = []) throws {
    self.options = options
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try start()
  }

  deinit {
    stop()
    try? FileManager.default.removeItem(atPath: folder)
  }

  func start() throws {
    let place = ["-a", "127.0.0.1", "-p", port == 0 ? "-1" : "\(port)", "--ports_file_dir", folder]
    pid = try spawn(["nats-server", "-l", "/dev/null"] + place + options).pid
    let isListening = eventually {
      let ports = try? String(contentsOfFile: "\(folder)/nats-server_\(pid).ports", encoding: .utf8)
      guard let ports, let found = ports.firstRange(of: "nats://127.0.0.1:"),
        let number = UInt16(ports[found.upperBound...].prefix { $0.isNumber })
      else { return false }
      port = number
      return true
    }
    guard isListening else { throw SpawnError(name: "nats-server") }
  }

  func stop() {
    guard pid > 0 else { return }
    kill(pid, SIGKILL)
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    pid = 0
  }
}

struct SpawnError: Error { let name: String }

/// Starts a program; its standard error is read from the descriptor.
func spawn(_ arguments: [String], environment: [String] = []) throws -> (pid: pid_t, errors: Int32) {
  var ends: [Int32] = [-1, -1]
  // A pipe would be inherited by what another test starts meanwhile, which would keep it open.
  let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
  guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw SpawnError(name: "socketpair") }
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
  posix_spawn_file_actions_addclose(&actions, ends[0])
  var argv = arguments.map { strdup($0) } + [nil]
  // Of our own, beside the path, only what tells a sanitizer how to look (scripts/sanitize).
  let own = ["PATH", "ASAN_OPTIONS", "TSAN_OPTIONS"].compactMap { (name: String) in
    getenv(name).map { "\(name)=\(String(cString: $0))" }
  }
  var envp = (own + environment).map { strdup($0) } + [nil]
  defer { for text in argv + envp { free(text) } }
  var pid: pid_t = 0
  let status = posix_spawnp(&pid, arguments[0], &actions, nil, &argv, &envp)
  close(ends[1])
  guard status == 0 else { throw SpawnError(name: arguments[0]) }
  return (pid, ends[0])
}

/// A host that sends requests through a broker and waits for each.
final class NATSHost {
  private let connection: OpaquePointer
  private var count: UInt64 = 0

  init(_ url: String) throws {
    var made: OpaquePointer?
    guard natsConnection_ConnectTo(&made, url) == NATS_OK, let made else {
      throw SpawnError(name: "connect to \(url)")
    }
    connection = made
  }

  deinit { natsConnection_Destroy(connection) }

  /// The reply's bytes; nil when none came.
  func raw(_ subject: String, _ bytes: [UInt8], timeoutMilliseconds: Int64 = 5000) -> [UInt8]? {
    var message: OpaquePointer?
    let status = natsConnection_Request(
      &message, connection, subject, bytes, Int32(bytes.count), timeoutMilliseconds)
    guard status == NATS_OK, let message else { return nil }
    defer { natsMsg_Destroy(message) }
    return [UInt8](
      UnsafeRawBufferPointer(
        start: natsMsg_GetData(message), count: Int(natsMsg_GetDataLength(message))))
  }

  /// Publishes requests without waiting, runs `meanwhile`, and gives how many were answered.
  func burst(_ subject: String, _ requests: [[UInt8]], _ meanwhile: () -> Void) -> Int {
    var subscription: OpaquePointer?
    natsConnection_SubscribeSync(&subscription, connection, "burst.inbox")
    defer { natsSubscription_Destroy(subscription) }
    for bytes in requests {
      natsConnection_PublishRequest(connection, subject, "burst.inbox", bytes, Int32(bytes.count))
    }
    natsConnection_Flush(connection)
    meanwhile()
    var count = 0
    var message: OpaquePointer?
    while natsSubscription_NextMsg(&message, subscription, 1000) == NATS_OK {
      if natsMsg_GetDataLength(message) > 0 { count += 1 }
      natsMsg_Destroy(message)
    }
    return count
  }

  func message(_ subject: String, _ request: WorkerMessage) throws -> WorkerMessage? {
    try raw(subject, request.encoded()).map { reply in
      try reply.withUnsafeBytes { try WorkerMessage(reply: $0) }
    }
  }

  func request(
    _ phase: Phase, plugin: String, entry: String?, context: HTTPContext?, method: UInt32? = nil
  ) throws -> WorkerMessage? {
    count += 1
    return try message(
      Subject(plugin: plugin).phase(phase),
      WorkerMessage(
        requestID: RequestID(high: 1, low: count), sessionID: UInt32(count), phase: phase,
        method: method, data: context?.encoded(), timestampMilliseconds: 1_761_000_000_000,
        headers: entry.map { [KeyValue(key: "entry", value: $0)] } ?? []))
  }

  /// Runs a session's phases; gives the context as the handlers left it.
  func session(plugin: String, entry: String, context: HTTPContext) throws -> (HTTPContext, [ReplyAction]) {
    var context = context
    var actions: [ReplyAction] = []
    for phase in Phase.session {
      guard let reply = try request(phase, plugin: plugin, entry: entry, context: context) else { break }
      actions.append(reply.action)
      if let data = reply.data {
        context = context.applying(try data.withUnsafeBytes { try HTTPContextChange(decoding: $0) })
      }
    }
    return (context, actions)
  }
}
