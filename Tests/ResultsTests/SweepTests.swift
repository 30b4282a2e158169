import Lab
import Testing

@testable import Scenario
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

  @Test("has no overall sentence for a single combination, and leaves out an unknown cost")
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
      ("response_p99_us < 5000", "response_p99_us", 5000), ("service_p50_us<80.5", "service_p50_us", 80.5),
      ("response_max_us < 1e6", "response_max_us", 1_000_000),
    ] as [(String, String, Double)])
  func serviceLevel(text: String, metric: String, microseconds: Double) {
    #expect(ServiceLevel(text) == ServiceLevel(metric: metric, microseconds: microseconds))
    let inclusive = ServiceLevel(text.replacing("<", with: "<="))
    #expect(inclusive?.holds(microseconds) == true && ServiceLevel(text)?.holds(microseconds) == false)
  }

  @Test(
    "refuses what is no service level",
    arguments: [
      "", "p99", "p99<", "p99<5", "p98<5ms", "p99>5ms", "p99<-1ms", "p99<5ms<6ms", "p99<infms",
      "response_p99_us < 5ms", "response_p99_us > 5", "throughput_rps < 5", "send_lag_p99_us < 5",
      "nats.open-5.response_p99_us < 5", "service_p90_us < 5",
    ])
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
    #expect(level.isServed(open(1000, around: 3_000_000, invalid: [.saturated, .steal])) == nil)
  }

  @Test("tells the highest rate that was served, and the lowest above it that was not")
  func highestRate() {
    var run = document(
      Self.curve + [
        open(1000, around: 1_000_000), open(2000, around: 1_500_000), open(3000, around: 5_000_000),
        open(4000, around: 9_000_000, invalid: [.saturated]),
      ])
    run.serviceLevel = ServiceLevel(metric: "response_p50_us", microseconds: 2000)
    // Only one of the fixture's targets was measured.
    let found = ObjectiveResult.all(run)
    #expect(found.map(\.verdict) == [.notSearched, .unconfirmed])
    #expect(
      found.last?.sentence
        == "'nats' held 2 ms at p50 up to 2,000 requests/s (1 of 1 replicate; 3,000 does not: 0 of 1); 6 "
        + "replicates would confirm it.")
    let table = ResultTables.objectives(run)
    #expect(table.rows.map { $0[3].shown } == ["1 of 1", "1 of 1", "0 of 1", "0 of 1"])
  }

  /// Replicates of a rate, of which a given number keep a median of 2 ms.
  private func trial(_ rate: Double, held: Int, of count: Int, invalid: [InvalidReason.Code] = [])
    -> [Measurement]
  {
    (0..<count).map { place in
      var one = open(rate, around: place < held ? 1_500_000 : 3_000_000, invalid: place < held ? [] : invalid)
      one.replicate = place + 1
      one.search = true
      return one
    }
  }

  @Test(
    "is confirmed where the whole interval of the median keeps the bound, which says how many replicates must",
    arguments: [
      (6, 6, true), (5, 6, false), (5, 5, true), (4, 5, false), (8, 8, true), (7, 8, false), (9, 10, true),
      (8, 10, false), (10, 12, true), (0, 0, false),
    ])
  func confirmed(held: Int, count: Int, isServed: Bool) {
    let level = ServiceLevel(metric: "response_p50_us", microseconds: 2000)
    let one = RateTrial(1000, trial(1000, held: held, of: count), level)
    #expect(one.isServed == isServed && one.isDecided == (count >= 6))
    #expect(one.held == held && one.said == count)
    // The interval says the same.
    if let high = one.high { #expect((high < 2000) == isServed) }
  }

  @Test("says plainly what was found: a rate and the next one, no limit, nothing, or no answer")
  func findings() {
    func sentence(_ measurements: [Measurement]) -> String {
      var run = document(Self.curve + measurements)
      run.scenario.targets[1].objective = ServiceLevel(metric: "response_p50_us", microseconds: 2000)
      run.judge()
      #expect(run.objectives?.count == 1)
      #expect(run.isValid || measurements.isEmpty)
      return run.objectives?[0].sentence ?? ""
    }
    #expect(
      sentence(trial(3100, held: 6, of: 6) + trial(3300, held: 2, of: 6))
        == "'nats' holds 2 ms at p50 up to 3,100 requests/s (6 of 6 replicates; 3,300 does not: 2 of 6).")
    #expect(
      sentence(trial(3600, held: 6, of: 6))
        == "'nats' holds 2 ms at p50 up to 3,600 requests/s (6 of 6 replicates), as much as its closed loads reach: "
        + "this objective is no limit to it.")
    #expect(
      sentence(trial(3300, held: 6, of: 6) + trial(3600, held: 0, of: 6, invalid: [.saturated])).hasSuffix(
        "3,600 is not answered in full: 0 of 6)."))
    #expect(
      sentence(trial(40, held: 0, of: 6))
        == "'nats' does not hold 2 ms at p50 at any rate that was tried (40 does not: 0 of 6).")
    #expect(sentence([]) == "'nats': whether it holds 2 ms at p50 is not known: no rate was tried.")
  }

  @Test("ends its answer at an undecided rate, and calls an untried rate no limit")
  func notKnown() throws {
    func result(_ measurements: [Measurement]) throws -> ObjectiveResult {
      var run = document(Self.curve + measurements)
      run.serviceLevel = ServiceLevel(metric: "response_p50_us", microseconds: 2000)
      return try #require(ObjectiveResult.all(run).last)
    }
    func disturbed(_ rate: Double, _ count: Int) -> [Measurement] {
      trial(rate, held: 0, of: count, invalid: [.steal])
    }
    // The rate that fails over it is no limit.
    let bounded = try result(trial(2000, held: 6, of: 6) + disturbed(2500, 3) + trial(3000, held: 0, of: 6))
    #expect(bounded.verdict == .atLeast && bounded.above?.ratePerSecond == 2500)
    #expect(
      bounded.sentence
        == "'nats' holds 2 ms at p50 at least up to 2,000 requests/s (6 of 6 replicates; nothing can be said "
        + "of 2,500: steal).")
    // The closed loads reach 3,600.
    let cut = try result(trial(2000, held: 6, of: 6))
    #expect(
      cut.sentence
        == "'nats' holds 2 ms at p50 at least up to 2,000 requests/s (6 of 6 replicates; no higher rate was "
        + "tried).")
    #expect(try result(trial(3500, held: 6, of: 6)).verdict == .unbounded)
    let failed = try result(disturbed(500, 3) + trial(3000, held: 3, of: 6))
    #expect(failed.verdict == .notHeld)
    #expect(failed.sentence.hasSuffix("at any rate that was tried (3,000 is undecided: 3 of 6)."))
    let nothing = try result(disturbed(500, 3))
    #expect(nothing.verdict == .notSearched)
    #expect(
      nothing.sentence
        == "'nats': whether it holds 2 ms at p50 is not known: nothing can be said of 500: steal.")
    // One replicate that is not disturbed says something.
    let once = try result(trial(2000, held: 6, of: 6) + disturbed(2500, 3) + trial(2500, held: 0, of: 1))
    #expect(once.verdict == .held && once.above?.said == 1 && once.above?.doubt == "steal")
  }

  @Test("excludes its search from comparisons and from the reasons why a run is invalid")
  func apart() {
    let both = ["ffi", "nats"].flatMap { target in
      trial(1000, held: 6, of: 6).map { one in
        var one = one
        one.target = target
        return one
      }
    }
    #expect(document(both).comparisons.isEmpty)
    #expect(document(trial(1000, held: 0, of: 1, invalid: [.steal])).isValid)
  }
}
