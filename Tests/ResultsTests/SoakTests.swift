import Lab
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// A soak of 60 intervals, each with a p50 and p99 that the place says, in microseconds, and a memory at both ends.
private func soak(
  p50: (Int) -> UInt64 = { 100 + UInt64($0 % 5) }, endBytes: UInt64 = 21 << 20,
  invalid: [InvalidReason.Code] = []
) -> Measurement {
  var one = measurement("nats", load: "open-1000", around: 1_000_000, invalid: invalid)
  one.durationSeconds = 1800
  one.windows = (0..<60).map { place in
    MeasurementWindow(
      startSeconds: Double(place) * 30, durationSeconds: 30, completed: 30_000 + UInt64(place % 7),
      p50Nanoseconds: p50(place) * 1000, p99Nanoseconds: 4 * p50(place) * 1000, maxNanoseconds: nil,
      failed: 0,
      timeouts: 0)
  }
  one.generator = ProcessCosts(residentStartBytes: 20 << 20, residentEndBytes: endBytes)
  one.soak = true
  return one
}

@Suite("A soak")
struct SoakTests {
  private func verdicts(_ one: Measurement) -> [String] {
    SoakResult.all(document([one])).flatMap(\.checks).map { check in
      check.verdict.rawValue + check.text.dropFirst("nats.open-1000".count)
    }
  }

  @Test("holds where memory, counts, rate and times stay as they are")
  func holds() {
    #expect(
      verdicts(soak()) == [
        "met: memory of the generator is flat", "met: counts close",
        "met: req/s of the last sixth equals the first",
        "met: p50 of the last sixth equals the first",
        "met: p99 of the last sixth equals the first",
      ])
    let run = document([soak()])
    #expect(run.expectations.count == 5)
    #expect(
      Answer.text(run, folder: "f", colour: false).contains(
        "'nats' at open-1000 for 1800 s: 5 of 5 checks of the soak hold."))
  }

  @Test("says what has changed, and no more than that")
  func changes() {
    let slower = verdicts(soak(p50: { $0 < 50 ? 100 + UInt64($0 % 5) : 120 + UInt64($0 % 5) }))
    #expect(
      slower.filter { $0.hasPrefix("not_met") }.map { $0.contains(" p50 ") || $0.contains(" p99 ") } == [
        true, true,
      ])
    // In between it may do what it likes.
    let meanwhile = verdicts(soak(p50: { (10..<50).contains($0) ? 500 : 100 + UInt64($0 % 5) }))
    #expect(meanwhile.allSatisfy { $0.hasPrefix("met") })
    let grown = verdicts(soak(endBytes: 40 << 20))
    #expect(grown.filter { $0.hasPrefix("not_met") } == ["not_met: memory of the generator is flat"])
  }

  @Test("that has changed agrees with a new load right after it if the machine has changed")
  func control() {
    func figures(_ new: UInt64) -> [String] {
      let long = soak(p50: { $0 < 50 ? 200 + UInt64($0 % 5) : 100 + UInt64($0 % 5) })
      #expect(SoakResult(long).needsControl && !SoakResult(soak()).needsControl)
      var control = soak(p50: { new + UInt64($0 % 5) })
      (control.replicate, control.windows) = (2, Array(control.windows.prefix(10)))
      #expect(SoakResult.all(document([long, control])).count == 1)
      return SoakResult.all(document([long, control]))[0].checks.suffix(2).map {
        $0.verdict.rawValue + $0.text.dropFirst("nats.open-1000".count)
      }
    }
    #expect(
      figures(101) == [
        "met: p50 of the last sixth equals a new load", "met: p99 of the last sixth equals a new load",
      ])
    #expect(figures(200).allSatisfy { $0.hasPrefix("not_met") && $0.hasSuffix("a new load") })
  }

  @Test("confirms no invalid measurement, and says nothing about one without intervals")
  func unknown() {
    #expect(verdicts(soak(invalid: [.steal])).allSatisfy { $0.hasPrefix("unmeasured") })
    var short = soak()
    short.windows = Array(short.windows.prefix(12))
    #expect(verdicts(short).suffix(3).allSatisfy { $0.hasPrefix("unmeasured") })
    #expect(SoakResult.all(document(replicates("nats", around: 1_000_000))).isEmpty)
  }
}
