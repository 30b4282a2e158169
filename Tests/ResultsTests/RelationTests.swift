import Foundation
import struct Engine.Measurement
import Lab
@testable import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

private func check(
  _ low: Double?, _ high: Double?, unit: ClaimSpec.Unit = .milliseconds, metric: String = "response_p50_us",
  relation: ClaimSpec.Relation, better: ClaimSpec.Better = .lower
) -> ClaimCheck {
  ClaimCheck(
    spec: claim(
      "nats-against-ffi", line: 269, low: low, high: high, unit: unit, metric: metric, better: better,
      against: .ffi, relation: relation),
    conditions: [.init(circumstance: .sameLoad, target: "nats", load: "closed-64", against: "ffi")])
}

private func overall(_ check: ClaimCheck, _ measurements: [Measurement]) throws -> ClaimVerdict {
  try #require(ClaimEvaluator.verdicts([check], measurements: measurements).first { $0.isOverall })
}

private func both(
  ffi: UInt64 = 1_000_000, nats: UInt64 = 3_000_000, count: Int = 6, natsSamples: UInt64 = 2000,
  invalid: [InvalidReason.Code] = []
) -> [Measurement] {
  replicates("ffi", load: "closed-64", around: ffi, count: count, transport: .ffi, invalid: invalid)
    + replicates("nats", load: "closed-64", around: nats, count: count, samples: natsSamples)
}

@Suite("A claim that compares one target with another")
struct RelationTests {
  @Test(
    "about a difference is judged by the differences of paired replicates",
    arguments: [(1.9, 2.2, .confirmed), (3, 4, .better), (0.5, 1, .worse), (2.05, 3, .inconclusive)]
      as [(Double, Double, ClaimVerdict.Verdict)])
  func difference(low: Double, high: Double, verdict: ClaimVerdict.Verdict) throws {
    let claim = check(low, high, relation: .difference)
    let row = try overall(claim, both())
    #expect(row.verdict == verdict, "\(row)")
    // Replicate k is (1 + k %) of 3 ms less (1 + k %) of 1 ms: the middle is 2.05 ms.
    #expect(try abs(#require(row.measured) - 2.05) < 0.01)
    #expect(row.why.contains("nats 3.08 ms, ffi 1.02 ms"), "\(row.why)")
  }

  @Test(
    "has room for what changes in one of them that never got steady",
    arguments: [(0.3, 6, .confirmed), (0.1, 0.3, .worse), (6, 7, .better), (1, 3, .inconclusive)]
      as [(Double, Double, ClaimVerdict.Verdict)])
  func unsteadyDifference(low: Double, high: Double, verdict: ClaimVerdict.Verdict) throws {
    // 3 ms may be a factor of 2.07 off: from 0.45 ms to 5.5 ms more than the other's 1 ms.
    let all = both().map { $0.target == "nats" ? unsteady([$0], change: 0.36)[0] : $0 }
    let row = try overall(check(low, high, relation: .difference), all)
    #expect(row.verdict == verdict, "\(row)")
    #expect(try abs(#require(row.measured) - 2.05) < 0.01)
  }

  @Test(
    "about a change is judged by its percentage",
    arguments: [(-33, -27, .confirmed), (-60, -40, .better), (-10, -5, .worse)]
      as [(Double, Double, ClaimVerdict.Verdict)])
  func change(low: Double, high: Double, verdict: ClaimVerdict.Verdict) throws {
    let claim = check(
      low, high, unit: .percent, metric: "throughput_rps", relation: .change, better: .higher)
    let row = try overall(claim, both(natsSamples: 1400))
    #expect(row.verdict == verdict, "\(row)")
    #expect(try abs(#require(row.measured) + 30) < 0.001)
  }

  @Test("is inconclusive when the other side is invalid, and not measured when it is missing")
  func otherSide() throws {
    let claim = check(1.9, 2.2, relation: .difference)
    #expect(try overall(claim, both(invalid: [.steal])).verdict == .inconclusive)
    let alone = both().filter { $0.target == "nats" }
    let row = try overall(claim, alone)
    #expect(row.verdict == .notMeasured && row.why.contains("target 'ffi' was not measured"))
  }

  @Test("disagrees with the document's own two figures when they give another difference")
  func implied() throws {
    func latency(_ id: String, _ role: ClaimSpec.Role, _ range: ClosedRange<Double>) -> ClaimCheck {
      ClaimCheck(
        spec: claim(id, line: 37, low: range.lowerBound, high: range.upperBound, of: role), conditions: [],
        notMeasured: "not here")
    }
    let difference = check(2, 3, relation: .difference)
    func rows(_ nats: ClosedRange<Double>) -> [ClaimVerdict] {
      let figures = [
        latency("ffi", .ffi, 0.7...0.9), latency("nats", .nats, nats),
      ]
      return ClaimEvaluator.verdicts(figures + [difference], measurements: [])
        .filter { $0.condition == ClaimVerdict.disagreement }
    }
    #expect(rows(2...3).isEmpty)
    let row = try #require(rows(0.9...1).first)
    #expect(row.why.contains("give 0 to 0.3 ms"), "\(row.why)")
  }

