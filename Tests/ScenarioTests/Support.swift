import Foundation
import Results
import Testing

@testable import Scenario

extension ScenarioLoader.Options {
  /// Options of a test: all metrics are known.
  init(overrides: [String] = [], seed: UInt64? = nil, quick: Bool = false, server: String? = nil) {
    self.init(metrics: SummaryRow.numericColumns)
    (self.overrides, self.seed, self.quick, self.server) = (overrides, seed, quick, server)
  }
}

/// A folder for one test's files.
struct Folder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "scenario-tests-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  /// Writes a file and gives its path.
  func write(_ text: String, as name: String = "test.yaml") throws -> String {
    let file = path + "/" + name
    try Data(text.utf8).write(to: URL(fileURLWithPath: file))
    return file
  }

  func remove() { try? FileManager.default.removeItem(atPath: path) }
}

/// The repository's root, from this file's place.
let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().path

/// Loads a text as a scenario.
func load(_ text: String, _ options: ScenarioLoader.Options = .init()) throws -> Plan {
  let folder = try Folder()
  defer { folder.remove() }
  return try ScenarioLoader.load(path: folder.write(text), options: options)
}

/// The problems of a text, one line each, without the folder's path.
func faults(_ text: String, _ options: ScenarioLoader.Options = .init()) throws -> String {
  let folder = try Folder()
  defer { folder.remove() }
  let file = try folder.write(text)
  do {
    _ = try ScenarioLoader.load(path: file, options: options)
    Issue.record("expected an error")
    return ""
  } catch {
    return error.description.replacingOccurrences(of: folder.path + "/", with: "")
  }
}

/// A scenario with both transports and nothing but what is needed.
let small = """
  # What for.
  plugins:
    - {name: in-process, type: ffi, file: ExamplePlugin}
    - {name: pool, messaging: default, group: workers, entry_point: authz}
  messaging:
    - {name: default, servers: [nats://127.0.0.1:4222]}
  targets:
    - {name: ffi, plugin: in-process, handler: noop}
    - {name: nats, plugin: pool}
  loads:
    - {mode: closed, concurrency: 1}
    - {mode: open, rate_per_second: 5000}

  """
