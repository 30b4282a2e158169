import Lab
@testable import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

private func row(
  _ measurements: [Measurement], _ targets: [Target], metric: String = "response_p50_us", a: String? = nil
) throws -> ComparisonRow {
  let rows = Comparison.rows(measurements: measurements, targets: targets, seed: 42)
  return try #require(rows.first { $0.metric == metric && (a == nil || $0.a == a) })
}

private let ffi = ffiTarget("ffi")
private let nats = natsTarget("nats")

@Suite("A comparison")
struct ComparisonTests {
  @Test("is the ratio of paired replicates with interval and p, the FFI target first")
  func ratio() throws {
    let measurements =
      replicates("nats", around: 1_000_000) + replicates("ffi", around: 10_000, transport: "ffi")
    let row = try row(measurements, [nats, ffi])
    #expect(row.a == "ffi")
    #expect(row.b == "nats")
    #expect(row.condition == "open-1000")
    #expect(row.unit == "us")
    let ratio = try #require(row.ratio)
    #expect(abs(ratio - 100) < 0.2)
    #expect(row.ratioLow.map { $0 <= ratio } == true)
    #expect(row.ratioHigh.map { $0 >= ratio } == true)
    #expect(abs((row.pValue ?? 0) - 2.0 / 252) < 1e-12)
    #expect(row.noiseFloor == nil)
    #expect(row.verdict == .different)
    #expect(row.isRegression)
  }

  @Test("of under three replicates has a ratio, no interval, and is unclear")
  func tooFew() throws {
    let row = try row(
      replicates("ffi", around: 10_000, count: 2, transport: "ffi")
        + replicates("nats", around: 1_000_000, count: 2), [ffi, nats])
    #expect(row.ratio != nil)
    #expect(row.ratioLow == nil)
    #expect(row.pValue == nil)
    #expect(row.verdict == .unclear)
  }

  @Test("of invalid measurements is unclear, and says why")
  func invalid() throws {
    let row = try row(
      replicates("ffi", around: 10_000, transport: "ffi")
        + replicates("nats", around: 1_000_000, invalid: [.saturated]), [ffi, nats])
    #expect(row.verdict == .unclear)
    #expect(row.why == "invalid: saturated")
    #expect(row.bValue != nil)
  }

  @Test("leaves out the pair of an invalid replicate while most are valid")
  func oneInvalid() throws {
    var measurements =
      replicates("ffi", around: 10_000, transport: "ffi") + replicates("nats", around: 1_000_000)
    measurements[9] = measurement("nats", replicate: 5, around: 90_000_000, invalid: [.steal])
    let row = try row(measurements, [ffi, nats])
    #expect(row.verdict == .different)
    #expect(row.bValue.map { $0 < 1100 } == true)
    #expect(row.why.hasSuffix("2 of 10 measurements left out as invalid or without a valid pair"))
  }

  @Test("has the noise floor of an A/A pair, under which a difference is the same")
  func noiseFloor() throws {
    // The twin is 10 % slower, the other pool 5 %.
    let other = natsTarget("other", group: "others")
    let measurements =
      replicates("nats", around: 1_000_000) + replicates("twin", around: 1_100_000)
      + replicates("other", around: 1_050_000)
    let targets = [nats, natsTarget("twin"), other]
    let rows = Comparison.rows(measurements: measurements, targets: targets, seed: 1)
      .filter { $0.metric == "response_p50_us" }
    #expect(rows.map { [$0.a, $0.b] } == [["nats", "twin"], ["nats", "other"]])
    let floor = try #require(rows[1].noiseFloor)
    #expect(abs(floor - 0.1) < 0.002)
    #expect(rows[1].verdict == .same)
    #expect(rows[0].verdict == .unclear)
  }

