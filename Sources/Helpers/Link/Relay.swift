import Glibc

/// One direction of the link, shared by all its connections: computes when bytes arrive at the far end.
/// Belongs to one event loop.
final class Direction {
  /// ns.
  private let delay: Int64
  /// The largest deviation from the delay, evenly distributed, ns.
  private let jitter: Int64
  /// The time to send a byte, ns; nil when the bandwidth has no limit.
  private let perByte: Double?
  /// When all earlier bytes have been sent (monotonic clock, ns).
  private var wireFreeAt: Double = 0
  /// The state of the jitter's random numbers, so that a seed repeats them.
  private var random: [UInt16]

  init(delay: Int64, jitter: Int64, perByte: Double?, seed: UInt64) {
    self.delay = delay
    self.jitter = jitter
    self.perByte = perByte
    random = [0x330e, UInt16(truncatingIfNeeded: seed), UInt16(truncatingIfNeeded: seed >> 16)]
  }

  /// When bytes that arrive now are due at the far end, ns of the monotonic clock.
  func due(bytes: Int) -> Int64 {
    var sent = monotonicNanoseconds()
    if let perByte {
      wireFreeAt = max(wireFreeAt, Double(sent)) + Double(bytes) * perByte
      sent = Int64(wireFreeAt.rounded(.up))
    }
    return sent + delay + (jitter > 0 ? Int64((2 * erand48(&random) - 1) * Double(jitter)) : 0)
  }
}

/// The two directions of the link, and the connections across it. Belongs to one event loop.
final class Relay {
  let loop: EventLoop
  /// From the client to the upstream, and back.
  private let outward: Direction
  private let homeward: Direction
  /// The near ends of the connections.
  private var nearEnds: [ObjectIdentifier: (end: Forwarder, route: Route)] = [:]
  /// Whether all bytes are dropped.
  private(set) var isSilent = false

  init(loop: EventLoop, outward: Direction, homeward: Direction) {
    self.loop = loop
    self.outward = outward
    self.homeward = homeward
  }

  // MARK: Faults

  /// Resets all connections, both ways.
  func reset() { for (end, _) in nearEnds.values { end.cut() } }

  /// Starts or stops dropping all bytes and ends of streams, both ways. At the end, connections that lost
  /// bytes are reset: their streams have gaps, which TCP would never deliver.
  func silence(_ on: Bool) {
    isSilent = on
    guard !on else { return }
    for (end, _) in nearEnds.values where end.hasHole || end.partner?.hasHole == true { end.cut() }
  }

  // MARK: Waking in time

  /// A sleeping thread wakes some tens of µs after its timer. It is therefore woken this much early, and
  /// polls until the time has come.
  private static let earlyNanoseconds: Int64 = 100_000
  /// The share of time that may be spent polling: under load, polling would take CPU from the measured
  /// processes, and there queueing delays are longer than a timer's lateness.
  private static let pollingShare = 0.25
  private static let greatestAllowance: Double = 10_000_000
  private var allowance: Double = 0
  private var allowanceTime: Int64 = 0

  /// When to wake for bytes that are due: early while polling is allowed.
  func wakingTime(for due: Int64, now: Int64) -> Int64 {
    let earned = Double(now - allowanceTime) * Self.pollingShare
    allowance = min(Self.greatestAllowance, allowance + earned)
    allowanceTime = now
    return allowance > 0 ? due - Self.earlyNanoseconds : due
  }

  /// Deducts the time spent polling since a moment.
  func hasPolled(since before: Int64) { allowance -= Double(monotonicNanoseconds() - before) }

  // MARK: Connections

  /// Connects the upstream for a client, and forwards between the two.
  func forward(_ client: Int32, along route: Route) {
    let upstream = Result { try route.connect() }
    let near = Forwarder(relay: self, direction: outward, socket: client)
    let far = Forwarder(relay: self, direction: homeward, socket: (try? upstream.get()) ?? -1)
    near.partner = far
    far.partner = near
    nearEnds[ObjectIdentifier(near)] = (near, route)
    // Reading starts at once, to notice a client that leaves before its upstream is connected.
    near.setReading(true)
    switch upstream {
    case .success: far.awaitConnection()
    case .failure(let error): refuse(near, error)
    }
  }

  /// Gives up a client whose upstream does not accept the connection.
  func refuse(_ near: Forwarder?, _ error: any Error) {
    guard let near, let route = nearEnds[ObjectIdentifier(near)]?.route else { return }
    say("nylon-link: \(route.name) takes no connection: \(error)")
    near.refuse()
  }

  /// Releases the two ends of a closed connection.
  func forget(_ ends: Forwarder...) { for end in ends { nearEnds[ObjectIdentifier(end)] = nil } }
}
