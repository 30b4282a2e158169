// The columns of summary.csv: the one list for the file, `expect:`, claims, comparisons, tables and the
// manual.
import Engine

/// A row of summary.csv: one scope of a measurement.
package struct SummaryRow {
  let runID: String
  let scenario: String
  package let measurement: Measurement
  package let scope: ScopeMeasurement

  /// The rows of a run: whole requests first, then each phase.
  package static func all(_ document: RunDocument) -> [SummaryRow] {
    document.measurements.flatMap { measurement in
      measurement.scopes.map {
        SummaryRow(
          runID: document.runID, scenario: document.scenario.name, measurement: measurement, scope: $0)
      }
    }
  }

  /// All columns in the promised order; new ones are appended. A new counter adds its column automatically.
  package static let columns: [Column<SummaryRow>] =
    identity + outcomes[...Counter.duplicates.rawValue] + figures
    + outcomes[Counter.unexpected.rawValue...Counter.wrongContent.rawValue] + later + processes + monitoring
    + late + outcomes[(Counter.wrongContent.rawValue + 1)...]

  private static let identity: [Column<SummaryRow>] = [
    .text("run_id", "the run's folder", \.runID),
    .text("scenario", "the scenario's name", \.scenario),
    .text("target", "the target's name", \.measurement.target),
    .text("transport", "`ffi` or `nats`", \.measurement.transport.rawValue),
    .text("handler", "the handler's name", \.measurement.handler),
    .text(
      "phase",
      "`request` for whole sessions, else the phase; `initialize` for the requests with which `host: nylon` begins "
        + "a session", \.scope.scope),
    .text("load", "such as `closed-64` or `open-44000`", \.measurement.load),
    .number(
      "offered_rps", "offered rate of an open load", unit: "req/s", \.measurement.offeredRatePerSecond),
    .count("concurrency", "maximum sessions in flight", int: \.measurement.concurrency),
    .count("workers", "workers that the run started", int: \.measurement.workers),
    .count("payload_bytes", "bytes of the request's body", int: \.measurement.payloadBytes),
    .count("replicate", "1 for the first", int: \.measurement.replicate),
    .number("duration_s", "measured time", unit: "s", \.measurement.durationSeconds),
  ]

  private static let figures: [Column<SummaryRow>] = [
    .number(
      "throughput_rps", "successful answers in the measured time", unit: "req/s", better: .more,
      \.throughput),
    .number("response_min_us", "minimum response time", unit: "us", better: .less) {
      $0.extreme(\.leastNanoseconds)
    },
    .percentile("response_p50_us", "response time", 50, \.response),
    .percentile("response_p90_us", "response time", 90, \.response),
    .percentile("response_p99_us", "response time", 99, \.response),
    .percentile("response_p999_us", "response time", 99.9, \.response),
    .number("response_max_us", "maximum response time", unit: "us", better: .less) {
      $0.extreme(\.greatestNanoseconds)
    },
    .number("response_mean_us", "mean response time", unit: "us", better: .less) {
      $0.scope.response.meanNanoseconds.map { $0 / 1000 }
    },
    .percentile("service_p50_us", "service time", 50, \.service),
    .percentile("service_p99_us", "service time", 99, \.service),
    .percentile("send_lag_p99_us", "send lag: how late the generator sends", 99, \.sendLag),
    .cpu("cpu_generator_us", "load process, including an FFI plugin", \.cpuGeneratorNanoseconds),
    .cpu("cpu_broker_us", "broker", \.cpuBrokerNanoseconds),
    .cpu("cpu_workers_us", "workers together", \.cpuWorkersNanoseconds),
    .number(
      "allocated_bytes", "allocated by the load threads per request", unit: "B", better: .less, digits: 1
    ) {
      $0.perRequest($0.measurement.allocatedBytes)
    },
    .text("valid", "`true` or `false`") { $0.measurement.isValid ? "true" : "false" },
    .text("invalid_reason", "why it is not valid; reasons are separated by `;`") {
      $0.measurement.invalidReasons.map(\.code.rawValue).joined(separator: ";")
    },
  ]

  private static let later: [Column<SummaryRow>] = [
    .number("steal_percent", "CPU time that the hypervisor took", unit: "%", better: .less, digits: 2) {
      $0.measurement.stealShare.map { $0 * 100 }
    },
    .number(
      "omission_gap_p99_us", "response time minus service time, percentile 99", unit: "us", better: .less,
      \.omissionGap),
  ]

  /// Memory and context switches of each process of a run.
  private static let processes: [Column<SummaryRow>] = {
    let all: [(name: String, words: String, costs: @Sendable (Measurement) -> ProcessCosts?)] = [
      ("generator", "load process", \.generator), ("broker", "broker", \.broker),
      ("workers", "workers", \.workerProcesses),
    ]
    let memory = all.flatMap { name, words, costs -> [Column<SummaryRow>] in
      let meaning = "resident memory of the \(words) at the"
      return [
        .whole("resident_\(name)_start_bytes", "B", "\(meaning) start of the measured time") {
          costs($0)?.residentStartBytes
        },
        .whole("resident_\(name)_end_bytes", "B", "\(meaning) end of the measured time") {
          costs($0)?.residentEndBytes
        },
      ]
    }
    let switches = all.flatMap { name, words, costs -> [Column<SummaryRow>] in
      let meaning = "times per request that a thread of the \(words)"
      return [
        .rate("voluntary_switches_\(name)", "\(meaning) waited") { costs($0)?.voluntarySwitches },
        .rate("involuntary_switches_\(name)", "\(meaning) lost its core") { costs($0)?.involuntarySwitches },
      ]
    }
    return memory + switches
  }()

  private static let monitoring: [Column<SummaryRow>] = [
    .rate("broker_in_messages", "messages to the broker per request", \.brokerActivity?.inMessages),
    .rate("broker_out_messages", "messages from the broker per request", \.brokerActivity?.outMessages),
    .rate("broker_in_bytes", unit: "B", "bytes to the broker per request", \.brokerActivity?.inBytes),
    .rate("broker_out_bytes", unit: "B", "bytes from the broker per request", \.brokerActivity?.outBytes),
    .whole("broker_slow_consumers", "", "clients that the broker cut off", \.brokerActivity?.slowConsumers),
    .whole(
      "broker_pending_most_bytes", "B", "most bytes that were pending in the broker for one client",
      \.brokerActivity?.pendingMostBytes),
    .whole("broker_subscriptions", "", "subscriptions at the broker", \.brokerActivity?.subscriptions),
    .text("client", "the generator's NATS client", \.measurement.client),
    .count("connections", "the generator's NATS connections", int: \.measurement.connections),
  ]

  private static let late: [Column<SummaryRow>] = [
    .cpu("cpu_total_us", "load process, broker and workers together; empty if one of them is not known") {
      guard $0.transport == .nats else { return $0.cpuGeneratorNanoseconds }
      let parts = [$0.cpuGeneratorNanoseconds, $0.cpuBrokerNanoseconds, $0.cpuWorkersNanoseconds]
      return parts.contains(nil) ? nil : parts.compactMap { $0 }.reduce(0, +)
    },
    .text(
      "late_figures",
      "response-time percentiles of which over 10 % is the generator's lateness, each with that share, such "
        + "as `p99 0.33`"
    ) { row in
      [("p50", 50.0), ("p90", 90), ("p99", 99), ("p999", 99.9)].compactMap { name, percentile in
        Validity.lateShare(percentile: percentile, lag: row.scope.sendLag, response: row.scope.response).map {
          "\(name) \(Number.text($0, digits: 2) ?? "")"
        }
      }.joined(separator: "; ")
    },
    .number(
      "followed_rps",
      "rate up to which the answers keep up with a ramp; 0 if they fall behind from its beginning",
      unit: "req/s",
      better: .more
    ) { $0.scope.scope == "request" ? $0.measurement.followedPerSecond : nil },
  ]

  /// The columns that comparisons use, in the order of comparison.csv.
  static let compared = [
    "response_p50_us", "response_p99_us", "service_p50_us", "throughput_rps", "cpu_generator_us",
    "cpu_total_us", "allocated_bytes",
  ].compactMap(column)

  package static let numericColumns = columns.filter { !$0.isText }.map(\.name)

  /// The columns that count events within the measured time.
  package static let counters = Set(outcomes.map(\.name))

  private static let byName = Dictionary(uniqueKeysWithValues: columns.map { ($0.name, $0) })

  package static func column(_ name: String) -> Column<SummaryRow>? { byName[name] }

  private static let outcomes: [Column<SummaryRow>] = Counter.outcomes.map { counter in
    .count(
      RunKeys.stored("\(counter)"), counter.meaning,
      better: counter == .sent || counter == .ok ? .neither : .less
    ) { $0.scope.counts[counter] }
  }

  private var throughput: Double? {
    guard measurement.durationSeconds > 0 else { return nil }
    return Double(scope.okInWindow) / measurement.durationSeconds
  }

  private func extreme(_ value: (LatencyHistogram) -> UInt64) -> Double? {
    scope.response.isEmpty ? nil : Double(value(scope.response)) / 1000
  }

  private var omissionGap: Double? {
    guard let response = scope.response.printableMicroseconds(99),
      let service = scope.service.printableMicroseconds(99)
    else { return nil }
    return response - service
  }

  /// A cost of the whole measured time, divided by its requests; phases have no costs of their own.
  fileprivate func perRequest(_ total: UInt64?, unit: Double = 1) -> Double? {
    guard scope.scope == "request", let total, scope.okInWindow > 0 else { return nil }
    return Double(total) / unit / Double(scope.okInWindow)
  }
}

