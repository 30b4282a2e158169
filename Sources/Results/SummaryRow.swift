// The columns of summary.csv, each once: what they are called, and where their value comes from.
// Comparisons, expectations and tables ask for figures by these names.
import Engine

/// A row of summary.csv: a scope of a measurement.
package struct SummaryRow {
  var runID: String
  var scenario: String
  var measurement: Measurement
  var scope: ScopeMeasurement

  /// A row; `scope` is one of the measurement's.
  package init(runID: String, scenario: String, measurement: Measurement, scope: ScopeMeasurement) {
    self.runID = runID
    self.scenario = scenario
    self.measurement = measurement
    self.scope = scope
  }

  /// A cell; nil or not a number is an empty one.
  package enum Cell {
    case text(String?)
    /// With at most so many decimals.
    case number(Double?, digits: Int)
    case count(UInt64?)
  }

  /// A column.
  package struct Column {
    package var name: String
    package var cell: @Sendable (SummaryRow) -> Cell
  }

  /// The value of a numeric column; nil when it is missing or there is no such column.
  package func figure(_ column: String) -> Double? {
    switch Self.columns.first(where: { $0.name == column })?.cell(self) {
    case .number(let value, _): value
    case .count(let count): count.map { Double($0) }
    case .text, nil: nil
    }
  }

  /// The names of all numeric columns, in their order.
  package static let numericColumns: [String] = {
    let empty = ScopeMeasurement(
      scope: "request", counts: OutcomeCounts(), okInWindow: 0, response: LatencyHistogram(),
      service: LatencyHistogram(), sendLag: LatencyHistogram())
    let row = SummaryRow(
      runID: "", scenario: "",
      measurement: Measurement(
        target: "", transport: "", handler: "", load: "", concurrency: 0, payloadBytes: 0, replicate: 0,
        durationSeconds: 0), scope: empty)
    return columns.filter { column in
      if case .text = column.cell(row) { false } else { true }
    }.map(\.name)
  }()

  /// All columns in the promised order; new ones go to the end.
  package static let columns: [Column] =
    identity + outcomes + times + costs + validity + later + resources + engine

  private static let identity: [Column] = [
    Column(name: "run_id") { .text($0.runID) },
    Column(name: "scenario") { .text($0.scenario) },
    Column(name: "target") { .text($0.measurement.target) },
    Column(name: "transport") { .text($0.measurement.transport) },
    Column(name: "handler") { .text($0.measurement.handler) },
    Column(name: "phase") { .text($0.scope.scope) },
    Column(name: "load") { .text($0.measurement.load) },
    Column(name: "offered_rps") { .number($0.measurement.offeredRatePerSecond, digits: 3) },
    Column(name: "concurrency") { .count(UInt64(clamping: $0.measurement.concurrency)) },
    Column(name: "workers") { .count($0.measurement.workers.map { UInt64(clamping: $0) }) },
    Column(name: "payload_bytes") { .count(UInt64(clamping: $0.measurement.payloadBytes)) },
    Column(name: "replicate") { .count(UInt64(clamping: $0.measurement.replicate)) },
    Column(name: "duration_s") { .number($0.measurement.durationSeconds, digits: 3) },
  ]

  private static let outcomes: [Column] = [
    Column(name: "sent") { .count($0.scope.counts.sent) },
    Column(name: "ok") { .count($0.scope.counts.ok) },
    Column(name: "handler_errors") { .count($0.scope.counts.handlerErrors) },
    Column(name: "timeouts") { .count($0.scope.counts.timeouts) },
    Column(name: "rejected") { .count($0.scope.counts.rejected) },
    Column(name: "shed") { .count($0.scope.counts.shed) },
    Column(name: "lost") { .count($0.scope.counts.lost) },
    Column(name: "late") { .count($0.scope.counts.late) },
    Column(name: "duplicates") { .count($0.scope.counts.duplicates) },
  ]

  private static let times: [Column] = [
    Column(name: "throughput_rps") { .number($0.throughput, digits: 3) },
    Column(name: "response_min_us") { .number($0.least, digits: 3) },
    Column(name: "response_p50_us") { .number($0.response(50), digits: 3) },
    Column(name: "response_p90_us") { .number($0.response(90), digits: 3) },
    Column(name: "response_p99_us") { .number($0.response(99), digits: 3) },
    Column(name: "response_p999_us") { .number($0.response(99.9), digits: 3) },
    Column(name: "response_max_us") { .number($0.greatest, digits: 3) },
    Column(name: "response_mean_us") {
      .number($0.scope.response.meanNanoseconds.map { $0 / 1000 }, digits: 3)
    },
    Column(name: "service_p50_us") { .number($0.service(50), digits: 3) },
    Column(name: "service_p99_us") { .number($0.service(99), digits: 3) },
    Column(name: "send_lag_p99_us") {
      .number($0.scope.sendLag.printableMicroseconds(99), digits: 3)
    },
  ]

  private static let costs: [Column] = [
    Column(name: "cpu_generator_us") {
      .number($0.perRequest($0.measurement.cpuGeneratorNanoseconds, unit: 1000), digits: 3)
    },
    Column(name: "cpu_broker_us") {
      .number($0.perRequest($0.measurement.cpuBrokerNanoseconds, unit: 1000), digits: 3)
    },
    Column(name: "cpu_workers_us") {
      .number($0.perRequest($0.measurement.cpuWorkersNanoseconds, unit: 1000), digits: 3)
    },
    Column(name: "allocated_bytes") {
      .number($0.perRequest($0.measurement.allocatedBytes, unit: 1), digits: 1)
    },
  ]

  private static let validity: [Column] = [
    Column(name: "valid") { .text($0.measurement.isValid ? "true" : "false") },
    Column(name: "invalid_reason") {
      .text($0.measurement.invalidReasons.map(\.code.rawValue).joined(separator: ";"))
    },
  ]

  private static let later: [Column] = [
    Column(name: "unexpected") { .count($0.scope.counts.unexpected) },
    Column(name: "protocol_errors") { .count($0.scope.counts.protocolErrors) },
    Column(name: "no_responders") { .count($0.scope.counts.noResponders) },
    Column(name: "retries") { .count($0.scope.counts.retries) },
    Column(name: "wrong_content") { .count($0.scope.counts.wrongContent) },
    Column(name: "steal_percent") { .number($0.measurement.stealShare.map { $0 * 100 }, digits: 2) },
    Column(name: "omission_gap_p99_us") { .number($0.omissionGap, digits: 3) },
  ]

  private static let engine: [Column] = [
    Column(name: "client") { .text($0.measurement.client) },
    Column(name: "connections") { .count($0.measurement.connections.map { UInt64(clamping: $0) }) },
  ]

  private var throughput: Double? {
    guard measurement.durationSeconds > 0 else { return nil }
    return Double(scope.okInWindow) / measurement.durationSeconds
  }

  private var least: Double? {
    scope.response.isEmpty ? nil : Double(scope.response.leastNanoseconds) / 1000
  }

  private var greatest: Double? {
    scope.response.isEmpty ? nil : Double(scope.response.greatestNanoseconds) / 1000
  }

  private func response(_ percentile: Double) -> Double? {
    scope.response.printableMicroseconds(percentile)
  }

  private func service(_ percentile: Double) -> Double? {
    scope.service.printableMicroseconds(percentile)
  }

  private var omissionGap: Double? {
    guard let response = response(99), let service = service(99) else { return nil }
    return response - service
  }

  /// A cost of the whole measured time, shared out to the requests answered in it; nil in the rows
  /// of phases, which have no costs of their own.
  func perRequest(_ total: UInt64?, unit: Double) -> Double? {
    guard scope.scope == "request", let total, scope.okInWindow > 0 else { return nil }
    return Double(total) / unit / Double(scope.okInWindow)
  }
}

extension LatencyHistogram {
  /// A percentile in microseconds when enough samples lie beyond it.
  package func printableMicroseconds(_ percentile: Double) -> Double? {
    printableValue(atPercentile: percentile).map { Double($0) / 1000 }
  }

  /// All of several histograms.
  package static func merged(_ histograms: some Sequence<LatencyHistogram>) -> LatencyHistogram {
    histograms.reduce(into: LatencyHistogram()) { $0.merge($1) }
  }
}

extension Measurement {
  /// A numeric column of summary.csv in the row of phase `request`; nil when missing.
  package func figure(_ column: String) -> Double? {
    request.flatMap {
      SummaryRow(runID: "", scenario: "", measurement: self, scope: $0).figure(column)
    }
  }

  /// The codes of why it is invalid, with `, ` between.
  package var invalidCodes: String { invalidReasons.map(\.code.rawValue).joined(separator: ", ") }
}
