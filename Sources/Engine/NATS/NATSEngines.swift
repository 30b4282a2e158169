import Scenario

/// The way to a pool through the package's own client; see `NATSTransport`.
package final class NativeTransport: SessionTransport {
  let inner: NATSTransport<NativeLink>

  /// See `SessionTransport`.
  package static func run(_ driver: LoadDriver<NativeTransport>) { driver.run() }

  init(order: LoadOrder, spec: NATSSpec, lane: Int, recorder: ThreadRecorder) throws {
    inner = try NATSTransport(order: order, spec: spec, lane: lane, recorder: recorder)
  }

  /// Ends of phases for the driver.
  package var completions: CompletionRing { inner.completions }
  /// A worker that is too slow is another process.
  package var isInProcess: Bool { false }
  /// See `SessionTransport`.
  package var wakeMargin: UInt64 {
    get { inner.wakeMargin }
    set { inner.wakeMargin = newValue }
  }
  /// Opens a session in a slot; false when there is none to be had.
  package func open(slot: Int, at time: UInt64) -> Bool { inner.open(slot: slot) }
  /// Starts a phase of the session in a slot.
  package func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    inner.start(slot: slot, phaseIndex: phaseIndex, attempt: attempt, at: time)
  }
  /// Gives up the phase under way.
  package func abandon(slot: Int) { inner.abandon(slot: slot) }
  /// Ends the session in a slot; whether its response is right, if asked.
  package func finish(slot: Int, verify: Bool) -> Bool { inner.finish(slot: slot, verify: verify) }
  /// What was seen first of each way to fail.
  package var evidence: FailureEvidence { inner.evidence }
  /// Waits for ends of phases, at most until that time.
  package func poll(until time: UInt64) { inner.poll(until: time) }
  /// Cuts an answered phase into the parts of `TransportSpec.partNames`.
  package func split(
    slot: Int, from sent: UInt64, to done: UInt64, into parts: UnsafeMutablePointer<UInt64>
  ) -> PhaseSplit { inner.split(slot: slot, from: sent, to: done, into: parts) }
}

/// The way to a pool through libnats; see `NATSTransport`.
package final class LibnatsTransport: SessionTransport {
  let inner: NATSTransport<LibnatsLink>

  /// See `SessionTransport`.
  package static func run(_ driver: LoadDriver<LibnatsTransport>) { driver.run() }

  init(order: LoadOrder, spec: NATSSpec, lane: Int, recorder: ThreadRecorder) throws {
    inner = try NATSTransport(order: order, spec: spec, lane: lane, recorder: recorder)
  }

  /// Ends of phases for the driver.
  package var completions: CompletionRing { inner.completions }
  /// A worker that is too slow is another process.
  package var isInProcess: Bool { false }
  /// See `SessionTransport`.
  package var wakeMargin: UInt64 {
    get { inner.wakeMargin }
    set { inner.wakeMargin = newValue }
  }
  /// Opens a session in a slot; false when there is none to be had.
  package func open(slot: Int, at time: UInt64) -> Bool { inner.open(slot: slot) }
  /// Starts a phase of the session in a slot.
  package func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    inner.start(slot: slot, phaseIndex: phaseIndex, attempt: attempt, at: time)
  }
  /// Gives up the phase under way.
  package func abandon(slot: Int) { inner.abandon(slot: slot) }
  /// Ends the session in a slot; whether its response is right, if asked.
  package func finish(slot: Int, verify: Bool) -> Bool { inner.finish(slot: slot, verify: verify) }
  /// What was seen first of each way to fail.
  package var evidence: FailureEvidence { inner.evidence }
  /// Waits for ends of phases, at most until that time.
  package func poll(until time: UInt64) { inner.poll(until: time) }
  /// Cuts an answered phase into the parts of `TransportSpec.partNames`.
  package func split(
    slot: Int, from sent: UInt64, to done: UInt64, into parts: UnsafeMutablePointer<UInt64>
  ) -> PhaseSplit { inner.split(slot: slot, from: sent, to: done, into: parts) }
}

/// Loads a pool of workers with the client that the scenario asks for.
///
/// Where the native client cannot do what is asked, libnats is taken; the measurement says which one
/// it was, and a warning says why when the other had been asked for.
package enum NATSEngines {
  /// Connects all load threads and makes the measurement.
  package static func measure(
    order: LoadOrder, spec: NATSSpec, area: RecordingArea, runner: LoadRunner
  ) throws -> Engine.Measurement {
    let wanted = spec.client ?? NATSClient.standard
    guard wanted == .native else { return try withLibnats(order, spec, area, runner) }
    guard let why = NATSClient.needsLibrary(spec) else { return try withNative(order, spec, area, runner) }
    var measurement = try withLibnats(order, spec, area, runner)
    if spec.client == .native {
      measurement.warnings.append("client: native was asked for and libnats was taken: \(why)")
    }
    return measurement
  }

  private static func withNative(
    _ order: LoadOrder, _ spec: NATSSpec, _ area: RecordingArea, _ runner: LoadRunner
  ) throws -> Engine.Measurement {
    let transports = try (0..<order.effectiveThreads).map { lane in
      try NativeTransport(order: order, spec: spec, lane: lane, recorder: area.threadRecorder(lane))
    }
    var measurement = runner.run(transports: transports)
    note(.native, transports.map(\.inner.remarks), in: &measurement)
    return measurement
  }

  private static func withLibnats(
    _ order: LoadOrder, _ spec: NATSSpec, _ area: RecordingArea, _ runner: LoadRunner
  ) throws -> Engine.Measurement {
    let transports = try (0..<order.effectiveThreads).map { lane in
      try LibnatsTransport(order: order, spec: spec, lane: lane, recorder: area.threadRecorder(lane))
    }
    var measurement = runner.run(transports: transports)
    note(.libnats, transports.map(\.inner.remarks), in: &measurement)
    return measurement
  }

  private static func note(
    _ client: NATSClient, _ remarks: [[String]], in measurement: inout Engine.Measurement
  ) {
    measurement.client = client.rawValue
    for remark in remarks.joined() where !measurement.warnings.contains(remark) {
      measurement.warnings.append(remark)
    }
  }
}
