// Schedules the faults of a target while its load runs, and injects them through the lab.
import Engine
import Foundation
import Lab
import Scenario

/// A place where faults can be injected.
protocol FaultStage {
  /// Injects a fault.
  ///
  /// - Parameter draw: a random number that chooses the victim when the scenario does not name one.
  /// - Returns: a description, such as `worker 2 killed`, and a closure that ends the fault.
  func begin(_ fault: FaultSpec, draw: UInt64) throws -> (words: String, end: () throws -> Void)
}

/// Injects the faults of a target, each at its scheduled time, and records what was done.
///
/// It has no thread of its own: the code that waits for the load calls `doDue` no later than `nextSeconds`.
final class FaultDirector {
  /// The start or the end of a fault.
  private struct Deed {
    let fault: Int
    let atSeconds: Double
    /// Ends the fault; nil when this is its start.
    let end: (() throws -> Void)?
  }

  private let faults: [FaultSpec]
  private let draws: [UInt64]
  private let stage: any FaultStage
  /// Sorted by time.
  private var deeds: [Deed]
  private(set) var records: [FaultRecord]

  init(_ faults: [FaultSpec], seed: UInt64, replicate: Int, stage: any FaultStage) {
    (self.faults, self.stage) = (faults, stage)
    records = faults.enumerated().map { FaultRecord(number: $0 + 1, words: $1.words) }
    let drawn = Self.draw(faults, seed: seed, replicate: replicate)
    draws = drawn.map(\.draw)
    deeds = drawn.enumerated().map { Deed(fault: $0, atSeconds: $1.atSeconds, end: nil) }
      .sorted { $0.atSeconds < $1.atSeconds }
  }

  /// Draws the times of a replicate's faults and the numbers that choose their victims. They are the same
  /// for all targets, so that the targets differ only in how they respond.
  static func draw(
    _ faults: [FaultSpec], seed: UInt64, replicate: Int
  ) -> [(atSeconds: Double, draw: UInt64)] {
    faults.enumerated().map { place, fault in
      var random = SplitMix64(
        seed: seed &+ UInt64(replicate) &* 0xbf58_476d_1ce4_e5b9 &+ UInt64(place) &* 0x94d0_49bb_1331_11eb)
      return (Double.random(in: fault.atSeconds, using: &random), random.next())
    }
  }

  /// The time of the next start or end, seconds of the measured time; nil when none is left.
  var nextSeconds: Double? { deeds.first?.atSeconds }

  /// Starts and ends all faults that are due.
  ///
  /// - Parameter clock: returns the current time, seconds of the measured time.
  func doDue(_ clock: () -> Double) {
    while let deed = deeds.first, deed.atSeconds <= clock() {
      deeds.removeFirst()
      if deed.end == nil { begin(deed.fault, clock) } else { end(deed, clock) }
    }
  }

  /// Ends the faults that must be ended, such as a stopped process, once the load is over. Faults that had
  /// not started are recorded as not injected.
  func finish(_ clock: () -> Double) {
    let left = deeds
    deeds = []
    for deed in left {
      if deed.end == nil {
        records[deed.fault].error = "the load ended before the fault was due"
      } else if faults[deed.fault].what.needsEnd {
        end(deed, clock)
        records[deed.fault].overSeconds = nil
      }
    }
  }

  private func begin(_ fault: Int, _ clock: () -> Double) {
    let begun = clock()
    do {
      let done = try stage.begin(faults[fault], draw: draws[fault])
      (records[fault].words, records[fault].begunSeconds) = (done.words, begun)
      guard let seconds = faults[fault].forSeconds else { return }
      let end = Deed(fault: fault, atSeconds: begun + seconds, end: done.end)
      deeds.insert(end, at: deeds.firstIndex { $0.atSeconds > end.atSeconds } ?? deeds.endIndex)
    } catch {
      records[fault].error = "\(error)"
    }
  }

  private func end(_ deed: Deed, _ clock: () -> Double) {
    do {
      try deed.end?()
      records[deed.fault].overSeconds = clock()
    } catch {
      records[deed.fault].error = "ending it failed: \(error)"
    }
  }
}

/// The reason why a fault could not be injected.
struct FaultError: Error, CustomStringConvertible { let description: String }

/// Injects faults into the processes and links of one load.
final class LabFaults: FaultStage {
  private let process: ChildProcess
  private let target: Target
  private let pool: WorkerPool?
  private let cluster: BrokerCluster?
  private let link: (LinkPlace) -> Link?
  /// When a fault killed the load process, monotonic nanoseconds; nil when none did.
  private(set) var killedHostAt: UInt64?
  /// Whether a fault currently stops the load process.
  private(set) var isHostStopped = false

  init(
    process: ChildProcess, target: Target, pool: WorkerPool?, cluster: BrokerCluster?,
    link: @escaping (LinkPlace) -> Link?
  ) {
    (self.process, self.target, self.pool, self.cluster, self.link) = (process, target, pool, cluster, link)
  }

