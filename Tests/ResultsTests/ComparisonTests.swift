import Lab
@testable import Scenario
import Testing

import func Foundation.cos
import func Foundation.log

@testable import Engine
@testable import Report
@testable import Results

private func row(
  _ measurements: [Measurement], _ targets: [Target], metric: String = "response_p50_us", a: String? = nil
) throws -> ComparisonRow {
  let rows = Comparison.rows(measurements: measurements, targets: targets)
  return try #require(rows.first { $0.metric == metric && (a == nil || $0.a == a) })
}

private let ffi = ffiTarget("ffi")
private let nats = natsTarget("nats")

/// Replicates whose median response times are these, microseconds.
private func timed(
  _ target: String, _ microseconds: [UInt64], transport: TransportKind = .nats,
  invalid: [Int: InvalidReason.Code] = [:]
) -> [Measurement] {
  microseconds.enumerated().map { place, time in
    measurement(
      target, replicate: place + 1, around: time * 1000, transport: transport,
      invalid: invalid[place].map { [$0] } ?? [])
  }
}

@Suite("A comparison")
struct ComparisonTests {
  @Test("is the ratio of paired replicates with its exact interval and p, the FFI target first")
  func ratio() throws {
    let measurements =
      timed("nats", [990, 1000, 1010, 1020, 1030, 1040])
      + timed("ffi", [10, 10, 10, 10, 10, 10], transport: .ffi)
    let row = try row(measurements, [nats, ffi])
    #expect(row.a == "ffi" && row.b == "nats")
    #expect(row.condition == "open-1000" && row.unit == "us")
    let ratio = try #require(row.ratio)
    #expect(abs(ratio - 101.5) < 0.3)
    #expect(row.ratioLow.map { abs($0 - 99) < 0.3 } == true)
    #expect(row.ratioHigh.map { abs($0 - 104) < 0.3 } == true)
    #expect(row.pValue == 0.03125 && row.pairs == 6)
    #expect(row.noiseFloor.map { abs($0 - 0.02) < 1e-9 } == true)
    #expect(row.verdict == .different && row.isRegression)
  }

  @Test("of under six replicates has a ratio, no interval, and is unclear")
  func tooFew() throws {
    let row = try row(
      replicates("ffi", around: 10_000, count: 5, transport: .ffi)
        + replicates("nats", around: 1_000_000, count: 5), [ffi, nats])
    #expect(row.ratio != nil && row.ratioLow == nil)
    #expect(row.verdict == .unclear)
    #expect(row.why.hasPrefix("5 pairs of replicates, but an interval needs 6"))
  }

  @Test("of a broken condition is unclear, and says why")
  func invalid() throws {
    let row = try row(
      replicates("ffi", around: 10_000, count: 6, transport: .ffi)
        + replicates("nats", around: 1_000_000, count: 6, invalid: [.workerDied]), [ffi, nats])
    #expect(row.verdict == .unclear)
    #expect(row.why.isEmpty == false && row.bValue != nil)
  }

  @Test("of a hundred times stays different though replicates were disturbed; of five percent it does not")
  func disturbed() throws {
    let fast = timed("ffi", [100, 100, 100, 100, 100, 100, 100], transport: .ffi)
    let large = try row(
      fast + timed("nats", [10000, 10000, 10000, 10000, 10000, 10000, 90000], invalid: [6: .steal]),
      [ffi, nats])
    #expect(large.verdict == .different && large.pairs == 6)
    #expect(large.why.contains("1 replicates not used"))
    let small = try row(
      fast + timed("nats", [105, 105, 105, 105, 105, 105, 60], invalid: [6: .steal]), [ffi, nats])
    #expect(small.verdict == .unclear)
    #expect(small.why.hasPrefix("not firm: with the disturbed replicates the verdict is unclear"))
  }

