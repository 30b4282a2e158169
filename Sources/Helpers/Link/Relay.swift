import Glibc
import NIOCore
import NIOPosix

/// One direction of the link, shared by all its connections: says when bytes arrive at the far end.
/// Belongs to one event loop.
final class Direction {
  /// What each byte is held back, ns.
  private let delay: Int64
  /// The delay is spread evenly from so much less to so much more, ns.
  private let jitter: Int64
  /// What a byte takes on the wire, ns; nil when the bandwidth has no limit.
  private let perByte: Double?
  /// When the wire has sent what it was given.
  private var wireFreeAt: Double = 0
  /// The state of the jitter's random numbers, so that a seed gives the same again.
  private var random: [UInt16]

  init(delay: Int64, jitter: Int64, perByte: Double?, seed: UInt64) {
    self.delay = delay
    self.jitter = jitter
    self.perByte = perByte
    random = [0x330e, UInt16(truncatingIfNeeded: seed), UInt16(truncatingIfNeeded: seed >> 16)]
  }

  /// When bytes that come now are due at the far end, ns of the monotonic clock.
  func due(bytes: Int) -> Int64 {
    var sent = monotonicNanoseconds()
    if let perByte {
      wireFreeAt = max(wireFreeAt, Double(sent)) + Double(bytes) * perByte
      sent = Int64(wireFreeAt.rounded(.up))
    }
    return sent + delay + (jitter > 0 ? Int64((2 * erand48(&random) - 1) * Double(jitter)) : 0)
  }
}

func monotonicNanoseconds() -> Int64 { Int64(NIODeadline.now().uptimeNanoseconds) }

/// The two directions of the link, and the connections across it. Belongs to one event loop.
final class Relay {
  /// From who connected to the upstream, and back.
  private let outward: Direction
  private let homeward: Direction
  /// The near ends of the connections.
  private var nearEnds: [ObjectIdentifier: Forwarder] = [:]
  /// Whether all bytes are swallowed.
  private(set) var isSilent = false

  init(outward: Direction, homeward: Direction) {
    self.outward = outward
    self.homeward = homeward
  }

  // MARK: Faults

  /// Resets all connections, both ways.
  func reset() {
    for end in nearEnds.values { end.cut() }
  }

  /// Swallows all bytes, ends of streams too, both ways, or no longer. A connection that lost something is reset then:
  /// its stream has a hole, and TCP would never have gone on behind one.
  func silence(_ on: Bool) {
    isSilent = on
    guard !on else { return }
    for end in nearEnds.values where end.hasHole || end.partner?.hasHole == true { end.cut() }
  }

  /// An end whose connection is over, both ways.
  func forget(_ end: Forwarder) {
    nearEnds[ObjectIdentifier(end)] = nil
    if let partner = end.partner { nearEnds[ObjectIdentifier(partner)] = nil }
  }

  // MARK: Waking in time

  /// A sleeping thread wakes some tens of µs after its timer. So it is woken so much early, and polls
  /// until the time has come, ns.
  private static let earlyNanoseconds: Int64 = 100_000
  /// The share of time that may be polled away: under load it would take the CPU from what is
  /// measured, and waits in queues are longer than a late timer there.
  private static let pollingShare = 0.25
  private static let greatestAllowance: Double = 10_000_000
  private var allowance: Double = 0
  private var allowanceTime: Int64 = 0

  /// When to wake for something that is due: early while polling is allowed.
  func wakingTime(for due: Int64, now: Int64) -> Int64 {
    let earned = Double(now - allowanceTime) * Self.pollingShare
    allowance = min(Self.greatestAllowance, allowance + earned)
    allowanceTime = now
    return allowance > 0 ? due - Self.earlyNanoseconds : due
  }

  /// Counts the time that was polled away since a moment.
  func hasPolled(since before: Int64) {
    allowance -= Double(monotonicNanoseconds() - before)
  }

  /// Listens on a free loopback port; the future has its number.
  static func listen(
    _ relay: NIOLoopBound<Relay>, on loop: any EventLoop, upstream: SocketAddress, name: String
  ) -> EventLoopFuture<Int> {
    ServerBootstrap(group: loop)
      .serverChannelOption(.backlog, value: 1024)
      .childChannelInitializer { client in
        client.eventLoop.makeCompletedFuture {
          try relay.value.accept(client, upstream: upstream, name: name)
        }
      }
      .bind(host: "127.0.0.1", port: 0)
      .map { $0.localAddress?.port ?? 0 }
  }

  /// Connects the upstream for a client, and forwards between the two.
  private func accept(_ client: any Channel, upstream: SocketAddress, name: String) throws {
    let near = Forwarder(relay: self, direction: outward)
    let far = Forwarder(relay: self, direction: homeward)
    near.partner = far
    far.partner = near
    nearEnds[ObjectIdentifier(near)] = near
    try client.pipeline.syncOperations.addHandler(near)
    let bound = NIOLoopBound(far, eventLoop: client.eventLoop)
    ClientBootstrap(group: client.eventLoop)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(bound.value)
        }
      }
      .connect(to: upstream)
      .assumeIsolated()
      .whenComplete { result in
        switch result {
        case .success:
          near.open()
          far.open()
        case .failure(let error):
          say("nylon-link: \(name) takes no connection: \(error)")
          near.refuse()
        }
      }
  }
}
