// The tables of a run, for terminal, Markdown and HTML.
import Engine
import Results

typealias GroupColumn = Column<MeasurementGroup>

extension GroupColumn {
  static let name: [GroupColumn] = [.text("target", \.target), .text("load", \.load)]

  /// The median over replicates of a column of summary.csv, in the most readable unit.
  static func median(_ head: String, _ column: String) -> GroupColumn {
    .other(head) { SummaryRow.column(column)?.shown($0.median(column)) }
  }

  fileprivate static func digits(_ head: String, _ column: String) -> GroupColumn {
    .significant(head) { $0.median(column) }
  }
}

extension Cell {
  fileprivate init(validityOf group: MeasurementGroup) {
    self.init(group.validity, group.validity == "yes" ? .good : group.isValid ? .unsure : .bad)
  }
}

package enum ResultTables {
  package static func results(_ document: RunDocument) -> ReportTable {
    let clients = document.measurements.compactMap(\.client).uniqued().map { name in
      let targets = document.measurements.filter { $0.client == name }.map(\.target).uniqued()
      return "\(name) (\(targets.joined(separator: ", ")))"
    }
    return ReportTable(
      "Requests: response time; closed loads do not state latency under load",
      GroupColumn.name + [
        .toned("valid", isText: true, Cell.init(validityOf:)),
        .other("replicates") { String($0.measurements.count) }, .median("req/s", "throughput_rps"),
        .median("p50", "response_p50_us"), .median("p90", "response_p90_us"),
        .median("p99", "response_p99_us"), .median("p99.9", "response_p999_us"),
        .time("max") { $0.figures("response_max_us").max() }, .median("service p50", "service_p50_us"),
        .time("send lag p99") { $0.isOpen ? $0.median("send_lag_p99_us") : nil },
        .toned("errors") { Cell(Number.grouped(Double($0.failures())), $0.failures() == 0 ? .plain : .bad) },
      ], MeasurementGroup.all(document),
      notes: [
        "A request is a session through all its phases. Each figure is the median over replicates, max the "
          + "greatest; –: not measured, or under 10 samples lie beyond it.",
        "Response time starts when the request is scheduled, service time when it is sent; "
          + "send lag is the time between the two. Errors are all requests that did not succeed.",
      ] + (clients.isEmpty ? [] : ["The generator's NATS client: \(clients.joined(separator: ", "))."]))
  }

  static func intervals(_ document: RunDocument) -> ReportTable {
    func interval(_ head: String, _ name: String) -> GroupColumn {
      .other(head) { group in
        let interval = Statistics.medianInterval(group.figures(name))
        let ends = [interval?.low, interval?.high].compactMap { SummaryRow.column(name)?.shown($0) }
        return ends.count == 2 ? "\(ends[0]) to \(ends[1])" : nil
      }
    }
    return ReportTable(
      "Intervals of the medians over replicates, of at least 95 %",
      GroupColumn.name + [
        interval("req/s", "throughput_rps"), interval("p50", "response_p50_us"),
        interval("p99", "response_p99_us"),
      ], MeasurementGroup.all(document),
      notes: [
        "Two order statistics of the replicates; –: under 6 replicates, which give no interval."
      ])
  }

  static func phases(_ document: RunDocument) -> ReportTable {
    typealias Phase = (group: MeasurementGroup, name: String)
    func time(_ head: String, _ column: String) -> Column<Phase> {
      .time(head) { $0.group.median(column, scope: $0.name) }
    }
    let columns: [Column<Phase>] = [
      .text("target", \.group.target), .text("load", \.group.load), .text("phase", \.name),
      time("p50", "response_p50_us"), time("p99", "response_p99_us"), time("service p50", "service_p50_us"),
      .grouped("errors") { Double($0.group.failures(scope: $0.name)) },
    ]
    return ReportTable(
      "Phase requests", columns,
      MeasurementGroup.all(document).flatMap { group in group.stepNames.map { (group, $0) } },
      notes: [
        "A phase request is one phase, started and ended; initialize is one of the requests that begin a "
          + "session under Nylon's own host. Medians over replicates."
      ])
  }

  package static func costs(_ document: RunDocument) -> ReportTable {
    ReportTable(
      "Costs per answered request",
      GroupColumn.name + [
        .median("CPU generator", "cpu_generator_us"), .median("CPU broker", "cpu_broker_us"),
        .median("CPU workers", "cpu_workers_us"), .median("bytes allocated", "allocated_bytes"),
        .median("omission gap p99", "omission_gap_p99_us"),
        .other("stolen CPU") { Number.text($0.median("steal_percent"), digits: 2).map { "\($0) %" } },
      ], MeasurementGroup.all(document),
      notes: [
        "An FFI plugin runs in the generator's process, whose CPU time includes it. The omission gap "
          + "is response minus service time: the coordinated omission of a generator that waits for replies.",
        "jemalloc replaces malloc in the load process and in every plugin it loads.",
      ])
  }

  /// Both ends of long loads; no rows without a long load.
  package static func costsOverLength(_ document: RunDocument) -> ReportTable {
    struct Long {
      let group: MeasurementGroup
      let costs: [LengthCosts]
      func median(_ figure: (LengthCosts) -> Double?) -> Double? {
        Statistics.median(costs.compactMap(figure))
      }
    }
    func ratio(_ figure: @escaping @Sendable (LengthCosts.Fifth) -> Double?) -> Column<Long> {
      .significant("ratio") { $0.median { $0.ratio(figure) } }
    }
    func memory(
      _ head: String, _ bytes: @escaping @Sendable (LengthCosts) -> Double?
    ) -> Column<Long> {
      .other(head) { Number.text($0.median(bytes).map { $0 / 1_048_576 }, digits: 2).map { "\($0) MiB" } }
    }
    let columns: [Column<Long>] = [
      .text("target", \.group.target), .text("load", \.group.load),
      .time("CPU generator, first fifth") { $0.median(\.first.cost) },
      .time("last fifth") { $0.median(\.last.cost) }, ratio(\.cost),
      .grouped("req/s, first fifth") { $0.median(\.first.rate) },
      .grouped("last fifth") { $0.median(\.last.rate) }, ratio(\.rate),
      memory("memory generator, start", \.memory.start), memory("end", \.memory.end),
      memory("growth", \.memory.growth),
    ]
    let rows = MeasurementGroup.all(document).map {
      Long(group: $0, costs: $0.used.compactMap(LengthCosts.init))
    }
    return ReportTable(
      "Cost over the run's length", columns, rows.filter { !$0.costs.isEmpty },
      notes: [
        "The first and the last fifth of the measured time, per request that ended in it, for measurements "
          + "of at least \(Int(LengthCosts.leastSeconds)) s; a ratio of 1 means no change. "
          + "timeline.csv has every interval."
      ])
  }

  static func resources(_ document: RunDocument) -> ReportTable {
    func pair(
      _ head: String, _ names: [String], _ joint: String, unit: String = "",
      _ text: @escaping @Sendable (Double?) -> String?
    ) -> GroupColumn {
      .other(head) { group in
        let both = names.compactMap { text(group.median($0)) }
        return both.count == 2 ? both.joined(separator: joint) + unit : nil
      }
    }
    let sides = ["generator", "broker", "workers"]
    var table = ReportTable(
      "Memory, and context switches per answered request",
      GroupColumn.name
        + sides.map { side in
          let names = ["resident_\(side)_start_bytes", "resident_\(side)_end_bytes"]
          return pair("memory \(side)", names, " to ", unit: " MiB") {
            Number.text($0.map { $0 / 1_048_576 }, digits: 1)
          }
        }
        + sides.map { side in
          let names = ["voluntary_switches_\(side)", "involuntary_switches_\(side)"]
          return pair("switches \(side)", names, " + ") { Number.significant($0, 3) }
        }, MeasurementGroup.all(document),
      notes: [
        "Memory is resident memory at the start and at the end of the measured time; the generator's "
          + "includes its histograms and an FFI plugin. Switches are voluntary (a thread waited) + "
          + "involuntary (the kernel took the core away), over all threads. Threads of the broker and of "
          + "workers that ended within the measured time are not counted: the kernel discards their counts."
      ])
    table.rows.removeAll { row in row.dropFirst(2).allSatisfy { $0.text == nil } }
    return table
  }

  static func broker(_ document: RunDocument) -> ReportTable {
    ReportTable(
      "The broker's own monitoring",
      GroupColumn.name + [
        .digits("messages in / request", "broker_in_messages"),
        .digits("out / request", "broker_out_messages"), .digits("bytes in / request", "broker_in_bytes"),
        .digits("out / request", "broker_out_bytes"),
        .toned("slow consumers") { group in
          let slow = group.measurements.compactMap { $0.brokerActivity?.slowConsumers }.reduce(0, +)
          return Cell(String(slow), slow == 0 ? .plain : .bad)
        },
        .grouped("most pending bytes") { $0.figures("broker_pending_most_bytes").max() },
        .median("subscriptions", "broker_subscriptions"),
      ],
      MeasurementGroup.all(document).filter { $0.measurements.contains { $0.brokerActivity != nil } },
      notes: [
        "From /varz at the start and end of the measured time. Slow consumers are clients that the broker "
          + "disconnected, over all replicates. Pending bytes wait in the broker for clients that have not "
          + "read them (/connz); they are sampled at most ten times in a measurement, so a short peak may be "
          + "missed."
      ])
  }

  package static func comparison(_ rows: [ComparisonRow]) -> ReportTable {
    let columns: [Column<ComparisonRow>] = [
      .text("metric", \.metric), .text("load", \.condition), .text("a", \.a), .text("b", \.b),
      .toned("verdict", isText: true) { row in
        let mark = row.why.hasPrefix("invalid") ? " (\(row.why))" : ""
        return Cell(
          row.verdict.rawValue + mark,
          row.isRegression ? .bad : row.verdict == .unclear ? .unsure : .plain)
      },
      .other("a's value") { $0.shown($0.aValue) }, .other("b's value") { $0.shown($0.bValue) },
      .significant("ratio", digits: 3, \.ratio),
      .other("95 % interval") { Number.range($0.ratioLow, $0.ratioHigh) },
      .significant("p", digits: 2, \.pValue),
      .other("noise floor") { Number.percent($0.noiseFloor) },
    ]
    return ReportTable(
      "Comparison: ratio b / a of paired replicates", columns, rows,
      notes: [
        "different: the interval lies wholly beyond the noise floor, which is the bias of an A/A pair (the same "
          + "target twice) and at least 2 %, and a fifth of the ratios' spread. same: the interval lies within the "
          + "limit of --equivalence, 10 % unless given. unclear: neither is certain.",
        "p is that of the sign test. The verdict does not use it.",
      ])
  }

  package static func claims(_ rows: [ClaimVerdict]) -> ReportTable {
    ReportTable(
      "Documented claims",
      [
        .text("claim", \.id), .text("where") { "\($0.document):\($0.line)" }, .text("condition", \.condition),
        .toned("verdict", isText: true) { Cell($0.verdict.rawValue, $0.verdict.tone) },
        .other("documented", \.documented), .significant("measured", digits: 3, \.measured),
        .other("95 % interval") { Number.range($0.low, $0.high) }, .other("unit", \.unit),
      ] as [Column<ClaimVerdict>], rows,
      notes: [
        "Conditions: a unloaded, b open loop at the documented rate, c closed loop at the concurrency that "
          + "Little's law implies. confirmed: the interval lies in the documented range; better, worse: wholly "
          + "outside it, or the documented rate cannot be reached; inconclusive: it straddles an end, or the "
          + "measurement is invalid."
      ])
  }

  package static func implied(_ pairs: [ImpliedPair]) -> ReportTable {
    let columns: [Column<ImpliedPair>] = [
      .text("claim", \.claim), .text("target", \.target), .time("documented", \.latencyMicroseconds),
      .other("at") { Number.grouped($0.ratePerSecond).map { "\($0) req/s" } },
      .significant("in flight", digits: 3, \.inFlight), .time("measured, unloaded", \.unloadedMicroseconds),
      .other("plugin work for it") { pair in
        let work = pair.workMicroseconds
        return work.map { $0 <= 0 } == true
          ? "none: it already takes longer" : Number.time(microseconds: work)
      },
      .time("per phase") { pair in
        pair.workMicroseconds.flatMap { $0 <= 0 || pair.phases < 1 ? nil : $0 / Double(pair.phases) }
      },
    ]
    return ReportTable(
      "What the documented pairs imply", columns, pairs,
      notes: [
        "In flight: what Little's law gives for the documented latency and throughput together. Plugin work: how "
          + "long the handlers would have to work in a request for the documented latency to be that of an "
          + "unloaded request here."
      ])
  }

  package static func behaviours(_ results: [BehaviourResult]) -> ReportTable {
    ReportTable(
      "Documented behaviour, tested",
      [
        .text("test", \.test),
        .toned("verdict", isText: true) { Cell($0.verdict.rawValue, $0.verdict.tone) },
        .text("what was seen", \.why),
      ] as [Column<BehaviourResult>], results)
  }

  static func behaviourDetails(_ results: [BehaviourResult]) -> [ReportTable] {
    results.filter { !$0.rows.isEmpty }.map { result in
      let columns = result.columns.enumerated().map { place, head -> Column<[String]> in
        let cell = { @Sendable (row: [String]) in row.indices.contains(place) ? row[place] : nil }
        return place == 0 ? .text(head, cell) : .other(head, cell)
      }
      return ReportTable(result.test, columns, result.rows)
    }
  }

  package static func expectations(_ results: [ExpectationResult]) -> ReportTable {
    ReportTable(
      "Expectations",
      [
        .text("expectation", \.text),
        .toned("verdict", isText: true) {
          Cell($0.verdict.rawValue, $0.verdict == .met ? .good : $0.verdict == .notMet ? .bad : .unsure)
        }, .text("why", \.why),
      ] as [Column<ExpectationResult>], results)
  }
}

