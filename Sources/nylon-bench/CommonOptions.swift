import ArgumentParser
import Bench

/// What all measuring commands understand.
struct CommonOptions: ParsableArguments, RunOptions {
  @Option(help: "Folder that gets the run's folder.")
  var out = "results"

  @Flag(help: "A short look: 1 s measured, 1 round. Not for verdicts.")
  var quick = false

  @Option(
    help: ArgumentHelp(
      "The fewest and the most rounds (default: the scenario's, or 6..12).", valueName: "least..most"))
  var rounds: String?

  @Option(
    help: ArgumentHelp("Time that the measurements may take, such as 90s or 10m.", valueName: "time"),
    transform: { text in
      guard let budget = TimeBudget(text) else {
        throw ValidationError("'\(text)' is not a time; write for example 90s, 10m or 1h")
      }
      return budget
    })
  var budget: TimeBudget?

  @Option(help: ArgumentHelp("Two targets closer than this may be called the same.", valueName: "percent"))
  var equivalence = 10.0

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
