import Testing

import Lab

@testable import Engine
@testable import Report
@testable import Results

/// An open load of 1000 req/s for 5 s that fits, with each answer after 1 ms.
private func fitting() -> Measurement {
  var request = ScopeMeasurement(
    scope: "request", counts: OutcomeCounts(), okInWindow: 5000, response: LatencyHistogram(),
    service: LatencyHistogram(), sendLag: LatencyHistogram())
  request.counts.sent = 5000
  request.counts.ok = 5000
  request.response.record(1_000_000, times: 5000)
  request.service.record(1_000_000, times: 5000)
  request.sendLag.record(50_000, times: 5000)
  return Measurement(
    target: "nats", transport: .nats, handler: "authz", load: "open-1000", offeredRatePerSecond: 1000,
    concurrency: 1024, payloadBytes: 0, replicate: 1, durationSeconds: 5, scopes: [request])
}

private func windows(p50: [UInt64]) -> [MeasurementWindow] {
  p50.enumerated().map { place, value in
    MeasurementWindow(
      startSeconds: Double(place), durationSeconds: 1, completed: 1000, p50Nanoseconds: value,
      p99Nanoseconds: nil, maxNanoseconds: value)
  }
}

private func codes(_ measurement: Measurement, optimisedBuild: Bool = true) -> [String] {
  Validity.assess(measurement, optimisedBuild: optimisedBuild).reasons.map(\.code.rawValue)
}

@Suite("A measurement's validity")
struct ValidityTests {
  @Test("is valid when there is no reason against it")
  func valid() {
    let (reasons, warnings) = Validity.assess(fitting(), optimisedBuild: true)
    #expect(reasons.isEmpty)
    #expect(warnings == ["p99.9 needs 5 s more: under 10 samples lie beyond it"])
  }

  @Test("has late figures where the send lag is over a tenth of the response time at the same percentile")
  func late() throws {
    var measurement = fitting()
    measurement.scopes[0].sendLag.record(400_000, times: 100)
    #expect(codes(measurement) == [])
    var group = MeasurementGroup("nats", "open-1000", of: [measurement])
    #expect(group.lateShare(percentile: 50) == nil)
    #expect(try #require(group.lateShare(percentile: 99)) == 0.4)
    // Under what the clock can tell, nothing is late.
    group.measurements[0].scopes[0].response = LatencyHistogram()
    group.measurements[0].scopes[0].response.record(300, times: 5000)
    group.measurements[0].scopes[0].sendLag = LatencyHistogram()
    group.measurements[0].scopes[0].sendLag.record(90, times: 5000)
    #expect(group.lateShare(percentile: 99) == nil)
  }

  @Test("falls when under 98 % of the rate is answered")
  func saturated() {
    var measurement = fitting()
    measurement.scopes[0].okInWindow = 4890
    #expect(codes(measurement) == ["saturated"])
    measurement.scopes[0].okInWindow = 4910
    #expect(codes(measurement) == [])
    measurement.offeredRatePerSecond = nil
    measurement.scopes[0].okInWindow = 10
    #expect(codes(measurement) == [])
  }

  @Test("falls when the generator sent far fewer than the rate says, not by the chance of Poisson arrivals")
  func sentTooFew() {
    var measurement = fitting()
    measurement.scopes[0].counts.sent = 4800
    measurement.scopes[0].okInWindow = 4800
    #expect(codes(measurement) == [])
    measurement.scopes[0].counts.sent = 4000
    measurement.scopes[0].okInWindow = 4000
    #expect(codes(measurement) == ["saturated"])
  }

  @Test("falls with stolen CPU time and with an unoptimised build")
  func surroundings() {
    var measurement = fitting()
    measurement.stealShare = 0.06
    #expect(codes(measurement, optimisedBuild: false) == ["unoptimised_build", "steal"])
    measurement.stealShare = 0.05
    #expect(codes(measurement) == [])
  }