extension ClaimVerdict.Verdict {
  var tone: Cell.Tone {
    switch self {
    case .confirmed, .better, .holds: .good
    case .worse, .fails: .bad
    case .inconclusive, .notMeasured: .unsure
    }
  }
}

// MARK: Figures compared with bare C on this machine

extension ResultTables {
  package static func baseline(_ document: RunDocument) -> ReportTable {
    let columns: [Column<BaselineRow>] = [
      .text("target", \.group.target), .text("load", \.group.load), .text("figure", \.name),
      .other("measured") { $0.column.shown($0.measured) },
      .other("bare C") { $0.column.shown($0.baseline) },
      .significant("times bare C", digits: 3, \.times),
      .toned("what that means") {
        Cell($0.isNear ? "mostly machine and transport" : "", $0.isNear ? .unsure : .plain)
      },
    ]
    let when = document.baseline.map { "Measured \($0.measured) on this machine" } ?? ""
    return ReportTable(
      "Compared with bare C on this machine", columns, BaselineRow.all(document),
      notes: [
        "\(when), with bare C: the smallest plugin in a loop, and a bare-socket client with a bare echo worker "
          + "behind the same broker, times the phases of a request. Nothing is subtracted. A figure within "
          + "\(Number.text(BaselineFigures.nearness) ?? "") times that of bare C is mostly due to the "
          + "machine."
      ])
  }

