import ArgumentParser
import Bench

struct CompareCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Compares targets side by side, such as FFI and NATS; or two stored runs.",
    discussion: """
      With a scenario, its targets are measured alternately and compared: FFI and NATS, two \
      plugins, or a target twice, which shows the noise floor. With two run folders nothing is measured.

      EXAMPLES
        nylon-bench compare Scenarios/compare.yaml
        nylon-bench compare results/20260101T120000Z-compare results/latest
      """)

  @Argument(help: "A scenario's file, or the older run.")
  var first: String

  @Argument(help: "The newer run.")
  var second: String?

  @Flag(name: .customLong("allow-differences"), help: "Compare runs although machine or scenario differ.")
  var allowDifferences = false

  @OptionGroup var options: CommonOptions

  func execute() throws {
    if let second {
      try Runs.compare(first, second, allowDifferences: allowDifferences, options: options)
    } else {
      try Runs.compare(targetsOf: first, options: options)
    }
  }
}
