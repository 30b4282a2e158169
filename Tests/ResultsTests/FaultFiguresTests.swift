import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// What happened in a window of 100 ms.
struct FaultWindow {
  /// Good answers.
  var ok: UInt64 = 50
  var timeouts: UInt64 = 0
  var lost: UInt64 = 0
  var retries: UInt64 = 0
  var gapMilliseconds: UInt64?
  var troubleAt: Double?
}

/// A load of 500 requests a second with a number of windows, and the faults injected under it.
func faulty(
  _ target: String = "nats", windows count: Int = 60, replicate: Int = 1, faults: [FaultRecord],
  _ window: (_ at: Double) -> FaultWindow = { _ in FaultWindow() }
) -> Measurement {
  var one = measurement(target, load: "open-500-uniform", replicate: replicate, around: 1_000_000)
  one.offeredRatePerSecond = 500
  one.durationSeconds = Double(count) / 10
  one.faults = faults
  one.windows = (0..<count).map { place in
    let start = Double(place) / 10
    let happened = window(start)
    var counts = OutcomeCounts()
    counts[.ok] = happened.ok
    counts[.timeouts] = happened.timeouts
    counts[.lost] = happened.lost
    counts[.retries] = happened.retries
    counts[.sent] = counts.ended
    return MeasurementWindow(
      startSeconds: start, durationSeconds: 0.1, completed: happened.ok + happened.timeouts,
      p50Nanoseconds: 1_000_000, p99Nanoseconds: nil, maxNanoseconds: 2_000_000,
      failed: happened.timeouts + happened.lost, timeouts: happened.timeouts, counts: counts,
      longestGapNanoseconds: happened.gapMilliseconds.map { $0 * 1_000_000 },
      firstTroubleSeconds: happened.troubleAt)
  }
  var counts = OutcomeCounts()
  for window in one.windows { counts.add(window.counts ?? OutcomeCounts()) }
  one.scopes[0].counts = counts
  return one
}

private func killed(at seconds: Double, number: Int = 1) -> FaultRecord {
  FaultRecord(number: number, words: "worker \(number) killed", begunSeconds: seconds)
}

@Suite("The figures of a fault")
struct FaultFiguresTests {
  @Test("are those of its span: from its window to that of the next fault, or the end")
  func spans() throws {
    let one = faulty(faults: [killed(at: 2.02), killed(at: 4.01, number: 2)]) { at in
      at >= 2 && at < 2.05
        ? FaultWindow(ok: 47, timeouts: 2, lost: 1, retries: 3, gapMilliseconds: 7, troubleAt: 2.031)
        : at > 3.95 && at < 4.05
          ? FaultWindow(ok: 49, lost: 1, gapMilliseconds: 3, troubleAt: 4.005) : FaultWindow()
    }
    let outcomes = FaultOutcome.all(one)
    try #require(outcomes.count == 2)
    let (first, second) = (outcomes[0], outcomes[1])
    #expect(first.counts[.sent] == 1000 && first.failed == 3 && first.counts[.retries] == 3)
    #expect(first.longestGapSeconds == 0.007 && abs(first.spanSeconds - 1.99) < 1e-9)
    #expect(first.detectedSeconds.map { abs($0 - 0.011) < 1e-9 } == true)
    #expect(first.failingSeconds.map { abs($0 - 0.08) < 1e-9 } == true)
    #expect(first.recovery == .atOnce && first.recoveredSeconds == 0)
    #expect(first.ratePerSecondBefore == 500)
    // What went wrong first in the window came before the fault, and so is not its.
    #expect(second.detectedSeconds == nil && second.failed == 1 && second.counts[.sent] == 1000)
    #expect(second.spanSeconds.rounded() == 2)
  }

  @Test("say when the rate was back, for good")
  func recovery() throws {
    func outcome(_ window: (Double) -> FaultWindow) throws -> FaultOutcome {
      try #require(FaultOutcome.all(faulty(faults: [killed(at: 2)], window)).first)
    }
    let back = try outcome { $0 > 1.95 && $0 < 3.45 ? FaultWindow(ok: 0, timeouts: 50) : FaultWindow() }
    #expect(back.recovery == .later && back.recoveredSeconds == 1.5)
    let lower = try outcome { $0 > 1.95 ? FaultWindow(ok: 40, lost: 10) : FaultWindow() }
    #expect(lower.recovery == .never && lower.recoveredSeconds == nil)
    // Back for a while, and then low again until the end.
    let twice = try outcome {
      $0 > 1.95 && $0 < 2.45 || $0 > 5.35 ? FaultWindow(ok: 0, lost: 50) : FaultWindow()
    }
    #expect(twice.recovery == .never)
    let dip = try outcome { $0 > 3.95 && $0 < 4.05 ? FaultWindow(ok: 20, lost: 30) : FaultWindow() }
    #expect(dip.recovery == .later && dip.recoveredSeconds.map { abs($0 - 2.1) < 1e-9 } == true)
  }