  /// One sentence for each figure within twice its baseline.
  static func nearBaseline(_ document: RunDocument) -> [String] {
    BaselineRow.all(document).filter(\.isNear).map { row in
      "\(row.group.target), \(row.group.load): \(row.name) is within "
        + "\(Number.significant(row.times, 3) ?? "") times that of bare C on this machine, so it says more about "
        + "the machine and the transport than about the target"
    }
  }
}

/// A figure of a target and its baseline: the median for a single request in flight or an open load, the
/// throughput for a closed one.
private struct BaselineRow {
  let group: MeasurementGroup
  let column: Column<SummaryRow>
  let measured: Double
  let baseline: Double

  static func all(_ document: RunDocument) -> [BaselineRow] {
    MeasurementGroup.all(document).compactMap { group in
      guard let first = group.measurements.first, !group.isRamp, !group.hasFaults else { return nil }
      let isTime = first.concurrency == 1 || first.offeredRatePerSecond != nil
      let bare = document.baseline?.figure(of: first, phases: group.phaseNames.count, isTime: isTime)
      guard let column = SummaryRow.column(isTime ? "response_p50_us" : "throughput_rps"), let bare,
        let measured = group.median(column.name), measured > 0, bare > 0
      else { return nil }
      return BaselineRow(group: group, column: column, measured: measured, baseline: bare)
    }
  }

