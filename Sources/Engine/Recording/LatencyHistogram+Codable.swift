// A stored histogram: the counters as HdrHistogram encodes them, beside them what that format
// does not hold. Both say how many values there are; they must agree, or the file is damaged.

extension LatencyHistogram: Codable {
  private enum CodingKeys: String, CodingKey {
    case hdr
    case count
    case sumNanoseconds = "sum_ns"
    case leastNanoseconds = "least_ns"
    case greatestNanoseconds = "greatest_ns"
    case clampedCount = "clamped"
  }

  /// Reads `{hdr, count, sum_ns, least_ns, greatest_ns, clamped}`.
  ///
  /// Throws `DecodingError.dataCorrupted` when the counters and the figures beside them disagree.
  package init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    func fail(_ problem: String) -> DecodingError {
      .dataCorrupted(.init(codingPath: container.codingPath, debugDescription: problem))
    }
    do {
      try self.init(hdrBase64: container.decode(String.self, forKey: .hdr))
    } catch let error as HistogramCodingError {
      throw fail(error.description)
    }
    let stored = try container.decode(UInt64.self, forKey: .count)
    guard stored == count else {
      throw fail("a histogram says that it has \(stored) values, and its counters have \(count)")
    }
    sumNanoseconds = try container.decode(UInt64.self, forKey: .sumNanoseconds)
    leastNanoseconds = try container.decode(UInt64.self, forKey: .leastNanoseconds)
    greatestNanoseconds = try container.decode(UInt64.self, forKey: .greatestNanoseconds)
    clampedCount = try container.decode(UInt64.self, forKey: .clampedCount)
    if let problem = disagreement { throw fail(problem) }
  }

  /// Writes `{hdr, count, sum_ns, least_ns, greatest_ns, clamped}`; times are nanoseconds.
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(hdrBase64(), forKey: .hdr)
    try container.encode(count, forKey: .count)
    try container.encode(sumNanoseconds, forKey: .sumNanoseconds)
    try container.encode(leastNanoseconds, forKey: .leastNanoseconds)
    try container.encode(greatestNanoseconds, forKey: .greatestNanoseconds)
    try container.encode(clampedCount, forKey: .clampedCount)
  }

  /// What the figures beside the counters say against them; nil when they agree.
  private var disagreement: String? {
    guard let first = counters.firstIndex(where: { $0 > 0 }),
      let last = counters.lastIndex(where: { $0 > 0 })
    else {
      return sumNanoseconds | leastNanoseconds | greatestNanoseconds | clampedCount == 0
        ? nil : "a histogram without values has a sum, a least or a greatest value"
    }
    func place(_ value: UInt64) -> Int {
      HistogramGeometry.index(of: min(value, HistogramGeometry.highestNanoseconds))
    }
    guard place(leastNanoseconds) == first, place(greatestNanoseconds) == last else {
      return "a histogram's least (\(leastNanoseconds) ns) or greatest value "
        + "(\(greatestNanoseconds) ns) is not where its counters begin and end"
    }
    guard clampedCount <= counters[last],
      clampedCount == 0 || greatestNanoseconds > HistogramGeometry.highestNanoseconds
    else { return "a histogram says that \(clampedCount) values are over 60 s, and its counters do not" }
    // The sum is kept in 64 bits, so a product over them says nothing.
    let (atLeast, leastOverflows) = leastNanoseconds.multipliedReportingOverflow(by: count)
    let (atMost, greatestOverflows) = greatestNanoseconds.multipliedReportingOverflow(by: count)
    if !leastOverflows, !greatestOverflows, !(atLeast...atMost).contains(sumNanoseconds) {
      return "a histogram's sum of \(sumNanoseconds) ns is not one that its \(count) values can have"
    }
    return nil
  }
}
