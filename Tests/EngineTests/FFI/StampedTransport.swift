import Lab
import Results
import Nylon
import Scenario
import TestSupport
import Synchronization

@testable import Engine

/// A transport that looks, at the end of each answered session, whether the plugin's header
/// `x-sid` is the session's own id.
final class StampedTransport: SessionTransport {
  let inner: FFITransport
  private(set) var right = 0
  private(set) var wrong = 0
  /// Sessions that have ended, of all that were opened.
  private(set) var opened = 0
  private(set) var ended = 0

  init(_ inner: FFITransport) { self.inner = inner }

  var completions: CompletionRing { inner.completions }
  var isInProcess: Bool { inner.isInProcess }
  func open(slot: Int, at time: UInt64) -> Bool {
    opened += 1
    return inner.open(slot: slot, at: time)
  }
  func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    inner.start(slot: slot, phaseIndex: phaseIndex, attempt: attempt, at: time)
  }
  func abandon(slot: Int) { inner.abandon(slot: slot) }
  func poll(until time: UInt64) { inner.poll(until: time) }
  func tally() { inner.tally() }
  var evidence: FailureEvidence { inner.evidence }
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>? { inner.partEnds(slot: slot, done: done) }
  static func run(_ driver: LoadDriver<StampedTransport>) { driver.run() }

  func finish(slot: Int, verify: Bool) -> Bool {
    ended += 1
    guard verify else { return inner.finish(slot: slot, verify: verify) }
    let state = inner.slots + slot
    let stamp = state.pointee.response.pluginHeaders.first { $0.key == "x-sid" }?.value
    if stamp == String(state.pointee.lastSID) { right += 1 } else { wrong += 1 }
    return inner.finish(slot: slot, verify: verify)
  }
}

extension FFILoad {
  /// Runs with the stamps looked at, for its time or until there is enough.
  func runStamped(
    _ plugin: PluginLibrary, until enough: (@Sendable (LoadGlance) -> Bool)? = nil
  ) throws -> (Engine.Measurement, [StampedTransport]) {
    var order = order
    if enough != nil { order.measureSeconds = 600 }
    let memory = LoadRecording(order.layout)
    if let enough { memory.endLoad(when: enough) }
    let transports = try FFITransport.make(
      order: order, spec: spec, plugin: plugin, area: memory.area
    ).map(StampedTransport.init)
    let measurement = LoadRunner(order: order, area: memory.area) { ResourceSample() }.run(
      transports: transports)
    return (measurement, transports)
  }
}
