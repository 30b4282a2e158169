import Foundation
@testable import Lab
import Nylon
@testable import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

private func curve(_ points: [(Double, Double)]) -> NetworkCurve {
  NetworkCurve(points.map { .init(roundTripMilliseconds: $0.0, value: $0.1) })
}

/// A pool over a link with that delay, one way.
private func networkTarget(_ name: String, delay: Double, phases: [Phase] = Phase.session) -> Target {
  Target(
    name: name, plugin: "pool", handler: "authz",
    transport: .nats(
      NATSSpec(
        workers: WorkersSpec(count: 2, command: ["nylon-worker"]), links: [LinkSpec(delayMilliseconds: delay)]
      )),
    phases: phases,
    loads: [
      .closed(concurrency: 1), .open(ratePerSecond: 20000, arrivals: .poisson), .closed(concurrency: 80),
    ])
}

private func exact(_ target: String, _ load: String, milliseconds: Double, perSecond: UInt64)
  -> Engine.Measurement
{
  var one = measurement(target, load: load, around: UInt64(milliseconds * 1e6))
  var response = LatencyHistogram()
  response.record(UInt64(milliseconds * 1e6), times: perSecond * 2)
  one.scopes = [one.scopes[0]]
  one.scopes[0].response = response
  one.scopes[0].counts.sent = perSecond * 2
  one.scopes[0].counts.ok = perSecond * 2
  one.scopes[0].okInWindow = perSecond * 2
  return one
}

/// Sessions that take four round trips and 0.5 ms, at 0 and 2 ms; 40K and 10K a second at most.
private func networkRun() -> RunDocument {
  var figures = LatencyHistogram()
  figures.record(1_040_000, times: 2000)
  var direct = LatencyHistogram()
  direct.record(20_000, times: 500)
  var run = document(
    [
      exact("net-0", "closed-1", milliseconds: 0.5, perSecond: 2000),
      exact("net-2", "closed-1", milliseconds: 8.5, perSecond: 117),
      exact("net-0", "open-20000", milliseconds: 0.6, perSecond: 20000),
      exact("net-2", "open-20000", milliseconds: 30, perSecond: 9000),
      exact("net-0", "closed-80", milliseconds: 2, perSecond: 40000),
      exact("net-2", "closed-80", milliseconds: 8, perSecond: 10000),
    ], targets: [networkTarget("net-2", delay: 1), networkTarget("net-0", delay: 0)])
  run.links = [
    LinkMeasurement(
      between: "generator-broker", method: "relay", delayMicroseconds: 1000, jitterMicroseconds: 0,
      bandwidthMegabitPerSecond: nil, probeBytes: 24, oneWay: DelayFigures(figures),
      roundTrip: DelayFigures(figures), directOneWay: DelayFigures(direct),
      directRoundTrip: DelayFigures(direct))
  ]
  return run
}

@Suite("A figure over the round trip")
struct NetworkCurveTests {
  @Test("that grows is found in a range between measured points, whatever their order")
  func growing() {
    let found = curve([(2, 8.5), (0, 0.5)]).finding(in: 2.5...4.5, isGrowing: true)
    #expect(found == .between(from: 0.5, opensBelow: false, to: 1, opensAbove: false))
  }

  @Test("that falls is found from its upper bound to its lower one")
  func falling() {
    let found = curve([(0, 40000), (2, 10000), (4, 1000)]).finding(in: 10_000...25_000, isGrowing: false)
    #expect(found == .between(from: 1, opensBelow: false, to: 2, opensAbove: false))
  }

  @Test("is said to be open where the range goes beyond what was measured")
  func open() {
    #expect(
      curve([(0, 3), (4, 4)]).finding(in: 2...5, isGrowing: true)
        == .between(from: 0, opensBelow: true, to: 4, opensAbove: true))
    #expect(
      curve([(1, 6)]).finding(in: 3...5, isGrowing: true)
        == .passedAtLeast(.init(roundTripMilliseconds: 1, value: 6)))
    #expect(
      curve([(1, 2)]).finding(in: 3...5, isGrowing: true)
        == .notReachedAt(.init(roundTripMilliseconds: 1, value: 2)))
    #expect(
      curve([(1, 2)]).finding(in: 3...5, isGrowing: false)
        == .passedAtLeast(.init(roundTripMilliseconds: 1, value: 2)))
    #expect(
      curve([(1, 9)]).finding(in: 3...5, isGrowing: false)
        == .notReachedAt(.init(roundTripMilliseconds: 1, value: 9)))
    #expect(curve([]).finding(in: 3...5, isGrowing: true) == .unknown)
  }
}

