import Results
import Foundation
import Lab
import Scenario

/// The loads that documented behaviours are tried under.
enum PromiseLoads {
  /// A bench whose loads run in load processes of this command.
  static func bench(plan: Plan, isQuick: Bool, trap: SignalTrap) -> PromiseBench {
    PromiseBench(
      plan: plan, isQuick: isQuick, program: Executables.ownPath,
      runLoad: { load, onSample in
        let bench = try Workbench(
          plan: Plan(
            name: "behaviour", targets: [load.target], request: load.request, loads: [load.shape],
            warmupSeconds: load.warmupSeconds, measureSeconds: load.measureSeconds,
            drainSeconds: load.drainSeconds, seed: plan.seed))
        defer { bench.tearDown() }
        // A fault is done between two looks, and its end is seen in them.
        bench.glanceInterval = .milliseconds(40)
        var failure: (any Error)?
        let measurement = try bench.measure(target: load.target, load: load.shape, replicate: 1) { at in
          guard failure == nil, !trap.isSprung else { return false }
          do {
            return try onSample(
              LoadSample(measuredSeconds: at.measuredSeconds, answered: at.glance.answered))
          } catch let error {
            failure = error
            return false
          }
        }
        if let failure { throw failure }
        return measurement
      },
      isInterrupted: { trap.isSprung })
  }
}
