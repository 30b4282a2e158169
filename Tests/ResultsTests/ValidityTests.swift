import Testing

import Lab

@testable import Engine
@testable import Report
@testable import Results

private let context = ValidityContext(timerFloorNanoseconds: 60_000, optimisedBuild: true)

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
    target: "nats", transport: "nats", handler: "authz", load: "open-1000", offeredRatePerSecond: 1000,
    concurrency: 1024, payloadBytes: 0, replicate: 1, durationSeconds: 5, scopes: [request])
}

private func windows(p50: [UInt64]) -> [MeasurementWindow] {
  p50.enumerated().map { place, value in
    MeasurementWindow(
      startSeconds: Double(place), durationSeconds: 1, completed: 1000, p50Nanoseconds: value,
      p99Nanoseconds: nil, maxNanoseconds: value)
  }
}

private func codes(_ measurement: Measurement, _ context: ValidityContext = context) -> [String] {
  Validity.assess(measurement, context: context).reasons.map(\.code.rawValue)
}

@Suite("A measurement's validity")
struct ValidityTests {
  @Test("stands when nothing speaks against it")
  func valid() {
    let (reasons, warnings) = Validity.assess(fitting(), context: context)
    #expect(reasons.isEmpty)
    #expect(warnings == ["p99.9 needs 5 s more: under 10 samples lie beyond it"])
  }

  @Test("falls with a send lag over a tenth of the median and over the timer's floor, not with one of both")
  func late() {
    var measurement = fitting()
    measurement.scopes[0].sendLag.record(150_000, times: 100)
    #expect(codes(measurement) == ["generator_late"])
    #expect(codes(measurement, ValidityContext(timerFloorNanoseconds: 200_000, optimisedBuild: true)) == [])
    measurement.scopes[0].response = LatencyHistogram()
    measurement.scopes[0].response.record(2_000_000, times: 5000)
    #expect(codes(measurement) == [])
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
    let debug = ValidityContext(timerFloorNanoseconds: 60_000, optimisedBuild: false)
    #expect(codes(measurement, debug) == ["unoptimised_build", "steal"])
    measurement.stealShare = 0.05
    #expect(codes(measurement) == [])
  }

  @Test("falls when windows rise steadily, not when they waver or hardly change")
  func trend() {
    var measurement = fitting()
    measurement.windows = windows(p50: [100, 120, 140, 160, 180, 200, 220])
    #expect(codes(measurement) == ["never_steady"])
    measurement.windows = windows(p50: [1000, 1001, 1002, 1003, 1004, 1005, 1006])
    #expect(codes(measurement) == [])
    measurement.windows = windows(p50: [100, 220, 120, 200, 110, 210, 150])
    #expect(codes(measurement) == [])
  }

  @Test("stands with a warning when Little's law is off by over 5 % in a closed load")
  func little() {
    var measurement = fitting()
    measurement.offeredRatePerSecond = nil
    measurement.concurrency = 1
    #expect(Validity.assess(measurement, context: context).warnings.count == 1)
    measurement.concurrency = 2
    let warnings = Validity.assess(measurement, context: context).warnings
    #expect(
      warnings.first?.hasPrefix("Little's law: throughput x mean response time is 50 % under") == true)
    #expect(codes(measurement) == [])
  }

  @Test("falls when nothing was answered well, whatever was sent, and says what happened in which phase")
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
    let detail = try #require(Validity.assess(measurement, context: context).reasons.first?.detail)
    #expect(detail.contains("none of 67 requests"))
    #expect(detail.contains("request_filter: timeouts 64, handler errors 3"))
    #expect(detail.contains("\"no such user\""))
  }

  @Test("stands without an answer when nothing was measured at all: the interruption says why")
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
    // A plugin that calls Next twice is odd, but its phases are timed to their end.
    measurement.transport = "ffi"
    measurement.scopes[0].counts.retries = 0
    #expect(codes(measurement) == [])
  }

  @Test("falls with a stall")
  func stalled() throws {
    var measurement = fitting()
    measurement.stall = MeasuredStall(
      Stall(start: 2_000_000_000, end: 3_000_000_000, slowestBefore: 5_000_000), measureStart: 500_000_000)
    let reason = try #require(Validity.assess(measurement, context: context).reasons.first)
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
    let warnings = Validity.assess(measurement, context: context).warnings
    #expect(warnings.first == "10 of 5000 requests failed: logging: timeouts 10")
  }
}
