import Load
import Measure
import Scenario

/// The way to a pool through the package's own client; see `NATSTransport`.
public final class NativeTransport: SessionTransport {
  let inner: NATSTransport<NativeLink>

  /// See `SessionTransport`.
  public static func run(_ driver: LoadDriver<NativeTransport>) { driver.run() }

  init(order: LoadOrder, spec: NATSSpec, lane: Int, recorder: ThreadRecorder) throws {
    inner = try NATSTransport(order: order, spec: spec, lane: lane, recorder: recorder)
  }

  /// Ends of phases for the driver.
  public var completions: CompletionRing { inner.completions }
  /// A worker that is too slow is another process.
  public var isInProcess: Bool { false }
  /// See `SessionTransport`.
  public var wakeMargin: UInt64 {
    get { inner.wakeMargin }
    set { inner.wakeMargin = newValue }
  }
  /// Opens a session in a slot; false when there is none to be had.
  public func open(slot: Int, at time: UInt64) -> Bool { inner.open(slot: slot) }
  /// Starts a phase of the session in a slot.
  public func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    inner.start(slot: slot, phaseIndex: phaseIndex, attempt: attempt, at: time)
  }
  /// Gives up the phase under way.
  public func abandon(slot: Int) { inner.abandon(slot: slot) }
  /// Ends the session in a slot; whether its response is right, if asked.
  public func finish(slot: Int, verify: Bool) -> Bool { inner.finish(slot: slot, verify: verify) }
  /// What was seen first of each way to fail.
  public var evidence: FailureEvidence { inner.evidence }
  /// Waits for ends of phases, at most until that time.
  public func poll(until time: UInt64) { inner.poll(until: time) }
  /// Cuts an answered phase into the parts of `TransportSpec.partNames`.
  public func split(
    slot: Int, from sent: UInt64, to done: UInt64, into parts: UnsafeMutablePointer<UInt64>
  ) -> PhaseSplit { inner.split(slot: slot, from: sent, to: done, into: parts) }
}

/// The way to a pool through libnats; see `NATSTransport`.
public final class LibnatsTransport: SessionTransport {
  let inner: NATSTransport<LibnatsLink>

  /// See `SessionTransport`.
  public static func run(_ driver: LoadDriver<LibnatsTransport>) { driver.run() }

  init(order: LoadOrder, spec: NATSSpec, lane: Int, recorder: ThreadRecorder) throws {
    inner = try NATSTransport(order: order, spec: spec, lane: lane, recorder: recorder)
  }

  /// Ends of phases for the driver.
  public var completions: CompletionRing { inner.completions }
  /// A worker that is too slow is another process.
  public var isInProcess: Bool { false }
  /// See `SessionTransport`.
  public var wakeMargin: UInt64 {
    get { inner.wakeMargin }
    set { inner.wakeMargin = newValue }
  }
  /// Opens a session in a slot; false when there is none to be had.
  public func open(slot: Int, at time: UInt64) -> Bool { inner.open(slot: slot) }
  /// Starts a phase of the session in a slot.
  public func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    inner.start(slot: slot, phaseIndex: phaseIndex, attempt: attempt, at: time)
  }
  /// Gives up the phase under way.
  public func abandon(slot: Int) { inner.abandon(slot: slot) }
  /// Ends the session in a slot; whether its response is right, if asked.
  public func finish(slot: Int, verify: Bool) -> Bool { inner.finish(slot: slot, verify: verify) }
  /// What was seen first of each way to fail.
  public var evidence: FailureEvidence { inner.evidence }
  /// Waits for ends of phases, at most until that time.
  public func poll(until time: UInt64) { inner.poll(until: time) }
  /// Cuts an answered phase into the parts of `TransportSpec.partNames`.
  public func split(
    slot: Int, from sent: UInt64, to done: UInt64, into parts: UnsafeMutablePointer<UInt64>
  ) -> PhaseSplit { inner.split(slot: slot, from: sent, to: done, into: parts) }
}

/// Loads a pool of workers with the client that the scenario asks for.
///
/// Where the native client cannot do what is asked, libnats is taken; the measurement says which one
/// it was, and a warning says why when the other had been asked for.
public enum NATSEngines {
  /// Connects all load threads and makes the measurement.
  public static func measure(
    order: LoadOrder, spec: NATSSpec, area: RecordingArea, runner: LoadRunner
  ) throws -> Measure.Measurement {
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
  ) throws -> Measure.Measurement {
    let transports = try (0..<order.effectiveThreads).map { lane in
      try NativeTransport(order: order, spec: spec, lane: lane, recorder: area.threadRecorder(lane))
    }
    var measurement = runner.run(transports: transports)
    note(.native, transports.map(\.inner.remarks), in: &measurement)
    return measurement
  }

  private static func withLibnats(
    _ order: LoadOrder, _ spec: NATSSpec, _ area: RecordingArea, _ runner: LoadRunner
  ) throws -> Measure.Measurement {
    let transports = try (0..<order.effectiveThreads).map { lane in
      try LibnatsTransport(order: order, spec: spec, lane: lane, recorder: area.threadRecorder(lane))
    }
    var measurement = runner.run(transports: transports)
    note(.libnats, transports.map(\.inner.remarks), in: &measurement)
    return measurement
  }

  private static func note(
    _ client: NATSClient, _ remarks: [[String]], in measurement: inout Measure.Measurement
  ) {
    measurement.client = client.rawValue
    for remark in remarks.joined() where !measurement.warnings.contains(remark) {
      measurement.warnings.append(remark)
    }
  }
}
