import Foundation

/// The addresses that a connection tries and what it sends there; used only while it is not connected.
package struct WireDialer {
  /// The maximum number of broker complaints that are kept.
  private static let mostComplaints = 4

  /// The client name that the broker's monitoring shows.
  let name: String
  /// The `SUB` lines, each with its CR LF.
  let subscriptions: String
  /// The time limit for connecting and the handshake, in nanoseconds.
  let limitNanoseconds: UInt64
  /// The wait after all brokers were tried or a connection was lost, in nanoseconds.
  let restNanoseconds: UInt64
  /// All addresses of all servers, starting with the preferred one.
  let targets: [(server: BrokerServer, family: Int32, bytes: [UInt8])]
  /// The index where a round begins, and the number of addresses tried in it.
  private(set) var start = 0
  private(set) var tried = 0
  private(set) var place = 0
  /// The broker's last `INFO`; nil before it arrived.
  var info: BrokerInfo?
  /// A TLS context with the system's defaults, for brokers that require TLS without settings for it.
  private(set) var plainTLS: TLSContext?
  /// The most informative failure of the last round over all servers.
  private(set) var failure: BrokerError?
  /// The distinct complaints of the broker.
  private(set) var complaints: [String] = []

  var current: BrokerServer { targets[place].server }

  /// Returns a dialer for the same servers that starts after the current one.
  func successor(subscriptions: String) -> WireDialer {
    var dialer = WireDialer(
      name: name, subscriptions: subscriptions, limitNanoseconds: limitNanoseconds,
      restNanoseconds: restNanoseconds, targets: targets)
    (dialer.place, dialer.complaints) = (place, complaints)
    dialer.startBehind()
    return dialer
  }

  /// The next address to try; nil when all were tried, after which a new round begins.
  mutating func nextAddress() -> (family: Int32, bytes: [UInt8])? {
    guard tried < targets.count else {
      tried = 0
      return nil
    }
    if tried == 0 { failure = nil }
    place = (start + tried) % targets.count
    tried += 1
    info = nil
    return (targets[place].family, targets[place].bytes)
  }

  /// Makes the next round start after the current server and try that one last.
  mutating func startBehind() { (start, tried) = ((place + 1) % max(1, targets.count), 0) }

  /// Whether there is a server other than the current one.
  var hasOthers: Bool { targets.contains { $0.server.address.shown != current.address.shown } }

  /// Records why the connection to the current server failed.
  mutating func failed(_ failure: BrokerError) {
    if failure.kind != .silence || self.failure == nil { self.failure = failure }
  }

  /// Keeps the broker's complaint for error messages.
  mutating func complain(_ words: String) {
    let sentence = "the broker at \(current.address.shown): \(words)"
    if complaints.count < Self.mostComplaints, !complaints.contains(sentence) { complaints.append(sentence) }
  }

  /// The TLS settings for the current server; nil when OpenSSL cannot be used.
  mutating func tlsContext() -> TLSContext? {
    if let context = current.security.tls { return context }
    if plainTLS == nil { plainTLS = try? TLSContext(NATSTLS()) }
    return plainTLS
  }
}

extension WirePiece {
  /// The broker's text without quotes and without control characters, which could affect a terminal.
  package var text: String {
    let words = String(decoding: payload.prefix(300), as: UTF8.self)
    let shown = words.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }
    return String(String.UnicodeScalarView(shown)).trimmingCharacters(in: CharacterSet(charactersIn: " '"))
  }

  /// The decoded `INFO`; nil when it cannot be parsed.
  package var info: BrokerInfo? { try? JSONDecoder().decode(BrokerInfo.self, from: Data(payload)) }
}