  func begin(_ fault: FaultSpec, draw: UInt64) throws -> (words: String, end: () throws -> Void) {
    switch fault.whom {
    case .plugin: return beginPlugin(fault)
    case .worker, .workers: return try beginWorkers(fault, draw: draw)
    case .pool:
      let pool = try requirePool()
      try pool.switchGroup(to: nextGroup, count: fault.count)
      return ("pool switched to \(fault.count) new workers", {})
    case .broker(let choice): return try beginBroker(fault, choice, draw: draw)
    case .link(let place):
      guard let link = link(place) else {
        throw FaultError(description: "there is no link \(place.rawValue)")
      }
      return disturb(link.relay, fault)
    case .route(let one, let other):
      guard let cluster else { throw FaultError(description: "there is no cluster") }
      return disturb(cluster.relay(one, other), fault)
    }
  }

  private func disturb(_ relay: Relay?, _ fault: FaultSpec) -> (words: String, end: () throws -> Void) {
    if fault.what == .silence { relay?.silence(true) } else { relay?.reset() }
    return (fault.what.words("\(fault.whom)"), { relay?.silence(false) })
  }

  private func beginPlugin(_ fault: FaultSpec) -> (words: String, end: () throws -> Void) {
    guard fault.what == .stop else {
      // A crash of the plugin takes down the host with all its requests in flight.
      process.kill()
      killedHostAt = MonotonicClock.nanoseconds
      return (fault.what.words("plugin"), {})
    }
    isHostStopped = true
    process.halt()
    return (
      fault.what.words("plugin"),
      { [self] in
        process.goOn()
        isHostStopped = false
      }
    )
  }

  // MARK: Workers

  private func requirePool() throws -> WorkerPool {
    guard let pool else { throw FaultError(description: "the run has started no workers") }
    return pool
  }

  /// A queue group that no worker has joined yet.
  private var nextGroup: String {
    switches += 1
    return "\(target.nats?.group ?? "next")-\(switches + 1)"
  }
  private var switches = 0

  private func beginWorkers(
    _ fault: FaultSpec, draw: UInt64
  ) throws -> (words: String, end: () throws -> Void) {
    let pool = try requirePool()
    if fault.what == .add {
      let new = try pool.add(fault.count)
      let words = new.count == 1 ? "worker \(new[0] + 1) added" : "\(new.count) workers added"
      return (words, { for index in new { pool.drain(index) } })
    }
    let victims = try victims(fault.whom, of: pool, draw: draw)
    for index in victims {
      switch fault.what {
      case .stop: pool.stop(index)
      case .slow: pool.slow(index)
      case .drain: pool.drain(index)
      case .close: pool.close(index)
      default: pool.kill(index)
      }
    }
    let name = fault.whom == .workers ? "\(victims.count) workers" : "worker \(victims[0] + 1)"
    if fault.what.needsEnd { return (fault.what.words(name), { for index in victims { pool.goOn(index) } }) }
    return (fault.what.words(name), { _ = try pool.add(victims.count) })
  }

  private func victims(_ whom: FaultVictim, of pool: WorkerPool, draw: UInt64) throws -> [Int] {
    let running = pool.runningIndices
    guard !running.isEmpty else { throw FaultError(description: "no worker is running") }
    guard case .worker(let named) = whom else { return running }
    guard let number = named else { return [running[Int(draw % UInt64(running.count))]] }
    guard running.contains(number) else {
      throw FaultError(description: "worker \(number + 1) is not running at that moment")
    }
    return [number]
  }

  // MARK: Brokers

  private func beginBroker(
    _ fault: FaultSpec, _ choice: FaultVictim.BrokerChoice, draw: UInt64
  ) throws -> (words: String, end: () throws -> Void) {
    guard let cluster else { throw FaultError(description: "the run has started no broker") }
    let index = try broker(choice, of: cluster, draw: draw)
    let node = cluster.nodes[index]
    guard node.isRunning else {
      throw FaultError(description: "broker \(index + 1) is not running at that moment")
    }
    let words = fault.what.words(cluster.nodes.count == 1 ? "broker" : "broker \(index + 1)")
    switch fault.what {
    case .stop:
      node.process.halt()
      return (words, { node.process.goOn() })
    case .lameDuck: try node.lameDuck()
    default: node.kill()
    }
    return (
      words,
      {
        if node.isRunning { node.kill() }
        try cluster.restart(index)
      }
    )
  }

  private func broker(
    _ choice: FaultVictim.BrokerChoice, of cluster: BrokerCluster, draw: UInt64
  ) throws -> Int {
    let own = target.nodes.generator - 1
    var candidates = Array(cluster.nodes.indices)
    switch choice {
    case .any: break
    case .own: candidates = [own]
    case .other: candidates.removeAll { $0 == own }
    case .number(let number): candidates = [number]
    }
    candidates.removeAll { !cluster.nodes.indices.contains($0) }
    guard !candidates.isEmpty else { throw FaultError(description: "there is no such broker") }
    return candidates[Int(draw % UInt64(candidates.count))]
  }
}
