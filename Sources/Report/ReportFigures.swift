// The figures of a report: the charts of a run, or the reason why one is missing.
import Engine
import Foundation
import Results
import Scenario

/// Charts about one question, with notes for the reader.
struct ReportFigure {
  var title: String
  var paragraphs: [String]
  /// Empty when there is nothing to draw.
  var charts: [Chart]
  /// The reason for a missing chart.
  var reason: String
  var terms: [Glossary.Term]
}

extension Chart.Measure {
  fileprivate static let responseTime = Self(
    title: "response time", scale: .logarithmic
  ) { Number.time(microseconds: $0) }
  fileprivate static let rate = Self(title: "requests that ended, req/s") { Number.grouped($0) }
  fileprivate static let failures = Self(title: "requests that failed in an interval") { Number.grouped($0) }
  fileprivate static let percentile = Self(
    title: "requests that ended within this time, %", scale: .percentile
  ) { Number.text($0) }
}

/// Builds the figures of one run.
struct ReportFigures {
  /// The limit up to which series can be told apart.
  private static let mostSeries = 12
  private static let mostRows = 16

  private let document: RunDocument
  private let groups: [MeasurementGroup]
  private let targets: [String]
  private let comparisons: [Answer.Row]
  /// The most informative load: one that both compared targets ran, open before closed.
  private let leadLoad: String

  init(_ document: RunDocument) {
    // The duplicate of a target only serves the noise floor.
    let twins = document.comparisons.filter { Comparison.isAA($0, document.scenario.targets) }.map(\.b)
    let groups = MeasurementGroup.all(document).filter {
      !Crossover.isPart($0.target) && !twins.contains($0.target) && !$0.isOfSearch
    }
    let comparisons = Answer.comparisons(document)
    let pair = comparisons.first.map { [$0.row.a, $0.row.b] } ?? []
    func rank(_ load: String) -> Int {
      let mine = groups.filter { $0.load == load }.map(\.target)
      return (pair.allSatisfy(mine.contains) ? 10_000 : 0) + (load.hasPrefix("open-") ? 1000 : 0) + mine.count
    }
    leadLoad = groups.map(\.load).uniqued().max { rank($0) < rank($1) } ?? "no load"
    targets = groups.map(\.target).uniqued()
    (self.document, self.groups, self.comparisons) = (document, groups, comparisons)
  }

  /// The figures shown unfolded.
  var leading: [ReportFigure] {
    [percentiles(leadLoad), throughputAndLatency, timeline(leadLoad), replicates, costs]
  }

  /// The figures of loads that no leading figure shows.
  var others: [ReportFigure] {
    groups.map(\.load).uniqued().filter { $0 != leadLoad }.flatMap { [percentiles($0), timeline($0)] }
  }

  /// The series of a target's points, which looks the same in all charts.
  private func series(
    _ target: String, suffix: String = "", form: Chart.Series.Form = .line, isDashed: Bool = false,
    _ points: [Chart.Point]
  ) -> Chart.Series {
    let style = targets.firstIndex(of: target) ?? 0
    return Chart.Series(
      name: target + suffix, style: style, form: form, isDashed: isDashed, points: points)
  }

  private func drawn(_ load: String) -> [MeasurementGroup] {
    Array(groups.filter { $0.load == load }.prefix(Self.mostSeries))
  }

  /// Cautions about the groups of a load.
  private func cautions(_ load: String) -> [String] {
    let all = groups.filter { $0.load == load }
    let invalid = all.filter { !$0.isValid }.map(\.target)
    return [
      invalid.isEmpty ? "" : "Shown although not valid: \(invalid.joined(separator: ", ")).",
      all.count > Self.mostSeries
        ? "Only the first \(Self.mostSeries) of \(all.count) targets; the tables have all." : "",
    ]
  }
}

// MARK: Response time by percentile

extension ReportFigures {
  private static let named = [50, 90, 99, 99.9, 99.99, 99.999]
  /// Percentiles with ten steps for each tenth of the remaining samples.
  private static let steps: [Double] = {
    let even = (0...49).filter { $0 == 0 || $0 % 10 > 0 }
    return (named + even.map { 100 * (1 - pow(10, -Double($0) / 10)) }).sorted()
  }()

