import Foundation
import FoundationXML
import Testing

@testable import Engine
@testable import Report
@testable import Results
@testable import Scenario

/// A rendered report, read back as XML, which is stricter than HTML.
private struct Page {
  let text: String
  let tree: XMLDocument

  init(_ run: RunDocument) throws { try self.init(text: HTMLReport.render(run)) }

  init(text: String) throws {
    self.text = text
    tree = try XMLDocument(data: Data(text.utf8))
  }

  func elements(_ path: String) throws -> [XMLElement] {
    try tree.nodes(forXPath: path).compactMap { $0 as? XMLElement }
  }

  func texts(_ path: String) throws -> [String] {
    try elements(path).map { ($0.stringValue ?? "").replacing("\u{a0}", with: " ") }
  }

  /// The marks of a series in the chart whose title begins like this.
  func marks(_ title: String, _ series: String) throws -> [Mark] {
    let chart = "//svg[starts-with(title, '\(title)')]/g[@data-series='\(series)']"
    return try elements("\(chart)/*[@data-x]").map(Mark.init)
  }
}

private struct Mark {
  let x, y: Double
  let low, high: Double?

  init(_ element: XMLElement) throws {
    func value(_ name: String) -> Double? {
      element.attribute(forName: name)?.stringValue.flatMap(Double.init)
    }
    x = try #require(value("data-x"))
    y = try #require(value("data-y"))
    (low, high) = (value("data-low"), value("data-high"))
  }
}

private func isClose(_ a: Double?, _ b: Double?) -> Bool {
  guard let a, let b else { return a == nil && b == nil }
  return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
}

/// Read and rendered once, since that takes seconds in a debug build.
private enum Canonical {
  static let run = Result { try reference("canonical") }
  static let text = run.map(HTMLReport.render)

  static func page() throws -> (run: RunDocument, page: Page) { (try run.get(), try Page(text: text.get())) }
}

private func reference(_ name: String) throws -> RunDocument {
  let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../..")
  return try RunFolder.open(path: "\(root.standardizedFileURL.path)/results/reference/\(name)").document
}