  var name: String { column.unit == "us" ? "p50" : "req/s" }
  var times: Double { column.better == .less ? measured / baseline : baseline / measured }
  var isNear: Bool { times < BaselineFigures.nearness }
}

// MARK: Where the time goes

extension ResultTables {
  package static func parts(_ document: RunDocument) -> ReportTable {
    let rows = MeasurementGroup.all(document).flatMap { group in
      group.phaseNames.flatMap { parts(group, $0) }
    }
    let columns: [Column<Part>] = [
      .text("target", \.group.target), .text("load", \.group.load), .text("phase", \.phase),
      .text("part", \.name), .time("p50") { $0.time?.printableMicroseconds(50) },
      .time("p99") { $0.time?.printableMicroseconds(99) }, .time("mean") { $0.mean.map { $0 / 1000 } },
      .other("share of mean") { part in
        guard let mean = part.mean, let whole = part.whole, whole > 0 else { return nil }
        return Number.percent(mean / whole)
      },
    ]
    return ReportTable(
      "Where the time goes: the service time of each phase in parts", columns, rows,
      notes: rows.isEmpty ? [] : partNotes(document))
  }

  /// The parts of whole requests: the means of all phases together.
  static func requestParts(_ document: RunDocument) -> ReportTable {
    let all = MeasurementGroup.all(document).flatMap { group in
      group.phaseNames.flatMap { parts(group, $0) }.filter { $0.time != nil }
    }
    func key(_ part: Part) -> [String] { [part.group.target, part.group.load, part.name] }
    let rows = all.map(key).uniqued().map { one in all.filter { key($0) == one } }
    @Sendable func mean(_ parts: [Part]) -> Double { parts.reduce(0) { $0 + ($1.mean ?? 0) } }
    return ReportTable(
      "Where the time of a request goes: the means of its phases together",
      [
        .text("target", \.[0].group.target), .text("load", \.[0].group.load), .text("part", \.[0].name),
        .time("mean") { mean($0) / 1000 },
        .other("share of mean") { parts in
          Number.percent(mean(parts) / parts.reduce(0) { $0 + ($1.whole ?? 0) })
        },
      ], rows)
  }

