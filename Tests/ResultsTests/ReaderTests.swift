import Foundation
import TestSupport
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// What we write, read by programs that others wrote.
@Suite(
  "Others' readers", .enabled(if: ForeignReaders.areThere, Comment(rawValue: ForeignReaders.absence)))
struct ReaderTests {
  // MARK: OpenMetrics

  private struct Family: Decodable {
    struct Sample: Decodable, Hashable {
      var name: String
      var labels: [String: String]
      var value: Double
    }
    var name: String
    var type: String
    var unit: String
    var samples: [Sample]
  }

  @Test(
    "prometheus_client reads the figures of every replicate in base units, and none that was not measured")
  func openMetrics() throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let handler = "say \"hi\" \\ twice\nor not"
    var own = measurement("nats", around: 1_000_000, invalid: [.steal])
    own.handler = handler
    let package = URL(fileURLWithPath: #filePath).appendingPathComponent("../../..").standardizedFileURL.path
    let runs = [
      document([own, measurement("ffi", replicate: 2, around: 5000, transport: .ffi)]),
      try RunFolder.open(path: "\(package)/results/reference/soak").document,
    ]
    let files = try runs.enumerated().map { place, run in
      let text = OpenMetrics.render(run)
      #expect(text.hasSuffix("\n# EOF\n"))
      let path = "\(folder)/\(place).txt"
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      return path
    }
    let read: [[Family]] = try ForeignReaders.answer(
      of:
        """
        import json, sys
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
        print(json.dumps([[{
            "name": f.name, "type": f.type, "unit": f.unit,
            "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in f.samples],
        } for f in read(open(path, newline="").read())] for path in sys.argv[1:]]))
        """, files)
    for (run, families) in zip(runs, read) {
      let samples = families.flatMap(\.samples).map { "\($0.name) \($0.labels.sorted { $0.key < $1.key })" }
      #expect(Set(samples).count == samples.count)
      let sent = families.first { $0.name == "nylon_bench_sent" }
      #expect(sent?.type == "counter")
      #expect(sent?.samples.map(\.value) == SummaryRow.all(run).map { Double($0.scope.counts[.sent]) })
      #expect(families.filter { $0.name.hasSuffix("_seconds") }.allSatisfy { $0.unit == "seconds" })
    }
    func family(_ name: String) -> Family? { read[0].first { $0.name == "nylon_bench_\(name)" } }
    func value(_ name: String, _ labels: [String: String]) -> Double? {
      family(name)?.samples.first { sample in labels.allSatisfy { sample.labels[$0.key] == $0.value } }?.value
    }
    let request = ["target": "nats", "load": "open-1000", "phase": "request", "replicate": "1"]
    let half = try #require(value("response_seconds", request.merging(["quantile": "0.5"]) { $1 }))
    #expect(abs(half - 999.935e-6) < 1e-12)
    #expect(value("response_seconds", request.merging(["quantile": "0.999"]) { $1 }) == nil)
    #expect(value("response_max_seconds", request) == 1499.5e-6)
    #expect(value("throughput_requests_per_second", request) == 1000)
    #expect(value("steal_ratio", request) == 0.01)
    #expect(value("payload_bytes", request) == 128)
    #expect(value("duration_seconds", request) == 2)
    #expect(value("valid", request) == 0 && value("valid", ["target": "ffi"]) == 1)
    #expect(family("sent")?.samples.first?.labels["handler"] == handler)
    #expect(family("cpu_workers_seconds") == nil && family("resident_broker_end_bytes") == nil)
    #expect(
      family("run")?.type == "info" && family("machine")?.samples.first?.labels["cpu_model"] == "Some CPU <8>"
    )
    #expect(
      family("version")?.samples.map { $0.labels["component"] } == [
        "libJemalloc_x", "nats-server", "nylon-bench",
      ])
    #expect(value("started_timestamp_seconds", [:]) == 1_795_323_860)
  }

  // MARK: HdrHistogram

  private struct Interval: Decodable {
    var tag: String
    var count: UInt64
    var greatest: UInt64
    var mean: Double
    /// At the percentiles that were asked for.
    var values: [UInt64]
    /// Of each counter that is not 0: its highest value, and the values up to it.
    var counters: [[UInt64]]
  }

  @Test("hdrhistogram reads the log, and finds our counts and percentiles there and in the distributions")
  func hdrHistogram() throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let run = document([
      measurement("nats", around: 1_000_000), measurement("ffi", around: 5000, count: 1237, transport: .ffi),
    ])
    let log = "\(folder)/histograms.hlog"
    try HistogramFiles.log(run).write(toFile: log, atomically: true, encoding: .utf8)
    let shares = ["0.5", "0.9", "0.99", "0.999", "1"]
    let intervals: [Interval] = try ForeignReaders.answer(
      of:
        """
        import json, math, sys
        from hdrh.histogram import HdrHistogram
        from hdrh.log import HistogramLogReader
        # hdrh passes over lines with a tag, which newer readers understand.
        tags = []
        with open(sys.argv[1] + ".plain", "w") as plain:
            for line in open(sys.argv[1]):
                if line.startswith("Tag="):
                    tag, line = line[4:].split(",", 1)
                    tags.append(tag)
                plain.write(line)
        log = HistogramLogReader(plain.name, HdrHistogram(1, 60_000_000_000, 3))
        found = []
        for tag in tags:
            h = log.get_next_interval_histogram()
            n = h.get_total_count()
            # The percentile of exactly that rank: hdrh rounds ranks to the nearest, HdrHistogram's own libraries up.
            ranks = [math.ceil(float(share) * n) for share in sys.argv[2:]]
            found.append({
                "tag": tag, "count": n, "greatest": h.get_max_value(), "mean": h.get_mean_value(),
                "values": [h.get_value_at_percentile(100 * rank / n) for rank in ranks],
                "counters": [[c.value_iterated_to, c.total_count_to_this_value] for c in h.get_recorded_iterator()],
            })
        print(json.dumps(found))
        """, [log] + shares)
    let ours = run.measurements.flatMap { one in
      one.scopes.flatMap { scope in
        ScopeMeasurement.times.map {
          (name: "\(one.target).\(one.load).\(scope.scope).\($0)", histogram: $1(scope))
        }
      }
    }
    let distributions = HistogramFiles.percentileDistributions(run)
    #expect(intervals.map(\.tag) == ours.map { "\($0.name).r1" })
    for (interval, (name, histogram)) in zip(intervals, ours) {
      #expect(interval.count == histogram.count)
      let place = HistogramGeometry.index(of:)
      #expect(place(interval.greatest) == place(histogram.greatestNanoseconds))
      for (share, value) in zip(shares, interval.values) {
        let own = try #require(histogram.value(atPercentile: 100 * (Double(share) ?? 0)))
        #expect(place(value) == place(own), "\(name) at \(share)")
      }
      let mean = try #require(histogram.meanNanoseconds)
      #expect(abs(interval.mean - mean) <= mean / 1000)
      let text = try #require(distributions.first { $0.name == "\(name).hgrm" }?.contents)
      try expect(text, toBeOf: interval)
    }
  }

  /// Each line of a percentile distribution has a counter's highest value, the values up to it, and a percentile that
  /// this counter is the first to reach.
  private func expect(_ distribution: String, toBeOf interval: Interval) throws {
    let lines = distribution.split(separator: "\n").dropFirst().filter { !$0.hasPrefix("#") }
    #expect(lines.count > 10)
    for line in lines {
      let cells = try line.split(separator: " ").map { try #require(Double($0)) }
      let value = UInt64((cells[0] * 1000).rounded())
      let place = try #require(interval.counters.firstIndex { $0[0] == value }, "\(line)")
      #expect(Double(interval.counters[place][1]) == cells[2])
      let below = place == 0 ? 0 : interval.counters[place - 1][1]
      let reached = [below, interval.counters[place][1]].map { Double($0) / Double(interval.count) }
      #expect(cells[1] <= reached[1] + 1e-9 && (cells[1] >= reached[0] - 1e-9), "\(line)")
    }
  }
}
