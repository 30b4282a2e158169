import Measure
import struct Measure.Measurement
import Scenario
import Testing

@testable import Report

/// A closed load: so many a second, each taking so long.
private func closed(_ concurrency: Int, rate: UInt64, around nanoseconds: UInt64) -> Measurement {
  var one = measurement("nats", load: "closed-\(concurrency)", around: nanoseconds, count: 2 * rate)
  one.concurrency = concurrency
  return one
}

private func open(_ rate: Double, around nanoseconds: UInt64, invalid: [String] = []) -> Measurement {
  var one = measurement("nats", load: "open-\(Int(rate))", around: nanoseconds, invalid: invalid)
  one.offeredRatePerSecond = rate
  return one
}

@Suite("A sweep")
struct SweepTests {
  /// Twice the throughput costs nothing up to 4, little at 8, and then only time.
  private static let curve = [
    closed(8, rate: 3500, around: 2_300_000), closed(1, rate: 1000, around: 1_000_000),
    closed(2, rate: 2000, around: 1_000_000), closed(4, rate: 3300, around: 1_200_000),
    closed(16, rate: 3600, around: 4_400_000),
  ]

  @Test("has its points by requests in flight, the knee at the greatest throughput / response time")
  func curve() throws {
    let curves = SweepCurve.all(document(Self.curve))
    let curve = try #require(curves.first)
    #expect(curves.count == 1 && curve.points.map(\.concurrency) == [1, 2, 4, 8, 16])
    #expect(curve.knee?.concurrency == 4)
    #expect(curve.highest?.concurrency == 16)
    #expect(curve.costGrowth == 1)
    let table = ResultTables.sweep(document(Self.curve))
    #expect(table.rows.count == 5 && table.rows[2].last?.text == "knee")
    #expect(table.notes.first?.hasPrefix("nats: knee at 4 in flight, 3,300 req/s in 1.2 ms") == true)
  }

  @Test("is not made of under three closed loads")
  func few() {
    #expect(SweepCurve.all(document(Array(Self.curve.prefix(2)))).isEmpty)
  }

  @Test(
    "has a service level that is read from text, or refused",
    arguments: [
      ("p99<5ms", "response_p99_us", 5000), ("p50 < 800us", "response_p50_us", 800),
      ("P99.9<1s", "response_p999_us", 1_000_000), ("p90<2.5ms", "response_p90_us", 2500),
    ] as [(String, String, Double)])
  func serviceLevel(text: String, metric: String, microseconds: Double) {
    #expect(ServiceLevel(text) == ServiceLevel(metric: metric, microseconds: microseconds))
  }

  @Test(
    "refuses what is no service level",
    arguments: ["", "p99", "p99<", "p99<5", "p98<5ms", "p99>5ms", "p99<-1ms", "p99<5ms<6ms", "p99<infms"])
  func noServiceLevel(text: String) {
    #expect(ServiceLevel(text) == nil)
  }

  @Test("says of a rate that it was served only when that was seen")
  func served() {
    let level = ServiceLevel(metric: "response_p50_us", microseconds: 2000)
    #expect(level.isServed(open(1000, around: 1_000_000)) == true)
    #expect(level.isServed(open(1000, around: 3_000_000)) == false)
    // A late generator only makes times longer: under the bound is under the bound.
    #expect(level.isServed(open(1000, around: 1_000_000, invalid: ["generator_late"])) == true)
    #expect(level.isServed(open(1000, around: 3_000_000, invalid: ["generator_late"])) == nil)
    #expect(level.isServed(open(1000, around: 1_000_000, invalid: ["saturated"])) == false)
    #expect(level.isServed(open(1000, around: 1_000_000, invalid: ["steal"])) == nil)
  }

  @Test("tells the highest rate that was served, and the lowest above it that was not")
  func highestRate() {
    var run = document(
      Self.curve + [
        open(1000, around: 1_000_000), open(2000, around: 1_500_000), open(3000, around: 5_000_000),
        open(4000, around: 9_000_000, invalid: ["saturated"]),
      ])
    run.serviceLevel = ServiceLevel(metric: "response_p50_us", microseconds: 2000)
    let words = ResultTables.sweep(run).notes.last ?? ""
    #expect(words.hasPrefix("nats: 2,000 req/s is the highest rate that was tried"), "\(words)")
    #expect(words.hasSuffix("; 3,000 req/s has not."))
  }
}
