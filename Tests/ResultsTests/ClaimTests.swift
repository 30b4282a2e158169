import Lab
@testable import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

private typealias Circumstances = [(ClaimSpec.Circumstance, String)]

private func check(_ spec: ClaimSpec, _ conditions: Circumstances) -> ClaimCheck {
  ClaimCheck(
    spec: spec,
    conditions: conditions.map { ClaimCheck.Condition(circumstance: $0.0, target: "nats", load: $0.1) })
}

private func latency(
  _ low: Double?, _ high: Double?, conditions: Circumstances = [(.documentedRate, "open-1000")],
  id: String = "nats-latency", unit: ClaimSpec.Unit = .milliseconds
) -> ClaimCheck {
  check(claim(id, low: low, high: high, unit: unit), conditions)
}

private func rate(
  _ low: Double, _ high: Double, conditions: Circumstances = [(.documentedRate, "open-1000")]
) -> ClaimCheck {
  check(
    claim(low: low, high: high, unit: .requestsPerSecond, metric: "throughput_rps", better: .higher),
    conditions)
}

private func overall(_ check: ClaimCheck, _ measurements: [Measurement]) throws -> ClaimVerdict {
  try #require(ClaimEvaluator.verdicts([check], measurements: measurements).first { $0.isOverall })
}

@Suite("A claim about latency")
struct LatencyClaimTests {
  @Test(
    "is judged by where the interval of the median lies",
    arguments: [
      (0.9, 1.1, .confirmed), (2, 3, .better), (0.1, 0.5, .worse), (1.01, 1.2, .inconclusive),
      (nil, 1.5, .confirmed), (nil, 0.5, .worse), (0.5, nil, .confirmed),
    ] as [(Double?, Double?, ClaimVerdict.Verdict)])
  func verdicts(low: Double?, high: Double?, verdict: ClaimVerdict.Verdict) throws {
    let row = try overall(latency(low, high), replicates("nats", around: 1_000_000))
    #expect(row.verdict == verdict)
    let measured = try #require(row.measured)
    #expect(abs(measured - 1.025) < 0.002)
    #expect(row.low.map { abs($0 - 1) < 0.002 } == true)
    #expect(row.high.map { abs($0 - 1.05) < 0.002 } == true)
  }

  @Test(
    "keeps its range as numbers and its target, which reports read; of a run that has only texts, they read those"
  )
  func numbers() throws {
    var run = document(replicates("nats", load: "closed-1", around: 600_000))
    run.judge([check(claim(low: 0.5, high: 0.7, rate: 1000), [(.unloaded, "closed-1")])])
    #expect(run.claims.map(\.documentedLow) == [0.5, 0.5] && run.claims.map(\.documentedHigh) == [0.7, 0.7])
    #expect(run.claims.map(\.target) == ["nats", nil])
    let report = HTMLReport.render(run)
    var older = run
    for place in older.claims.indices {
      older.claims[place].documentedLow = nil
      older.claims[place].documentedHigh = nil
      older.claims[place].target = nil
      run.claims[place].documented = "half to most of one"
      run.claims[place].condition += run.claims[place].isOverall ? "" : ", alone"
    }
    #expect(HTMLReport.render(older) == report)
    for claims in [run.claims, older.claims] { #expect(claims.map { $0.isAbout("nats") } == [true, false]) }
    for text in [report, HTMLReport.render(run)] {
      #expect(text.contains("data-low=\"500\" data-high=\"700\""))
    }
  }

  @Test("says p99, how many replicates there were, and the requests in flight")
  func why() throws {
    let row = try overall(latency(0.9, 1.1), replicates("nats", around: 1_000_000))
    for part in [
      "by b open-1000 nats", "median of 6 replicates", "p99 1.53 ms",
      "Little's law: 1,000 req/s x 1.02 ms = 1.02 in flight",
    ] {
      #expect(row.why.contains(part), "\(part) in \(row.why)")
    }
  }

  @Test("has a figure but no interval and no verdict under six replicates, and says so")
  func fewReplicates() throws {
    let row = try overall(latency(0.9, 1.1), replicates("nats", around: 1_000_000, count: 5))
    #expect(row.verdict == .inconclusive)
    #expect(row.measured != nil && row.low == nil)
    #expect(row.why.contains("5 replicates, but an interval needs 6"))
  }

  @Test("is not firm when disturbed replicates or the service time say something else")
  func firm() throws {
    let six = replicates("nats", around: 1_000_000)
    let odd = measurement("nats", replicate: 7, around: 3_000_000, invalid: [.steal])
    let disturbed = try overall(latency(0.9, 1.1), six + [odd])
    #expect(disturbed.verdict == .inconclusive)
    #expect(disturbed.why.contains("not firm: with the disturbed replicates it is inconclusive"))
    var late = six
    for place in late.indices { late[place].scopes[0].service = histogram(around: 100_000) }
    let row = try overall(latency(0.9, 1.1), late)
    #expect(row.verdict == .inconclusive && row.why.contains("not firm: by service time it is better"))
  }

  @Test("is decided under load, for any unloaded time")
  func loadDecides() throws {
    let check = latency(
      0.9, 1.1,
      conditions: [
        (.unloaded, "closed-1"), (.documentedRate, "open-1000"), (.impliedConcurrency, "closed-64"),
      ])
    let measurements =
      replicates("nats", load: "closed-1", around: 1_000_000) + replicates("nats", around: 5_000_000)
      + replicates("nats", load: "closed-64", around: 1_000_000)
    let rows = ClaimEvaluator.verdicts([check], measurements: measurements)
    #expect(rows.map(\.verdict) == [.confirmed, .worse, .confirmed, .worse])
    #expect(
      rows.map(\.condition) == ["a closed-1 nats", "b open-1000 nats", "c closed-64 nats", "overall"])
  }

