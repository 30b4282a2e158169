/// A network link that is put between two parts on this machine, as if they were on two.
public struct LinkSpec: Codable, Sendable, Equatable, Hashable {
  /// Between which parts.
  public var between: LinkPlace
  /// What each byte is held back, each way, ms; a round trip takes twice that.
  public var delayMilliseconds: Double
  /// The delay is spread evenly from so much less to so much more, ms; at most the delay.
  public var jitterMilliseconds: Double
  /// Bandwidth each way, Mbit/s; nil when it has no limit.
  public var bandwidthMegabitPerSecond: Double?

  /// A link.
  public init(
    between: LinkPlace = .generatorBroker, delayMilliseconds: Double, jitterMilliseconds: Double = 0,
    bandwidthMegabitPerSecond: Double? = nil
  ) {
    self.between = between
    self.delayMilliseconds = delayMilliseconds
    self.jitterMilliseconds = jitterMilliseconds
    self.bandwidthMegabitPerSecond = bandwidthMegabitPerSecond
  }
}

/// Where a link is.
public enum LinkPlace: String, Codable, Sendable, CaseIterable {
  /// Between the generator, which stands for the proxy, and the broker.
  case generatorBroker = "generator-broker"
  /// Between the broker and the workers.
  case brokerWorkers = "broker-workers"
}

extension Target {
  /// The network links on the way to it; empty when there are none.
  public var links: [LinkSpec] {
    if case .nats(let pool) = transport { pool.links ?? [] } else { [] }
  }

  /// What the links on its way add to a phase request at least, without jitter, ms; nil without a link.
  public var roundTripMilliseconds: Double? {
    links.isEmpty ? nil : links.reduce(0) { $0 + 2 * $1.delayMilliseconds }
  }
}
