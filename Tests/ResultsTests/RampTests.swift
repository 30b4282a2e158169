import struct Foundation.Data
import Testing

@testable import Scenario
@testable import Engine
@testable import Report
@testable import Results

/// A ramp from 1,000 to 11,000 requests a second within 10 s, with a limit on the answers per second.
private func ramp(
  _ target: String = "nats", capacity: Double, replicate: Int = 1, failed: UInt64 = 0
) -> Measurement {
  var one = measurement(target, load: "ramp-1000-11000", replicate: replicate, around: 1_000_000)
  let ramp = Ramp(fromPerSecond: 1000, toPerSecond: 11_000, overSeconds: 10)
  one.ramp = ramp
  one.offeredRatePerSecond = 6000
  one.durationSeconds = 10
  one.windows = (0..<10).map { place in
    let rate = ramp.ratePerSecond(at: Double(place) + 0.5)
    let isOver = rate > capacity
    return MeasurementWindow(
      startSeconds: Double(place), durationSeconds: 1, completed: UInt64(min(rate, capacity)),
      p50Nanoseconds: isOver ? 400_000_000 : 1_000_000, p99Nanoseconds: isOver ? 900_000_000 : 2_000_000,
      maxNanoseconds: 1_000_000_000, failed: failed, timeouts: 0)
  }
  return one
}

@Suite("A ramp")
struct RampTests {
  @Test("is followed up to the rate of the last step that is answered, the median over replicates")
  func followed() throws {
    #expect(ramp(capacity: 20_000).followedPerSecond == 11_000)
    #expect(ramp(capacity: 5600).followedPerSecond == 5500)
    #expect(ramp(capacity: 100).followedPerSecond == 0)
    #expect(ramp(capacity: 5600).figure("followed_rps") == 5500)
    #expect(ramp(capacity: 5600).figure("followed_rps", scope: "logging") == nil)
    #expect(measurement("nats", around: 1_000_000).followedPerSecond == nil)
    // A run that did not keep failures does not know.
    var older = ramp(capacity: 5600)
    older.windows[3].timeouts = nil
    #expect(older.followedPerSecond == nil)
    let course = try #require(
      RampCourse.all(
        document([
          ramp(capacity: 4600), ramp(capacity: 5600, replicate: 2), ramp(capacity: 9600, replicate: 3),
        ])
      ).first)
    #expect(course.followedPerSecond == 5500 && course.steps.count == 10)
    #expect(course.steps[9].askedPerSecond == 10_500 && course.steps[9].reachedPerSecond == 5600)
    #expect(course.steps[9].p50Microseconds == 400_000 && course.steps[0].p99Microseconds == 2000)
  }

  @Test(
    "has a sentence that says how far it is followed",
    arguments: [
      (20_000, "'nats' follows the schedule to its end, 11,000 requests/s (one replicate)."),
      (5600, "'nats' follows the schedule up to 5,500 requests/s, of 11,000 (one replicate)."),
      (100, "'nats' does not follow the schedule from its beginning, 1,000 requests/s (one replicate)."),
    ])
  func sentence(capacity: Double, words: String) {
    #expect(RampCourse.all(document([ramp(capacity: capacity)])).map(\.sentence) == [words])
  }

  @Test("is neither saturated nor unsteady, and no row of a comparison or of a gate")
  func judged() {
    let all = (1...6).map { ramp(capacity: 5600, replicate: $0) }
    #expect(Validity.assess(all[0], optimisedBuild: true).reasons.isEmpty)
    let run = document(all + (1...6).map { ramp("ffi", capacity: 9000, replicate: $0) })
    #expect(run.isValid && run.measurements.allSatisfy { $0.invalidReasons.isEmpty })
    #expect(run.comparisons.isEmpty && Comparison.rows(run, run).isEmpty)
    #expect(Gate(run, run, comparisons: [], margin: 0.1).rows.isEmpty)
    #expect(ResultTables.baseline(run).rows.isEmpty)
  }

  @Test("is shown step by step in the answer, in both reports and in timeline.csv")
  func shown() throws {
    let run = document([ramp(capacity: 5600, failed: 3), ramp("ffi", capacity: 20_000)])
    let text = Answer.text(run, folder: "results/x", colour: false)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.count <= 41 && lines.allSatisfy { $0.count <= 100 }, "\(text)")
    #expect(text.contains("'nats' follows the schedule up to 5,500 requests/s, of 11,000 (one replicate)."))
    #expect(text.contains("Ramp of nats, ramp-1000-11000") && text.contains(RampCourse.caution))
    #expect(text.contains("5         6,500    5,600  400 ms  900 ms         3"), "\(text)")
    for report in [MarkdownReport.render(run), HTMLReport.render(run)] {
      #expect(report.contains("Ramp of nats, ramp-1000-11000"))
    }
    let row = try #require(records(csv("timeline.csv", run)).first { $0["interval"] == "6" })
    #expect(row["offered_rps"] == "6500" && row["failed"] == "3")
    #expect(Headline(document([ramp(capacity: 5600)])).sentence.hasPrefix("On this machine 'nats' follows"))
  }

  @Test("is the same after it was stored and read again, and older runs have no failures by interval")
  func stored() throws {
    let run = document([ramp(capacity: 5600)])
    let text = try run.json()
    #expect(try RunDocument(json: Data(text.utf8), path: "run.json") == run)
    #expect(text.contains("\"from_per_second\" : 1000") && text.contains("\"timeouts\" : 0"))
  }
}