  @Test("is worse when the documented rate cannot be reached, and only then")
  func saturated() throws {
    let tired = replicates("nats", around: 1_000_000, invalid: [.generatorLate, .saturated])
    #expect(try overall(latency(0.9, 1.1), tired).verdict == .worse)
    #expect(
      try overall(latency(0.9, 1.1, conditions: [(.unloaded, "open-1000")]), tired).verdict == .inconclusive)
    let stolen = replicates("nats", around: 1_000_000, invalid: [.saturated, .steal])
    #expect(try overall(latency(0.9, 1.1), stolen).verdict == .inconclusive)
  }

  @Test("is inconclusive when the measurement is invalid or too small, and shows the figure")
  func invalid() throws {
    let row = try overall(latency(0.9, 1.1), replicates("nats", around: 1_000_000, invalid: [.steal]))
    #expect(row.verdict == .inconclusive)
    #expect(row.measured != nil)
    #expect(row.why.contains("invalid (steal): seen steal"))
    let small = replicates("nats", around: 1_000_000, count: 1, samples: 4)
    #expect(try overall(latency(0.9, 1.1), small).verdict == .inconclusive)
  }

  @Test("is not measured with the reason when nothing was")
  func notMeasured() throws {
    var check = latency(0.9, 1.1)
    #expect(try overall(check, []).verdict == .notMeasured)
    #expect(try overall(check, []).why == "target 'nats' was not measured under load 'open-1000'")
    check.notMeasured = "needs Go; apt install golang"
    let rows = ClaimEvaluator.verdicts([check], measurements: replicates("nats", around: 1_000_000))
    #expect(rows.map(\.verdict) == [.notMeasured])
    #expect(rows[0].why == "needs Go; apt install golang")
    let odd = latency(1, 2, unit: .percent)
    #expect(try overall(odd, replicates("nats", around: 1_000_000)).verdict == .notMeasured)
  }
}

@Suite("A claim about a condition that was mostly disturbed")
struct DisturbedClaimTests {
  @Test(
    "has the verdict that each undisturbed replicate and the interval of all have",
    arguments: [(3, 5, .better), (0.5, 2.5, .confirmed), (0.5, 1.5, .inconclusive), (0.1, 0.5, .worse)]
      as [(Double, Double, ClaimVerdict.Verdict)])
  func latencies(low: Double, high: Double, verdict: ClaimVerdict.Verdict) throws {
    // Of the disturbed ones each took 2 ms.
    let all =
      replicates("nats", around: 1_000_000, count: 3)
      + (3..<9).map { measurement("nats", replicate: $0 + 1, around: 2_000_000, invalid: [.steal]) }
    let row = try overall(latency(low, high), all)
    #expect(row.verdict == verdict)
    // The interval of all replicates decides, or none.
    #expect((row.low == nil) == (verdict == .inconclusive) && (row.high == nil) == (row.low == nil))
    if let measured = row.measured, let low = row.low, let high = row.high {
      #expect(low <= measured && measured < 1.1 && high > 1.9)
    }
  }