  @Test("over circumstances that the document does not name is true when it is for one of them")
  func range() throws {
    let targets = ["net-1ms", "net-2ms", "net-4ms"]
    func net(_ low: Double, _ high: Double) -> ClaimCheck {
      ClaimCheck(
        spec: claim(low: low, high: high, of: .natsNet),
        conditions: targets.map { .init(circumstance: .unloaded, target: $0, load: "closed-1") },
        isOverRange: true)
    }
    let measurements =
      replicates("net-1ms", load: "closed-1", around: 1_000_000)
      + replicates("net-2ms", load: "closed-1", around: 2_000_000)
      + replicates("net-4ms", load: "closed-1", around: 4_000_000)
    let row = try overall(net(1.8, 2.5), measurements)
    #expect(row.verdict == .confirmed)
    #expect(row.why.contains("net-1ms: better (1.02 ms), net-2ms: confirmed (2.05 ms), net-4ms: worse"))
    #expect(try overall(net(0.1, 0.2), measurements).verdict == .worse)
    #expect(try overall(net(5, 6), measurements).verdict == .better)
    #expect(try overall(net(2.8, 3.2), measurements).verdict == .inconclusive)
  }
}

@Suite("What a documented pair implies")
struct ImpliedTests {
  @Test("is the concurrency of Little's law, and the plugin work that would make the latency true")
  func pair() throws {
    var check = ClaimCheck(
      spec: claim(low: 0.72, high: 0.88, of: .ffi, rate: 44000),
      conditions: [.init(circumstance: .unloaded, target: "ffi", load: "closed-1")])
    let measurements = replicates("ffi", load: "closed-1", around: 100_000, transport: .ffi)
    let pair = try #require(ImpliedPair.pairs([check], measurements: measurements).first)
    #expect(abs(pair.inFlight - 35.2) < 1e-9)
    #expect(try abs(#require(pair.workMicroseconds) - (800 - 102)) < 1)
    let table = ResultTables.implied([pair])
    #expect(table.rows[0].map(\.text).contains("698 µs"))
    let slow = replicates("ffi", load: "closed-1", around: 2_000_000, transport: .ffi)
    let none = ResultTables.implied(ImpliedPair.pairs([check], measurements: slow))
    #expect(none.rows[0].contains { $0.text?.hasPrefix("none") == true })
    check.spec.documentedRatePerSecond = nil
    #expect(ImpliedPair.pairs([check], measurements: measurements).isEmpty)
  }
}

@Suite("What bare C does beside the figures")
struct BaselineTests {
  @Test("gives a warning where a figure is within twice of it, and none otherwise")
  func near() throws {
    var run = document(
      replicates("near", load: "closed-1", around: 150_000).map(alone)
        + replicates("far", load: "closed-1", around: 900_000).map(alone))
    #expect(ResultTables.baseline(run).rows.isEmpty && ResultTables.nearBaseline(run).isEmpty)
    run.baseline = BaselineFigures(
      measured: UTCSecond(epochSeconds: 1_795_323_860), ffiNanoseconds: 50,
      nats: [.init(inFlight: 1, ratePerSecond: 10_000, p50Microseconds: 100)])
    #expect(ResultTables.baseline(run).rows.count == 2)
    let warnings = ResultTables.nearBaseline(run)
    #expect(warnings.count == 1 && warnings[0].hasPrefix("near, closed-1: p50 is within 1.54 times"))
    #expect(try run.json().contains("\"floor\""))
    let back = try RunDocument(json: try #require(run.json().data(using: .utf8)), path: "run.json")
    #expect(back == run)
  }

  private func alone(_ measurement: Measurement) -> Measurement {
    var one = measurement
    one.concurrency = 1
    return one
  }
}

@Suite("A condition on two targets")
struct RatioExpectationTests {
  @Test("is about the median of paired ratios", arguments: [(2.5, true), (3.5, false)])
  func ratio(bound: Double, isMet: Bool) {
    let expectation = Expectation(
      text: "x", target: "nats", load: "closed-64", metric: "response_p50_us",
      divisor: .init(target: "ffi", load: "closed-64", metric: "response_p50_us"), comparison: ">",
      bound: bound)
    let result = ExpectationResult(expectation, measurements: both())
    #expect(result.verdict == (isMet ? .met : .notMet))
    #expect(result.measured.map { abs($0 - 3) < 0.01 } == true)
    let alone = ExpectationResult(expectation, measurements: both().filter { $0.target == "nats" })
    #expect(alone.verdict == .unmeasured && alone.why.contains("'ffi' was not measured"))
    let invalid = ExpectationResult(expectation, measurements: both(invalid: [.steal]))
    #expect(invalid.verdict == (isMet ? .unmeasured : .notMet))
  }
}
