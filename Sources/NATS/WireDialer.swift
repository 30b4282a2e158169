import Foundation

/// What a connection says of itself, and how patient it is.
package struct WireSettings: Sendable {
  /// The client's name, as the broker's monitoring shows it.
  package var name: String
  /// The subscriptions' lines, each with its end.
  package var subscriptions: [UInt8]
  /// Nanoseconds that connecting and being greeted may take.
  package var limitNanoseconds: UInt64
  /// Nanoseconds to wait after all brokers were tried, or a connection was lost.
  package var restNanoseconds: UInt64

  /// Settings.
  package init(
    name: String, subscriptions: [UInt8], limitNanoseconds: UInt64 = 5_000_000_000,
    restNanoseconds: UInt64 = 100_000_000
  ) {
    self.name = name
    self.subscriptions = subscriptions
    self.limitNanoseconds = limitNanoseconds
    self.restNanoseconds = restNanoseconds
  }
}

/// Where a connection may go, and what it says there; used only while none is there.
package final class WireDialer {
  /// Complaints of the broker that are kept.
  private static let mostComplaints = 4

  let servers: [BrokerServer]
  let settings: WireSettings
  /// All addresses of all servers, the one to begin with first.
  private let targets: [(server: Int, address: Int)]
  private var next = 0
  /// The server under way.
  private(set) var server = 0
  /// What the broker said of itself, as far as it did.
  var info: BrokerInfo?
  /// TLS as the system has it, for brokers that require TLS without any settings for it.
  private var plainTLS: TLSContext?
  /// Why the last round of all servers failed: the one that tells most.
  private(set) var failure: LinkFailure?
  /// What the broker complained of, each once.
  package private(set) var complaints: [String] = []

  /// A dialer that begins with the server at place `first`; nothing here is left to chance.
  init(_ servers: [BrokerServer], first: Int, settings: WireSettings) {
    self.servers = servers
    self.settings = settings
    let all = servers.indices.flatMap { server in
      servers[server].addresses.indices.map { (server: server, address: $0) }
    }
    let first = first % max(1, servers.count)
    targets = all.filter { $0.server >= first } + all.filter { $0.server < first }
  }

  /// The next address to try; nil when all were, and the round begins anew.
  func nextAddress() -> (family: Int32, bytes: [UInt8])? {
    guard next < targets.count else {
      next = 0
      return nil
    }
    if next == 0 { failure = nil }
    let target = targets[next]
    next += 1
    server = target.server
    info = nil
    return servers[target.server].addresses[target.address]
  }

  /// The next round begins with the first server.
  func startOver() { next = 0 }

  /// Notes why the server under way did not take us.
  func failed(_ failure: LinkFailure) {
    if failure.isAnswer || self.failure == nil { self.failure = failure }
  }

  /// Keeps what the broker says, for the error.
  package func complain(_ words: String) {
    let sentence = "the broker at \(servers[server].shown): \(words)"
    if complaints.count < Self.mostComplaints, !complaints.contains(sentence) { complaints.append(sentence) }
  }

  /// The TLS settings for a server; nil when OpenSSL cannot be used.
  func tlsContext(of server: BrokerServer) -> TLSContext? {
    if let context = server.tls { return context }
    if plainTLS == nil { plainTLS = try? TLSContext(NATSTLS()) }
    return plainTLS
  }

  /// The greeting in a piece; nil when it cannot be read.
  static func info(_ piece: WirePiece) -> BrokerInfo? {
    try? JSONDecoder().decode(BrokerInfo.self, from: Data(piece.payload))
  }
}

/// Why a broker did not take us.
package struct LinkFailure: Error {
  /// The broker's address without user and password.
  package let server: String
  /// What it or the system says.
  package let why: String
  /// What to do about it.
  package let remedy: String
  /// What kind of failure it is.
  package let kind: Kind
  /// How a broker puts it that does not take the credentials; empty for other failures.
  package var words = ""

  /// The kinds of failures.
  package enum Kind: Sendable {
    /// Nobody answers, or not in time.
    case silence
    /// Whoever answers does not speak the protocol.
    case noBroker
    /// The broker does not take the credentials.
    case credentials
    /// One side does not accept the other's TLS.
    case tls
  }

  /// Whether somebody answered.
  var isAnswer: Bool { kind != .silence }

  /// The error that names the broker and a remedy.
  package var error: BrokerError { BrokerError(server: server, why: why, remedy: remedy) }
}

extension WirePiece {
  /// What the broker says, without its quotes.
  package var text: String {
    String(decoding: payload.prefix(300), as: UTF8.self).trimmingCharacters(
      in: CharacterSet(charactersIn: " '"))
  }
}