  private struct Part {
    let group: MeasurementGroup
    let phase: String
    let name: String
    let time: LatencyHistogram?
    /// The mean of the part, nanoseconds.
    let mean: Double?
    /// The mean service time of the phase, nanoseconds.
    let whole: Double?
  }

  private static func parts(_ group: MeasurementGroup, _ phase: String) -> [Part] {
    let scopes = group.used.compactMap { one in one.scopes.first { $0.scope == phase } }
      .filter { $0.decomposition != nil }
    let cuts = scopes.compactMap(\.decomposition)
    guard var cut = cuts.first else { return [] }
    for (place, part) in cut.parts.enumerated() {
      cut.parts[place].time = .merged(cuts.compactMap { $0.parts.first { $0.name == part.name }?.time })
    }
    let whole = LatencyHistogram.merged(scopes.map(\.service)).meanNanoseconds
    let shown = Number.time(microseconds: whole.map { $0 / 1000 }) ?? "–"
    let each: [(String, LatencyHistogram?, Double?)] =
      cut.parts.map { (labels[$0.name] ?? $0.name, $0.time, $0.time.meanNanoseconds) }
      + [("sum (service time \(shown))", nil, cut.meanNanoseconds)]
    return each.map { name, time, mean in
      Part(group: group, phase: phase, name: name, time: time, mean: mean, whole: whole)
    }
  }