  @Test("is valid with a warning when Little's law is off by over 5 % in a closed load")
  func little() {
    var measurement = fitting()
    measurement.offeredRatePerSecond = nil
    measurement.concurrency = 1
    #expect(Validity.assess(measurement, optimisedBuild: true).warnings.count == 1)
    measurement.concurrency = 2
    let warnings = Validity.assess(measurement, optimisedBuild: true).warnings
    #expect(
      warnings.first?.hasPrefix("Little's law: throughput x mean response time is 50 % under") == true)
    #expect(codes(measurement) == [])
  }

  @Test("is invalid when nothing was answered well, and says what happened in which phase")
  func noAnswers() throws {
    var measurement = fitting()
    measurement.scopes[0].okInWindow = 0
    measurement.scopes[0].counts = OutcomeCounts()
    #expect(codes(measurement) == ["no_answers"])
    measurement.scopes[0].counts.sent = 67
    measurement.scopes[0].counts.timeouts = 64
    measurement.scopes[0].counts.handlerErrors = 3
    var phase = measurement.scopes[0]
    phase.scope = "request_filter"
    measurement.scopes.append(phase)
    measurement.evidence = FailureEvidence()
    measurement.evidence?.workerError = "no such user"
    let detail = try #require(Validity.assess(measurement, optimisedBuild: true).reasons.first?.detail)
    #expect(detail.contains("none of 67 requests"))
    #expect(detail.contains("request_filter: timeouts 64, handler errors 3"))
    #expect(detail.contains("\"no such user\""))
    measurement.evidence = nil
    #expect(
      Validity.assess(measurement, optimisedBuild: true).reasons.first?.detail.contains("check their log")
        == true)
    measurement.scopes[0].counts[.late] = 60
    let late = try #require(Validity.assess(measurement, optimisedBuild: true).reasons.first?.detail)
    #expect(
      late.contains("after their timeout (60): ask for a lower rate") && !late.contains("check their log"))
  }

  @Test("has no missing-answers reason when nothing was measured: the interruption says why")
  func nothingMeasured() {
    var measurement = fitting()
    measurement.durationSeconds = 0
    measurement.scopes[0].okInWindow = 0
    measurement.scopes[0].counts = OutcomeCounts()
    #expect(!codes(measurement).contains("no_answers"))
  }

  @Test("falls with replies that came again for over 1 % of the phases, unless retries explain them")
  func wrongDialect() {
    var measurement = fitting()
    var phase = measurement.scopes[0]
    phase.scope = "logging"
    measurement.scopes.append(phase)
    measurement.scopes[0].counts.duplicates = 50
    #expect(codes(measurement) == [])
    measurement.scopes[0].counts.duplicates = 51
    #expect(codes(measurement) == ["wrong_dialect"])
    measurement.scopes[0].counts.retries = 1
    #expect(codes(measurement) == [])
    measurement.evidence = FailureEvidence()
    measurement.evidence?.otherDialect = "has `method`"
    measurement.evidence?.otherDialectMaps = 51
    #expect(codes(measurement) == ["wrong_dialect"])
    measurement.evidence?.spokenDialect = .streamSDK
    let reason = Validity.assess(measurement, optimisedBuild: true).reasons.first
    #expect(reason?.detail.contains("this worker speaks stream-sdk: 51 maps") == true)
    // Where each call is a map, one that comes again is the handler's doing.
    measurement.evidence = nil
    measurement.dialect = .streamSDK
    measurement.scopes[0].counts.retries = 0
    #expect(codes(measurement) == [])
    // A plugin that calls Next twice is odd, but its phases are timed to their end.
    measurement.transport = .ffi
    measurement.scopes[0].counts.retries = 0
    #expect(codes(measurement) == [])
  }

  @Test("falls with a stall")
  func stalled() throws {
    var measurement = fitting()
    measurement.stall = MeasuredStall(startSeconds: 1.5, seconds: 1, slowestBeforeNanoseconds: 5_000_000)
    let reason = try #require(Validity.assess(measurement, optimisedBuild: true).reasons.first)
    #expect(reason.code == .stalled && reason.detail.contains("from 1.5 s"))
  }

  @Test("is told with what failed, when some requests did")
  func someFailed() {
    var measurement = fitting()
    measurement.scopes[0].counts.ok = 4990
    measurement.scopes[0].counts.timeouts = 10
    var phase = measurement.scopes[0]
    phase.scope = "logging"
    measurement.scopes.append(phase)
    let warnings = Validity.assess(measurement, optimisedBuild: true).warnings
    #expect(warnings.first == "10 of 5000 requests failed: logging: timeouts 10")
  }
}

