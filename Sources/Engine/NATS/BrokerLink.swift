import Nylon
import Scenario

/// What all connections of a load thread are made from.
struct LinkSetup {
  let spec: NATSSpec
  /// The brokers' URLs. May hold secrets.
  let servers: [String]
  /// Subjects of the phases, in the order of the session's.
  let subjects: [UnsafeMutablePointer<CChar>]
  let replySubject: ReplySubject
  /// The load thread's epoll set.
  let epoll: Int32
  /// The thread's slots, and how many connections share them.
  let slotCount: Int
  let linkCount: Int
  /// Bytes of the longest request that sessions begin with.
  let longestRequest: Int
  /// The load thread's place, so that threads begin with different brokers.
  let lane: Int
}

/// One connection of a load thread to the broker; all calls come from that thread.
///
/// The transport is generic over it, so that the hot path calls it directly.
protocol BrokerLink {
  /// Its name in results.
  static var client: NATSClient { get }
  /// Connects and subscribes to the replies of its place; returns when the broker has agreed.
  init(place: Int, setup: LinkSetup) throws
  /// Publishes the request of a slot, or keeps it for when there is room.
  func publish(slot: Int, of transport: NATSTransport<Self>)
  /// Writes what waits.
  func flush(_ transport: NATSTransport<Self>)
  /// The socket is ready.
  func handle(_ events: UInt32, _ transport: NATSTransport<Self>)
  /// The attempt of a slot has ended: answered, refused or given up.
  func resolved(_ slot: Int, _ transport: NATSTransport<Self>)
  /// Waits for replies on all connections of the transport, at most until that time.
  static func wait(until time: UInt64, _ transport: NATSTransport<Self>)
  /// Bytes of a message, at most, as the broker says.
  var longestPayload: Int { get }
  /// What to tell people of the connection's life; empty when it was an ordinary one.
  var remarks: [String] { get }
  /// Closes the connection and gives memory back; no call may follow.
  func close()
}