@Suite("The charts of a report")
struct ReportChartTests {
  @Test("are all there for the canonical run, in one small file that is well-formed and fetches nothing")
  func canonical() throws {
    let page = try Canonical.page().page
    #expect(page.text.utf8.count < 1_500_000)
    let titles = try page.texts("//svg[@role='img']/title")
    for start in [
      "Response time by percentile, open-15000", "Throughput against latency",
      "Rate over the measured time, open-15000",
      "Response time over the measured time, open-15000",
      "Ratio nats / ffi", "CPU time per request",
    ] {
      #expect(titles.contains { $0.hasPrefix(start) }, "\(start) is not in \(titles)")
    }
    #expect(try page.elements("//svg[@role='img']").count == titles.count)
    #expect(try page.texts("//svg[@role='img']/desc").allSatisfy { !$0.isEmpty })
    #expect(try page.elements("//script | //link | //img | //iframe | //@href/.. | //@src/..").isEmpty)
    for fetched in ["url(", "@import", "href=", "src="] { #expect(!page.text.contains(fetched)) }
    #expect(try page.texts("//p").allSatisfy { !$0.hasPrefix("No chart") })
  }

  @Test("by percentile have the values of the merged histograms")
  func percentiles() throws {
    let (run, page) = try Canonical.page()
    for target in ["ffi", "nats"] {
      let histogram = MeasurementGroup(target, "open-15000", of: run.measurements).merged(
        "request", \.response)
      let marks = try page.marks("Response time by percentile, open-15000", target)
      #expect(marks.map(\.x).prefix(3) == [50, 90, 99])
      for mark in marks { #expect(isClose(mark.y, histogram.printableMicroseconds(mark.x))) }
    }
  }

  @Test("of throughput against latency have each condition's medians, and what the claims state")
  func throughput() throws {
    let (run, page) = try Canonical.page()
    let marks = try page.marks("Throughput against latency", "nats")
    let groups = MeasurementGroup.all(run).filter { $0.target == "nats" }
    #expect(marks.count == groups.count)
    for (mark, group) in zip(marks, groups) {
      #expect(isClose(mark.x, group.median("throughput_rps")))
      #expect(isClose(mark.y, group.median("response_p50_us")))
    }
    let stated = try page.marks("Throughput against latency", "documented")
    #expect(stated.map(\.x) == [44_000, 30_000, 20_000])
    #expect(stated.map(\.y) == [800, 2500, 4000])
    #expect(stated.map(\.low) == [720, 2000, 3000])
    #expect(stated.map(\.high) == [880, 3000, 5000])
  }

  @Test("tell 36 series apart by colour and shape")
  func looks() {
    let looks = (0..<36).map { style in
      let series = Chart.Series(name: "", style: style, form: .dots, points: [])
      return "\(series.classes.prefix { $0 != " " }) \(series.shape)"
    }
    #expect(Set(looks).count == 36)
  }

  @Test("over time have the intervals of the stored run")
  func timeline() throws {
    let run = try reference("soak")
    let page = try Page(run)
    let one = try #require(run.measurements.first { $0.target == "nats" })
    let rates = try page.marks("Rate over the measured time, closed-2048", "nats")
    let times = try page.marks("Response time over the measured time, closed-2048", "nats p99")
    #expect(rates.count == one.windows.count && times.count == one.windows.count)
    for (window, (rate, time)) in zip(one.windows, zip(rates, times)) {
      #expect(isClose(rate.x, window.startSeconds + window.durationSeconds / 2))
      #expect(isClose(rate.y, Double(window.completed) / window.durationSeconds))
      #expect(isClose(time.y, window.p99Nanoseconds.map { Double($0) / 1000 }))
    }
  }

  @Test("of replicates have a ring for each pair, and the comparison's median and interval")
  func rings() throws {
    let (run, page) = try Canonical.page()
    let middles = try page.marks("Ratio nats / ffi", "median and interval")
    let rings = try page.marks("Ratio nats / ffi", "pair of replicates")
    let rows = Answer.comparisons(run).map(\.row)
    #expect(middles.count == rows.count && !rows.isEmpty)
    for (number, (mark, row)) in zip(middles, rows).enumerated() {
      #expect(isClose(mark.x, row.ratio))
      #expect(isClose(mark.low, row.ratioLow) && isClose(mark.high, row.ratioHigh))
      let mine = rings.filter { $0.y == Double(number) }.map(\.x)
      #expect(row.pairs == nil || mine.count == row.pairs)
      #expect(isClose(exp(Statistics.median(mine.map { log($0) }) ?? 0), row.ratio))
    }
  }

  @Test("of CPU time stack what was measured, and never draw what was not")
  func costs() throws {
    let (run, page) = try Canonical.page()
    let groups = MeasurementGroup.all(run).filter { ["ffi", "nats"].contains($0.target) }
    for (series, column) in [
      ("G: generator", "cpu_generator_us"), ("B: broker", "cpu_broker_us"), ("W: workers", "cpu_workers_us"),
    ] {
      let bars = try page.marks("CPU time per request", series)
      let costs = groups.compactMap { $0.median(column) }
      #expect(bars.count == costs.count)
      for (bar, cost) in zip(bars, costs) {
        #expect(isClose(bar.x, cost))
        #expect(isClose((bar.high ?? 0) - (bar.low ?? 0), cost))
      }
    }
    // The fixture's pools have no CPU time of their workers.
    let partial = try Page(document(replicates("nats", around: 1_000_000)))
    #expect(try partial.marks("CPU time per request", "W: workers").isEmpty)
    #expect(try partial.marks("CPU time per request", "B: broker").count == 1)
    #expect(try partial.texts("//svg/text").contains { $0.contains("without workers, not measured") })
  }

  @Test("that have nothing to show are left out, with the reason")
  func leftOut() throws {
    var run = document([measurement("nats", around: 1_000_000)], targets: [natsTarget("nats")])
    run.measurements[0].windows = []
    run.measurements[0].cpuGeneratorNanoseconds = nil
    run.measurements[0].cpuBrokerNanoseconds = nil
    let page = try Page(run)
    let titles = try page.texts("//svg[@role='img']/title")
    #expect(titles.count == 2, "\(titles)")
    for reason in [
      "no two targets were compared", "no measurement has CPU times", "no request ended in an interval",
    ] {
      #expect(try page.texts("//p").contains { $0.hasPrefix("No chart") && $0.contains(reason) })
    }
    let empty = try Page(document([]))
    #expect(try empty.elements("//svg").isEmpty)
    #expect(try empty.texts("//p").count { $0.hasPrefix("No chart") } == 5)
  }

  @Test("interrupt a line where an interval has no figure")
  func gaps() throws {
    var run = document([measurement("nats", around: 1_000_000)], targets: [natsTarget("nats")])
    run.measurements[0].windows[1].p50Nanoseconds = nil
    let page = try Page(run)
    #expect(try page.marks("Response time over the measured time", "nats p50").count == 3)
    let lines = try page.elements(
      "//svg[starts-with(title, 'Response time over')]/g[@data-series='nats p50']/path[@class='line']")
    #expect(lines[0].attribute(forName: "d")?.stringValue?.filter { $0 == "M" }.count == 2)
  }

  @Test("and all else escape names that are markup, and characters that XML forbids")
  func hostile() throws {
    let name = "\"><script>alert('&')</script>\u{1b}\u{0}\u{FFFE}"
    let measured =
      replicates("ffi", load: "closed-1", around: 5_000, transport: .ffi)
      + replicates(name, load: "closed-1", around: 600_000)
    let page = try Page(document(measured, targets: [ffiTarget("ffi"), natsTarget(name)]))
    #expect(try page.elements("//script").isEmpty)
    #expect(try page.elements("//svg[@role='img']").count == 6)
    #expect(try page.elements("//g[contains(@data-series, '<script>')]").isEmpty == false)
  }
}

private let chromium = ["chromium", "chromium-browser", "google-chrome"].map { "/usr/bin/\($0)" }
  .first { FileManager.default.isExecutableFile(atPath: $0) }

@Suite("A report in a browser")
struct BrowserTests {
  @Test(
    "is no wider than the screen at 1280 and at 400 pixels, and begins with the answer",
    .enabled(if: chromium != nil, "no Chromium is installed"))
  func fits() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("report-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    // What the page itself never has: a script, which says how wide it is, how far down the cards reach, and how much
    // of the answer's tables must be scrolled to.
    let probe = """
      <script>addEventListener("load", () => parent.postMessage([innerWidth, document.documentElement.scrollWidth,
      Math.round(document.querySelector(".cards").getBoundingClientRect().bottom), Math.max(0,
      ...[...document.querySelectorAll(".pair .scroll")].map(box => box.scrollWidth - box.clientWidth))].join(" "),
      "*"))</script></body>
      """
    let frame = """
      <body><script>addEventListener("message", event => document.body.append("[" + event.data + "]"))</script>
      <iframe src="report.html" style="border:0;width:1280px;height:800px"></iframe>
      <iframe src="report.html" style="border:0;width:400px;height:800px"></iframe></body>
      """
    let report = try Canonical.text.get().replacing("</body>", with: probe)
    try report.write(to: folder.appendingPathComponent("report.html"), atomically: true, encoding: .utf8)
    let page = folder.appendingPathComponent("frame.html")
    try frame.write(to: page, atomically: true, encoding: .utf8)
    let browser = Process()
    browser.executableURL = URL(fileURLWithPath: try #require(chromium))
    browser.arguments = [
      "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000",
      "--user-data-dir=\(folder.path)/profile", "--dump-dom", page.absoluteString,
    ]
    let output = Pipe()
    browser.standardOutput = output
    browser.standardError = FileHandle.nullDevice
    try browser.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    browser.waitUntilExit()
    let sizes = text.matches(of: /\[(\d+) (\d+) (\d+) (\d+)\]/).compactMap { match in
      [match.1, match.2, match.3, match.4].compactMap { Int($0) }
    }
    #expect(Set(sizes.map { $0[0] }) == [1280, 400], "\(text.suffix(500))")
    for size in sizes {
      #expect(size[1] <= size[0] && size[2] <= (size[0] == 400 ? 800 : 500) && size[3] == 0, "\(size)")
    }
  }
}

@Suite("The first sentence of a report")
struct HeadlineTests {
  private func sentence(_ b: UInt64, load: String = "closed-1", count: Int = 6) throws -> String {
    let measured =
      replicates("ffi", load: load, around: 100_000, count: count, transport: .ffi)
      + replicates("nats", load: load, around: b, count: count)
    return try #require(try Page(document(measured)).texts("//h1").first)
  }

  @Test(
    "says what a NATS plugin costs more or less than FFI, or that they are the same, or that it is not known")
  func compared() throws {
    #expect(try sentence(600_000).hasPrefix("On this machine a NATS plugin costs 5"))
    #expect(try sentence(600_000).hasSuffix(" µs more a request than FFI."))
    #expect(try sentence(50_000).hasSuffix(" less a request than FFI."))
    #expect(try sentence(100_000) == "On this machine a NATS plugin does as well as FFI.")
    #expect(try sentence(600_000, count: 2) == "No firm answer whether a NATS plugin or FFI is faster.")
    #expect(try sentence(600_000, load: "open-1000").contains("times the p50, open-1000 of FFI"))
  }

  @Test("of one target is its throughput, and of a run without answers says that there were none")
  func alone() throws {
    let one = try Page(document([measurement("nats", around: 1_000_000)], targets: [natsTarget("nats")]))
    #expect(try one.texts("//h1") == ["On this machine 'nats' answers 1,000 requests a second."])
    #expect(try Page(document([])).texts("//h1") == ["Nothing was answered in this run."])
  }

  @Test("is followed by how many documented figures are kept, in words")
  func documents() throws {
    let page = try Canonical.page().page
    let words = try page.texts("//header | //section[@class='card']").joined(separator: " ")
    for part in [
      "a NATS plugin costs 296 µs more a request than FFI", "8 of 12 documented figures are met or exceeded",
      "3 worse than stated", "1 undecided", "nats-throughput-loss", "Promises: 55 hold, 8 fail",
      "less than about 1.12 ms",
    ] {
      #expect(words.contains(part), "\(part) is not in \(words)")
    }
  }
}
