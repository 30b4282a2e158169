import Foundation
import Lab
import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

@Suite("CSV files")
struct CSVTests {
  @Test("summary.csv has the promised columns in order, and new ones at the end")
  func summaryHeader() {
    let header = csv("summary.csv", document([])).prefix { $0 != "\r\n" }
    #expect(
      header
        == Self.promised
        + ",resident_generator_start_bytes,resident_generator_end_bytes,resident_broker_start_bytes"
        + ",resident_broker_end_bytes,resident_workers_start_bytes,resident_workers_end_bytes"
        + ",voluntary_switches_generator,involuntary_switches_generator,voluntary_switches_broker"
        + ",involuntary_switches_broker,voluntary_switches_workers,involuntary_switches_workers"
        + ",broker_in_messages,broker_out_messages,broker_in_bytes,broker_out_bytes,broker_slow_consumers"
        + ",broker_pending_most_bytes,broker_subscriptions,client,connections"
        + ",cpu_total_us,late_figures,followed_rps")
  }

  private static let promised =
    "run_id,scenario,target,transport,handler,phase,load,offered_rps,concurrency,workers,payload_bytes,replicate,duration_s,sent,ok,handler_errors,timeouts,rejected,shed,lost,late,duplicates,throughput_rps,response_min_us,response_p50_us,response_p90_us,response_p99_us,response_p999_us,response_max_us,response_mean_us,service_p50_us,service_p99_us,send_lag_p99_us,cpu_generator_us,cpu_broker_us,cpu_workers_us,allocated_bytes,valid,invalid_reason,unexpected,protocol_errors,no_responders,retries,wrong_content,steal_percent,omission_gap_p99_us"

  @Test("`expect:` takes every numeric column of summary.csv, and no other")
  func expectations() throws {
    let texts = [
      "run_id", "scenario", "target", "transport", "handler", "phase", "load", "valid", "invalid_reason",
      "client", "late_figures",
    ]
    let numeric = csv("summary.csv", document([])).prefix { $0 != "\r\n" }.split(separator: ",").map(
      String.init
    )
    .filter { !texts.contains($0) }
    #expect(numeric.count == 59)
    let path = NSTemporaryDirectory() + "/expect-\(UUID().uuidString).yaml"
    defer { try? FileManager.default.removeItem(atPath: path) }
    func load(_ columns: [String]) throws -> Plan {
      let lines = columns.map { "  - ffi.closed-1.\($0) >= 0\n" }.joined()
      let scenario = """
        plugins: [{name: p, type: ffi, file: NullPlugin}]
        targets: [{name: ffi, plugin: p, handler: noop}]
        loads: [{mode: closed, concurrency: 1}]
        expect:
        \(lines)
        """
      try scenario.write(toFile: path, atomically: true, encoding: .utf8)
      return try ScenarioLoader.load(path: path, options: .init(metrics: SummaryRow.numericColumns))
    }
    #expect(try load(numeric).expectations.map(\.metric) == numeric)
    for text in texts { #expect(throws: ScenarioError.self) { try load([text]) } }
  }

  @Test("summary.csv has memory as it is, switches and messages for each request, and neither for phases")
  func resources() {
    var one = measurement("nats", around: 1_000_000)
    one.generator = ProcessCosts(
      residentStartBytes: 1000, residentEndBytes: 2000, voluntarySwitches: 3000, involuntarySwitches: 0)
    one.brokerActivity = BrokerActivity(
      inMessages: 16_000, outMessages: 16_000, inBytes: 1, outBytes: 2, slowConsumers: 1, subscriptions: 54,
      connections: 3, pendingMostBytes: nil, pendingLooks: 0)
    let rows = records(csv("summary.csv", document([one])))
    let expected = [
      "resident_generator_start_bytes": "1000", "resident_generator_end_bytes": "2000",
      "voluntary_switches_generator": "1.5", "involuntary_switches_generator": "0",
      "resident_broker_start_bytes": "", "voluntary_switches_broker": "", "broker_in_messages": "8",
      "broker_slow_consumers": "1", "broker_pending_most_bytes": "", "broker_subscriptions": "54",
    ]
    for (column, value) in expected {
      #expect(rows[0][column] == value, "\(column)")
      #expect(rows[1][column] == "", "\(column) of a phase")
    }
    #expect(one.brokerActivity?.warnings.count == 1)
    let report = MarkdownReport.render(document([one]))
    #expect(report.contains("The broker's own monitoring"))
    #expect(!MarkdownReport.render(document([measurement("ffi", around: 1000)])).contains("own monitoring**"))
  }

  @Test("summary.csv gives each figure in its unit, and an empty cell where there is none")
  func summaryRow() {
    let rows = records(csv("summary.csv", document([measurement("nats", around: 1_000_000)])))
    #expect(rows.map { $0["phase"] } == ["request", "logging"])
    let row = rows[0]
    let expected = [
      "run_id": "20261122T050420Z-compare", "scenario": "compare", "target": "nats", "transport": "nats",
      "load": "open-1000", "offered_rps": "1000", "concurrency": "64", "workers": "2",
      "payload_bytes": "128", "replicate": "1", "duration_s": "2", "sent": "2000", "ok": "2000",
      "throughput_rps": "1000", "response_min_us": "500", "response_p50_us": "999.935",
      "response_max_us": "1499.5", "response_mean_us": "999.75", "response_p999_us": "",
      "cpu_generator_us": "2.5", "cpu_broker_us": "1", "cpu_workers_us": "", "allocated_bytes": "64",
      "valid": "true", "invalid_reason": "", "steal_percent": "1",
    ]
    for (column, value) in expected { #expect(row[column] == value, "\(column)") }
    // Not 1: a run older than the column does not say how many there were.
    #expect(row["connections"] == "")
    var two = measurement("nats", around: 1_000_000)
    two.connections = 2
    #expect(records(csv("summary.csv", document([two]))).map { $0["connections"] } == ["2", "2"])
    #expect(rows[1]["cpu_generator_us"] == "")
    #expect(rows[1]["response_min_us"] == "125")
  }

  @Test("summary.csv is empty where nothing ended, and never 0")
  func emptyMeasurement() {
    var one = measurement("nats", around: 1_000_000, invalid: [.saturated, .steal])
    one.scopes[0].response = LatencyHistogram()
    one.scopes[0].okInWindow = 0
    let row = records(csv("summary.csv", document([one])))[0]
    for column in [
      "response_min_us", "response_p50_us", "response_max_us", "response_mean_us", "cpu_generator_us",
    ] {
      #expect(row[column] == "", "\(column)")
    }
    #expect(row["throughput_rps"] == "0")
    #expect(row["valid"] == "false")
    #expect(row["invalid_reason"] == "saturated;steal")
  }

  @Test("percentiles.csv has a row for each percentile of each replicate and of all merged")
  func percentiles() {
    let text = csv("percentiles.csv", document(replicates("nats", around: 1_000_000, count: 2)))
    #expect(text.hasPrefix("target,load,phase,metric,replicate,percentile,value_us,count\r\n"))
    let rows = records(text)
    #expect(rows.count == 2 * 3 * 3 * 8)
    func value(_ replicate: String, _ percentile: String) -> [String: String]? {
      rows.first {
        $0["phase"] == "request" && $0["metric"] == "response" && $0["replicate"] == replicate
          && $0["percentile"] == percentile
      }
    }
    #expect(value("1", "99.9")?["value_us"] == "")
    #expect(value("1", "100")?["value_us"] == "1499.5")
    #expect(value("all", "100")?["value_us"] == "1514.495")
    #expect(value("all", "50")?["count"] == "4000")
    #expect(value("all", "99")?["value_us"] != "")
  }

  @Test("percentiles.csv merges valid replicates only, while there are any")
  func mergesValid() {
    let run = document([
      measurement("nats", around: 1_000_000),
      measurement("nats", replicate: 2, around: 9_000_000, invalid: [.steal]),
    ])
    let merged = records(csv("percentiles.csv", run)).filter { $0["replicate"] == "all" }
    #expect(merged.first { $0["percentile"] == "100" }?["value_us"] == "1499.5")
  }

  @Test("timeline.csv has a row for each interval")
  func timeline() {
    let rows = records(csv("timeline.csv", document(replicates("nats", around: 1_000_000, count: 2))))
    #expect(rows.count == 8)
    #expect(rows[1]["start_s"] == "0.5")
    #expect(rows[1]["completed"] == "501")
    #expect(rows[1]["completed_rps"] == "1002")
    #expect(rows[1]["response_p99_us"] == "")
  }

  @Test("docs/columns.md is what the lists of columns say")
  func manual() throws {
    let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../docs/columns.md").standardizedFileURL
    // NYLON_BENCH_WRITE_DOCS=1 scripts/test --filter ResultsTests renews it.
    if ProcessInfo.processInfo.environment["NYLON_BENCH_WRITE_DOCS"] != nil {
      try CSV.manual.write(to: page, atomically: true, encoding: .utf8)
    }
    #expect(try String(contentsOf: page, encoding: .utf8) == CSV.manual)
    #expect(SummaryRow.columns.allSatisfy { !$0.meaning.isEmpty })
  }

  @Test("comparison.csv and claims.csv have the promised columns")
  func headers() {
    #expect(
      csv("comparison.csv", document([]))
        == "metric,condition,a,b,a_value,b_value,unit,ratio,ratio_low,ratio_high,p_value,noise_floor,verdict,"
        + "same_within,pairs,why\r\n"
    )
    #expect(
      csv("claims.csv", document([]))
        == "id,document,line,claim,documented,unit,condition,measured,low,high,verdict,why\r\n")
  }

  @Test(
    "text that a spreadsheet would take for a formula is quoted harmlessly",
    arguments: [
      ("=1+1", "\"'=1+1\""), ("+x", "\"'+x\""), ("-x", "\"'-x\""), ("@x", "\"'@x\""), ("\tx", "\"'\tx\""),
      ("a,b", "\"a,b\""), ("say \"hi\"", "\"say \"\"hi\"\"\""), ("a\r\nb", "\"a\r\nb\""), ("plain", "plain"),
      ("", ""), ("=\"a\"", "\"'=\"\"a\"\"\""),
      ("a\"\u{301},b", "\"a\"\"\u{301},b\""), ("a\u{1b}[2Jb", "a [2Jb"),
    ])
  func fields(text: String, field: String) {
    #expect(CSV.field(text) == field)
  }

  @Test("numbers have a point, no exponent, and no more digits than they are worth")
  func numbers() {
    #expect(Number.text(1234.56789) == "1234.568")
    #expect(Number.text(5.0) == "5")
    #expect(Number.text(-0.0001) == "0")
    #expect(Number.text(.nan) == nil)
    #expect(Number.significant(0.000123456) == "0.0001235")
    #expect(Number.significant(123456.7) == "123457")
    #expect(Number.grouped(1234567.8) == "1,234,568")
    #expect(Number.time(microseconds: 1234) == "1.23 ms")
    #expect(Number.time(microseconds: 12.34) == "12.3 µs")
  }
}