  private func percentiles(_ load: String) -> ReportFigure {
    // Over all rates of a ramp, a percentile would only depend on where the ramp ends.
    let curves = drawn(load).filter { !$0.isRamp }.map { group -> Chart.Series in
      let histogram = group.merged("request", \.response)
      let points = Self.steps.compactMap { percentile -> Chart.Point? in
        guard let time = histogram.printableMicroseconds(percentile) else { return nil }
        return Chart.Point(
          x: percentile, y: time,
          title: "\(group.target), p\(Number.text(percentile) ?? ""): \(Headline.time(time))",
          isMarked: Self.named.contains(percentile))
      }
      return series(group.target, points)
    }.filter { $0.points.count > 1 }
    let words = [50.0, 99].map { percentile in
      let each = curves.compactMap { one in
        one.points.first { $0.x == percentile }?.y.map { "\(one.name) \(Headline.time($0))" }
      }
      return each.isEmpty ? "" : "p\(Int(percentile)): \(each.joined(separator: ", "))."
    }
    let title = "Response time by percentile, \(load)"
    return ReportFigure(
      title: title,
      paragraphs: [
        words.joined(separator: " "),
        "Lower is faster; replicates are merged. A curve ends where fewer than 10 samples lie beyond.",
      ] + cautions(load),
      charts: [Chart(title, curves, x: .percentile, y: .responseTime)].compactMap { $0 },
      reason: "no load has enough answered requests for a percentile",
      terms: [.response, .percentile] + Glossary.loads(load))
  }
}

// MARK: Throughput against latency

extension ReportFigures {
  private var throughputAndLatency: ReportFigure {
    let measured = targets.prefix(Self.mostSeries).map { target in
      let mine = groups.filter { $0.target == target && $0.isValid && !$0.isRamp }
      let points = mine.compactMap { group -> Chart.Point? in
        guard let rate = group.median("throughput_rps"), let time = group.median("response_p50_us") else {
          return nil
        }
        let words = "\(Number.grouped(rate) ?? "") req/s, p50 \(Headline.time(time))"
        return Chart.Point(
          x: rate, y: time, label: group.load, title: "\(target), \(group.load): \(words)",
          isHollow: group.load.hasPrefix("open-"))
      }
      return series(target, form: .dots, points)
    }.filter { !$0.points.isEmpty }
    let stated = Chart.Series(
      name: "documented", style: Chart.Series.documented, form: .dots, points: documented)
    let invalid = groups.filter { !$0.isValid }.map { "\($0.target) \($0.load)" }
    var x = Chart.Measure.rate
    x.title = "requests answered, req/s"
    x.scale = .logarithmic
    let title = "Throughput against latency (p50)"
    let chart = Chart(
      title, measured + (stated.points.isEmpty ? [] : [stated]), x: x, y: .responseTime)
    return ReportFigure(
      title: title,
      paragraphs: [
        "Further right and lower is better. A mark is one condition: filled for closed loads, hollow for "
          + "open ones.",
        stated.points.isEmpty
          ? ""
          : "Stars mark the documented figures, lines their ranges: "
            + "\(stated.points.map(\.title).joined(separator: "; ")).",
        invalid.isEmpty ? "" : "Left out because they are not valid: \(invalid.joined(separator: ", ")).",
      ],
      charts: measured.isEmpty ? [] : [chart].compactMap { $0 },
      reason: "no valid condition has both a throughput and a median response time",
      terms: [.response, .rate, .closed, .open])
  }

  /// The documented pairs of throughput and latency, without duplicates.
  private var documented: [Chart.Point] {
    var places: Set<[Double]> = []
    return (document.implied ?? []).compactMap { pair in
      guard places.insert([pair.ratePerSecond, pair.latencyMicroseconds]).inserted else { return nil }
      let claim = document.claims.first { $0.id == pair.claim && $0.isOverall }
      let range = claim.map(\.stated) ?? Headline.time(pair.latencyMicroseconds)
      let words = "\(range) at \(Number.grouped(pair.ratePerSecond) ?? "") req/s"
      return Chart.Point(
        x: pair.ratePerSecond, y: pair.latencyMicroseconds, ends: claim?.documentedMicroseconds,
        label: "documented, \(Number.grouped(pair.ratePerSecond) ?? "")/s", title: "\(pair.claim): \(words)")
    }
  }
}

extension ClaimVerdict {
  /// The ends of a documented time range, such as `2 to 3` ms; nil for other claims, and for a single value.
  fileprivate var documentedMicroseconds: (low: Double, high: Double)? {
    var ends = [documentedLow, documentedHigh].compactMap { $0 }
    if ends.isEmpty { ends = documented.components(separatedBy: " to ").compactMap { Double($0) } }
    guard ends.count == 2, ends[0] < ends[1], let factor = ["us": 1.0, "ms": 1000][unit] else { return nil }
    return (ends[0] * factor, ends[1] * factor)
  }
}

// MARK: Over the measured time

