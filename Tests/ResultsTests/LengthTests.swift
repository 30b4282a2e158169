import Foundation
import struct Engine.Measurement
import Lab
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// A measurement of ten intervals, in each of which the cost of a request grows by a fixed time.
private func long(
  _ target: String = "nats", replicate: Int = 1, seconds: Double = 600, costs: UInt64 = 4000, more: UInt64 = 0
) -> Measurement {
  var one = measurement(target, load: "closed-2048", replicate: replicate, around: 1_000_000)
  one.durationSeconds = seconds
  one.windows = (0..<10).map { place in
    var window = MeasurementWindow(
      startSeconds: Double(place) * seconds / 10, durationSeconds: seconds / 10,
      completed: 6000 - 100 * UInt64(place), p50Nanoseconds: nil, p99Nanoseconds: nil, maxNanoseconds: nil)
    window.cpuGeneratorNanoseconds = window.completed * (costs + more * UInt64(place))
    window.residentGeneratorBytes = 1_048_576 * UInt64(20 + place)
    return window
  }
  one.generator = ProcessCosts(residentStartBytes: 20_971_520, residentEndBytes: 31_457_280)
  return one
}

@Suite("Cost over a run's length")
struct LengthTests {
  private func cells(_ measurements: [Measurement]) -> [[String]] {
    ResultTables.costsOverLength(document(measurements)).rows.map { $0.map(\.shown) }
  }

  @Test("is the first fifth of the time against the last, for each request that ended in it")
  func fifths() {
    #expect(
      cells([long(more: 200)]) == [
        [
          "nats", "closed-2048", "4.1 µs", "5.7 µs", "1.39", "99", "86", "0.8655", "20 MiB", "30 MiB",
          "10 MiB",
        ]
      ])
    // Intervals of 60 s, so that the rates are those of 11,900 and 10,300 requests in 120 s.
    #expect(cells([long()])[0][2...4] == ["4 µs", "4 µs", "1"])
  }

  @Test("is shown of measurements of a minute or more alone, as the median over replicates")
  func groups() {
    let short = cells([long(seconds: 59)])
    #expect(short.isEmpty)
    let rows = cells([
      long(replicate: 1, costs: 1000), long(replicate: 2, costs: 3000), long(replicate: 3, costs: 8000),
      long("ffi", seconds: 60), long("other", seconds: 10),
    ])
    #expect(rows.map(\.first) == ["nats", "ffi"])
    #expect(rows[0][2...4] == ["3 µs", "3 µs", "1"])
  }

  @Test("is empty where an interval was not measured, and in older runs without it")
  func empty() throws {
    var one = long()
    one.windows[1].cpuGeneratorNanoseconds = nil
    one.generator = nil
    #expect(cells([one])[0].dropFirst(2) == ["–", "4 µs", "–", "99", "86", "0.8655", "–", "–", "–"])
    one.windows = Array(one.windows.prefix(4))
    #expect(cells([one]).isEmpty)
  }

  @Test("is in both reports, when there is something to show")
  func reports() {
    for render in [MarkdownReport.render, HTMLReport.render] as [(RunDocument) -> String] {
      #expect(render(document([long()])).contains("Cost over the run"))
      #expect(!render(document([long(seconds: 59)])).contains("Cost over the run"))
    }
  }

  @Test("is in timeline.csv for each interval, after the older columns, and empty where it is not known")
  func timeline() {
    var one = long(more: 200)
    one.windows[1].cpuBrokerNanoseconds = 5900 * 1500
    one.windows[2].completed = 0
    one.windows[3].cpuGeneratorNanoseconds = nil
    one.windows[3].residentGeneratorBytes = nil
    let text = csv("timeline.csv", document([one]))
    #expect(
      text.hasPrefix(
        "target,load,replicate,interval,start_s,duration_s,completed,completed_rps,response_p50_us,"
          + "response_p99_us,response_max_us,cpu_generator_us,cpu_broker_us,cpu_workers_us,"
          + "resident_generator_bytes,failed,offered_rps\r\n"))
    let rows = records(text)
    #expect(rows.prefix(5).map { $0["cpu_generator_us"] } == ["4", "4.2", "", "", "4.8"])
    #expect(rows.prefix(3).map { $0["cpu_broker_us"] } == ["", "1.5", ""])
    #expect(rows.allSatisfy { $0["cpu_workers_us"] == "" })
    #expect(rows[2]["resident_generator_bytes"] == "23068672" && rows[3]["resident_generator_bytes"] == "")
  }

  @Test("is kept in run.json, and a run that has none of it is still read")
  func coding() throws {
    let run = document([long(more: 200)])
    let text = try run.json()
    #expect(try RunDocument(json: Data(text.utf8), path: "run.json").measurements == run.measurements)
    #expect(text.contains("\"cpu_generator_nanoseconds\"") && text.contains("\"resident_generator_bytes\""))
    let older = text.components(separatedBy: "\n").filter { line in
      !["cpu_generator_nanoseconds", "resident_generator_bytes"].contains { line.contains("\"\($0)\"") }
    }
    let read = try RunDocument(json: Data(older.joined(separator: "\n").utf8), path: "run.json")
    #expect(read.measurements[0].windows.allSatisfy { $0.residentGeneratorBytes == nil })
  }
}