// Columns that differ only in their subject.
extension Column<SummaryRow> {
  fileprivate static func percentile(
    _ name: String, _ what: String, _ percentile: Double,
    _ of: @escaping @Sendable (ScopeMeasurement) -> LatencyHistogram
  ) -> Column {
    .number(name, "\(what), percentile \(Number.text(percentile) ?? "")", unit: "us", better: .less) {
      of($0.scope).printableMicroseconds(percentile)
    }
  }

  fileprivate static func cpu(
    _ name: String, _ of: String, _ value: @escaping @Sendable (Measurement) -> UInt64?
  ) -> Column {
    .number(name, "CPU time per request of the \(of)", unit: "us", better: .less) {
      $0.perRequest(value($0.measurement), unit: 1000)
    }
  }

  fileprivate static func whole(
    _ name: String, _ unit: String, _ meaning: String,
    _ value: @escaping @Sendable (Measurement) -> UInt64?
  ) -> Column {
    .count(name, meaning, unit: unit, better: .less) {
      $0.scope.scope == "request" ? value($0.measurement) : nil
    }
  }

  fileprivate static func rate(
    _ name: String, unit: String = "", _ meaning: String,
    _ value: @escaping @Sendable (Measurement) -> UInt64?
  ) -> Column {
    .number(name, meaning, unit: unit, better: .less, digits: 4) { $0.perRequest(value($0.measurement)) }
  }
}

extension LatencyHistogram {
  /// A percentile in microseconds; nil when too few samples lie beyond it.
  package func printableMicroseconds(_ percentile: Double) -> Double? {
    printableValue(atPercentile: percentile).map { Double($0) / 1000 }
  }

  package static func merged(_ histograms: some Sequence<LatencyHistogram>) -> LatencyHistogram {
    histograms.reduce(into: LatencyHistogram()) { $0.merge($1) }
  }
}

extension Measurement {
  /// A numeric column of summary.csv in the row of a scope; nil when missing.
  package func figure(_ column: String, scope: String = "request") -> Double? {
    scopes.first { $0.scope == scope }.flatMap {
      SummaryRow.column(column)?.figure(SummaryRow(runID: "", scenario: "", measurement: self, scope: $0))
    }
  }

  package var invalidCodes: String { invalidReasons.map(\.code.rawValue).joined(separator: ", ") }
}
