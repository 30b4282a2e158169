import ArgumentParser
import Foundation
import Lab
import Engine
import Results

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
      reply = LoadReply(failure: LoadFailure(error))
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
    return LoadReply(measurement: try runner.measure())
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
