// What a measurement cost beside CPU time: memory, context switches, and what the broker counted.

/// Memory and context switches of one side of a measurement: the load process, the broker, or all
/// workers together. What was not measured is nil.
package struct ProcessCosts: Codable, Sendable, Equatable {
  /// Resident memory when the measured time began and ended, bytes.
  package var residentStartBytes, residentEndBytes: UInt64?
  /// Times that a thread gave up its core to wait for something, during the measured time.
  package var voluntarySwitches: UInt64?
  /// Times that the kernel took a core from a thread that wanted to go on.
  package var involuntarySwitches: UInt64?
}

extension ProcessCosts {
  /// What lies between two readings; nil when there was none at all.
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

/// Memory, in bytes, and context switches of some processes at one moment; nil when they cannot be read.
package typealias ProcessReading = (residentBytes: UInt64?, switches: ContextSwitches?)

/// Context switches up to a moment, voluntary ones and those that the kernel forced, by thread id, or by the
/// process's where it keeps one count for all.
///
/// The kernel keeps them for each thread, and forgets them with it. So two readings are compared thread
/// by thread: one that began in between counts from 0, one that ended in between does not count at all. The sum
/// never falls, and is too small by what ended threads did.
package typealias ContextSwitches = [Int32: SIMD2<UInt64>]

extension ContextSwitches {
  /// The switches since an earlier moment.
  func since(_ earlier: ContextSwitches) -> SIMD2<UInt64> {
    reduce(into: .zero) { sum, thread in
      let before = earlier[thread.key] ?? .zero
      // An id that a new thread has got again: its counts are all new.
      sum &+= all(thread.value .>= before) ? thread.value &- before : thread.value
    }
  }
}

/// What a broker's own monitoring says of it.
package struct BrokerStatistics: Decodable, Sendable, Equatable {
  package var version: String
  /// What the broker calls itself since it was started; another one after each start.
  package var serverID: String?
  /// Clients that were cut off because they read too slowly.
  package var slowConsumers: UInt64
  package var inMessages, outMessages, inBytes, outBytes: UInt64
  /// Clients and subscriptions now, the broker's own included.
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

/// What the broker's own monitoring said of the measured time.
package struct BrokerActivity: Codable, Sendable, Equatable {
  /// Messages that came in and went out.
  package var inMessages, outMessages: UInt64
  /// Bytes that came in and went out.
  package var inBytes, outBytes: UInt64
  /// Clients that were cut off in this time because they read too slowly.
  package var slowConsumers: UInt64
  /// Subscriptions, the broker's own included, and clients connected at the end.
  package var subscriptions, connections: UInt64
  /// Most bytes seen waiting for clients that had not read them yet; nil when it was never seen.
  package var pendingMostBytes: UInt64?
  /// How often it was looked at what waits.
  package var pendingLooks: Int

  /// What is worth a warning on the measurement.
  package var warnings: [String] {
    guard slowConsumers > 0 else { return [] }
    return [
      "the broker cut off \(slowConsumers) slow consumer\(slowConsumers == 1 ? "" : "s"): a client did not "
        + "read as fast as it was written to, and lost what waited for it"
    ]
  }
}

extension BrokerActivity {
  /// What lies between two readings; nil when the broker was started anew in between.
  package init?(
    from first: BrokerStatistics, to last: BrokerStatistics, pendingMostBytes: UInt64?, pendingLooks: Int
  ) {
    guard last.inMessages >= first.inMessages, last.outMessages >= first.outMessages,
      last.inBytes >= first.inBytes, last.outBytes >= first.outBytes,
      last.slowConsumers >= first.slowConsumers
    else { return nil }
    self.init(
      inMessages: last.inMessages - first.inMessages, outMessages: last.outMessages - first.outMessages,
      inBytes: last.inBytes - first.inBytes, outBytes: last.outBytes - first.outBytes,
      slowConsumers: last.slowConsumers - first.slowConsumers, subscriptions: last.subscriptions,
      connections: last.connections, pendingMostBytes: pendingMostBytes, pendingLooks: pendingLooks)
  }
}

extension BrokerActivity {
  /// What several brokers did together; nil where there is none.
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
      if let bytes = one.pendingMostBytes { sum.pendingMostBytes = (sum.pendingMostBytes ?? 0) + bytes }
      sum.pendingLooks += one.pendingLooks
    }
    self = sum
  }
}

/// What one broker of a cluster did in the measured time. What its monitoring did not say is nil.
package struct NodeActivity: Codable, Sendable, Equatable {
  /// From 1.
  package var node: Int
  /// Clients that were connected at the end.
  package var connections: UInt64?
  /// Messages that came in, from clients and from other brokers.
  package var inMessages: UInt64?
  /// Messages that went out, to clients and to other brokers.
  package var outMessages: UInt64?
  /// Messages that its clients were delivered, those of the generator left out.
  package var workerDeliveries: UInt64?
  /// Messages that the generator's connections to it were delivered.
  package var generatorDeliveries: UInt64?
  /// Clients that were cut off because they read too slowly.
  package var slowConsumers: UInt64?

  package init(
    node: Int, connections: UInt64? = nil, inMessages: UInt64? = nil, outMessages: UInt64? = nil,
    workerDeliveries: UInt64? = nil, generatorDeliveries: UInt64? = nil, slowConsumers: UInt64? = nil
  ) {
    self.node = node
    self.connections = connections
    self.inMessages = inMessages
    self.outMessages = outMessages
    self.workerDeliveries = workerDeliveries
    self.generatorDeliveries = generatorDeliveries
    self.slowConsumers = slowConsumers
  }
}
