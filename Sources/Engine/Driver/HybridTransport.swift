import Nylon
import Scenario

/// The way of requests that pass two plugins phase by phase: first one in this process, then a pool of workers.
///
/// Of the driver's steps the even ones are the plugin's and the odd ones the pool's. Both put ends of phases into the
/// same ring.
final class HybridTransport: SessionTransport {
  let completions: CompletionRing
  private let plugin: FFITransport
  private let pool: NATSTransport
  /// Whether the phase of each slot is the plugin's.
  private let isInPlugin: UnsafeMutablePointer<Bool>

  private init(_ plugin: FFITransport, _ pool: NATSTransport) {
    (self.plugin, self.pool) = (plugin, pool)
    completions = pool.completions
    isInPlugin = .allocate(capacity: pool.slotCount)
    isInPlugin.initialize(repeating: false, count: pool.slotCount)
    // One wait for both: the plugin's threads wake it as the pool's sockets do.
    plugin.wake(through: pool.makeWakeDescriptor())
  }

  deinit { isInPlugin.deallocate() }

  /// The transports of all load threads; the plugin is loaded and initialised, the pools are connected.
  static func make(
    order: LoadOrder, _ first: PrecedingPlugin, _ library: PluginLibrary, pools: [NATSTransport],
    area: RecordingArea
  ) throws(PluginError) -> [HybridTransport] {
    let plugins = try FFITransport.make(
      order: order.preceding(first), spec: first.spec, plugin: library, area: area,
      steps: PhaseStep.steps(of: first, order.target.phases), rings: pools.map(\.completions))
    return zip(plugins, pools).map { HybridTransport($0, $1) }
  }

  static func run(_ driver: LoadDriver<HybridTransport>) { driver.run() }

  /// The plugin's steps say so themselves.
  var isInProcess: Bool { false }
  static let hasRequestIDs = true
  func requestID(slot: Int) -> RequestWords { pool.requestID(slot: slot) }

  func open(slot: Int, at time: UInt64) -> Bool {
    plugin.open(slot: slot, at: time) && pool.open(slot: slot, at: time)
  }

  func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    isInPlugin[slot] = phaseIndex % 2 == 0
    guard isInPlugin[slot] else {
      return pool.start(slot: slot, phaseIndex: phaseIndex / 2, attempt: attempt, at: time)
    }
    plugin.start(slot: slot, phaseIndex: phaseIndex / 2, attempt: attempt, at: time)
  }

  func abandon(slot: Int) {
    guard isInPlugin[slot] else { return pool.abandon(slot: slot) }
    plugin.abandon(slot: slot)
  }

  func finish(slot: Int, verify: Bool) -> Bool {
    _ = plugin.finish(slot: slot, verify: false)
    return pool.finish(slot: slot, verify: verify)
  }

  func poll(until time: UInt64) {
    // What the plugin's phases were followed by is sent, even where its next calls leave nothing to wait for.
    pool.flush()
    plugin.poll(in: { pool.poll(until: time) })
  }

  /// A load with two plugins is not decomposed.
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>? { nil }

  func tally() {
    plugin.tally()
    pool.tally()
  }

  var evidence: FailureEvidence {
    var evidence = pool.evidence
    evidence.add(plugin.evidence)
    return evidence
  }
}
