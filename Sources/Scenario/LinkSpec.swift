/// A network link that is put between two parts on this machine, as if they were on two.
package struct LinkSpec: Codable, Sendable, Equatable, Hashable {
  /// Between which parts.
  package var between: LinkPlace
  /// What each byte is held back, each way, ms; a round trip takes twice that.
  package var delayMilliseconds: Double
  /// The delay is spread evenly from so much less to so much more, ms; at most the delay.
  package var jitterMilliseconds: Double
  /// Bandwidth each way, Mbit/s; nil when it has no limit.
  package var bandwidthMegabitPerSecond: Double?

  /// A link.
  package init(
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
package enum LinkPlace: String, Codable, Sendable, CaseIterable {
  /// Between the generator, which stands for the proxy, and the broker.
  case generatorBroker = "generator-broker"
  /// Between the broker and the workers.
  case brokerWorkers = "broker-workers"
}

extension Target {
  /// The network links on the way to it; empty when there are none.
  package var links: [LinkSpec] {
    if case .nats(let pool) = transport { pool.links ?? [] } else { [] }
  }

  /// What the links on its way add to a phase request at least, without jitter, ms; nil without a link.
  package var roundTripMilliseconds: Double? {
    links.isEmpty ? nil : links.reduce(0) { $0 + 2 * $1.delayMilliseconds }
  }
}
