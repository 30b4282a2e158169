import Baseline
import Foundation
import Engine
import Lab
import Results
import Nylon
import Scenario

/// Plugins in this process: the engine against bare C.
extension Calibration {
  /// Requests in flight of the plugin that answers from another thread.
  private static let queueInFlight = 64
  /// Rates at which there is time to sleep between two requests.
  private static let slowRates = [1000.0, 100_000]
  /// The share of the highest rate at which pacing must hold.
  private static let pacingShare = 0.6

  private func ffiTarget(_ file: String, loads: [LoadShape], phases: [Phase] = Phase.session) -> Target {
    Target(
      name: "ffi", plugin: Self.plugin, handler: "noop", transport: .ffi(FFISpec(file: file)),
      phases: phases, loads: loads)
  }

  private func plugin(_ name: String) throws -> PluginLibrary {
    let library = try PluginLibrary(path: PackageFiles.plugin(name))
    library.start(configJSON: "")
    return library
  }

  func calibrateFFI() throws -> CalibrationResult.FFI {
    let library = try plugin("NullPlugin")
    let target = ffiTarget("NullPlugin", loads: [.closed(concurrency: 1)])
    let bench = try Workbench(plan: plan(target, concurrency: 1))
    var turns = InTurn()
    var allocated: [Double] = []
    for round in 0..<rounds {
      progress("FFI \(round + 1)/\(rounds)")
      try inTurn(round, { turns.bare.append(try self.bareFFI(library)) }) {
        let measurement = try self.engine(bench, target, concurrency: 1)
        turns.engine.append(Self.nanosecondsPerPhase(measurement))
        if let bytes = Self.allocatedPerPhase(measurement) { allocated.append(bytes) }
      }
    }
    return CalibrationResult.FFI(turns, allocatedBytes: allocated.count == rounds ? allocated.max() : nil)
  }

  /// Nanoseconds per phase request of the bare loop.
  func bareFFI(_ library: PluginLibrary) throws -> Double {
    var result = FloorResult()
    let status = floor_ffi_loop(
      library.registerSessionStream, library.eventStream, library.closeSessionStream,
      UInt64(seconds * 1e9), &result)
    guard status == 0, result.count > 0 else {
      throw LoadFailure(kind: .failed, message: "the null plugin did not answer the bare loop")
    }
    return Double(result.elapsed_ns) / Double(result.count)
  }

  /// A plugin that answers from a thread of its own, in turn through a bare host and the engine.
  func calibrateQueue() throws -> CalibrationResult.Queue {
    let library = try plugin("ThreadedPlugin")
    defer { library.shutdown() }
    let target = ffiTarget("ThreadedPlugin", loads: [.closed(concurrency: Self.queueInFlight)])
    let bench = try Workbench(plan: plan(target, concurrency: Self.queueInFlight))
    var turns = InTurn()
    for round in 0..<rounds {
      progress("FFI, another thread, \(round + 1)/\(rounds)")
      try inTurn(round, { turns.bare.append(try self.bareQueue(library)) }) {
        turns.engine.append(
          Self.nanosecondsPerPhase(try self.engine(bench, target, concurrency: Self.queueInFlight)))
      }
    }
    return CalibrationResult.Queue(inFlight: Self.queueInFlight, turns)
  }

  private func bareQueue(_ library: PluginLibrary) throws -> Double {
    var result = FloorResult()
    let status = floor_ffi_queue(
      library.registerSessionStream, library.eventStream, library.closeSessionStream,
      UInt32(Self.queueInFlight), UInt64(seconds * 1e9), &result)
    guard status == 0, result.count > 0 else {
      throw LoadFailure(kind: .failed, message: "the threaded plugin did not answer the bare host")
    }
    return Double(result.elapsed_ns) / Double(result.count)
  }

  /// How late an open load is at 60 % of the highest rate, and at rates at which there is time to sleep.
  func calibratePacing() throws -> [CalibrationResult.Pacing] {
    let library = try plugin("NullPlugin")
    let closed = ffiTarget("NullPlugin", loads: [.closed(concurrency: 1)], phases: [.requestFilter])
    progress("pacing: the highest rate")
    let bench = try Workbench(plan: plan(closed, concurrency: 1))
    let highest = try engine(bench, closed, concurrency: 1).throughputPerSecond ?? 0
    let rate = (highest * Self.pacingShare / 1000).rounded() * 1000
    return try Self.slowRates.map { try calibratePacing($0, share: nil, library) }
      + [calibratePacing(rate, share: Self.pacingShare, library)]
  }

  private func calibratePacing(
    _ rate: Double, share: Double?, _ library: PluginLibrary
  ) throws -> CalibrationResult.Pacing {
    let load = LoadShape.open(ratePerSecond: rate, arrivals: .poisson)
    let target = ffiTarget("NullPlugin", loads: [load], phases: [.requestFilter])
    let bench = try Workbench(plan: plan(target, concurrency: 1))
    var schedule = ArrivalSchedule(ratePerSecond: rate, arrivals: .poisson, seed: 1)
    let times = (0..<Int(rate * seconds)).map { _ in schedule.next() }
    var turns = InTurn()
    var rates: [Double] = []
    for round in 0..<rounds {
      progress("pacing at \(Int(rate))/s, \(round + 1)/\(rounds)")
      try inTurn(round, { turns.bare.append(try Self.barePacing(library, times)) }) {
        let measurement = try bench.measure(
          target: target, load: load, replicate: 1, onGlance: { _ in true })
        guard let lag = measurement.request?.sendLag.value(atPercentile: 99) else {
          throw LoadFailure(kind: .failed, message: "the engine sent nothing in an open load")
        }
        turns.engine.append(Double(lag) / 1000)
        rates.append(measurement.throughputPerSecond ?? 0)
      }
    }
    return CalibrationResult.Pacing(
      ratePerSecond: rate, shareOfHighest: share, turns, engineRps: Statistics.median(rates) ?? 0)
  }

  /// p99 of how late a loop with clock_nanosleep starts its requests, microseconds.
  private static func barePacing(_ library: PluginLibrary, _ times: [UInt64]) throws -> Double {
    var late: UInt64 = 0
    let status = floor_pacing(
      library.registerSessionStream, library.eventStream, library.closeSessionStream, times,
      UInt64(times.count), &late)
    guard status == 0 else {
      throw LoadFailure(kind: .failed, message: "the null plugin did not answer the paced loop")
    }
    return Double(late) / 1000
  }
}
