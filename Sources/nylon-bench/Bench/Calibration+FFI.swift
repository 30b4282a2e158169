import Floor
import Foundation
import Load
import Measure
import Scenario
import TransportFFI

extension Calibration {
  /// Requests in flight of the plugin that answers from another thread.
  private static let queueInFlight = 64

  /// A plugin that answers from a thread of its own, in turn through a bare host and the engine.
  func calibrateQueue() throws -> CalibrationResult.Queue {
    let library = try PluginLibrary(path: PackageFiles.plugin("ThreadedPlugin"))
    library.start(configJSON: "")
    defer { library.shutdown() }
    let target = Target(
      name: "ffi", plugin: Self.plugin, handler: "noop", transport: .ffi(FFISpec(file: "ThreadedPlugin")),
      loads: [.closed(concurrency: Self.queueInFlight)])
    let bench = try Workbench(plan: plan(target, concurrency: Self.queueInFlight))
    var bare: [Double] = []
    var engine: [Double] = []
    for round in 0..<rounds {
      progress("FFI, another thread, \(round + 1)/\(rounds)")
      try inTurn(
        round, { bare.append(try self.bareQueue(library)) },
        {
          let measurement = try self.engine(bench, target, concurrency: Self.queueInFlight)
          let phases = measurement.scopes.dropFirst().reduce(0) { $0 + $1.okInWindow }
          engine.append(measurement.durationSeconds * 1e9 / Double(max(1, phases)))
        })
    }
    let (bareNs, engineNs) = (median(bare), median(engine))
    return CalibrationResult.Queue(
      inFlight: Self.queueInFlight, bareNs: bareNs, engineNs: engineNs, ratio: engineNs / bareNs)
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
  func calibratePacing(highest: Double) throws -> [CalibrationResult.Pacing] {
    let library = try PluginLibrary(path: PackageFiles.plugin("NullPlugin"))
    library.start(configJSON: "")
    return try [1000, 100_000, (highest * 0.6 / 1000).rounded() * 1000].map { rate in
      try calibratePacing(rate, library)
    }
  }

  private func calibratePacing(_ rate: Double, _ library: PluginLibrary) throws -> CalibrationResult.Pacing {
    let target = Target(
      name: "ffi", plugin: Self.plugin, handler: "noop", transport: .ffi(FFISpec(file: "NullPlugin")),
      phases: [.requestFilter], loads: [.open(ratePerSecond: rate, arrivals: .poisson)])
    let bench = try Workbench(plan: plan(target, concurrency: 1))
    var schedule = ArrivalSchedule(ratePerSecond: rate, arrivals: .poisson, seed: 1)
    let times = (0..<Int(rate * seconds)).map { _ in schedule.next() }
    var bare: [Double] = []
    var engine: [Double] = []
    for round in 0..<rounds {
      progress("pacing at \(Int(rate))/s, \(round + 1)/\(rounds)")
      try inTurn(
        round,
        {
          var late: UInt64 = 0
          let status = floor_pacing(
            library.registerSessionStream, library.eventStream, library.closeSessionStream, times,
            UInt64(times.count), &late)
          guard status == 0 else {
            throw LoadFailure(kind: .failed, message: "the null plugin did not answer the paced loop")
          }
          bare.append(Double(late) / 1000)
        },
        {
          let measurement = try bench.measure(
            target: target, load: target.loads[0], replicate: 1, onGlance: { _ in true })
          guard let lag = measurement.request?.sendLag.value(atPercentile: 99) else {
            throw LoadFailure(kind: .failed, message: "the engine sent nothing in an open load")
          }
          engine.append(Double(lag) / 1000)
        })
    }
    let (bareUs, engineUs) = (median(bare), median(engine))
    return CalibrationResult.Pacing(
      ratePerSecond: rate, bareP99Us: bareUs, engineP99Us: engineUs,
      ratio: bareUs > 0 ? engineUs / bareUs : 0)
  }
}