  private static let labels = [
    "before_call": "host, before event_stream", "in_event_stream": "in event_stream",
    "until_callback": "plugin's own threads", "until_return": "callback until return",
    "host": "host, after the callback", "to_worker": "host to worker",
    "worker_wait": "waiting in the worker", "worker_reply": "worker packs the reply",
    "to_host": "worker to host",
  ]

  private static func partNotes(_ document: RunDocument) -> [String] {
    let transports = Set(
      document.measurements.filter { $0.scopes.contains { $0.decomposition != nil } }.map(\.transport))
    var notes = [
      "The parts of a phase request add up to its service time, from sent to done. The sum of their means is "
        + "compared with the mean of all answered and timed-out ones; only answered ones have parts. Replicates are "
        + "merged. Taking the timestamps costs time: figures without decompose: are a little lower."
    ]
    if transports.contains(.ffi) {
      notes.append(
        "FFI: before event_stream is, in the first phase, the opening of the session. In event_stream: "
          + "until it returned, or the callback came that ended the phase. Plugin's own threads: from "
          + "its return until that callback, also with reads that the host answers. After the callback: queueing "
          + "and handling by the host; with dispatch: inline the phase is complete within the callback.")
    }
    if transports.contains(.nats) {
      notes.append(
        "NATS: host to worker is from sent until the worker reads its socket: the client's writing, the "
          + "broker, both sockets, and earlier attempts of a retried phase. Waiting: behind other requests of the "
          + "same read, and unpacking. Worker to host: until the host has read and checked the reply.")
    }
    return notes
  }
}

// MARK: Cost per request at the beginning and the end of a long load

/// The first and last fifth of a measurement.
private struct LengthCosts {
  /// Over a shorter time, a ratio says more about the machine than about the load.
  static let leastSeconds = 60.0

  struct Fifth {
    /// The generator's CPU time per request, microseconds; nil when an interval was not measured.
    var cost: Double?
    /// Requests that ended, per second; nil without elapsed time.
    var rate: Double?

    init(_ windows: some Collection<MeasurementWindow>) {
      // Floating point, since the sum of a stored run's counts may not fit an integer.
      let completed = windows.reduce(0) { $0 + Double($1.completed) }
      let seconds = windows.reduce(0) { $0 + $1.durationSeconds }
      let times = windows.compactMap(\.cpuGeneratorNanoseconds)
      if times.count == windows.count, completed > 0 {
        cost = times.reduce(0) { $0 + Double($1) } / 1000 / completed
      }
      rate = seconds > 0 ? completed / seconds : nil
    }
  }

  let first: Fifth
  let last: Fifth
  /// The generator's resident memory, bytes; nil when not measured.
  let memory: (start: Double?, end: Double?, growth: Double?)

  init?(_ one: Measurement) {
    guard one.durationSeconds >= Self.leastSeconds, one.windows.count >= 5, one.ramp == nil else {
      return nil
    }
    first = Fifth(one.windows.prefix(one.windows.count / 5))
    last = Fifth(one.windows.suffix(one.windows.count / 5))
    let start = one.generator?.residentStartBytes.map { Double($0) }
    let end = one.generator?.residentEndBytes.map { Double($0) }
    memory = (start, end, start.flatMap { start in end.map { $0 - start } })
  }

  /// The last fifth relative to the first; 1 is a figure that does not change.
  func ratio(_ figure: (Fifth) -> Double?) -> Double? {
    guard let before = figure(first), let after = figure(last), before > 0 else { return nil }
    return after / before
  }
}

