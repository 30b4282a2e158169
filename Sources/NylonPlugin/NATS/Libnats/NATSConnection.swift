import CNats
import Glibc
import NATS
import Nylon
import Synchronization

/// What libnats reports while a connection lives. libnats gets a reference that it keeps.
final class NATSEvents: Sendable {
  let servers: String
  let onClosed: @Sendable () -> Void
  private let errors = Atomic<Int>(0)
  private let isOver = Atomic<Bool>(false)

  init(servers: String, onClosed: @escaping @Sendable () -> Void) {
    self.servers = servers
    self.onClosed = onClosed
  }

  /// From here on the worker closes the connection itself: no news.
  func end() { isOver.store(true, ordering: .releasing) }

  func disconnected() {
    if !isOver.load(ordering: .acquiring) { logLine("Disconnected from NATS: \(servers)") }
  }

  static func from(_ closure: UnsafeMutableRawPointer?) -> NATSEvents? {
    closure.map { Unmanaged<NATSEvents>.fromOpaque($0).takeUnretainedValue() }
  }

  func asynchronousError(_ status: natsStatus) {
    // One slow minute must not fill the disk.
    let number = errors.add(1, ordering: .relaxed).newValue
    if number <= 10 { logLine("error: \(NATSConnection.text(status))") }
  }
}

/// Options and connection of a worker, made from its configuration.
enum NATSConnection {
  /// libnats' word for a status: it has no addresses and no secrets in it.
  static func text(_ status: natsStatus) -> String {
    natsStatus_GetText(status).map { String(cString: $0) } ?? "status \(status.rawValue)"
  }

  static func connect(
    _ configuration: NATSConfiguration, loop: NATSLoop, events: NATSEvents
  ) throws(NATSWorkerError) -> NATSHandle {
    var created: OpaquePointer?
    guard natsOptions_Create(&created) == NATS_OK, let options = created else {
      throw .failed(step: "make the options", reason: "out of memory")
    }
    defer { natsOptions_Destroy(options) }
    try setServers(configuration, options)
    try setSecurity(configuration, options)
    try setBehaviour(configuration, options, loop: loop, events: events)
    var connection: OpaquePointer?
    let status = natsConnection_Connect(&connection, options)
    guard status == NATS_OK, let connection else {
      let servers = configuration.redactedServers
      if status == NATS_CONNECTION_AUTH_FAILED { throw .refused(servers: servers) }
      throw .noBroker(servers: servers, reason: text(status))
    }
    return NATSHandle(pointer: connection)
  }

  /// Sets one option, and names it when libnats refuses the value.
  private static func set(_ key: String, _ status: natsStatus) throws(NATSWorkerError) {
    guard status == NATS_OK else {
      throw .badOption(key: key, reason: "refused (\(text(status))); check the value or the file")
    }
  }

  private static func setServers(
    _ configuration: NATSConfiguration, _ options: OpaquePointer
  ) throws(NATSWorkerError) {
    guard !configuration.servers.isEmpty else {
      throw .badOption(key: "servers", reason: "is empty; name a URL such as nats://127.0.0.1:4222")
    }
    var urls = configuration.servers.map { UnsafePointer(strdup($0)) }
    defer { for url in urls { free(UnsafeMutablePointer(mutating: url)) } }
    try set("servers", natsOptions_SetServers(options, &urls, Int32(urls.count)))
  }

  private static func setSecurity(
    _ configuration: NATSConfiguration, _ options: OpaquePointer
  ) throws(NATSWorkerError) {
    if let token = configuration.token { try set("token", natsOptions_SetToken(options, token)) }
    if let user = configuration.user {
      try set("user", natsOptions_SetUserInfo(options, user, configuration.password ?? ""))
    }
    // The files are checked as the native client does: libnats says "Error" for one that is not there.
    _ = try configuration.security()
    if let file = configuration.credentialsFile {
      try set("creds-file", natsOptions_SetUserCredentialsFromFiles(options, file, nil))
    }
    if let file = configuration.nkeySeedFile {
      let key: NKey
      do throws(SecurityFileError) {
        key = try NKey(seedFile: file)
      } catch {
        throw .badFile(error)
      }
      try set("nkey-file", natsOptions_SetNKeyFromSeed(options, key.publicText, file))
    }
    try setTLS(configuration, options)
  }

  private static func setTLS(
    _ configuration: NATSConfiguration, _ options: OpaquePointer
  ) throws(NATSWorkerError) {
    guard configuration.usesTLS else { return }
    if let file = configuration.tlsCAFile {
      try set("tls-ca", natsOptions_LoadCATrustedCertificates(options, file))
    }
    if let certificate = configuration.tlsCertificateFile, let key = configuration.tlsKeyFile {
      try set("tls-cert", natsOptions_LoadCertificatesChain(options, certificate, key))
    }
    try set("tls", natsOptions_SetSecure(options, true))
  }

  private static func setBehaviour(
    _ configuration: NATSConfiguration, _ options: OpaquePointer, loop: NATSLoop, events: NATSEvents
  ) throws(NATSWorkerError) {
    try set("name", natsOptions_SetName(options, configuration.name))
    let timeout = Int64(max(1, configuration.connectTimeoutMilliseconds))
    try set("connect timeout", natsOptions_SetTimeout(options, timeout))
    let reconnects = Int32(clamping: configuration.maxReconnects)
    try set("max reconnects", natsOptions_SetMaxReconnect(options, reconnects))
    let wait = Int64(max(1, configuration.reconnectWaitMilliseconds))
    try set("reconnect wait", natsOptions_SetReconnectWait(options, wait))
    // Every publish asks the loop for a write at once, instead of waiting for the flusher.
    try set("send asap", natsOptions_SetSendAsap(options, true))
    try set("event loop", loop.install(in: options))
    try setCallbacks(options, events)
  }

  private static func setCallbacks(
    _ options: OpaquePointer, _ events: NATSEvents
  ) throws(NATSWorkerError) {
    // Kept for ever, a few bytes per connection: libnats may call after the connection is closed.
    let closure = Unmanaged.passRetained(events).toOpaque()
    try set(
      "callbacks",
      natsOptions_SetErrorHandler(
        options, { _, _, status, closure in NATSEvents.from(closure)?.asynchronousError(status) },
        closure))
    try set(
      "callbacks",
      natsOptions_SetDisconnectedCB(
        options, { _, closure in NATSEvents.from(closure)?.disconnected() }, closure))
    try set(
      "callbacks",
      natsOptions_SetReconnectedCB(
        options,
        { connection, _ in
          logLine("Reconnected to NATS: \(NATSConnection.connectedURL(connection))")
        }, closure))
    try set(
      "callbacks",
      natsOptions_SetClosedCB(options, { _, closure in NATSEvents.from(closure)?.onClosed() }, closure))
  }

  /// The URL that the connection has now, for people.
  static func connectedURL(_ connection: OpaquePointer?) -> String {
    var buffer = [CChar](repeating: 0, count: 1024)
    guard let connection,
      natsConnection_GetConnectedUrl(connection, &buffer, buffer.count) == NATS_OK
    else { return "?" }
    return NATSConfiguration.redacted(
      String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }
}