  @Test("do not attribute a pause of the machine to the fault: slightly late answers still count")
  func pause() throws {
    let late = faulty(faults: [killed(at: 2)]) {
      $0 > 3.95 && $0 < 4.05
        ? FaultWindow(ok: 10) : $0 > 4.05 && $0 < 4.15 ? FaultWindow(ok: 90) : FaultWindow()
    }
    #expect(try #require(FaultOutcome.all(late).first).recovery == .atOnce)
    // A second in which nothing is answered is no pause, even where all is answered after it.
    let stopped = faulty(faults: [killed(at: 2)]) {
      $0 > 1.95 && $0 < 2.95
        ? FaultWindow(ok: 0) : $0 > 2.95 && $0 < 3.05 ? FaultWindow(ok: 550) : FaultWindow()
    }
    #expect(
      try #require(FaultOutcome.all(stopped).first).recoveredSeconds.map { abs($0 - 0.6) < 0.01 } == true)
  }

  @Test("are in faults.csv, whose columns keep their order")
  func columns() {
    let text = csv("faults.csv", run([faulty(faults: [killed(at: 2)])]))
    #expect(
      text.prefix { $0 != "\r\n" }
        == "target,load,fault,what,replicate,begun_s,over_s,span_s,before_rps,requests,ok,handler_errors,timeouts,"
        + "rejected,shed,lost,late,duplicates,unexpected,protocol_errors,no_responders,retries,wrong_content,"
        + "failed,longest_gap_s,detected_s,failing_s,recovered_s,recovered,response_p50_us,response_max_us")
  }

  @Test("are empty where they are not known, and never 0")
  func unknown() throws {
    let early = try #require(FaultOutcome.all(faulty(faults: [killed(at: 0.2)])).first)
    #expect(early.ratePerSecondBefore == nil && early.recovery == nil && early.recoveredSeconds == nil)
    let late = try #require(FaultOutcome.all(faulty(faults: [killed(at: 5.8)])).first)
    #expect(late.recovery == nil && late.detectedSeconds == nil && late.longestGapSeconds == nil)
    let undone = FaultRecord(number: 1, words: "worker 9 killed", error: "no such worker")
    #expect(FaultOutcome.all(faulty(faults: [undone])).isEmpty)
    var older = faulty(faults: [killed(at: 2)])
    older.windows[3].counts = nil
    #expect(FaultOutcome.all(older).isEmpty)
    let row = try #require(records(csv("faults.csv", run([faulty(faults: [killed(at: 0.2)])]))).first)
    #expect(row["before_rps"] == "" && row["recovered_s"] == "" && row["recovered"] == "")
    #expect(row["longest_gap_s"] == "" && row["detected_s"] == "" && row["failed"] == "0")
  }

  /// A run whose targets have one fault each.
  private func run(_ all: [Measurement]) -> RunDocument {
    let targets = all.map(\.target).uniqued().map { name in
      var target = natsTarget(name)
      target.faults = [FaultSpec(.kill, .worker(nil), atSeconds: 2...3)]
      return target
    }
    return document(all, targets: targets)
  }

  /// Six rounds with the given numbers of failed requests and lost windows.
  private func rounds(_ target: String, failed: [UInt64], down: [Int?]) -> [Measurement] {
    failed.indices.map { place in
      let begun = 2 + Double(place) / 10
      return faulty(target, replicate: place + 1, faults: [killed(at: begun)]) { at in
        let since = ((at - begun) * 10).rounded()
        if let down = down[place], since >= 0, since < Double(down) { return FaultWindow(ok: 0, lost: 50) }
        if down[place] == nil, since >= 0 { return FaultWindow(ok: 30, lost: 20) }
        return since == 0
          ? FaultWindow(ok: 50 - failed[place], timeouts: failed[place], troubleAt: at + 0.02) : FaultWindow()
      }
    }
  }

  @Test("are medians over rounds with their exact interval; `never` is later than every time")
  func medians() throws {
    let made = run(
      rounds("retry", failed: [0, 1, 1, 2, 2, 3], down: Array(repeating: 0, count: 6))
        + rounds("end", failed: Array(repeating: 0, count: 6), down: [5, 5, 6, 10, nil, nil]))
    let all = FaultFigures.all(made)
    #expect(all.map(\.target) == ["retry", "end"] && all.map(\.words) == ["worker killed", "worker killed"])
    let failed = try #require(all[0].summary { Double($0.failed) })
    #expect(failed.median == 1.5 && failed.low == 0 && failed.high == 3)
    let back = try #require(all[1].summary(\.comeback))
    #expect(abs(back.median - 0.8) < 1e-6 && back.high == .infinity)
    let rows = records(csv("faults.csv", made)).filter { $0["target"] == "end" }
    #expect(rows.map { $0["replicate"] ?? "" } == ["1", "2", "3", "4", "5", "6", "median", "low", "high"])
    #expect(rows.map { $0["recovered_s"] ?? "?" } == ["0.5", "0.5", "0.6", "1", "", "", "0.8", "0.5", ""])
    #expect(
      rows[4]["recovered"] == "never" && rows[0]["recovered"] == "later" && rows[6]["what"] == "worker killed"
    )
  }

  @Test("are in the answer as a sentence for each target and as a table, in few lines of 100 columns")
  func answer() throws {
    let made = run(
      rounds("retry", failed: Array(repeating: 0, count: 6), down: Array(repeating: 0, count: 6))
        + rounds("end", failed: [1, 2, 2, 2, 2, 3], down: Array(repeating: 0, count: 6))
        + rounds("gone", failed: Array(repeating: 0, count: 6), down: Array(repeating: nil, count: 6)))
    #expect(made.comparisons.isEmpty && made.isValid)
    let text = Answer.text(made, folder: "results/x", colour: false)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.count <= 41 && lines.allSatisfy { $0.count <= 100 }, "\(text)")
    #expect(
      text.contains("'retry', worker killed: none of 1,875 requests failed; the rate never fell under 95 %."),
      "\(text)")
    #expect(text.contains("2 of 1,875 requests failed (2 timed out), none after 100 ms"), "\(text)")
    #expect(text.replacing("\n  ", with: " ").contains("the rate never came back"), "\(text)")
    #expect(lines.contains("Worker killed, open-500-uniform (medians of 6 rounds)"), "\(text)")
    #expect(
      lines.contains { $0.hasPrefix("figure ") && $0.contains("retry") && $0.hasSuffix("gone") }, "\(text)")
    #expect(lines.contains { $0.hasPrefix("failed ") && $0.contains("2 (1 to 3)") }, "\(text)")
    #expect(lines.contains { $0.contains(/^recovered after +at once +at once +never$/) }, "\(text)")
    #expect(Headline(made).sentence.hasPrefix("'retry', worker killed"))
    for report in [MarkdownReport.render(made), HTMLReport.render(made)] {
      #expect(report.contains("Faults, one by one") && report.contains("worker 1 killed"))
    }
  }

  @Test("are marked in the charts over the measured time of one round, since times differ between rounds")
  func marks() throws {
    let html = HTMLReport.render(run(rounds("end", failed: [1, 1, 1, 1, 1, 1], down: [5, 5, 5, 5, 5, 5])))
    #expect(html.split(separator: "class=\"event\" data-x=\"2\"").count == 4)
    #expect(html.contains("Failures over the measured time") && html.contains("Replicate 1 alone is shown"))
    let plain = HTMLReport.render(document(replicates("nats", around: 1_000_000)))
    #expect(!plain.contains("class=\"event\"") && !plain.contains("Failures over"))
  }
}

