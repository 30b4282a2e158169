import BrokerSecurity
import CNats
import Glibc
import NylonPlugin
import Nylon

/// A real nats-server on a free loopback port, ended by its process id.
final class Broker {
  let port: UInt16
  private var pid: pid_t = 0
  var url: String { "nats://127.0.0.1:\(port)" }

  private let options: [String]

  init(_ options: [String] = []) throws {
    self.options = options
    port = try Broker.freePort()
    try start()
  }

  deinit { stop() }

  func start() throws {
    pid = try spawn(["nats-server", "-a", "127.0.0.1", "-p", "\(port)", "-l", "/dev/null"] + options).pid
    guard eventually({ isListening }) else { throw SpawnError(name: "nats-server") }
  }

  func stop() {
    guard pid > 0 else { return }
    kill(pid, SIGKILL)
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    pid = 0
  }

  private var isListening: Bool {
    let end = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(end) }
    return Broker.withAddress(port) { connect(end, $0, $1) } == 0
  }

  private static func freePort() throws -> UInt16 {
    let end = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(end) }
    guard withAddress(0, { bind(end, $0, $1) }) == 0 else { throw SpawnError(name: "bind") }
    var address = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(end, $0, &size) }
    }
    return UInt16(bigEndian: address.sin_port)
  }

  private static func withAddress(
    _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) -> Int32 {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }
}

struct SpawnError: Error { let name: String }

/// Starts a program with its standard error in a pipe.
func spawn(_ arguments: [String], environment: [String] = []) throws -> (pid: pid_t, errors: Int32) {
  var ends: [Int32] = [-1, -1]
  guard pipe(&ends) == 0 else { throw SpawnError(name: "pipe") }
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
  posix_spawn_file_actions_addclose(&actions, ends[0])
  var argv = arguments.map { strdup($0) } + [nil]
  let path = "PATH=" + (getenv("PATH").map { String(cString: $0) } ?? "/usr/bin")
  var envp = ([path] + environment).map { strdup($0) } + [nil]
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

  func message(_ subject: String, _ request: RequestMessage) throws -> ResponseMessage? {
    try raw(subject, request.encoded()).map { reply in
      try reply.withUnsafeBytes { try ResponseMessage(decoding: $0) }
    }
  }

  func request(
    _ phase: Phase, plugin: String, entry: String?, context: HTTPContext?, method: UInt32? = nil
  ) throws -> ResponseMessage? {
    count += 1
    return try message(
      Subject(plugin: plugin).phase(phase),
      RequestMessage(
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
      if reply.action == .end, phase == .requestFilter { break }
    }
    return (context, actions)
  }
}
