import Foundation
import Testing

@testable import Bench

@Suite("Your own plugin without a scenario")
struct DraftTests {
  @Test(
    "An open load is half of a throughput at most, a round number, and not more than a proxy would send",
    arguments: [
      (2_096_968, 100_000), (220_835, 100_000), (41_483, 20_000), (10_818, 5000), (2000, 1000), (1999, 500),
      (150, 50), (2, 1),
    ])
  func rate(throughput: Double, rate: Double) { #expect(Drafts.rate(under: throughput) == rate) }

  @Test("Where next to nothing is answered there is no open load", arguments: [0, 0.5, 1.9])
  func noRate(throughput: Double) { #expect(Drafts.rate(under: throughput) == nil) }

  @Test("A plugin is distinguished from a scenario by its name, or by its contents")
  func plugins() throws {
    let folder = NSTemporaryDirectory() + "draft-tests-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let library = URL(fileURLWithPath: folder + "/plugin")
    try Data([0x7F, 0x45, 0x4C, 0x46]).write(to: library)
    #expect(Drafts.isPlugin(library.path))
    for name in ["./mine.so", "mine.so.2.1", "/none/mine.so"] { #expect(Drafts.isPlugin(name), "\(name)") }
    for name in ["my.yaml", "mine.so.yaml", "./none", "results/latest", "so", folder] {
      #expect(!Drafts.isPlugin(name), "\(name)")
    }
  }

  @Test(
    "Arguments that make no sense together are wrong usage, with the remedy",
    arguments: [
      (["run", "./mine.so", "--plugin", "fast"], "is a plugin itself"),
      (["run", "my.yaml", "--handler", ""], "--handler is empty"),
      (["compare", "--ffi", "./mine.so"], "name both"), (["compare", "--nats", "mine"], "name both"),
      (["compare", "--workers", "./w"], "name both"),
      (["compare", "--ffi", "./mine.so", "--nats", "mine"], "their broker with --server"),
      (
        ["compare", "my.yaml", "--ffi", "./mine.so", "--nats", "mine"], "leave out my.yaml, or these options"
      ),
      (["compare"], "name a scenario, two runs, or your own"),
    ])
  func usage(arguments: [String], words: String) {
    #expect {
      _ = try NylonBench.parseAsRoot(arguments)
    } throws: {
      NylonBench.fullMessage(for: $0).contains(words) && NylonBench.exitCode(for: $0).rawValue == 64
    }
  }

  @Test(
    "Arguments that do make sense together are taken",
    arguments: [
      ["run", "./mine.so", "--handler", "x", "--quick"], ["run", "nylon.yaml", "--plugin", "fast"],
      ["compare", "--ffi", "./mine.so", "--nats", "mine", "--workers", "./w mine", "--server", "nats://h"],
      ["compare", "--ffi", "./mine.so", "--nats", "mine", "--server", "nats://h"], ["compare", "a", "b"],
      ["compare", "my.yaml"], ["init"], ["init", "./mine.so", "my.yaml", "--force"],
    ])
  func goodUsage(arguments: [String]) throws { _ = try NylonBench.parseAsRoot(arguments) }
}
