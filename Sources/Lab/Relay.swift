import Foundation
import Scenario

/// A running `nylon-link`: loopback ports that lead elsewhere, and faults of the way there.
final class Relay: ProcessHolder {
  let process: ChildProcess
  /// The ports that lead to the places, in their order.
  let ports: [UInt16]

  /// Starts a relay with a port for each place (`host:port`).
  init(to places: [String], _ options: [String] = []) throws(LabError) {
    process = try ChildProcess.start(
      Launch(
        program: try Executables.own("nylon-link"), arguments: places.flatMap { ["--to", $0] } + options,
        takesCommands: true))
    ports = try process.announcedPorts(
      ["nylon-link forwards "], count: places.count, by: "nylon-link", until: .after(.seconds(10)))
  }

  /// Resets all connections, both ways.
  func reset() { process.tell("reset") }

  /// Swallows all bytes both ways, or no longer. Connections that lost bytes are reset when it ends: their streams have
  /// a hole.
  func silence(_ on: Bool) { process.tell(on ? "silence on" : "silence off") }
}
