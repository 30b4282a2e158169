import ArgumentParser
import Bench

/// What all measuring commands understand.
struct CommonOptions: ParsableArguments, RunOptions {
  @Option(help: "Folder that gets the run's folder.")
  var out = "results"

  @Flag(help: "A short look: 1 s measured, 1 replicate. Not for verdicts.")
  var quick = false

  @Option(help: "Seed of arrivals, ids and bodies (default: the scenario's).")
  var seed: UInt64?

  @Option(
    name: .customLong("set"), parsing: .singleValue,
    help: ArgumentHelp("Any scenario key, such as loads.0.concurrency=8.", valueName: "key=value"))
  var overrides: [String] = []

  @Option(help: "A broker that runs already, such as nats://127.0.0.1:4222 (default: one is started).")
  var server: String?

  @Flag(help: "The result as one JSON document on standard output, nothing else there.")
  var json = false

  @Flag(name: .customLong("no-color"), help: "No colours.")
  var noColor = false

  @Flag(help: "Only results and errors.")
  var quiet = false

  @Flag(name: .shortAndLong, help: "Tell each step.")
  var verbose = false

  @Flag(help: "Exit 80 when a claim is worse or fails, 82 when one is inconclusive.")
  var gate = false
}
