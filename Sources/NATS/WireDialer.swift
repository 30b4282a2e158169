import Foundation

/// Where a connection may go, and what it says there; used only while none is there.
package struct WireDialer {
  /// Complaints of the broker that are kept.
  private static let mostComplaints = 4

  /// The client's name, as the broker's monitoring shows it.
  let name: String
  /// The subscriptions' lines, each with its end.
  let subscriptions: String
  /// Nanoseconds that connecting and being greeted may take.
  let limitNanoseconds: UInt64
  /// Nanoseconds to wait after all brokers were tried, or a connection was lost.
  let restNanoseconds: UInt64
  private let servers: [BrokerServer]
  /// All addresses of all servers, the one to begin with first.
  private let targets: [(server: Int, address: Int)]
  private var next = 0
  private var server = 0
  /// What the broker said of itself, as far as it did.
  var info: BrokerInfo?
  /// TLS as the system has it, for brokers that require TLS without any settings for it.
  private var plainTLS: TLSContext?
  /// Why the last round of all servers failed: the one that tells most.
  private(set) var failure: BrokerError?
  /// What the broker complained of, each once.
  private(set) var complaints: [String] = []

  /// A dialer that begins with the server at place `first`; nothing here is left to chance.
  init(
    _ servers: [BrokerServer], first: Int, name: String, subscriptions: String, limitNanoseconds: UInt64,
    restNanoseconds: UInt64
  ) {
    self.servers = servers
    self.name = name
    self.subscriptions = subscriptions
    self.limitNanoseconds = limitNanoseconds
    self.restNanoseconds = restNanoseconds
    let all = servers.indices.flatMap { server in
      servers[server].addresses.indices.map { (server: server, address: $0) }
    }
    let first = first % max(1, servers.count)
    targets = all.filter { $0.server >= first } + all.filter { $0.server < first }
  }

  /// The server under way.
  var current: BrokerServer { servers[server] }

  /// The next address to try; nil when all were, and the round begins anew.
  mutating func nextAddress() -> (family: Int32, bytes: [UInt8])? {
    guard next < targets.count else {
      next = 0
      return nil
    }
    if next == 0 { failure = nil }
    let target = targets[next]
    next += 1
    server = target.server
    info = nil
    return current.addresses[target.address]
  }

  /// The next round begins with the first server.
  mutating func startOver() { next = 0 }

  /// Notes why the server under way did not take us.
  mutating func failed(_ failure: BrokerError) {
    if failure.kind != .silence || self.failure == nil { self.failure = failure }
  }

  /// Keeps what the broker says, for the error.
  mutating func complain(_ words: String) {
    let sentence = "the broker at \(current.shown): \(words)"
    if complaints.count < Self.mostComplaints, !complaints.contains(sentence) { complaints.append(sentence) }
  }

  /// The TLS settings for the server under way; nil when OpenSSL cannot be used.
  mutating func tlsContext() -> TLSContext? {
    if let context = current.tls { return context }
    if plainTLS == nil { plainTLS = try? TLSContext(NATSTLS()) }
    return plainTLS
  }
}

extension WirePiece {
  /// What the broker says, without its quotes.
  package var text: String {
    String(decoding: payload.prefix(300), as: UTF8.self).trimmingCharacters(
      in: CharacterSet(charactersIn: " '"))
  }

  /// The greeting in it; nil when it cannot be read.
  var info: BrokerInfo? { try? JSONDecoder().decode(BrokerInfo.self, from: Data(payload)) }
}