  @Test(
    "needs room for a factor of 2 when hardly one replicate was undisturbed",
    arguments: [
      (4.2, 5, 2, .better), (3, 5, 2, .inconclusive), (0.1, 0.45, 2, .worse), (0.1, 0.6, 2, .inconclusive),
      (0.4, 4.2, 2, .confirmed), (0.6, 4.2, 2, .inconclusive), (4.2, 5, 0, .better), (3, 5, 0, .inconclusive),
      (0.1, 0.9, 0, .worse), (0.1, 1.1, 0, .inconclusive),
    ] as [(Double, Double, Int, ClaimVerdict.Verdict)])
  func hardlyOne(low: Double, high: Double, undisturbed: Int, verdict: ClaimVerdict.Verdict) throws {
    // The undisturbed ones took 1 ms, the others 2 ms.
    func all(_ load: String) -> [Measurement] {
      replicates("nats", load: load, around: 1_000_000, count: undisturbed)
        + (2..<8).map {
          measurement("nats", load: load, replicate: $0 + 1, around: 2_000_000, invalid: [.steal])
        }
    }
    let unloaded = latency(low, high, conditions: [(.unloaded, "closed-1")])
    let row = try overall(unloaded, all("closed-1"))
    #expect(row.verdict == verdict, "\(row)")
    if verdict != .inconclusive { #expect(row.why.contains("\(undisturbed) replicates were undisturbed")) }
    // Too few disturbed ones have no interval, and those of an open load no bound.
    #expect(try overall(unloaded, Array(all("closed-1").prefix(5))).verdict == .inconclusive)
    #expect(try overall(latency(low, high), all("open-1000")).verdict == .inconclusive)
  }

  @Test(
    "and never got steady needs room for twice its change around each undisturbed replicate",
    arguments: [
      (5, 6, .better), (0.4, 5, .confirmed), (0.6, 5, .inconclusive), (0.1, 0.4, .worse),
      (0.1, 0.6, .inconclusive),
    ]
      as [(Double, Double, ClaimVerdict.Verdict)])
  func unsteadyLatencies(low: Double, high: Double, verdict: ClaimVerdict.Verdict) throws {
    // Of the disturbed ones each took 2 ms; twice the change is a factor of 2.07.
    let all =
      unsteady(replicates("nats", around: 1_000_000, count: 3), change: 0.36)
      + (3..<9).map { measurement("nats", replicate: $0 + 1, around: 2_000_000, invalid: [.steal]) }
    let row = try overall(latency(low, high), all)
    #expect(row.verdict == verdict, "\(row)")
    #expect(row.why.contains("never_steady"), "\(row.why)")
  }
}

@Suite("A claim about a condition that never got steady")
struct UnsteadyClaimTests {
  @Test(
    "is firm where figures twice its change off, either way, would not change the verdict",
    arguments: [
      (2.5, 3, .better), (nil, 2.5, .confirmed), (0.1, 0.4, .worse), (0.4, 2.5, .confirmed),
      (1.5, 3, .inconclusive), (nil, 1.5, .inconclusive), (0.1, 0.6, .inconclusive),
    ] as [(Double?, Double?, ClaimVerdict.Verdict)])
  func latencies(low: Double?, high: Double?, verdict: ClaimVerdict.Verdict) throws {
    // 1 ms; twice the change is a factor of 2.07.
    let row = try overall(
      latency(low, high), unsteady(replicates("nats", around: 1_000_000), change: 0.36))
    #expect(row.verdict == verdict, "\(row)")
    #expect(row.why.contains("never_steady"), "\(row.why)")
    #expect(try abs(#require(row.measured) - 1.025) < 0.01)
  }
}

@Suite("A claim about throughput")
struct ThroughputClaimTests {
  @Test(
    "is judged by where the interval of the rate lies",
    arguments: [(900, 1100, .confirmed), (450, 550, .better), (1800, 2200, .worse)]
      as [(Double, Double, ClaimVerdict.Verdict)])
  func verdicts(low: Double, high: Double, verdict: ClaimVerdict.Verdict) throws {
    #expect(try overall(rate(low, high), replicates("nats", around: 1_000_000)).verdict == verdict)
  }

  @Test("is worse when the load at the documented rate is saturated below the range")
  func saturated() throws {
    let tired = replicates("nats", around: 1_000_000, invalid: [.saturated])
    #expect(try overall(rate(1800, 2200), tired).verdict == .worse)
    let never = replicates("nats", around: 1_000_000, invalid: [.neverSteady])
    #expect(try overall(rate(900, 1100), never).verdict == .inconclusive)
  }

  @Test("is the highest rate seen: a slower closed loop does not contradict it")
  func highest() throws {
    let check = rate(
      900, 1100, conditions: [(.documentedRate, "open-1000"), (.impliedConcurrency, "closed-1")])
    let slow = replicates("nats", load: "closed-1", around: 1_000_000, samples: 400)
    #expect(try overall(check, replicates("nats", around: 1_000_000) + slow).verdict == .confirmed)
    #expect(try overall(check, slow).verdict == .inconclusive)
    let fast = replicates("nats", load: "closed-1", around: 1_000_000, samples: 4000)
    let row = try overall(check, replicates("nats", around: 1_000_000) + fast)
    #expect(row.verdict == .better)
    #expect(row.measured == 2000)
  }

