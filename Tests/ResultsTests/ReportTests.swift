import Foundation
import Lab
import Testing

@testable import Engine
@testable import Report
@testable import Results

private func troubledRun() -> RunDocument {
  var slow = replicates("nats", around: 1_000_000)
  slow[0].invalidReasons = [InvalidReason(code: .steal, detail: "6 % < all")]
  slow[1].warnings = ["p99.9 needs 3 s more"]
  var run = document(replicates("ffi", around: 10_000, transport: .ffi) + slow)
  run.scenario.name = "<script>alert(1)</script>"
  run.interrupted = true
  run.claims = ClaimEvaluator.verdicts(
    [
      ClaimCheck(
        spec: claim("latency", "2-3 ms | <b>", low: 2, high: 3),
        conditions: [.init(circumstance: .documentedRate, target: "nats", load: "open-1000")])
    ], measurements: run.measurements)
  return run
}

@Suite("A table")
struct TableTests {
  private let table = ReportTable(
    "T", [.text("name", \.text), .toned("value") { Cell($0.tone == .bad ? nil : "1", $0.tone) }],
    [Cell("µ木"), Cell("long name", .bad)], notes: ["Note."])

  @Test("is aligned by what a terminal shows, with a dash for a missing value")
  func text() {
    #expect(
      table.text() == """
        T
        name       value
        ─────────  ─────
        µ木            1
        long name      –
        Note.

        """)
  }

  @Test("has colours only when asked, and never control characters of a name")
  func colours() {
    #expect(table.text(colour: true).contains("\u{1b}[31m    –\u{1b}[0m"))
    var hostile = table
    hostile.rows[0][0].text = "a\u{1b}[2Jb\nc"
    #expect(!hostile.text().contains("\u{1b}"))
    #expect(hostile.text().split(separator: "\n").count == 6)
  }

  @Test("of results gives medians in units for reading, and marks the invalid")
  func results() throws {
    let table = ResultTables.results(troubledRun())
    let rows = table.rows.map { row in
      Dictionary(uniqueKeysWithValues: zip(table.columns, row.map(\.shown)))
    }
    #expect(table.title.contains("closed loads do not state latency under load"))
    #expect(rows[0]["p50"] == "10.2 µs")
    #expect(rows[0]["valid"] == "yes")
    #expect(rows[0]["p99.9"] == "–")
    #expect(rows[1]["valid"] == "1 of 6 not: steal")
    #expect(rows[1]["req/s"] == "1,000")
    #expect(rows[1]["errors"] == "0")
    #expect(table.rows[1][2].tone == .unsure)
  }
}

@Suite("A report")
struct ReportTests {
  @Test(
    "says what is measured, what a closed load is not, why measurements are invalid, and where it was made",
    arguments: [true, false])
  func says(html: Bool) {
    let run = troubledRun()
    let text = (html ? HTMLReport.render(run) : MarkdownReport.render(run)).replacing("\u{a0}", with: " ")
    for part in [
      "HTTP itself is not measured", "does not state latency under load", "The run was interrupted",
      "jemalloc replaces malloc in the load process and in every plugin it loads", "omission gap", "2.11.0",
      "p99.9 needs 3 s more", "20261122T050420Z-compare", "Some CPU &lt;8&gt;", "1 of 6 not: steal", "8 GiB",
      "6 % &lt; all", "noise floor", "inconclusive",
    ] {
      #expect(text.contains(part), "\(part)")
    }
    #expect(text.contains("<script") == false)
    #expect(text.contains("://") == false)
  }

  @Test("in Markdown has as many cells in each row as in its head, whatever the text is")
  func markdownTables() {
    let lines = MarkdownReport.render(troubledRun()).components(separatedBy: "\n")
    var cells = 0
    for line in lines {
      let bars = line.replacingOccurrences(of: "\\|", with: "").filter { $0 == "|" }.count
      if line.hasPrefix("|"), cells > 0 { #expect(bars == cells, "\(line)") }
      cells = line.hasPrefix("|") ? bars : 0
    }
    #expect(MarkdownReport.escaped("a|b\n<c>*") == "a\\|b &lt;c&gt;\\*")
    #expect(MarkdownReport.escaped("|\u{301}\u{1b}[2J") == "\\|\u{301} \\[2J")
  }

  @Test("in HTML has no markup of a text")
  func html() {
    #expect(HTMLReport.escaped("<a href='x'>&\"") == "&lt;a href=&#39;x&#39;&gt;&amp;&quot;")
  }

  @Test("of a run without measurements is still a report")
  func empty() {
    #expect(MarkdownReport.render(document([])).contains("Circumstances"))
    #expect(HTMLReport.render(document([])).contains("<svg") == false)
  }
}

@Suite("The committed pages")
struct PageTests {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../..").standardizedFileURL.path

