import Foundation
import Lab
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// A measurement whose phase took 1000 ns each time, cut into 300 and 700.
private func decomposed(_ target: String, replicate: Int = 1, samples: UInt64 = 2000) -> Engine.Measurement {
  var one = measurement(target, load: "closed-1", replicate: replicate, around: 4000, count: samples)
  func histogram(_ nanoseconds: UInt64) -> LatencyHistogram {
    var histogram = LatencyHistogram()
    histogram.record(nanoseconds, times: samples)
    return histogram
  }
  one.scopes[1].service = histogram(1000)
  one.scopes[1].decomposition = Decomposition(parts: [
    PhasePart(name: "handler", time: histogram(300)), PhasePart(name: "to_host", time: histogram(700)),
  ])
  return one
}

@Suite("Where the time goes")
struct PartsTests {
  @Test("the table has each part with its share, and their sum beside the service time")
  func table() {
    let table = ResultTables.parts(document([decomposed("nats"), decomposed("nats", replicate: 2)]))
    #expect(
      table.rows.map { $0.map(\.text) } == [
        ["nats", "closed-1", "logging", "handler", "0.3 µs", "0.3 µs", "0.3 µs", "30 %"],
        ["nats", "closed-1", "logging", "worker to host", "0.7 µs", "0.7 µs", "0.7 µs", "70 %"],
        ["nats", "closed-1", "logging", "sum (service time 1 µs)", nil, nil, "1 µs", "100 %"],
      ])
  }

  @Test("parts.csv has a row for each part of each replicate and the phase's service time")
  func file() throws {
    let run = document([decomposed("nats"), measurement("ffi", around: 1000)])
    let rows = records(csv("parts.csv", run))
    #expect(rows.map { $0["part"] } == ["handler", "to_host", "service"])
    #expect(rows.map { $0["count"] } == ["2000", "2000", "2000"])
    #expect(rows.map { $0["mean_us"] } == ["0.3", "0.7", "1"])
    #expect(rows.allSatisfy { $0["phase"] == "logging" && $0["replicate"] == "1" })
    #expect(try ExportFormat.csv.render(run).map(\.name).contains("parts.csv"))
  }

  @Test("a percentile with too few samples is empty, and so is the sum where nothing was cut up")
  func empty() {
    var one = decomposed("nats", samples: 15)
    #expect(records(csv("parts.csv", document([one])))[0]["p99_us"] == "")
    one.scopes[1].decomposition = Decomposition(
      parts: [PhasePart(name: "handler", time: LatencyHistogram())], withoutStamps: 15)
    let run = document([one])
    #expect(records(csv("parts.csv", run))[0]["mean_us"] == "")
    #expect(
      ResultTables.parts(run).rows.map { $0.dropFirst(4).allSatisfy { $0.text == nil } } == [true, true])
  }

  @Test("a run that was not decomposed has neither table nor file")
  func none() throws {
    let run = document([measurement("nats", around: 1_000_000)])
    #expect(ResultTables.parts(run).rows.isEmpty)
    #expect(!MarkdownReport.render(run).contains("Where the time goes"))
    #expect(try !ExportFormat.csv.render(run).map(\.name).contains("parts.csv"))
  }

  @Test("costs and parts are read back from run.json, and are nil in older runs without them")
  func stored() throws {
    var one = decomposed("nats")
    one.generator = ProcessCosts(residentStartBytes: 1, voluntarySwitches: 2)
    one.workerProcesses = ProcessCosts(residentEndBytes: 3, involuntarySwitches: 0)
    one.brokerActivity = BrokerActivity(
      inMessages: 1, outMessages: 2, inBytes: 3, outBytes: 4, slowConsumers: 0, subscriptions: 6,
      connections: 7, pendingMostBytes: nil, pendingLooks: 2)
    var run = document([one])
    run.scenario.targets[0].decompose = true
    let json = try run.json()
    #expect(try RunDocument(json: Data(json.utf8), path: "run.json") == run)
    let older = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "results/reference/soak")
    let reference = try RunFolder.open(path: older.path).document
    #expect(!reference.measurements.isEmpty)
    #expect(reference.scenario.targets.allSatisfy { !$0.isDecomposed })
  }
}