// MARK: A sweep

extension ResultTables {
  package static func sweep(_ document: RunDocument) -> ReportTable {
    struct Row {
      let curve: SweepCurve
      let point: SweepCurve.Point
      func time(_ column: String) -> Double? { point.group.median(column) }
    }
    let columns: [Column<Row>] = [
      .text("target", \.curve.target), .other("workers") { $0.curve.workers.map(String.init) },
      .other("connections") { $0.curve.connections.map(String.init) },
      .other("in flight") { String($0.point.concurrency) }, .grouped("req/s", \.point.ratePerSecond),
      .time("p50") { $0.time("response_p50_us") }, .time("p99") { $0.time("response_p99_us") },
      .time("CPU generator") { $0.time("cpu_generator_us") },
      .time("CPU broker") { $0.time("cpu_broker_us") }, .time("CPU workers") { $0.time("cpu_workers_us") },
      .toned("valid") { Cell(validityOf: $0.point.group) },
      .other("mark") { row in
        [
          row.point.concurrency == row.curve.knee?.concurrency ? "knee" : nil,
          row.point.concurrency == row.curve.highest?.concurrency ? "highest rate" : nil,
        ].compactMap { $0 }.joined(separator: ", ")
      },
    ]
    let curves = SweepCurve.all(document)
    return ReportTable(
      "Latency and throughput by requests in flight", columns,
      curves.flatMap { curve in curve.points.map { Row(curve: curve, point: $0) } },
      notes: curves.map(\.sentence) + SweepCurve.summary(curves)
    ).without(constant: "workers", "connections")
  }

  /// The rates tried for an objective.
  package static func objectives(_ document: RunDocument) -> ReportTable {
    typealias Row = (result: ObjectiveResult, trial: RateTrial)
    let results = ObjectiveResult.all(document)
    let rows = results.flatMap { result -> [Row] in
      RateBracket(document.measurements, result.target, result.objective).trials.map {
        (result: result, trial: $0)
      }
    }
    @Sendable func verdict(_ row: Row) -> Cell {
      if row.trial.said == 0 { return Cell("not known: \(row.trial.doubt ?? "")", .unsure) }
      guard row.trial.isDecided else { return Cell("tried", .unsure) }
      if row.trial.isUnsure { return Cell("undecided", .unsure) }
      return row.trial.isServed ? Cell("holds", .good) : Cell("does not hold", .bad)
    }
    let columns: [Column<Row>] = [
      .text("target", \.result.target), .text("objective", \.result.objective.text),
      .grouped("req/s", \.trial.ratePerSecond), .other("held") { "\($0.trial.held) of \($0.trial.said)" },
      .time("median", \.trial.median), .time("from", \.trial.low), .time("to", \.trial.high),
      .toned("verdict", verdict),
    ]
    return ReportTable(
      "The highest rate that meets an objective", columns, rows,
      notes: results.map(\.sentence) + [
        "from, to: the exact interval of the median over replicates, of at least 95 %; a rate holds if all "
          + "of it does."
      ])
  }
}

extension ResultTables {
  /// One table for each ramp: the requested rate step by step, and the results.
  package static func ramps(_ document: RunDocument) -> [ReportTable] {
    let columns: [Column<RampCourse.Step>] = [
      .other("from, s") { Number.text($0.startSeconds, digits: 2) },
      .grouped("asked, req/s", \.askedPerSecond), .grouped("reached", \.reachedPerSecond),
      .time("p50", \.p50Microseconds), .time("p99", \.p99Microseconds),
      .toned("failures") { Cell(Number.grouped($0.failed), $0.failed ?? 0 > 0 ? .bad : .plain) },
    ]
    return RampCourse.all(document).map { course in
      ReportTable(
        "Ramp of \(course.target), \(course.load)", columns, course.steps,
        notes: [course.sentence, RampCourse.caution])
    }
  }
}
