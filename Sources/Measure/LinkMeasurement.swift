/// What a network link was asked to add, and what it did add when small probes crossed it, before
/// any load.
public struct LinkMeasurement: Codable, Sendable, Equatable {
  /// Between which parts: `generator-broker` or `broker-workers`.
  public var between: String
  /// What makes the delay: `relay`.
  public var method: String
  /// The delay that was asked for, each way, µs.
  public var delayMicroseconds: Double
  /// Half the width of what the delay varies by, µs.
  public var jitterMicroseconds: Double
  /// The bandwidth that was asked for, each way, Mbit/s; nil when it has no limit.
  public var bandwidthMegabitPerSecond: Double?
  /// Bytes of a probe.
  public var probeBytes: Int
  /// Probes one way through the link, both ways together.
  public var oneWay: DelayFigures
  /// Probes there and back through the link.
  public var roundTrip: DelayFigures
  /// The same to the same echo without the link: what the machine itself takes one way.
  public var directOneWay: DelayFigures
  /// The same there and back without the link.
  public var directRoundTrip: DelayFigures

  /// A measured link.
  public init(
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
  public var askedOneWayMicroseconds: Double {
    delayMicroseconds + (bandwidthMegabitPerSecond.map { Double(probeBytes) * 8 / $0 } ?? 0)
  }
}

/// A few figures of delays; nil where there were too few.
public struct DelayFigures: Codable, Sendable, Equatable {
  /// How many.
  public var count: UInt64
  /// The least, µs.
  public var leastMicroseconds: Double?
  /// The median, µs.
  public var p50Microseconds: Double?
  /// The 99th percentile, µs; nil with under 10 beyond it.
  public var p99Microseconds: Double?

  /// The figures of a histogram.
  public init(_ histogram: LatencyHistogram) {
    func shown(_ nanoseconds: UInt64?) -> Double? { nanoseconds.map { Double($0) / 1000 } }
    count = histogram.count
    leastMicroseconds = histogram.isEmpty ? nil : shown(histogram.leastNanoseconds)
    p50Microseconds = shown(histogram.value(atPercentile: 50))
    p99Microseconds = shown(histogram.printableValue(atPercentile: 99))
  }
}
