import Foundation
import Lab
import Load
import Measure
import NylonProtocol
import Report
import Scenario
import TransportFFI

extension Calibration {
  /// Only what bare C does here, for the transports of a plan: a few seconds before its loads.
  func bareFloor(transports: Set<String>) throws -> MachineFloor {
    var facts = MachineFacts.read(optimisedBuild: ToolVersion.isOptimised)
    facts.versions = [:]
    let library = try PluginLibrary(path: PackageFiles.plugin("NullPlugin"))
    library.start(configJSON: "")
    let ffi = try (0..<rounds).map { _ in try bareFFI(library) }
    return MachineFloor(
      measured: UTCSecond(), cpuModel: facts.cpuModel, bootID: Self.bootID, ffiNanoseconds: median(ffi),
      nats: transports.contains("nats") ? try bareNATSRows() : [])
  }

  private func bareNATSRows() throws -> [MachineFloor.Bare] {
    let broker = try Broker.start()
    defer { broker.stop() }
    let subject = try Subject(plugin: Self.plugin).phase(.requestFilter)
    let worker = try ChildProcess.start(
      Launch(Executables.ownPath, ["__floor-worker", String(broker.port), subject, Self.group]))
    defer { worker.terminate() }
    try waitForSubscriber(broker, worker)
    let target = Target(
      name: "nats", plugin: Self.plugin, handler: "noop", transport: .nats(NATSSpec(servers: [broker.url])),
      phases: [.requestFilter], loads: [.closed(concurrency: 1)])
    let request = try Self.request(for: plan(target, concurrency: 1))
    return try [1, 64, 256].map { inFlight in
      let rows = try (0..<rounds).map { _ in
        try bareNATS(inFlight, port: broker.port, subject: subject, request: request)
      }
      return MachineFloor.Bare(
        inFlight: inFlight, ratePerSecond: median(rows.map(\.rate)), p50Microseconds: median(rows.map(\.p50)))
    }
  }

  private static var bootID: String? {
    (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8))
      .map { $0.trimmingCharacters(in: .whitespacesAndNewlines) }
  }
}