extension ReportFigures {
  /// The replicate to show for a load with faults. Fault times differ between replicates, so a median over
  /// them would hide the fault. Nil for another load.
  private func shownReplicate(_ load: String) -> Int? {
    let faulty = drawn(load).filter(\.hasFaults)
    guard let first = faulty.first else { return nil }
    let all = first.used.map(\.replicate)
    return all.first { one in faulty.allSatisfy { $0.used.contains { $0.replicate == one } } } ?? all.first
  }

  private func timeline(_ load: String) -> ReportFigure {
    let replicate = shownReplicate(load)
    func shown(_ group: MeasurementGroup) -> [Engine.Measurement] {
      guard let replicate else { return group.used }
      let one = group.used.filter { $0.replicate == replicate }
      return one.isEmpty ? Array(group.used.prefix(1)) : one
    }
    let marks = drawn(load).flatMap(shown).flatMap { $0.faults ?? [] }.reduce(
      into: [(x: Double, words: String)]()
    ) { marks, fault in
      guard let begun = fault.begunSeconds,
        !marks.contains(where: { $0.words == fault.words && abs($0.x - begun) < 0.1 })
      else { return }
      marks.append((begun, fault.words))
    }
    func lines(
      _ suffix: String, isDashed: Bool = false, _ y: Chart.Measure, _ value: (MeasurementWindow) -> Double?
    ) -> [Chart.Series] {
      drawn(load).map { group in
        let each = shown(group).map(\.windows)
        let points = (0..<(each.map(\.count).max() ?? 0)).compactMap { place -> Chart.Point? in
          let windows = each.filter { $0.indices.contains(place) }.map { $0[place] }
          guard let first = windows.first else { return nil }
          let values = windows.compactMap(value).filter(\.isFinite).sorted()
          let middle = Statistics.median(values)
          let time = first.startSeconds + first.durationSeconds / 2
          let words = middle.flatMap(y.label) ?? ""
          return Chart.Point(
            x: time, y: middle,
            ends: values.count > 1 ? (low: values[0], high: values[values.count - 1]) : nil,
            title: "\(group.target)\(suffix), \(Number.text(time, digits: 2) ?? "") s: \(words)",
            isHollow: isDashed)
        }
        return series(group.target, suffix: suffix, isDashed: isDashed, points)
      }.filter { $0.points.contains { $0.y != nil } }
    }
    var time = Chart.Measure.responseTime
    time.scale = nil
    let rates = lines("", .rate) {
      $0.durationSeconds > 0 ? Double($0.completed) / $0.durationSeconds : nil
    }
    let asked = drawn(load).first { $0.isRamp }?.used.first.map { one in
      one.windows.compactMap { window -> Chart.Point? in
        one.offeredPerSecond(in: window).map { rate in
          let time = window.startSeconds + window.durationSeconds / 2
          return Chart.Point(
            x: time, y: rate,
            title: "asked, \(Number.text(time, digits: 2) ?? "") s: \(Number.grouped(rate) ?? "")",
            isMarked: false)
        }
      }
    }
    let schedule = asked.map { points in
      Chart.Series(name: "asked", style: Chart.Series.documented, form: .line, isDashed: true, points: points)
    }
    let tails = lines(" p99", isDashed: true, time) { $0.p99Nanoseconds.map { Double($0) / 1000 } }
    let times = lines(" p50", time) { $0.p50Nanoseconds.map { Double($0) / 1000 } } + tails
    let failures = replicate == nil ? [] : lines("", .failures) { $0.failed.map { Double($0) } }
    let seconds = Chart.Measure(title: "measured time, s", scale: .linear) { Number.text($0) }
    return ReportFigure(
      title: "Over the measured time, \(load)",
      paragraphs: [
        (schedule == nil
          ? "A level line means a steady target."
          : "A target keeps up where its line matches the rate asked for.")
          + (replicate.map { " Replicate \($0) alone is shown, with a line where each fault began." }
            ?? " Marks are the median over replicates, whiskers reach from the minimum to the maximum."),
        tails.isEmpty
          ? "Too few requests ended in an interval for its p99."
          : "p50 has a solid line, p99 a dashed line with rings.",
      ] + cautions(load),
      charts: [
        Chart(
          "Rate over the measured time, \(load)", rates + [schedule].compactMap { $0 }, x: seconds, y: .rate,
          marks: marks),
        Chart("Response time over the measured time, \(load)", times, x: seconds, y: time, marks: marks),
        Chart("Failures over the measured time, \(load)", failures, x: seconds, y: .failures, marks: marks),
      ].compactMap { $0 },
      reason: "no request ended in an interval of a measurement", terms: [.window, .percentile])
  }
}

// MARK: Replicates