@Suite("A load with faults")
struct FaultValidityTests {
  private func codes(_ one: Measurement) -> [InvalidReason.Code] {
    Validity.assess(one, optimisedBuild: true).reasons.map(\.code)
  }

  @Test("is judged by neither a stall nor a rate that is not reached, and is in no comparison")
  func judged() {
    var one = faulty(faults: [killed(at: 2)]) { $0 > 1.95 ? FaultWindow(ok: 0, lost: 50) : FaultWindow() }
    one.stall = MeasuredStall(startSeconds: 2, seconds: 4, slowestBeforeNanoseconds: 5)
    #expect(codes(one).isEmpty)
    var without = one
    without.faults = nil
    #expect(codes(without).contains(.stalled) && codes(without).contains(.saturated))
    let all = (1...6).flatMap {
      [
        faulty(replicate: $0, faults: [killed(at: 2)]),
        faulty("other", replicate: $0, faults: [killed(at: 2)]),
      ]
    }
    let run = document(all)
    #expect(
      run.comparisons.isEmpty && run.isValid && Gate(run, run, comparisons: [], margin: 0.1).rows.isEmpty)
  }

  @Test("without an answer before its first fault is invalid, as any load is that was never answered")
  func neverAnswered() {
    func silent(begun: Double) -> Measurement {
      var one = faulty(faults: [killed(at: begun)]) { _ in FaultWindow(ok: 0, lost: 50) }
      one.scopes[0].okInWindow = 0
      return one
    }
    #expect(codes(silent(begun: 2)) == [.noAnswers])
    #expect(codes(silent(begun: 0.01)).isEmpty)
  }

  @Test("is broken when a fault could not be done, and says which and why")
  func undone() {
    var one = faulty(faults: [
      FaultRecord(number: 2, words: "worker 9 killed", error: "worker 9 does not run")
    ])
    let reasons = Validity.assess(one, optimisedBuild: true).reasons
    #expect(reasons.map(\.code) == [.faultFailed])
    #expect(
      reasons[0].detail.contains("fault 2, 'worker 9 killed'") && reasons[0].detail.contains("does not run"))
    one.invalidReasons = reasons
    #expect(one.isBroken)
  }
}