  @Test(
    "is inconclusive while a closed loop may reach more than the documented rate, which an open load cannot")
  func openEnd() throws {
    let check = rate(
      900, 1100, conditions: [(.documentedRate, "open-1000"), (.impliedConcurrency, "closed-1")])
    let wide = (0..<6).map { place in
      measurement(
        "nats", load: "closed-1", replicate: place + 1, around: 1_000_000, count: place < 3 ? 400 : 4000)
    }
    let row = try overall(check, replicates("nats", around: 1_000_000) + wide)
    #expect(row.verdict == .inconclusive && row.why.contains("the documented rate is reached"), "\(row)")
  }
}

@Suite("Other claims")
struct OtherClaimTests {
  @Test("are made for sessions and for single phases, and name the target that is missing")
  func checks() {
    var phase = ffiTarget("ffi-phase")
    phase.phases = Array(phase.phases.prefix(1))
    var spec = claim("overhead", low: 2, high: 3, of: .ffi)
    spec.conditions = [.init(circumstance: .unloaded, load: "closed-1")]
    var plan = document([]).scenario
    plan.targets = [ffiTarget("ffi"), phase]
    let checks = ClaimCheck.all([spec], plan: plan)
    #expect(checks.map(\.id) == ["overhead", "overhead-per-phase"])
    #expect(checks.map { $0.conditions.map(\.label) } == [["a closed-1 ffi"], ["a closed-1 ffi-phase"]])
    #expect(checks.map(\.subject) == ["ffi latency", nil])
    spec.against = .nats
    #expect(ClaimCheck.all([spec], plan: plan)[0].notMeasured?.contains("no nats target") == true)
    spec.target = .natsNet
    #expect(
      ClaimCheck.all([spec], plan: plan).map(\.notMeasured) == [
        "the scenario has no nats-net target; add one under `targets`"
      ])
  }

  @Test("give a further subject a verdict of its own, which decides no claim")
  func furtherSubjects() throws {
    var spec = claim("latency", low: 0.9, high: 1.1, of: .ffi)
    spec.conditions = [
      .init(circumstance: .unloaded, load: "closed-1"),
      .init(circumstance: .documentedRate, load: "open-1000"),
    ]
    var go = ffiTarget("ffi-go")
    go.transport = .ffi(FFISpec(file: "./plugin-go.so"))
    go.optional = true
    go.loads = [.closed(concurrency: 1)]
    var plan = document([]).scenario
    plan.targets = [ffiTarget("ffi"), go]
    let checks = ClaimCheck.all([spec], plan: plan)
    #expect(checks.map { $0.conditions.map(\.label) } == [["a closed-1 ffi", "b open-1000 ffi"]])
    #expect(checks.map { $0.further.map(\.label) } == [["a closed-1 ffi-go"]])
    let measurements =
      replicates("ffi", load: "closed-1", around: 1_000_000, transport: .ffi)
      + replicates("ffi", around: 1_000_000, transport: .ffi)
      + replicates("ffi-go", load: "closed-1", around: 9_000_000, transport: .ffi)
    let rows = ClaimEvaluator.verdicts(checks, measurements: measurements)
    #expect(rows.first { $0.condition == "a closed-1 ffi-go" }?.verdict == .worse)
    #expect(rows.first(where: \.isOverall)?.verdict == .confirmed)

    var run = document(measurements, targets: plan.targets)
    run.judge(checks)
    let answer = Answer.text(run, folder: "results/run", colour: false)
    #expect(answer.contains("ffi-go: p50 9.2"), "\(answer)")
    #expect(answer.contains("; verdicts: 1 worse."), "\(answer)")
    plan.targets = [go]
    #expect(ClaimCheck.all([spec], plan: plan)[0].conditions.map(\.target) == ["ffi-go", "ffi-go"])
  }

  @Test("of two documents that disagree have a row about it, which is not an overall one")
  func disagreement() throws {
    let other = latency(500, 900, id: "other", unit: .microseconds)
    let rows = ClaimEvaluator.verdicts([latency(2, 3), other], measurements: [])
    let row = try #require(rows.last)
    #expect(row.condition == ClaimVerdict.disagreement)
    #expect(row.id == "nats-latency~other")
    #expect(row.verdict == .fails)
    #expect(!row.isOverall)
    #expect(row.why == "guide.md:38 says 2 to 3 ms, guide.md:38 says 500 to 900 us; they cannot both be true")
    let agreeing = latency(2900, 3100, id: "other", unit: .microseconds)
    #expect(
      ClaimEvaluator.verdicts([latency(2, 3), agreeing], measurements: []).allSatisfy {
        $0.isOverall || $0.verdict == .notMeasured
      })
  }
}
