import Lab
import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// Replicates of a closed load with one in flight, whose median response times are these, microseconds.
private func alone(_ target: String, _ microseconds: [UInt64], invalid: [InvalidReason.Code] = [])
  -> [Measurement]
{
  microseconds.enumerated().map { place, time in
    var one = measurement(
      target, load: "closed-1", replicate: place + 1, around: time * 1000, count: 1100, transport: .ffi,
      invalid: invalid)
    one.concurrency = 1
    return one
  }
}

/// Replicates of a closed load with many in flight and a given throughput.
private func crowded(_ rates: [UInt64]) -> [Measurement] {
  rates.enumerated().map { place, rate in
    measurement("nats", load: "closed-64", replicate: place + 1, around: 1_000_000, count: 2 * rate)
  }
}

private func run(_ name: String, _ measurements: [Measurement], bareNanoseconds: Double? = nil) -> RunDocument
{
  var run = document(measurements)
  run.runID = name
  run.baseline = bareNanoseconds.map {
    BaselineFigures(measured: UTCSecond(epochSeconds: 0), ffiNanoseconds: $0, nats: [])
  }
  return run
}

private func gate(_ older: RunDocument, _ newer: RunDocument, margin: Double = Gate.standardMargin) -> Gate {
  Gate(older, newer, comparisons: Comparison.rows(older, newer), margin: margin)
}

private let steady: [UInt64] = [1000, 1010, 1005, 995, 1000, 990]

@Suite("A gate between two stored runs")
struct GateTests {
  @Test("passes runs that are the same or better, and stops those firmly worse by more than the margin")
  func verdicts() throws {
    let older = run("older", alone("ffi", steady))
    for (factor, verdict) in [(100, .kept), (70, .kept), (105, .kept), (130, .regressed)]
      as [(UInt64, GateRow.Verdict)]
    {
      let gate = gate(older, run("newer", alone("ffi", steady.map { $0 * factor / 100 })))
      #expect(gate.verdict == verdict, "\(factor) %")
      let row = try #require(gate.rows.first)
      #expect(gate.rows.count == 1 && row.metric == "response_p50_us")
      #expect(row.worse.map { abs($0 - (Double(factor) / 100 - 1)) < 0.01 } == true)
    }
    let slower = run("newer", alone("ffi", steady.map { $0 * 130 / 100 }))
    #expect(gate(older, slower, margin: 0.5).verdict == .kept)
    // One side alone decides: faster is no failure.
    #expect(gate(slower, older).verdict == .kept)
  }

  @Test("judges the throughput of a closed load with several in flight by the time that a request takes")
  func throughput() throws {
    let older = run("older", crowded([10_000, 10_100, 9900, 10_000, 10_050, 9950]))
    let newer = run("newer", crowded([7700, 7800, 7650, 7700, 7750, 7680]))
    let row = try #require(gate(older, newer).rows.first)
    #expect(row.metric == "throughput_rps" && row.verdict == .regressed)
    #expect(row.worse.map { abs($0 - 0.3) < 0.01 } == true)
    #expect(gate(newer, older).verdict == .kept)
  }

