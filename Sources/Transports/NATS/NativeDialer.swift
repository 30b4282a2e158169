import Foundation
import Scenario

/// Where a native connection may go, and what it says there; used only while none is there.
final class NativeDialer {
  /// The id of the one subscription of a connection.
  static let subscription = 1
  /// Nanoseconds that connecting and being greeted may take.
  static let limitNanoseconds: UInt64 = 5_000_000_000
  /// Nanoseconds to wait after all brokers were tried, or a connection was lost.
  static let restNanoseconds: UInt64 = 100_000_000
  /// Complaints of the broker that are kept.
  private static let mostComplaints = 4

  let servers: [BrokerServer]
  /// `SUB` and `PING`.
  let subscribe: [UInt8]
  /// All addresses of all servers, the one to begin with first.
  private let targets: [(server: Int, address: Int)]
  private var next = 0
  /// The server under way.
  private(set) var server = 0
  /// What the broker said of itself, as far as it did.
  var info: BrokerInfo?
  /// Why the last round of all servers failed: the one that tells most.
  private(set) var failure: LinkFailure?
  /// What the broker complained of, each once.
  private(set) var complaints: [String] = []

  init(place: Int, setup: LinkSetup) throws(BrokerError) {
    let servers = try BrokerServer.all(setup.servers, auth: setup.spec.auth)
    self.servers = servers
    subscribe = Array(
      "SUB \(setup.replySubject.pattern(connection: place)) \(Self.subscription)\r\nPING\r\n".utf8)
    let all = servers.indices.flatMap { server in
      servers[server].addresses.indices.map { (server: server, address: $0) }
    }
    // Connections spread over the servers; nothing here is left to chance.
    let first = (setup.lane + place) % servers.count
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

  /// Keeps what the broker says, for people.
  func complain(_ words: String) {
    let sentence = "the broker at \(servers[server].shown): \(words)"
    if complaints.count < Self.mostComplaints, !complaints.contains(sentence) { complaints.append(sentence) }
  }

  /// The greeting in a piece; nil when it cannot be read.
  static func info(_ piece: WirePiece) -> BrokerInfo? {
    try? JSONDecoder().decode(BrokerInfo.self, from: Data(piece.payload))
  }
}

/// Why a broker did not take us.
struct LinkFailure: Error {
  let server: String
  let why: String
  let remedy: String
  /// Whether a broker said so, and not only nobody answered.
  let isAnswer: Bool
  /// Whether libnats might be taken.
  var needsLibrary = false

  /// The error for people.
  var error: BrokerError { BrokerError(server: server, why: why, remedy: remedy) }
}

extension WirePiece {
  /// What the broker says, without its quotes.
  var text: String {
    String(decoding: payload.prefix(300), as: UTF8.self).trimmingCharacters(
      in: CharacterSet(charactersIn: " '"))
  }
}
