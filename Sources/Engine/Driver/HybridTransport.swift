import Nylon
import Scenario

/// The transport for requests that pass two plugins in each phase: one in this process, then a worker pool.
///
/// The driver's even steps belong to the plugin, the odd ones to the pool. Both push phase ends to one ring.
final class HybridTransport: SessionTransport {
  let completions: CompletionRing
  private let plugin: FFITransport
  private let pool: NATSTransport
  /// Whether each slot's current phase is in the plugin.
  private let isInPlugin: UnsafeMutablePointer<Bool>

  private init(_ plugin: FFITransport, _ pool: NATSTransport) {
    (self.plugin, self.pool) = (plugin, pool)
    completions = pool.completions
    isInPlugin = .allocate(capacity: pool.slotCount)
    isInPlugin.initialize(repeating: false, count: pool.slotCount)
    // Wait for both at once: the plugin's threads wake the wait just like the pool's sockets.
    plugin.wake(through: pool.makeWakeDescriptor())
  }

  deinit { isInPlugin.deallocate() }

  /// Creates the transports of all load threads; the plugin is initialized and the pools are connected.
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

  /// False: the plugin's steps set `isInProcess` themselves.
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
    // Flush the requests that follow the plugin's phases, even when more of its calls are already pending.
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