  @Test(
    "have the tables that export renders from the committed runs",
    arguments: [
      ("README.md", "canonical", "readme"), ("docs/results.md", "canonical", "results"),
      ("docs/results.md", "known-work", "results"), ("docs/results.md", "soak", "results"),
    ])
  func tables(page: String, run: String, format: String) throws {
    let text = try String(contentsOfFile: "\(Self.root)/\(page)", encoding: .utf8)
    let document = try RunFolder.open(path: "\(Self.root)/results/reference/\(run)").document
    let format = try #require(ExportFormat(rawValue: format))
    let rendered = try #require(try format.render(document).first).contents
    #expect(text.contains(rendered), "render it with: nylon-bench export results/reference/\(run)")
  }
}

/// What `calibrate --json` says of its goals, as far as the page shows it.
private struct StoredCalibration: Decodable {
  struct Goal: Decodable {
    let goal: String
    let measured: Double?
    let must_reach, aim: Double
    let is_most: Bool
  }
  let goals: [Goal]
  let rounds: Int
  let seconds_each: Double
  let tool_version: String
}

extension PageTests {
  @Test("have the goals of the committed calibrations in a table, which NYLON_BENCH_WRITE_DOCS=1 writes")
  func calibrations() throws {
    let runs = try (1...3).map { run in
      let path = "\(Self.root)/results/reference/calibrate/\(run).json"
      return try JSONDecoder().decode(
        StoredCalibration.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }
    func two(_ value: Double) -> String { String(format: "%.2f", value) }
    let first = runs[0]
    let rows = first.goals.indices.map { place in
      let goal = first.goals[place]
      let sign = goal.is_most ? "≤" : "≥"
      let measured = runs.map { $0.goals[place].measured.map(two) ?? "–" }.joined(separator: " | ")
      return "| \(goal.goal) | \(sign) \(two(goal.must_reach)) | \(sign) \(two(goal.aim)) | \(measured) |"
    }
    let section = """
      ## The engine beside bare C

      `nylon-bench calibrate --json`, three times in a row, \(first.rounds) rounds of \(first.seconds_each) s each, \
      nylon-bench \(first.tool_version): [1](../results/reference/calibrate/1.json), \
      [2](../results/reference/calibrate/2.json), [3](../results/reference/calibrate/3.json).

      | the engine beside bare C | must reach | aim | run 1 | run 2 | run 3 |
      | --- | --- | --- | --- | --- | --- |
      \(rows.joined(separator: "\n"))

      """
    let page = "\(Self.root)/docs/results.md"
    let text = try String(contentsOfFile: page, encoding: .utf8)
    let start = try #require(text.range(of: "## The engine beside bare C\n")).lowerBound
    if ProcessInfo.processInfo.environment["NYLON_BENCH_WRITE_DOCS"] != nil {
      try (text[..<start] + section).write(toFile: page, atomically: true, encoding: .utf8)
    } else {
      #expect(text[start...] == section)
    }
  }

  @Test("list every reason why a measurement is invalid", arguments: InvalidReason.Code.allCases)
  func reasons(code: InvalidReason.Code) throws {
    let text = try String(contentsOfFile: "\(Self.root)/docs/reading.md", encoding: .utf8)
    #expect(text.contains("`\(code.rawValue)`"))
  }
}

@Suite("Figures that nothing real has")
struct AbsurdFigureTests {
  @Test(
    "are rendered in every format, and never as infinite or as no number",
    arguments: [0, -1, 1e300, 1e-300, .infinity, .nan] as [Double])
  func absurd(duration: Double) throws {
    var one = measurement("nats", around: 1_000_000)
    one.durationSeconds = duration
    one.stealShare = duration
    one.offeredRatePerSecond = duration
    one.replicate = .min
    one.workers = .max
    one.payloadBytes = -1
    one.cpuGeneratorNanoseconds = .max
    one.windows[0].durationSeconds = duration
    one.windows[1].completed = .max
    let run = document([one] + replicates("ffi", around: 1, count: 1, samples: 1, transport: .ffi))
    for format in ExportFormat.allCases {
      let files = try format.render(run)
      #expect(!files.isEmpty)
      for file in files where file.name.hasSuffix(".csv") {
        for cell in file.contents.split(whereSeparator: { $0 == "," || $0.isNewline }) {
          #expect(!["inf", "-inf", "nan"].contains(cell.lowercased()))
        }
      }
    }
    // No number equals itself when it is none, so the texts are what is compared.
    let text = try run.json()
    #expect(try RunDocument(json: Data(text.utf8), path: "run.json").json() == text)
    _ = Validity.assess(one, optimisedBuild: true)
  }
}

@Suite("HdrHistogram's files")
struct HistogramFileTests {
  @Test("the log has a tagged line for each histogram, which counts what was measured")
  func log() throws {
    let run = document([measurement("a b,c", around: 1_000_000), measurement("nats", around: 2_000_000)])
    let lines = HistogramFiles.log(run).split(separator: "\n").map(String.init)
    #expect(lines[1] == "#[Histogram log format version 1.3]")
    #expect(lines[2] == "#[StartTime: 1795323860.000 (seconds since epoch), 2026-11-22T05:04:20Z]")
    let data = lines.filter { $0.hasPrefix("Tag=") }.map { $0.components(separatedBy: ",") }
    #expect(data.count == 2 * 2 * 3)
    #expect(
      Array(data[0].prefix(4)) == ["Tag=a_b_c.open-1000.request.response.r1", "0.000", "2.000", "1.500"])
    #expect(data[6][1] == "2.000")
    let stored = try LatencyHistogram(hdrBase64: data[0][4])
    #expect(stored.counters == run.measurements[0].scopes[0].response.counters)
  }

  @Test("a percentile distribution has the steps, values and counts of the library's format")
  func distribution() {
    var histogram = LatencyHistogram()
    for value in 1...1000 as ClosedRange<UInt64> { histogram.record(value * 1000) }
    let lines = HistogramFiles.percentileDistribution(histogram).components(separatedBy: "\n")
    #expect(lines[0] == "       Value     Percentile TotalCount 1/(1-Percentile)")
    #expect(lines[2] == "       1.000 0.000000000000          1           1.00")
    #expect(lines[3] == "     100.031 0.100000000000        100           1.11")
    #expect(lines[7] == "     500.223 0.500000000000        500           2.00")
    #expect(lines[8] == "     550.399 0.550000000000        550           2.22")
    #expect(lines.contains("    1000.447 1.000000000000       1000"))
    #expect(lines.dropLast(4).last?.hasPrefix("    1000.447 1.00") == true)
    #expect(lines.contains { $0.hasPrefix("#[Max     =     1000.447, Total count    =         1000]") })
  }
}
