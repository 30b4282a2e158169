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
  /// All addresses of all servers, the one to begin with first.
  let targets: [(server: BrokerServer, family: Int32, bytes: [UInt8])]
  /// The place where a round begins, and how many were tried in it.
  private(set) var start = 0
  private(set) var tried = 0
  private(set) var place = 0
  /// What the broker said of itself, as far as it did.
  var info: BrokerInfo?
  /// TLS as the system has it, for brokers that require TLS without any settings for it.
  private(set) var plainTLS: TLSContext?
  /// Why the last round of all servers failed: the one that tells most.
  private(set) var failure: BrokerError?
  /// What the broker complained of, each once.
  private(set) var complaints: [String] = []

  var current: BrokerServer { targets[place].server }

  /// One for the same servers that begins behind the one under way.
  func successor(subscriptions: String) -> WireDialer {
    var dialer = WireDialer(
      name: name, subscriptions: subscriptions, limitNanoseconds: limitNanoseconds,
      restNanoseconds: restNanoseconds, targets: targets)
    (dialer.place, dialer.complaints) = (place, complaints)
    dialer.startBehind()
    return dialer
  }

  /// The next address to try; nil when all were, and the round begins anew.
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

  /// The next round begins behind the server under way, and comes to that one last.
  mutating func startBehind() { (start, tried) = ((place + 1) % max(1, targets.count), 0) }

  /// Whether there is another server than the one under way.
  var hasOthers: Bool { targets.contains { $0.server.address.shown != current.address.shown } }

  /// Notes why the server under way did not take us.
  mutating func failed(_ failure: BrokerError) {
    if failure.kind != .silence || self.failure == nil { self.failure = failure }
  }

  /// Keeps what the broker says, for the error.
  mutating func complain(_ words: String) {
    let sentence = "the broker at \(current.address.shown): \(words)"
    if complaints.count < Self.mostComplaints, !complaints.contains(sentence) { complaints.append(sentence) }
  }

  /// The TLS settings for the server under way; nil when OpenSSL cannot be used.
  mutating func tlsContext() -> TLSContext? {
    if let context = current.security.tls { return context }
    if plainTLS == nil { plainTLS = try? TLSContext(NATSTLS()) }
    return plainTLS
  }
}

extension WirePiece {
  /// What the broker says, without its quotes and without what could command the terminal that it is shown on.
  package var text: String {
    let words = String(decoding: payload.prefix(300), as: UTF8.self)
    let shown = words.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }
    return String(String.UnicodeScalarView(shown)).trimmingCharacters(in: CharacterSet(charactersIn: " '"))
  }

  /// The greeting in it; nil when it cannot be read.
  package var info: BrokerInfo? { try? JSONDecoder().decode(BrokerInfo.self, from: Data(payload)) }
}
