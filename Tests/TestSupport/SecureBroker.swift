import Foundation

/// A real nats-server with the test's configuration, in its own folder.
public final class SecureBroker {
  /// Where the test's files lie; removed with this object.
  public let folder: String
  /// Where the broker listens; the same after `restart`.
  public private(set) var port: UInt16 = 0
  private var process: Process?
  private var log: String { folder + "/broker.log" }

  /// No broker yet, only the folder.
  public init() throws {
    folder = NSTemporaryDirectory() + "/nylon-bench-secure-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit {
    stop()
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// Writes a file into the folder; its path.
  public func write(_ text: String, as name: String) throws -> String {
    let path = "\(folder)/\(name)"
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  /// Starts the broker with these lines of configuration and waits until it listens, on its earlier port if it had one.
  public func start(_ configuration: String) throws {
    let listen = "listen: \"127.0.0.1:\(port == 0 ? -1 : Int(port))\"\nlog_file: \"\(log)\"\n"
    _ = try write(listen + configuration, as: "broker.conf")
    try? FileManager.default.removeItem(atPath: log)
    try run()
  }

  /// Kills the broker, and starts it again on the same port.
  public func restart() throws {
    stop()
    let path = folder + "/broker.conf"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    try text.replacingOccurrences(of: "127.0.0.1:-1", with: "127.0.0.1:\(port)")
      .write(toFile: path, atomically: true, encoding: .utf8)
    try? FileManager.default.removeItem(atPath: log)
    try run()
  }

  private func run() throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["nats-server", "-c", folder + "/broker.conf"]
    process.environment = ["PATH": "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin"]
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.runAlone()
    self.process = process
    var words = ""
    let isReady = eventually {
      words = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
      return words.contains("Server is ready") || !process.isRunning
    }
    guard isReady, let found = words.firstRange(of: "client connections on 127.0.0.1:"),
      let listens = UInt16(words[found.upperBound...].prefix { $0.isNumber })
    else { throw NotStarted(words: words) }
    port = listens
  }

  /// Kills the broker.
  public func stop() {
    guard let process else { return }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    self.process = nil
  }

  /// Its URL under that name.
  public func url(_ host: String = "127.0.0.1", scheme: String = "nats") -> String {
    "\(scheme)://\(host):\(port)"
  }

  /// The configuration of a server's certificate; `verify` also wants one from each client.
  public static func tls(_ pair: Authority.Pair, authority: Authority? = nil) -> String {
    let clients = authority.map { ", ca_file: \"\($0.file)\", verify: true" } ?? ""
    return "tls: { cert_file: \"\(pair.certificate)\", key_file: \"\(pair.key)\"\(clients), timeout: 5 }\n"
  }

  /// The broker did not start.
  struct NotStarted: Error { let words: String }
}
