// The costs of a measurement other than CPU time: memory, context switches, and the broker's counters.

/// Memory and context switches of one side of a measurement: the load process, the broker, or all
/// workers together. A value that was not measured is nil.
package struct ProcessCosts: Codable, Sendable, Equatable {
  /// Resident memory when the measured time began and ended, bytes.
  package var residentStartBytes, residentEndBytes: UInt64?
  /// The number of times a thread gave up its core to wait, during the measured time.
  package var voluntarySwitches: UInt64?
  /// The number of times the kernel preempted a thread that was still runnable.
  package var involuntarySwitches: UInt64?
}

extension ProcessCosts {
  /// The difference of two readings; nil when there are none.
  init?(from first: ProcessReading?, to last: ProcessReading?) {
    guard first != nil || last != nil else { return nil }
    residentStartBytes = first?.residentBytes
    residentEndBytes = last?.residentBytes
    if let before = first?.switches, let after = last?.switches {
      let since = after.since(before)
      (voluntarySwitches, involuntarySwitches) = (since.x, since.y)
    }
  }
}

/// Memory in bytes and context switches of some processes at one moment; nil when they cannot be read.
package typealias ProcessReading = (residentBytes: UInt64?, switches: ContextSwitches?)

/// Voluntary and involuntary context switches up to a moment, by thread id, or by process id where
/// one count covers all threads.
///
/// The kernel counts per thread and drops a thread's count when it ends. So readings are compared by thread:
/// one that began in between counts from 0, and one that ended in between does not count. The sum never
/// decreases, but lacks what ended threads did.
package typealias ContextSwitches = [Int32: SIMD2<UInt64>]

extension ContextSwitches {
  /// The switches since an earlier moment.
  func since(_ earlier: ContextSwitches) -> SIMD2<UInt64> {
    reduce(into: .zero) { sum, thread in
      let before = earlier[thread.key] ?? .zero
      // The id was reused by a new thread, whose counts are all new.
      sum &+= all(thread.value .>= before) ? thread.value &- before : thread.value
    }
  }
}

/// The figures of a broker's own monitoring.
package struct BrokerStatistics: Decodable, Sendable, Equatable {
  package var version: String
  /// The broker's id, which changes with each start.
  package var serverID: String?
  /// Clients that were disconnected because they read too slowly.
  package var slowConsumers: UInt64
  package var inMessages, outMessages, inBytes, outBytes: UInt64
  /// Current clients and subscriptions, including the broker's own.
  package var connections, subscriptions: UInt64

  enum CodingKeys: String, CodingKey {
    case version
    case serverID = "server_id"
    case slowConsumers = "slow_consumers"
    case inMessages = "in_msgs"
    case outMessages = "out_msgs"
    case inBytes = "in_bytes"
    case outBytes = "out_bytes"
    case connections, subscriptions
  }
}

/// The broker's activity during the measured time, from its own monitoring.
package struct BrokerActivity: Codable, Sendable, Equatable {
  /// Messages received and sent by the broker.
  package var inMessages, outMessages: UInt64
  /// Bytes received and sent by the broker.
  package var inBytes, outBytes: UInt64
  /// Clients disconnected during the measured time because they read too slowly.
  package var slowConsumers: UInt64
  /// Subscriptions, including the broker's own, and connected clients at the end.
  package var subscriptions, connections: UInt64
  /// The most bytes seen pending for clients that had not read them yet; nil when there was no sample.
  package var pendingMostBytes: UInt64?
  /// The number of samples of the pending bytes.
  package var pendingLooks = 0

  /// Warnings for the measurement.
  package var warnings: [String] {
    guard slowConsumers > 0 else { return [] }
    return [
      "the broker cut off \(slowConsumers) slow consumer\(slowConsumers == 1 ? "" : "s"): a client did not "
        + "read as fast as it was written to, and lost what waited for it"
    ]
  }
}

extension BrokerActivity {
  /// The difference of two readings, without samples; nil when the broker was restarted in between.
  package init?(from first: BrokerStatistics, to last: BrokerStatistics) {
    guard last.inMessages >= first.inMessages, last.outMessages >= first.outMessages,
      last.inBytes >= first.inBytes, last.outBytes >= first.outBytes,
      last.slowConsumers >= first.slowConsumers
    else { return nil }
    self.init(
      inMessages: last.inMessages - first.inMessages, outMessages: last.outMessages - first.outMessages,
      inBytes: last.inBytes - first.inBytes, outBytes: last.outBytes - first.outBytes,
      slowConsumers: last.slowConsumers - first.slowConsumers, subscriptions: last.subscriptions,
      connections: last.connections)
  }
}

extension BrokerActivity {
  /// The sum of several brokers' activity, without samples; nil when there are none.
  package init?(sumOf all: [BrokerActivity]) {
    guard var sum = all.first else { return nil }
    for one in all.dropFirst() {
      sum.inMessages += one.inMessages
      sum.outMessages += one.outMessages
      sum.inBytes += one.inBytes
      sum.outBytes += one.outBytes
      sum.slowConsumers += one.slowConsumers
      sum.subscriptions += one.subscriptions
      sum.connections += one.connections
    }
    self = sum
  }
}

/// The activity of one broker of a cluster in the measured time. A value that was not reported is nil.
package struct NodeActivity: Codable, Sendable, Equatable {
  /// The broker's number, from 1.
  package var node: Int
  /// Clients connected at the end.
  package var connections: UInt64?
  /// Messages received from clients and from other brokers.
  package var inMessages: UInt64?
  /// Messages sent to clients and to other brokers.
  package var outMessages: UInt64?
  /// Messages delivered to its clients, except for the generator.
  package var workerDeliveries: UInt64?
  /// Messages delivered to the generator's connections to it.
  package var generatorDeliveries: UInt64?
  /// Clients that were disconnected because they read too slowly.
  package var slowConsumers: UInt64?

}

extension NodeActivity {
  /// Creates the activity of a broker that reported nothing.
  package init(node: Int) { self.init(node: node, connections: nil) }
}
