extension LatencyHistogram: Codable {
  /// Reads counters as pairs of index and count.
  public init(from decoder: any Decoder) throws {
    let pairs = try decoder.singleValueContainer().decode([UInt64].self)
    self.init()
    for place in stride(from: 0, to: pairs.count - 1, by: 2) {
      record(HistogramGeometry.lowestValue(at: Int(pairs[place])), times: pairs[place + 1])
    }
  }

  /// Writes counters as pairs of index and count.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(
      counters.indices.filter { counters[$0] > 0 }.flatMap { [UInt64($0), counters[$0]] })
  }
}
