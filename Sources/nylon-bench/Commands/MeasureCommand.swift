import ArgumentParser
import Foundation
import Lab
import Engine
import Results
import NATS
import Scenario

/// The load process: an order in on standard input, a measurement out as one document.
///
/// Not for people: `run` starts it, so that a plugin that crashes takes only this process down.
struct MeasureCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "__measure", abstract: "Loads one target once (started by run).", shouldDisplay: false)

  func run() throws {
    let reply: LoadReply
    do {
      reply = try Self.load()
    } catch {
      reply = LoadReply(failure: Self.failure(of: error))
    }
    try Self.send(reply)
    // A plugin's own threads and exit handlers are not waited for: all is measured and sent.
    _exit(0)
  }

  private static func load() throws -> LoadReply {
    let input = FileHandle.standardInput.readDataToEndOfFile()
    let order: LoadOrder
    do {
      order = try JSONDecoder().decode(LoadOrder.self, from: input)
    } catch {
      // The order may hold secrets: what does not fit is not shown.
      throw LoadFailure(
        kind: .failed, message: "__measure wants a load order on standard input; use: nylon-bench run")
    }
    guard let descriptor = number(LoadProcess.sharedMemoryVariable) else {
      throw LoadFailure(kind: .failed, message: "__measure has no shared memory; use: nylon-bench run")
    }
    let shared = try SharedRecording(layout: order.layout, descriptor: descriptor)
    let sampler = ResourceSampler(order)
    let runner = LoadRunner(order: order, area: shared.area) {
      sampler.sample()
    } between: {
      sampler.sampleBetween()
    }
    switch order.target.transport {
    case .ffi(let spec): return LoadReply(measurement: try loadPlugin(spec, order, shared.area, runner))
    case .nats(let spec):
      try WorkerInitialization(order: order, spec: spec).run()
      return LoadReply(
        measurement: try NATSEngines.measure(order: order, spec: spec, area: shared.area, runner: runner))
    }
  }

  private static func loadPlugin(
    _ spec: FFISpec, _ order: LoadOrder, _ area: RecordingArea, _ runner: LoadRunner
  ) throws -> Engine.Measurement {
    let plugin = try PluginLibrary(path: order.pluginPath)
    plugin.start(configJSON: spec.configJSON)
    let transports = try FFITransport.make(order: order, spec: spec, plugin: plugin, area: area)
    let measurement = runner.run(transports: transports)
    // A plugin that did not come back from a call must not be called again.
    if !measurement.invalidReasons.contains(where: { $0.code == .pluginHung }) { plugin.shutdown() }
    return measurement
  }

  private static func failure(of error: any Error) -> LoadFailure {
    switch error {
    case let failure as LoadFailure: failure
    case let error as PluginError:
      if case .noSuchEntry = error {
        LoadFailure(kind: .scenario, message: error.description)
      } else {
        LoadFailure(kind: .missing, message: error.description)
      }
    case let error as BrokerError: LoadFailure(kind: .missing, message: error.description)
    case let error as SecurityFileError: LoadFailure(kind: .missing, message: error.description)
    default: LoadFailure(kind: .failed, message: "\(error)")
    }
  }

  private static func send(_ reply: LoadReply) throws {
    let descriptor = number(LoadProcess.documentVariable) ?? STDOUT_FILENO
    let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: false)
    try file.write(contentsOf: try JSONEncoder().encode(reply))
    if descriptor != STDOUT_FILENO { try file.close() }
  }

  private static func number(_ variable: String) -> Int32? {
    ProcessInfo.processInfo.environment[variable].flatMap(Int32.init)
  }
}
