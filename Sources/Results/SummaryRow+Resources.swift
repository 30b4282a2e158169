// The columns of memory, context switches and the broker's own monitoring.
import Engine

extension SummaryRow {
  /// In the promised order, behind all others. Switches and what went through the broker are for each
  /// answered request, as CPU times are; the rows of phases have none of it.
  static let resources: [Column] = [
    whole("resident_generator_start_bytes") { $0.generator?.residentStartBytes },
    whole("resident_generator_end_bytes") { $0.generator?.residentEndBytes },
    whole("resident_broker_start_bytes") { $0.broker?.residentStartBytes },
    whole("resident_broker_end_bytes") { $0.broker?.residentEndBytes },
    whole("resident_workers_start_bytes") { $0.workerProcesses?.residentStartBytes },
    whole("resident_workers_end_bytes") { $0.workerProcesses?.residentEndBytes },
    rate("voluntary_switches_generator") { $0.generator?.voluntarySwitches },
    rate("involuntary_switches_generator") { $0.generator?.involuntarySwitches },
    rate("voluntary_switches_broker") { $0.broker?.voluntarySwitches },
    rate("involuntary_switches_broker") { $0.broker?.involuntarySwitches },
    rate("voluntary_switches_workers") { $0.workerProcesses?.voluntarySwitches },
    rate("involuntary_switches_workers") { $0.workerProcesses?.involuntarySwitches },
    rate("broker_in_messages") { $0.brokerActivity?.inMessages },
    rate("broker_out_messages") { $0.brokerActivity?.outMessages },
    rate("broker_in_bytes") { $0.brokerActivity?.inBytes },
    rate("broker_out_bytes") { $0.brokerActivity?.outBytes },
    whole("broker_slow_consumers") { $0.brokerActivity?.slowConsumers },
    whole("broker_pending_most_bytes") { $0.brokerActivity?.pendingMostBytes },
    whole("broker_subscriptions") { $0.brokerActivity?.subscriptions },
  ]

  /// A figure of the measurement as it stands.
  private static func whole(
    _ name: String, _ value: @escaping @Sendable (Measurement) -> UInt64?
  ) -> Column {
    Column(name: name) { $0.scope.scope == "request" ? .count(value($0.measurement)) : .count(nil) }
  }

  /// A figure of the measured time, shared out to the requests.
  private static func rate(
    _ name: String, _ value: @escaping @Sendable (Measurement) -> UInt64?
  ) -> Column {
    Column(name: name) { .number($0.perRequest(value($0.measurement), unit: 1), digits: 4) }
  }
}
