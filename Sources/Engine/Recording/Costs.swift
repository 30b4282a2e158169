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
      (voluntarySwitches, involuntarySwitches) = after.since(before)
    }
  }
}

/// Memory and context switches of some processes at one moment.
package struct ProcessReading: Sendable, Equatable {
  /// Resident memory, bytes; nil when it cannot be read.
  package var residentBytes: UInt64?
  /// Context switches up to now; nil when they cannot be read.
  package var switches: ContextSwitches?

  package init(residentBytes: UInt64?, switches: ContextSwitches?) {
    self.residentBytes = residentBytes
    self.switches = switches
  }
}

/// Context switches up to a moment, thread by thread.
///
/// The kernel keeps them for each thread, and forgets them with it. So two readings are compared thread
/// by thread: one that began in between counts from 0, one that ended in between does not count at all. The sum never falls, and is too small by what ended threads did.
package struct ContextSwitches: Sendable, Equatable {
  /// The counts of one thread since it began.
  package struct Count: Sendable, Equatable {
    /// The thread waited for something.
    package var voluntary: UInt64
    /// The kernel took the core away.
    package var involuntary: UInt64

    package init(voluntary: UInt64, involuntary: UInt64) {
      self.voluntary = voluntary
      self.involuntary = involuntary
    }
  }

  /// Counts by thread id, or by the process's where it keeps one count for all.
  package var threads: [Int32: Count]

  package init(threads: [Int32: Count]) { self.threads = threads }

  /// The switches since an earlier moment.
  func since(_ earlier: ContextSwitches) -> (voluntary: UInt64, involuntary: UInt64) {
    threads.reduce(into: (0, 0)) { sum, thread in
      let before = earlier.threads[thread.key] ?? Count(voluntary: 0, involuntary: 0)
      // An id that a new thread has got again: its counts are all new.
      let isSame =
        thread.value.voluntary >= before.voluntary && thread.value.involuntary >= before.involuntary
      sum.0 += thread.value.voluntary - (isSame ? before.voluntary : 0)
      sum.1 += thread.value.involuntary - (isSame ? before.involuntary : 0)
    }
  }
}

/// What the broker's own monitoring said of the measured time.
package struct BrokerActivity: Codable, Sendable, Equatable {
  /// Messages that came in and went out.
  package var inMessages, outMessages: UInt64
  package var inBytes, outBytes: UInt64
  /// Clients that were cut off in this time because they read too slowly.
  package var slowConsumers: UInt64
  /// Subscriptions, the broker's own included, and clients connected at the end.
  package var subscriptions, connections: UInt64
  /// Most bytes seen waiting for clients that had not read them yet; nil when it was never seen.
  package var pendingMostBytes: UInt64?
  /// How often it was looked at what waits.
  package var pendingLooks: Int

  package init(
    inMessages: UInt64, outMessages: UInt64, inBytes: UInt64, outBytes: UInt64, slowConsumers: UInt64,
    subscriptions: UInt64, connections: UInt64, pendingMostBytes: UInt64?, pendingLooks: Int
  ) {
    self.inMessages = inMessages
    self.outMessages = outMessages
    self.inBytes = inBytes
    self.outBytes = outBytes
    self.slowConsumers = slowConsumers
    self.subscriptions = subscriptions
    self.connections = connections
    self.pendingMostBytes = pendingMostBytes
    self.pendingLooks = pendingLooks
  }

  /// What is worth a warning on the measurement.
  package var warnings: [String] {
    guard slowConsumers > 0 else { return [] }
    return [
      "the broker cut off \(slowConsumers) slow consumer\(slowConsumers == 1 ? "" : "s"): a client did not "
        + "read as fast as it was written to, and lost what waited for it"
    ]
  }
}
