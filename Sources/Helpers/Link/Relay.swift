import NIOCore
import NIOPosix

/// The two directions of the link, and the connections across it. Belongs to one event loop.
final class Relay {
  private var outward: Lane
  private var homeward: Lane

  init(shape: LinkShape) {
    outward = Lane(shape: shape, salt: 0)
    homeward = Lane(shape: shape, salt: 0x5bd1_e995)
  }

  /// A way through the link.
  enum Direction {
    /// From who connected to the upstream.
    case outward
    /// Back.
    case homeward
  }

  /// When bytes that come now are due at the far end.
  func due(bytes: Int, _ direction: Direction) -> Int64 {
    let now = Int64(NIODeadline.now().uptimeNanoseconds)
    switch direction {
    case .outward: return outward.due(bytes: bytes, cameAt: now)
    case .homeward: return homeward.due(bytes: bytes, cameAt: now)
    }
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
    allowance -= Double(Int64(NIODeadline.now().uptimeNanoseconds) - before)
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
    let near = Forwarder(relay: self, direction: .outward)
    let far = Forwarder(relay: self, direction: .homeward)
    near.partner = far
    far.partner = near
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