  @Test("has a noise floor that one odd replicate of an A/A pair does not raise")
  func oddReplicate() throws {
    // Every replicate of the other pool is five times slower, and one of the twin.
    var measurements =
      replicates("nats", around: 1_000_000) + replicates("twin", around: 1_010_000)
      + replicates("other", around: 5_000_000)
    measurements[7] = measurement("twin", replicate: 3, around: 5_200_000)
    let targets = [nats, natsTarget("twin"), natsTarget("other", group: "others")]
    let row = try #require(
      Comparison.rows(measurements: measurements, targets: targets, seed: 1)
        .first { $0.metric == "response_p50_us" && $0.b == "other" })
    #expect(row.noiseFloor.map { $0 < 0.02 } == true)
    #expect(row.verdict == .different)
  }

  @Test("of a difference over the noise floor is different")
  func overTheFloor() throws {
    let measurements =
      replicates("nats", around: 1_000_000) + replicates("twin", around: 1_001_000)
      + replicates("ffi", around: 500_000, transport: "ffi")
    let row = try row(measurements, [ffi, nats, natsTarget("twin")], a: "ffi")
    #expect(row.noiseFloor.map { $0 < 0.01 } == true)
    #expect(row.verdict == .different)
  }

  @Test("is not made of targets with other phases, nor of loads that only one had")
  func notComparable() {
    var shorter = natsTarget("nats")
    shorter.phases = [.requestFilter]
    let measurements =
      replicates("ffi", around: 10_000, transport: "ffi") + replicates("nats", around: 1_000_000)
    #expect(Comparison.rows(measurements: measurements, targets: [ffi, shorter], seed: 1).isEmpty)
    let apart =
      replicates("ffi", load: "closed-1", around: 10_000, transport: "ffi")
      + replicates("nats", around: 1_000_000)
    #expect(Comparison.rows(measurements: apart, targets: [ffi, nats], seed: 1).isEmpty)
  }

  @Test("of two stored runs is by target and load, unpaired, with what differs named")
  func storedRuns() throws {
    let old = document(replicates("nats", around: 1_000_000))
    var new = document(replicates("nats", around: 2_000_000))
    new.machine.kernel = "6.1"
    new.runID = "new"
    let row = try #require(Comparison.rows(old, new).first { $0.metric == "response_p50_us" })
    #expect(row.b == "new:nats")
    #expect(row.ratio.map { abs($0 - 2) < 0.01 } == true)
    #expect(row.verdict == .different)
    #expect(row.isRegression)
    #expect(Comparison.rows(new, old).contains { $0.isRegression } == false)
    #expect(Comparison.cautions(old, new) == ["the kernel differs: unknown and 6.1"])
  }
}

@Suite("Evidence of a difference")
struct EvidenceTests {
  @Test(
    "comes to the verdict that interval and noise floor allow",
    arguments: [
      (1.5, 1.4, 1.6, 0.1, .different), (0.5, 0.45, 0.55, 0.1, .different), (1.05, 1.02, 1.08, 0.1, .same),
      (1.05, 1.02, 1.3, 0.1, .same), (1.05, 0.9, 1.3, 0.1, .unclear), (1.0, 0.95, 1.05, 0.1, .same),
      (1.5, 1.4, 1.6, nil, .different), (1.15, 1.1, 1.2, nil, .unclear), (1.0, 0.99, 1.01, nil, .unclear),
    ] as [(Double, Double, Double, Double?, ComparisonRow.Verdict)])
  func verdicts(
    ratio: Double, low: Double, high: Double, floor: Double?, verdict: ComparisonRow.Verdict
  ) {
    let evidence = Evidence(
      ratio: ratio, interval: Interval(low: low, high: high), floor: floor, spread: 0.2, isAA: false,
      invalid: [])
    #expect(evidence.verdict.0 == verdict)
  }
}

@Suite("An expectation")
struct ExpectationTests {
  private func result(
    _ comparison: String, _ bound: Double, metric: String = "throughput_rps", load: String = "open-1000",
    of measurements: [Measurement]
  ) -> ExpectationResult {
    ExpectationResult(
      Expectation(
        text: "nats.x", target: "nats", load: load, metric: metric, comparison: comparison, bound: bound),
      measurements: measurements)
  }

  @Test(
    "is met or not by the median over replicates",
    arguments: [
      ("<", 1001, .met), ("<", 1000, .notMet), ("<=", 1000, .met), (">", 999, .met), (">=", 1000, .met),
      (">", 1000, .notMet), ("==", 1000, .met), ("==", 1, .notMet), ("!", 1, .unmeasured),
    ] as [(String, Double, ExpectationResult.Verdict)])
  func verdicts(comparison: String, bound: Double, verdict: ExpectationResult.Verdict) {
    let measurements = replicates("nats", around: 1_000_000)
    #expect(result(comparison, bound, of: measurements).verdict == verdict)
    #expect(result(comparison, bound, of: measurements).measured == 1000)
  }

  @Test("is unmeasured with the reason when there is no figure")
  func unmeasured() {
    let measurements = replicates("nats", around: 1_000_000)
    for (metric, load, why) in [
      ("response_p999_us", "open-1000", "response_p999_us is empty"),
      ("valid", "open-1000", "'valid' is not"),
      ("throughput_rps", "closed-1", "target 'nats' was not measured"),
    ] {
      let result = result("<", 1, metric: metric, load: load, of: measurements)
      #expect(result.verdict == .unmeasured)
      #expect(result.why.hasPrefix(why))
    }
  }

  @Test("is not met by a bad figure of an invalid measurement, nor met by a good one")
  func invalid() {
    let measurements = replicates("nats", around: 1_000_000, invalid: [.steal])
    #expect(result(">", 500, of: measurements).verdict == .unmeasured)
    #expect(result(">", 5000, of: measurements).verdict == .notMet)
  }
}
