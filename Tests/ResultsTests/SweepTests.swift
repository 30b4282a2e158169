import Lab
import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// A closed load: so many a second, each taking so long.
private func closed(_ concurrency: Int, rate: UInt64, around nanoseconds: UInt64) -> Measurement {
  var one = measurement("nats", load: "closed-\(concurrency)", around: nanoseconds, count: 2 * rate)
  one.concurrency = concurrency
  return one
}

private func open(_ rate: Double, around nanoseconds: UInt64, invalid: [InvalidReason.Code] = [])
  -> Measurement
{
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

  /// Curves of pools: each target's workers, connections and CPU time per request, by requests in flight.
  private static func pools(_ all: [(name: String, workers: Int?, connections: Int?, costs: [UInt64])])
    -> [Measurement]
  {
    all.enumerated().flatMap { place, pool in
      pool.costs.enumerated().map { step, cost in
        var one = closed(1 << step, rate: 1000 + 500 * UInt64(step + place), around: 1_000_000)
        one.target = pool.name
        one.workers = pool.workers
        one.connections = pool.connections
        one.cpuGeneratorNanoseconds = (one.request?.okInWindow ?? 0) * cost
        return one
      }
    }
  }

  @Test("has a row for each number of workers, connections and requests in flight, and one sentence over all")
  func product() throws {
    let run = document(
      Self.pools([
        ("nats", 2, 1, [4000, 4400, 5000]), ("nats-2c", 2, 2, [4200, 4200, 4200]),
        ("nats-4w", 4, 1, [4000, 5000, 6000]), ("nats-4w-2c", 4, 2, [4100, 4000, 4600]),
      ]) + Self.pools([("ffi", nil, nil, [100, 100, 900])]))
    let table = ResultTables.sweep(run)
    #expect(table.columns.prefix(4) == ["target", "workers", "connections", "in flight"])
    #expect(
      table.rows.map { $0.prefix(4).map(\.shown) } == [
        ["nats", "2", "1", "1"], ["nats", "2", "1", "2"], ["nats", "2", "1", "4"],
        ["nats-2c", "2", "2", "1"], ["nats-2c", "2", "2", "2"], ["nats-2c", "2", "2", "4"],
        ["nats-4w", "4", "1", "1"], ["nats-4w", "4", "1", "2"], ["nats-4w", "4", "1", "4"],
        ["nats-4w-2c", "4", "2", "1"], ["nats-4w-2c", "4", "2", "2"], ["nats-4w-2c", "4", "2", "4"],
        ["ffi", "–", "–", "1"], ["ffi", "–", "–", "2"], ["ffi", "–", "–", "4"],
      ])
    #expect(table.notes.count == 6)
    #expect(
      table.notes.last
        == "Of 4 combinations of workers and connections, nats-4w-2c (4 workers, 2 connections, 4 in flight) "
        + "reaches the highest rate, 3,500 req/s; the generator's CPU time per request is 4 µs at the "
        + "cheapest load of all (nats, 1 in flight) and 4.2 µs to 6 µs with the most in flight, 1 to 1.5 times "
        + "that of the cheapest load of the same curve.")
  }

  @Test("has no sentence over all where there is one combination, and leaves out a cost that is not known")
  func noSummary() throws {
    let one = Self.pools([("a", 2, 1, [1, 1, 1]), ("b", 2, 1, [1, 1, 1])])
    #expect(ResultTables.sweep(document(one)).notes.count == 2)
    var many = Self.pools([("a", 2, nil, [1, 1, 1]), ("b", 1, nil, [1, 1, 1])])
    many[4].cpuGeneratorNanoseconds = nil
    many[5].invalidReasons = [InvalidReason(code: .steal, detail: "much")]
    #expect(
      ResultTables.sweep(document(many)).notes.last
        == "Of 2 combinations of workers and connections, b (1 worker, 4 in flight; not valid) reaches the "
        + "highest rate, 2,500 req/s.")
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
    #expect(level.isServed(open(1000, around: 1_000_000, invalid: [.generatorLate])) == true)
    #expect(level.isServed(open(1000, around: 3_000_000, invalid: [.generatorLate])) == nil)
    #expect(level.isServed(open(1000, around: 1_000_000, invalid: [.saturated])) == false)
    #expect(level.isServed(open(1000, around: 1_000_000, invalid: [.steal])) == nil)
  }

  @Test("tells the highest rate that was served, and the lowest above it that was not")
  func highestRate() {
    var run = document(
      Self.curve + [
        open(1000, around: 1_000_000), open(2000, around: 1_500_000), open(3000, around: 5_000_000),
        open(4000, around: 9_000_000, invalid: [.saturated]),
      ])
    run.serviceLevel = ServiceLevel(metric: "response_p50_us", microseconds: 2000)
    let words = ResultTables.sweep(run).notes.last ?? ""
    #expect(words.hasPrefix("nats: 2,000 req/s is the highest rate that was tried"), "\(words)")
    #expect(words.hasSuffix("; 3,000 req/s has not."))
  }
}