@Suite("Reports of a network")
struct NetworkReportTests {
  @Test("show the requested delay beside the measured one")
  func links() throws {
    let table = ResultTables.links(networkRun())
    let row = Dictionary(
      uniqueKeysWithValues: zip(table.columns, try #require(table.rows.first).map(\.shown)))
    #expect(row["between"] == "generator-broker" && row["by"] == "relay")
    #expect(
      row["asked one way"] == "1 ms" && row["one way p50"] == "1.04 ms" && row["one way p99"] == "1.04 ms")
    #expect(row["p50 over asked"] == "40 µs" && row["asked round trip"] == "2 ms")
    #expect(row["one way p50 without"] == "20 µs" && row["bandwidth"] == "–")
    #expect(ResultTables.links(document([])).rows.isEmpty && ResultTables.network(document([])).isEmpty)
  }

  @Test("say for which round trip the documented figures would be true")
  func sentences() throws {
    let tables = ResultTables.network(networkRun())
    #expect(tables.count == 1)
    let table = try #require(tables.first)
    #expect(table.title.contains("a session of 4 phases") && table.title.contains("generator-broker"))
    #expect(table.rows.map { $0[0].shown } == ["net-0", "net-2"])
    #expect(table.rows[1].map(\.shown).contains("8.5 ms") && table.rows[0].map(\.shown).contains("40,000"))
    let notes = table.notes.joined(separator: "\n")
    // 0.5 ms and four round trips: 3 ms at 0.625, 5 ms at 1.125.
    #expect(
      notes.contains(
        "3-5 ms (unloaded, p50, a session of 4 phases) would be true for round trips of 0.625 to 1.12"))
    // From 40K to 10K over 2 ms: 22K at 1.2, 18K at 1.467.
    #expect(
      notes.contains("80 in flight, a session of 4 phases) would be true for round trips of 1.2 to 1.47 ms"))
    #expect(notes.contains("is answered at round trips of 0 ms."))
    #expect(!notes.contains("not valid"))
    for report in [MarkdownReport.render(networkRun()), HTMLReport.render(networkRun())] {
      #expect(report.contains("Network link") && report.contains("Over the network"))
    }
  }

  @Test("keep sessions, single phases and links of another kind apart")
  func series() {
    var jittery = networkTarget("c", delay: 1)
    jittery.nats?.links?[0].jitterMilliseconds = 0.5
    let all = NetworkSeries.all([
      networkTarget("a", delay: 2), networkTarget("b", delay: 0, phases: [.requestFilter]), jittery,
      networkTarget("d", delay: 1), natsTarget("nats"), ffiTarget("ffi"),
    ])
    #expect(all.map { $0.targets.map(\.name) } == [["d", "a"], ["b"], ["c"]])
    #expect(all[1].unit == "one phase, request_filter")
  }

  @Test("compare no pools over different links")
  func pairs() {
    #expect(networkRun().comparisons.isEmpty)
  }

  @Test("can be made again from run.json, and a run without links still opens")
  func coded() throws {
    let run = networkRun()
    let again = try RunDocument(json: Data(try run.json().utf8), path: "run.json")
    #expect(again == run)
    let plain = try document([]).json()
    #expect(!plain.contains("\"links\""))
    #expect(try RunDocument(json: Data(plain.utf8), path: "run.json").links == nil)
  }

  @Test("test the figures that the guide states")
  func documented() throws {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Scenarios/claims.yaml").path
    let claims = try ClaimsFile(path: file, metrics: SummaryRow.numericColumns).claims
    let latency = try #require(claims.first { $0.id == "nats-network-latency" })
    let stated = DocumentedNetwork.latencyMilliseconds
    #expect(latency.low == stated.lowerBound && latency.high == stated.upperBound)
    let throughput = try #require(claims.first { $0.id == "nats-network-throughput" })
    let rates = DocumentedNetwork.throughputPerSecond
    #expect(throughput.low == rates.lowerBound && throughput.high == rates.upperBound)
    #expect(throughput.documentedRatePerSecond == DocumentedNetwork.statedPerSecond)
    #expect(throughput.conditions.map(\.load).contains("closed-\(DocumentedNetwork.impliedConcurrency)"))
  }
}
