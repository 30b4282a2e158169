import Lab
import Nylon
import Results
import Report
import Scenario
import Engine

extension Calibration {
  /// Only what bare C does here, for the transports of a plan: a few seconds before its loads.
  func bareFloor(transports: Set<String>) throws -> BaselineFigures {
    let library = try PluginLibrary(path: PackageFiles.plugin("NullPlugin"))
    library.start(configJSON: "")
    let ffi = try (0..<rounds).map { _ in try bareFFI(library) }
    return BaselineFigures(
      measured: UTCSecond(), ffiNanoseconds: median(ffi),
      nats: transports.contains("nats") ? try bareNATSRows() : [])
  }

  private func bareNATSRows() throws -> [BaselineFigures.Bare] {
    let broker = try Broker.start()
    defer { broker.stop() }
    let subject = try Subject(plugin: Self.plugin).phase(.requestFilter)
    let worker = try startBareWorker(broker, subject: subject)
    defer { worker.terminate() }
    let request = try Self.request(for: plan(target(broker, .standard), concurrency: 1))
    return try Self.inFlight.map { inFlight in
      let rows = try (0..<rounds).map { _ in
        try bareNATS(inFlight, port: broker.port, subject: subject, request: request)
      }
      return BaselineFigures.Bare(
        inFlight: inFlight, ratePerSecond: median(rows.map(\.rate)), p50Microseconds: median(rows.map(\.p50)))
    }
  }
}