  @Test(
    "of a condition that never got steady is firm where twice its change would not change it",
    arguments: [(1000, .different), (25, .different), (13, .unclear), (10, .unclear)]
      as [(UInt64, ComparisonRow.Verdict)])
  func neverSteady(microseconds: UInt64, verdict: ComparisonRow.Verdict) throws {
    // From 0.82 to 1.18 of the middle: a factor of 1.44, and twice that is 2.07.
    let slow = unsteady(replicates("nats", around: microseconds * 1000), change: 0.36)
    let row = try row(replicates("ffi", around: 10_000, transport: .ffi) + slow, [ffi, nats])
    #expect(row.verdict == verdict, "\(row)")
    #expect(row.why.contains("never_steady"))
    if verdict == .different { #expect(row.why.contains("with figures 107 % off"), "\(row.why)") }
    let wide = Comparison.rows(
      measurements: replicates("ffi", around: 10_000, transport: .ffi) + slow, targets: [ffi, nats],
      equivalence: 1000)
    #expect(wide.first { $0.metric == "response_p50_us" }?.verdict == verdict)
    // The interval that is shown is that of the figures.
    #expect(row.ratioHigh.map { $0 < Double(microseconds) / 10 * 1.06 } == true)
  }

  @Test(
    "with too few undisturbed replicates is firm where each of them and the interval of all say so",
    arguments: [
      ([900, 910, 920, 300, 400, 500, 600], .different), ([900, 910, 105, 300, 400, 500, 600], .different),
      ([900, 910, 101, 300, 400, 500, 600], .unclear), ([900, 910, 920, 300, 400, 100, 60], .unclear),
      ([101, 101, 101, 101, 101, 101, 101], .same), ([104, 97, 100, 95, 106, 100, 104], .same),
      ([104, 97, 112, 95, 106, 100, 104], .unclear), ([104, 97, 100, 95, 106, 100, 120], .unclear),
      ([110, 110, 90, 300, 400, 500, 600], .unclear),
    ] as [([UInt64], ComparisonRow.Verdict)])
  func fewUndisturbed(times: [UInt64], verdict: ComparisonRow.Verdict) throws {
    // The first three are undisturbed.
    let stolen = Dictionary(uniqueKeysWithValues: (3..<7).map { ($0, InvalidReason.Code.steal) })
    let fast = timed("ffi", Array(repeating: 100, count: 7), transport: .ffi)
    let row = try row(fast + timed("nats", times, invalid: stolen), [ffi, nats])
    #expect(row.verdict == verdict, "\(row)")
    // The interval of all replicates decides, or none.
    #expect(row.pairs == (verdict == .unclear ? 3 : 7) && (row.ratioLow == nil) == (verdict == .unclear))
    if let ratio = row.ratio, let low = row.ratioLow, let high = row.ratioHigh {
      #expect(low <= ratio && ratio <= high && low < 3.1 && high > 1)
    }
    if verdict != .unclear { #expect(row.why.hasPrefix("3 pairs of replicates were undisturbed")) }
    #expect((row.sameWithin != nil) == (verdict == .same))
  }

  @Test(
    "with hardly an undisturbed replicate is firm where a factor of 2 in the ratio would not change it",
    arguments: [
      ([900, 910, 920, 300, 400, 500, 600], 2, .different),
      ([900, 910, 920, 300, 400, 500, 600], 0, .different),
      ([10, 11, 12, 30, 40, 20, 45], 0, .different), ([190, 910, 920, 300, 400, 500, 600], 0, .unclear),
      ([900, 101, 920, 300, 400, 500, 600], 2, .unclear), ([900, 90, 920, 300, 400, 500, 600], 0, .unclear),
      ([101, 101, 101, 101, 101, 101, 101], 2, .unclear), ([101, 101, 101, 101, 101, 101, 101], 0, .unclear),
      ([900, 910, 920, 300, 400], 0, .unclear),
    ] as [([UInt64], Int, ComparisonRow.Verdict)])
  func hardlyUndisturbed(times: [UInt64], undisturbed: Int, verdict: ComparisonRow.Verdict) throws {
    let stolen = Dictionary(
      uniqueKeysWithValues: (undisturbed..<times.count).map { ($0, InvalidReason.Code.steal) })
    let open =
      timed("ffi", Array(repeating: 100, count: times.count), transport: .ffi, invalid: stolen)
      + timed("nats", times, invalid: stolen)
    let closed = open.map { one in
      var closed = one
      closed.offeredRatePerSecond = nil
      return closed
    }
    let row = try row(closed, [ffi, nats])
    #expect(row.verdict == verdict, "\(row)")
    #expect(row.ratio != nil && (row.ratioLow != nil) == (verdict == .different))
    // At an open load's rate, queueing may multiply what a disturbance takes.
    #expect(try ResultsTests.row(open, [ffi, nats]).verdict == .unclear)
    if verdict == .different {
      #expect(row.why.hasPrefix("\(undisturbed) pairs of replicates were undisturbed"), "\(row.why)")
      #expect(row.why.contains("off by a factor of 2") && !row.why.contains("not used"), "\(row.why)")
      #expect(row.pairs == times.count)
    }
  }

  @Test(
    "of a side that was always disturbed is firm where the other, undisturbed side is the worse one",
    arguments: [(["ffi"], .different), (["nats"], .unclear), (["ffi", "nats"], .unclear)]
      as [([String], ComparisonRow.Verdict)])
  func oneSideDisturbed(disturbed: [String], verdict: ComparisonRow.Verdict) throws {
    func all(_ target: String, _ times: [UInt64]) -> [Measurement] {
      let isDisturbed = disturbed.contains(target)
      return timed(
        target, times, transport: target == "ffi" ? .ffi : .nats,
        invalid: isDisturbed ? Dictionary(uniqueKeysWithValues: times.indices.map { ($0, .steal) }) : [:])
    }
    let both = all("ffi", [100, 90, 500, 120, 95, 130]) + all("nats", [800, 810, 820, 830, 840, 850])
    let row = try row(both, [ffi, nats])
    #expect(row.verdict == verdict, "\(row)")
    guard verdict == .different else { return }
    #expect(row.pairs == 6 && row.ratioLow.map { abs($0 - 1.64) < 0.02 } == true, "\(row)")
    #expect(row.why.contains("disturbed replicates of ffi, which disturbances only make worse"), "\(row.why)")
    // Throughput: the undisturbed side has to be the one with less.
    let rates = Comparison.rows(measurements: both, targets: [ffi, nats]).first {
      $0.metric == "throughput_rps"
    }
    #expect(rates?.verdict == .unclear)
  }

  @Test(
    "of a condition that was mostly disturbed and never got steady needs a difference beyond twice its change",
    arguments: [
      ([900, 910, 920, 300, 400, 500, 600], .different), ([900, 910, 190, 300, 400, 500, 600], .unclear),
      ([900, 910, 920, 300, 400, 500, 190], .unclear),
    ] as [([UInt64], ComparisonRow.Verdict)])
  func fewUndisturbedAndUnsteady(times: [UInt64], verdict: ComparisonRow.Verdict) throws {
    let stolen = Dictionary(uniqueKeysWithValues: (3..<7).map { ($0, InvalidReason.Code.steal) })
    let all = timed("nats", times, invalid: stolen)
    let slow = unsteady(Array(all.prefix(3)), change: 0.36) + all.dropFirst(3)
    let fast = timed("ffi", Array(repeating: 100, count: 7), transport: .ffi)
    let row = try row(fast + slow, [ffi, nats])
    #expect(row.verdict == verdict, "\(row)")
    #expect(row.why.contains("never_steady"), "\(row.why)")
  }

  @Test("is unclear when response time says one thing and service time another")
  func lateGenerator() throws {
    // The generator's lateness alone makes one target's response time longer.
    var late = replicates("nats", around: 1_000_000, count: 6)
    for place in late.indices {
      late[place].scopes[0].response = histogram(around: 2_000_000)
      late[place].scopes[0].sendLag = histogram(around: 1_000_000)
    }
    let row = try row(
      late + replicates("other", around: 1_000_000, count: 6), [nats, natsTarget("other", group: "o")])
    #expect(row.verdict == .unclear)
    #expect(row.why.hasPrefix("not firm: by service time the verdict is same"))
    #expect(row.why.contains("50 % of nats's is the generator's send lag"))
  }

  @Test("is the same within as much as its interval reaches, up to the equivalence limit")
  func same() throws {
    let targets = [nats, natsTarget("other", group: "others")]
    let close = timed("other", [1010, 990, 1020, 1000, 1030, 1005])
    let one = try row(timed("nats", [1000, 1000, 1000, 1000, 1000, 1000]) + close, targets)
    #expect(one.verdict == .same && one.sameWithin.map { abs($0 - 0.03) < 0.003 } == true)
    #expect(one.verdictText == "same within \(Number.percent(one.sameWithin) ?? "")")
    let strict = Comparison.rows(
      measurements: timed("nats", [1000, 1000, 1000, 1000, 1000, 1000]) + close, targets: targets,
      equivalence: 0.02)
    #expect(strict.first { $0.metric == "response_p50_us" }?.verdict == .unclear)
  }

  @Test("must exceed the bias of an A/A pair, which is judged like any other pair")
  func bias() throws {
    // The twin is 10 % slower in every round, the other pool 8 %, and a third one 50 %.
    let measurements =
      timed("nats", Array(repeating: 1000, count: 6)) + timed("twin", Array(repeating: 1100, count: 6))
      + timed("other", Array(repeating: 1080, count: 6)) + timed("slow", Array(repeating: 1500, count: 6))
    let targets = [
      nats, natsTarget("twin"), natsTarget("other", group: "others"), natsTarget("slow", group: "s"),
    ]
    let rows = Comparison.rows(measurements: measurements, targets: targets)
      .filter { $0.metric == "response_p50_us" && $0.a == "nats" }
    #expect(rows.map(\.b) == ["twin", "other", "slow"])
    #expect(rows[1].noiseFloor.map { abs($0 - 0.1) < 0.003 } == true)
    #expect(rows.map(\.verdict) == [.different, .same, .different])
  }

  @Test("ignores an A/A pair whose interval contains 1, however wide it is")
  func widePair() throws {
    let measurements =
      timed("nats", Array(repeating: 1000, count: 6)) + timed("twin", [500, 3000, 900, 1200, 800, 1100])
      + timed("other", Array(repeating: 1300, count: 6))
    let targets = [nats, natsTarget("twin"), natsTarget("other", group: "others")]
    let rows = Comparison.rows(measurements: measurements, targets: targets)
    #expect(rows.first { $0.metric == "response_p50_us" && $0.b == "other" }?.verdict == .different)
  }

  @Test("names the two modes that replicates fall into")
  func modes() throws {
    let row = try row(
      timed("ffi", Array(repeating: 4, count: 6), transport: .ffi)
        + timed("nats", [100, 300, 100, 300, 100, 300]),
      [ffi, nats])
    #expect(row.why.contains("nats has two modes: 100 µs (3) and 300 µs (3)"))
  }

  @Test("is not made of targets with other phases, nor of loads that only one had")
  func notComparable() {
    var shorter = natsTarget("nats")
    shorter.phases = [.requestFilter]
    let measurements =
      replicates("ffi", around: 10_000, transport: .ffi) + replicates("nats", around: 1_000_000)
    #expect(Comparison.rows(measurements: measurements, targets: [ffi, shorter]).isEmpty)
    let apart =
      replicates("ffi", load: "closed-1", around: 10_000, transport: .ffi)
      + replicates("nats", around: 1_000_000)
    #expect(Comparison.rows(measurements: apart, targets: [ffi, nats]).isEmpty)
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

/// A draw of a replicate's logarithm of a figure.
private enum Noise: String, CaseIterable {
  case normal, heavyTailed, twoModes

  func draw(_ spread: Double, _ random: inout SplitMix64) -> Double {
    switch self {
    case .normal: return spread * random.normal()
    case .heavyTailed:
      // Student's t with 2 degrees of freedom.
      let (x, y, z) = (random.normal(), random.normal(), random.normal())
      return spread * x / ((y * y + z * z) / 2).squareRoot()
    case .twoModes:
      return (random.next() & 1 == 0 ? 1.0986 : 0) + spread * random.normal()
    }
  }
}

extension SplitMix64 {
  fileprivate mutating func normal() -> Double {
    // Box and Muller 1958. The first of the uniform numbers is never 0.
    let (radius, turn) = (Double(next() >> 11) + 0.5, Double(next() >> 11))
    return (-2 * log(radius * 0x1p-53)).squareRoot() * cos(2 * .pi * turn * 0x1p-53)
  }
}

/// The looks of a run of up to so many rounds.
private func looks(upTo mostRounds: Int) -> [Int] { (1...mostRounds).filter(Comparison.isLook) }

private let usualLooks = looks(upTo: 12)

/// What a run with these looks says of two targets, and of an A/A pair beside them, that share a drift.
///
/// A disturbance makes one side of a pair up to 20 times slower.
private func verdict(
  _ noise: Noise, spread: Double, ratio: Double, disturbed share: Double = 0, looks: [Int] = usualLooks,
  random: inout SplitMix64
) -> RatioCall {
  func isDisturbed() -> Bool { share > 0 && Double.random(in: 0..<1, using: &random) < share }
  func delay(_ isDisturbed: Bool) -> Double {
    isDisturbed ? Double.random(in: 0..<log(20), using: &random) : 0
  }
  var all: [Double] = [], undisturbed: [Double] = [], undisturbedAA: [Double] = []
  // Those in which at least this side was undisturbed.
  var ofFirst: [Double] = [], ofSecond: [Double] = []
  for rounds in looks {
    while all.count < rounds {
      let drift = 0.1 * random.normal()
      let (first, second, twin) = (isDisturbed(), isDisturbed(), isDisturbed())
      let a = drift + noise.draw(spread, &random) + delay(first)
      let difference = drift + noise.draw(spread, &random) + delay(second) + log(ratio) - a
      let differenceAA = drift + noise.draw(spread, &random) + delay(twin) - a
      all.append(difference)
      if !first { ofFirst.append(difference) }
      if !second { ofSecond.append(difference) }
      if !first, !second { undisturbed.append(difference) }
      if !first, !twin { undisturbedAA.append(differenceAA) }
    }
    let ratios = LogRatios(differences: undisturbed)
    let whole = share > 0 ? LogRatios(differences: all) : ratios
    let margin = ratios.margin(bias: LogRatios(differences: undisturbedAA).interval?.nearest ?? 0)
    let call: RatioCall
    if let interval = ratios.interval {
      call = RatioCall(interval, margin: margin, equivalence: Comparison.equivalence)
      let ofAll = whole.interval.map { RatioCall($0, margin: margin, equivalence: Comparison.equivalence) }
      guard ofAll == call else { continue }
    } else {
      let evidence: [Evidence] = [
        Evidence(
          ratios: whole, doubt: Statistics.doubtLogarithm(undisturbed: undisturbed.count, isOpen: false)),
        Evidence(ratios: LogRatios(differences: ofSecond), supports: .more),
        Evidence(ratios: LogRatios(differences: ofFirst), supports: .less),
      ]
      let calls = evidence.lazy.compactMap {
        RatioCall(undisturbed: ratios, $0, margin: margin, equivalence: Comparison.equivalence)
      }
      call = calls.first ?? .unclear
    }
    if call != .unclear { return call }
  }
  return .unclear
}

@Suite("The verdict over all looks of a run")
struct SimulationTests {
  private static let spreads = [0.02, 0.05, 0.1, 0.3, 1]

  /// A verdict that is wrong is one by chance, in at most 5 % of 10,000 runs.
  private func expectSeldom(seed: UInt64, _ isWrong: (inout SplitMix64) -> Bool) {
    var random = SplitMix64(seed: seed)
    let runs = 10_000
    let wrong = (0..<runs).count { _ in isWrong(&random) }
    #expect(wrong * 20 <= runs, "\(wrong) of \(runs)")
  }

  @Test(
    "calls equal targets different in at most 5 % of 10,000 runs, whatever the noise",
    arguments: Noise.allCases, spreads)
  fileprivate func equalTargets(noise: Noise, spread: Double) {
    expectSeldom(seed: 11) { verdict(noise, spread: spread, ratio: 1, random: &$0).verdict == .different }
  }

  @Test(
    "calls equal targets different in at most 5 % of 10,000 runs of up to 24 rounds",
    arguments: Noise.allCases, [0.1, 1])
  fileprivate func manyRounds(noise: Noise, spread: Double) {
    let looks = looks(upTo: 24)
    expectSeldom(seed: 17) {
      verdict(noise, spread: spread, ratio: 1, looks: looks, random: &$0).verdict == .different
    }
  }

  @Test(
    "calls equal targets different in at most 5 % of 10,000 runs, however many replicates are disturbed",
    arguments: Noise.allCases, [0.2, 0.4, 1])
  fileprivate func disturbedTargets(noise: Noise, share: Double) {
    expectSeldom(seed: 13) {
      verdict(noise, spread: 0.3, ratio: 1, disturbed: share, random: &$0).verdict == .different
    }
  }

  @Test(
    "calls targets just over 10 % apart the same in at most 5 % of 10,000 runs, however many are disturbed",
    arguments: Noise.allCases, [0.2, 0.4])
  fileprivate func unequalTargets(noise: Noise, share: Double) {
    expectSeldom(seed: 15) {
      verdict(noise, spread: 0.05, ratio: 1.101, disturbed: share, random: &$0) == .same
    }
  }

  @Test("finds a target three times as slow in most runs of which 40 % of the replicates are disturbed")
  func powerAmongDisturbances() {
    var random = SplitMix64(seed: 14)
    let found = (0..<1000).count { _ in
      verdict(.normal, spread: 0.1, ratio: 3, disturbed: 0.4, random: &random) == .more
    }
    #expect(found > 500, "\(found) of 1000")
  }

  @Test("finds a difference of 30 %, and one of 10 % where replicates are steady")
  func power() {
    var random = SplitMix64(seed: 12)
    func share(_ noise: Noise, _ spread: Double, _ ratio: Double) -> Double {
      Double((0..<1000).count { _ in verdict(noise, spread: spread, ratio: ratio, random: &random) == .more })
        / 1000
    }
    #expect(share(.normal, 0.05, 1.3) > 0.97)
    #expect(share(.heavyTailed, 0.05, 1.3) > 0.95)
    #expect(share(.normal, 0.1, 1.3) > 0.95)
    #expect(share(.normal, 0.05, 1.1) > 0.7)
    #expect(share(.twoModes, 0.05, 2.7) > 0.4)
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