extension ReportFigures {
  private var replicates: ReportFigure {
    let pairs = comparisons.map { "\($0.row.b) / \($0.row.a)" }.uniqued()
    let ratio = pairs.count == 1 ? pairs[0] : "b / a"
    let shown = comparisons.filter { ($0.row.ratio ?? 0) > 0 }.prefix(Self.mostRows)
    var dots: [Chart.Point] = []
    var middles: [Chart.Point] = []
    for (place, one) in shown.enumerated() {
      let row = one.row
      let sides = [row.a, row.b].map { MeasurementGroup($0, row.condition, of: document.measurements).sound }
      let ratios = MeasurementGroup.pairs(row.metric, sides[0], sides[1]).map { $0.other / $0.mine }
      dots += ratios.filter { $0 > 0 && $0.isFinite }.map { ratio in
        Chart.Point(
          x: ratio, y: Double(place), title: "\(one.name): \(Number.significant(ratio, 3) ?? "")",
          isHollow: true)
      }
      middles.append(
        Chart.Point(
          x: row.ratio ?? 1, y: Double(place),
          ends: row.ratioLow.flatMap { low in row.ratioHigh.map { (low, $0) } },
          title: "\(one.name): \(row.ratioWords)"))
    }
    let rest = comparisons.count - shown.count
    return ReportFigure(
      title: "Certainty of the comparison",
      paragraphs: [
        "Rings are pairs of replicates of the same round, the diamond is their median, the line its interval of at "
          + "least 95 %. At 1 both targets are equal.",
        "A difference counts when the whole interval lies beyond the noise floor.",
        rest > 0 ? "\(rest) more rows are in the table of the comparison." : "",
      ],
      charts: [
        Chart(
          "Ratio \(ratio) of each compared figure",
          [
            Chart.Series(name: "pair of replicates", style: 0, form: .dots, points: dots),
            Chart.Series(name: "median and interval", style: 3, form: .dots, points: middles),
          ],
          x: Chart.Measure(title: "\(ratio), ratio", scale: .logarithmic) { Number.significant($0, 3) },
          y: nil,
          rows: shown.map { ($0.name, $0.row.ratioWords) }, reference: 1)
      ].compactMap { $0 },
      reason: "no two targets were compared", terms: Glossary.comparison)
  }
}

extension ComparisonRow {
  /// Text such as `2.5 (2.4 to 2.7), different`.
  fileprivate var ratioWords: String {
    let range = Number.range(ratioLow, ratioHigh).map { " (\($0))" } ?? ""
    return "\(Number.significant(ratio, 3) ?? "–")\(range), \(verdictText)"
  }
}

// MARK: CPU time

extension ReportFigures {
  private static let parts = ["generator", "broker", "workers"]

  private var costs: ReportFigure {
    let pair = comparisons.first.map { [$0.row.a, $0.row.b] } ?? targets
    let shown = groups.filter { pair.contains($0.target) && $0.median("cpu_generator_us") != nil }
      .prefix(Self.mostRows)
    var rows: [(name: String, note: String)] = []
    var bars = Self.parts.enumerated().map { place, part in
      Chart.Series(name: "\(part.prefix(1).uppercased()): \(part)", style: place, form: .bars, points: [])
    }
    for (place, group) in shown.enumerated() {
      var end = 0.0
      var missing: [String] = []
      // An in-process plugin has neither broker nor workers.
      let isPool = group.measurements.contains { $0.transport == .nats }
      for (number, part) in Self.parts.enumerated() where isPool || number == 0 {
        guard let cost = group.median("cpu_\(part)_us") else {
          missing.append(part)
          continue
        }
        bars[number].points.append(
          Chart.Point(
            x: cost, y: Double(place), ends: (end, end + cost), label: String(bars[number].name.prefix(1)),
            title: "\(group.target), \(group.load), \(part): \(Headline.time(cost))"))
        end += cost
      }
      let lack = missing.isEmpty ? "" : " without \(missing.joined(separator: ", ")), not measured"
      rows.append(("\(group.target), \(group.load)", Headline.time(end) + lack))
    }
    let title = "CPU time per request"
    let x = Chart.Measure(title: "CPU time per answered request", scale: .linear) {
      Number.time(microseconds: $0)
    }
    return ReportFigure(
      title: title,
      paragraphs: [
        "Shorter is cheaper. The parts are medians over replicates.",
        shown.count < groups.count ? "The table of costs has all targets and loads." : "",
      ],
      charts: [Chart(title, bars.filter { !$0.points.isEmpty }, x: x, y: nil, rows: rows)].compactMap { $0 },
      reason: "no measurement has CPU times", terms: Glossary.cpu)
  }
}
