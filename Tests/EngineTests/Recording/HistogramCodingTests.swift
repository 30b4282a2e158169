import Foundation
import Testing

@testable import Lab
@testable import Results

@testable import Engine

/// What the Python library `hdrhistogram` 0.10 encodes for the values of `sample()`.
private let libraryVector =
  "HISTFAAAADZ4nJNpmSzMwMAgxgABzFCaEYh5f7hHMNh/gAqw/ZRnYuqPu8C/1uDBUY6F8xlZ+uOYAAImC+E="

private func sample() -> LatencyHistogram {
  var histogram = LatencyHistogram()
  for (value, times) in [
    (1, 3), (2047, 1), (2048, 1), (123_456, 1000), (1_000_000, 70_000), (999_999_999, 2),
    (60_000_000_000, 1),
  ] as [(UInt64, UInt64)] {
    histogram.record(value, times: times)
  }
  return histogram
}

private func object(_ histogram: LatencyHistogram) throws -> [String: Any] {
  let data = try JSONEncoder().encode(histogram)
  return try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
}

private func decode(_ object: [String: Any]) throws -> LatencyHistogram {
  try JSONDecoder().decode(
    LatencyHistogram.self, from: JSONSerialization.data(withJSONObject: object))
}

@Suite("A histogram as text")
struct HistogramCodingTests {
  @Test("counts what the reference library's text counts")
  func readsTheLibrarysVector() throws {
    let read = try LatencyHistogram(hdrBase64: libraryVector)
    #expect(read.counters == sample().counters)
    #expect(read.count == 71_008)
    #expect(read.value(atPercentile: 50) == 1_000_447)
    #expect(read.value(atPercentile: 99.998) == 1_000_341_503)
  }

  @Test("is read back with the same counters, with any gap between them")
  func readsItsOwn() throws {
    for values in [[], [0], [1, 3], [5, 5, 6, 2048], [59_999_999_999, 60_000_000_000]] as [[UInt64]] {
      var histogram = LatencyHistogram()
      for value in values { histogram.record(value) }
      #expect(try LatencyHistogram(hdrBase64: histogram.hdrBase64()).counters == histogram.counters)
    }
    var large = LatencyHistogram()
    large.record(77, times: UInt64(Int32.max) * 5000)
    #expect(try LatencyHistogram(hdrBase64: large.hdrBase64()).counters == large.counters)
  }

  @Test("in JSON keeps the exact sum, least, greatest and clamped count")
  func keepsExactFigures() throws {
    var histogram = sample()
    histogram.record(90_000_000_000)
    let data = try JSONEncoder().encode(histogram)
    #expect(try JSONDecoder().decode(LatencyHistogram.self, from: data) == histogram)
    #expect(
      try Set(object(histogram).keys) == ["hdr", "count", "sum_ns", "least_ns", "greatest_ns", "clamped"])
  }

  @Test(
    "is refused when a figure beside the counters disagrees with them",
    arguments: [
      ("count", 71_007), ("least_ns", 2), ("greatest_ns", 999), ("clamped", 1), ("sum_ns", 5),
    ] as [(String, UInt64)])
  func refusesDisagreement(key: String, value: UInt64) throws {
    var stored = try object(sample())
    #expect(try decode(stored) == sample())
    stored[key] = value
    #expect(throws: DecodingError.self) { try decode(stored) }
  }

  @Test("is refused when its least value is greater than its greatest, also where one counter has both")
  func refusesExchangedExtremes() throws {
    var histogram = LatencyHistogram()
    histogram.record(2048)
    var stored = try object(histogram)
    stored["least_ns"] = 2049
    #expect(throws: DecodingError.self) { try decode(stored) }
  }

  @Test("is refused with an error when it is damaged anywhere")
  func refusesDamage() throws {
    let bytes = try #require(Data(base64Encoded: libraryVector))
    for length in 0..<bytes.count {
      #expect(throws: HistogramCodingError.self) {
        try LatencyHistogram(hdrBase64: bytes.prefix(length).base64EncodedString())
      }
    }
    for place in bytes.indices {
      var damaged = bytes
      damaged[place] ^= 0x55
      #expect(throws: HistogramCodingError.self, "byte \(place)") {
        try LatencyHistogram(hdrBase64: damaged.base64EncodedString())
      }
    }
    for text in ["", "not base64!", "AAAA", String(repeating: "A", count: 4_000_000)] {
      #expect(throws: HistogramCodingError.self) { try LatencyHistogram(hdrBase64: text) }
    }
  }

  @Test("finds for each value the counter that encloses it")
  func geometryEncloses() {
    for shift in 0..<36 {
      for offset in [-1, 0, 1] as [Int64] {
        let value = UInt64(max(0, (Int64(1) << Int64(shift)) + offset))
        let index = HistogramGeometry.index(of: value)
        #expect(HistogramGeometry.lowestValue(at: index) <= value)
        #expect(HistogramGeometry.highestValue(at: index) >= value)
        #expect(index < HistogramGeometry.counterCount)
      }
    }
  }
}