  @Test("is unclear where the interval reaches over the margin, or there are too few replicates")
  func unclear() {
    let older = run("older", alone("ffi", steady))
    let spread = run("newer", alone("ffi", [1000, 1300, 1000, 1300, 1000, 1300]))
    #expect(gate(older, spread).verdict == .unclear)
    #expect(
      gate(older, spread).rows[0].why.hasPrefix("over 10 % worse, but not firmly: the interval neither"))
    let wide = gate(older, run("newer", alone("ffi", [700, 1300, 1000, 1500, 900, 800])))
    #expect(wide.verdict == .unclear && wide.rows[0].why.hasPrefix("the interval is so wide"))
    let few = gate(older, run("newer", alone("ffi", [1000, 1000])))
    #expect(few.verdict == .unclear && few.rows[0].why.hasPrefix("6 and 2 usable replicates"))
  }

  @Test("does not pass an invalid condition, but a regression beside it counts first")
  func invalid() {
    let older = run("older", alone("ffi", steady) + alone("nats", steady))
    let dead = alone("ffi", steady, invalid: [.workerDied])
    #expect(gate(older, run("newer", dead + alone("nats", steady))).verdict == .invalid)
    #expect(gate(older, run("newer", dead + alone("nats", steady.map { $0 * 2 }))).verdict == .regressed)
    #expect(gate(older, run("newer", alone("other", steady))).verdict == .invalid)
  }

  @Test("stops a run that no longer reaches its rate, or fails more requests")
  func failing() {
    let older = run("older", replicates("nats", around: 1_000_000))
    let saturated = gate(older, run("newer", replicates("nats", around: 1_000_000, invalid: [.saturated])))
    #expect(saturated.verdict == .regressed && saturated.rows[0].why.hasPrefix("under 98 %"))
    var failing = replicates("nats", around: 1_000_000)
    for place in failing.indices {
      failing[place].scopes[0].counts.ok -= 40
      failing[place].scopes[0].counts.handlerErrors += 40
    }
    let row = gate(older, run("newer", failing)).rows[0]
    #expect(row.verdict == .regressed && row.why == "2 % of the requests fail, 0 % in the older run")
    #expect(gate(run("older", failing), run("newer", failing)).verdict == .kept)
  }

  @Test("excuses what bare C on the machine did, too, and says when a faster machine may hide something")
  func machine() {
    let older = run("older", alone("ffi", steady), bareNanoseconds: 100)
    let slower = alone("ffi", steady.map { $0 * 130 / 100 })
    #expect(gate(older, run("newer", slower, bareNanoseconds: 102)).verdict == .regressed)
    let excused = gate(older, run("newer", slower, bareNanoseconds: 128))
    #expect(excused.verdict == .unclear)
    #expect(excused.rows[0].why.hasPrefix("bare C also took 1.28 times as long"))
    let faster = run("newer", alone("ffi", steady), bareNanoseconds: 80)
    #expect(gate(older, faster).verdict == .kept)
    let text = StoredComparison(
      older: older, newer: faster, rows: Comparison.rows(older, faster), gate: gate(older, faster), notes: [])
    #expect(text.answer(colour: false).contains("faster than during the older run, by up to 25 %"))
  }

  @Test("names conditions of one run only, and is not made between machines or for other requests")
  func conditions() {
    let older = run("older", alone("ffi", steady) + alone("nats", steady))
    var newer = run("newer", alone("ffi", steady) + crowded([1, 1, 1, 1, 1, 1]))
    let gate = gate(older, newer)
    #expect(gate.rows.map(\.target) == ["ffi"])
    #expect(gate.onlyOlder == ["nats closed-1"] && gate.onlyNewer == ["nats closed-64"])
    newer.plugins[0].sha256 = "11"
    newer.scenarioSHA256 = "22"
    newer.machine.kernel = "6.1"
    #expect(Gate.obstacles(older, newer).isEmpty)
    newer.machine.cpuModel = "Another"
    newer.scenario.request.bodyBytes = 1
    newer.scenario.targets[0].phases = [.logging]
    #expect(
      Gate.obstacles(older, newer) == [
        "the CPU differs: Some CPU <8> and Another", "the request of the scenario differs",
        "the phases of target 'ffi' differ",
      ])
  }

  @Test("answers in the first line, in at most 40 lines of at most 100 columns, whatever was measured")
  func answer() {
    let names = (0..<16).map { "a-target-with-a-name-that-is-far-too-long-\($0)" }
    let older = run("20260101T120000Z-older", names.flatMap { alone($0, steady) })
    let newer = run("20260201T120000Z-newer", names.flatMap { alone($0, steady.map { $0 * 2 }) })
    let rows = Comparison.rows(older, newer)
    let notes = (0..<20).map {
      "the version of something \($0) differs: 1.2.3 and 1.2.4 of a very long day in May"
    }
    for gate in [gate(older, newer), nil] {
      let text = StoredComparison(older: older, newer: newer, rows: rows, gate: gate, notes: notes)
        .answer(colour: false)
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      #expect(lines.count <= 41 && lines.allSatisfy { $0.count <= 100 }, "\(text)")
      #expect(text.contains("more: --details") && text.contains("20260201T120000Z-newer"))
      #expect(text.hasPrefix(gate == nil ? "Of 32 figures 32 are worse" : "REGRESSED: 16 of 16 conditions"))
    }
    #expect(
      StoredComparison(older: older, newer: newer, rows: rows, gate: gate(older, newer), notes: [])
        .details(colour: false).contains("a-target-with-a-name-that-is-far-too-long-15 closed-1: regressed"))
  }

  @Test("adds its verdict to the row that it judged, or a row where the comparison has none")
  func attached() throws {
    let older = run("older", alone("ffi", steady) + alone("nats", steady))
    let empty = alone("nats", [1000]).map { one in
      var one = one
      one.scopes[0].response = LatencyHistogram()
      one.invalidReasons = [InvalidReason(code: .noAnswers, detail: "none")]
      return one
    }
    let newer = run("newer", alone("ffi", steady.map { $0 * 2 }) + empty)
    let rows = gate(older, newer).attached(to: Comparison.rows(older, newer), older, newer)
    let judged = rows.filter { $0.gate != nil }
    #expect(judged.map(\.b) == ["newer:ffi", "newer:nats"])
    #expect(judged.map { $0.gate?.verdict } == [.regressed, .invalid])
    #expect(try RunJSON.text(rows).contains("\"worse_low\""))
  }
}
