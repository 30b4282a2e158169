import Engine

/// What a network link was asked to add, and what it did add when small probes crossed it, before
/// any load.
package struct LinkMeasurement: Codable, Sendable, Equatable {
  /// Between which parts: `generator-broker` or `broker-workers`.
  package var between: String
  /// What makes the delay: `relay`.
  package var method: String
  /// The delay that was asked for, each way, µs.
  package var delayMicroseconds: Double
  /// Half the width of what the delay varies by, µs.
  package var jitterMicroseconds: Double
  /// The bandwidth that was asked for, each way, Mbit/s; nil when it has no limit.
  package var bandwidthMegabitPerSecond: Double?
  /// Bytes of a probe.
  package var probeBytes: Int
  /// Probes one way through the link, both ways together.
  package var oneWay: DelayFigures
  /// Probes there and back through the link.
  package var roundTrip: DelayFigures
  /// The same to the same echo without the link: what the machine itself takes one way.
  package var directOneWay: DelayFigures
  /// The same there and back without the link.
  package var directRoundTrip: DelayFigures

  /// A measured link.
  package init(
    between: String, method: String, delayMicroseconds: Double, jitterMicroseconds: Double,
    bandwidthMegabitPerSecond: Double?, probeBytes: Int, oneWay: DelayFigures, roundTrip: DelayFigures,
    directOneWay: DelayFigures, directRoundTrip: DelayFigures
  ) {
    self.between = between
    self.method = method
    self.delayMicroseconds = delayMicroseconds
    self.jitterMicroseconds = jitterMicroseconds
    self.bandwidthMegabitPerSecond = bandwidthMegabitPerSecond
    self.probeBytes = probeBytes
    self.oneWay = oneWay
    self.roundTrip = roundTrip
    self.directOneWay = directOneWay
    self.directRoundTrip = directRoundTrip
  }

  /// What a probe must take one way at least, without jitter: the delay, and the time on the wire, µs.
  package var askedOneWayMicroseconds: Double {
    delayMicroseconds + (bandwidthMegabitPerSecond.map { Double(probeBytes) * 8 / $0 } ?? 0)
  }
}

/// A few figures of delays; nil where there were too few.
package struct DelayFigures: Codable, Sendable, Equatable {
  /// How many.
  package var count: UInt64
  /// The least, µs.
  package var leastMicroseconds: Double?
  /// The median, µs.
  package var p50Microseconds: Double?
  /// The 99th percentile, µs; nil with under 10 beyond it.
  package var p99Microseconds: Double?

  /// The figures of a histogram.
  package init(_ histogram: LatencyHistogram) {
    func shown(_ nanoseconds: UInt64?) -> Double? { nanoseconds.map { Double($0) / 1000 } }
    count = histogram.count
    leastMicroseconds = histogram.isEmpty ? nil : shown(histogram.leastNanoseconds)
    p50Microseconds = shown(histogram.value(atPercentile: 50))
    p99Microseconds = shown(histogram.printableValue(atPercentile: 99))
  }
}