/// Replicates of a closed load with those medians in their windows.
private func group(_ windows: [[UInt64]], invalid: [[InvalidReason.Code]] = []) -> MeasurementGroup {
  let all = windows.enumerated().map { place, medians in
    var one = measurement(
      "nats", load: "closed-8", replicate: place + 1, around: 1_000_000,
      invalid: place < invalid.count ? invalid[place] : [])
    one.windows = ResultsTests.windows(p50: medians)
    return one
  }
  return MeasurementGroup("nats", "closed-8", of: all)
}

@Suite("A condition")
struct ConditionTests {
  private let rising: [UInt64] = [100, 120, 140, 160, 180, 200, 220]
  private let wavering: [UInt64] = [100, 220, 120, 200, 110, 210, 150]

  @Test("is never steady when its replicates agree on a trend, not when one of them has one")
  func steadiness() {
    #expect(group([rising, rising, rising]).trend?.code == .neverSteady)
    #expect(group([rising, wavering, Array(rising.reversed()), wavering, wavering, wavering]).trend == nil)
    #expect(group([[1000, 1001, 1002, 1003, 1004, 1005, 1006]]).trend == nil)
  }

  @Test("is steady when a few replicates alone make a small p, since the windows of one depend on each other")
  func disagreement() throws {
    let steep = Array(rising.reversed())
    let mixed = [wavering, steep, steep, steep, rising, steep]
    let windows = group(mixed).measurements.map { $0.windows.map { Double($0.p50Nanoseconds ?? 0) } }
    let trend = try #require(Statistics.trend(windows))
    #expect(trend.pValue < Validity.trendProbability && !trend.isShared)
    #expect(group(mixed).trend == nil)
    #expect(group([steep, steep, steep, steep, steep, steep]).trend?.code == .neverSteady)
  }

  @Test("tells it when a run is judged, once, and takes it back when further replicates deny it")
  func judged() {
    var run = document(group([rising, rising, rising]).measurements)
    run.judge()
    #expect(run.measurements.allSatisfy { $0.invalidReasons.map(\.code) == [.neverSteady] })
    #expect(!run.isValid)
    run.measurements += group((0..<9).map { _ in Array(rising.reversed()) }).measurements
    for place in run.measurements.indices.suffix(6) {
      run.measurements[place].windows = ResultsTests.windows(p50: wavering)
    }
    run.judge()
    #expect(run.isValid)
  }

  @Test("is saturated when most of its replicates stay under the rate; a single one is disturbed")
  func saturation() {
    let one = group([[], [], []], invalid: [[.saturated]])
    #expect(!one.isSaturated && one.sound.map(\.replicate) == [2, 3] && one.isValid)
    let most = group([[], [], []], invalid: [[.saturated], [.saturated]])
    #expect(most.isSaturated && most.sound.count == 3 && most.isValid)
    #expect(most.validity == "saturated")
  }

  @Test("uses no broken and no disturbed replicate, and shows them when there is no other")
  func levels() {
    let some = group([[], [], []], invalid: [[.workerDied], [.steal]])
    #expect(some.sound.map(\.replicate) == [3] && some.whole.map(\.replicate) == [2, 3])
    #expect(some.validity == "2 of 3 not: worker_died, steal")
    let none = group([[], []], invalid: [[.workerDied], [.steal]])
    #expect(!none.isValid && none.used.map(\.replicate) == [2] && none.validity == "NO: steal, worker_died")
    #expect(group([[], []], invalid: [[.workerDied], [.workerDied]]).used.count == 2)
  }

  @Test(
    "uses no replicate that is broken or disturbed, whatever the reason",
    arguments: InvalidReason.Code.allCases.filter { [.broken, .disturbed].contains($0.level) })
  func unused(code: InvalidReason.Code) {
    #expect(group([[], []], invalid: [[code]]).sound.map(\.replicate) == [2])
  }

  @Test("keeps its figures when an old run says that the generator was late")
  func oldRuns() {
    #expect(group([[], []], invalid: [[.generatorLate], [.generatorLate]]).isValid)
  }
}
