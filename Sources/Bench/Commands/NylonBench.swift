import ArgumentParser
import Baseline
import Engine
import Foundation
import Glibc
import Lab
import Results
import Scenario

package struct NylonBench: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "nylon-bench",
    abstract:
      "Measures Nylon plugins, in the proxy's process (FFI) and behind NATS, and tests the documented figures.",
    discussion: """
      EXAMPLES
        nylon-bench                                 FFI against NATS, every documented figure and promise
        nylon-bench run ./mine.so --handler authz   your own plugin
        nylon-bench run nylon.yaml --plugin fast    a plugin of a Nylon configuration
        nylon-bench compare --ffi ./mine.so --nats mine --workers './my-worker'
        nylon-bench init my.yaml                    a scenario to start from
        nylon-bench scenarios                       list the scenarios
        nylon-bench run Scenarios/nats-local.yaml   run one scenario
        nylon-bench compare Scenarios/compare.yaml  FFI against NATS, side by side
        nylon-bench claims                          a verdict on each documented figure
        nylon-bench conform ./plugin.so             test a plugin against the interface
        nylon-bench export results/latest --format csv
        nylon-bench run my.yaml --set targets.0.handler=auth --set measure_seconds=10

      COMPLETION
        source <(nylon-bench --generate-completion-script bash)     also zsh, fish

      EXIT CODES
        0 done, 1 error, 64 wrong usage, 65 bad scenario or run, 69 something is missing,
        70 internal error, 80 gate not met, 81 measured but invalid, 82 inconclusive (--gate),
        130 interrupted (what was measured is saved)
      """,
    version: ToolVersion.current,
    subcommands: [
      CanonicalCommand.self, RunCommand.self, CompareCommand.self, ClaimsCommand.self, SweepCommand.self,
      ExportCommand.self, CalibrateCommand.self, DoctorCommand.self, InitCommand.self, ConformCommand.self,
      ScenariosCommand.self, ValidateCommand.self,
      MeasureCommand.self, TrialCommand.self, BaselineWorkerCommand.self,
    ], defaultSubcommand: CanonicalCommand.self)

  package init() {}

  /// Replaces the parser's `main`, which ignores errors when it prints a help text: here a help text that
  /// cannot be written is an error.
  package static func main() {
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch {
      let text = fullMessage(for: error)
      guard exitCode(for: error).isSuccess, !text.isEmpty else { exit(withError: error) }
      exit(withError: failure { try Console.result(text) })
    }
  }

  /// Does the work and prints its error to standard error. Returns the exit code; nil without an error.
  static func failure(of work: () throws -> Void) -> ExitCode? {
    do {
      try work()
      return nil
    } catch {
      // An `ExitReason` that is thrown directly has already been reported.
      if !(error is ExitReason) { Console.error("error: \((error as? LoadFailure)?.message ?? "\(error)")") }
      return ExitCode(ExitReason(error).rawValue)
    }
  }
}

/// A command that prints its errors to standard error and ends with one of the documented exit codes.
protocol BenchCommand: ParsableCommand { func execute() throws }

extension BenchCommand {
  func run() throws {
    let failure = NylonBench.failure {
      try OwnProcess.prepare()
      try execute()
    }
    if let failure { throw failure }
  }
}

/// The reason for a nonzero exit code. The raw value is the code, which is part of the stable interface.
enum ExitReason: Int32, Error {
  case failure = 1
  case wrongUsage = 64
  case badInput = 65
  case missing = 69
  case internalError = 70
  case gateNotMet = 80
  case invalid = 81
  case inconclusive = 82
  case interrupted = 130

  init(_ error: any Error) {
    switch error {
    case let reason as ExitReason: self = reason
    case is ScenarioError: self = .badInput
    case let error as LabError:
      self = error.isInvalidInput ? .badInput : error.isMissing ? .missing : .failure
    case let error as LoadFailure:
      self = error.kind == .missing ? .missing : error.kind == .scenario ? .badInput : .failure
    case let error as RunFolderError:
      self = [.missing, .invalid].contains(error.kind) ? .badInput : .failure
    case is CountsDoNotClose: self = .internalError
    default: self = .failure
    }
  }
}

struct RunOptions: ParsableArguments {
  @Option(help: "The folder for run folders.", completion: .directory)
  var out = "results"

  @Flag(help: "A quick look: 1 s measured, 1 round. Not for verdicts.")
  var quick = false

  @Option(
    help: ArgumentHelp(
      "Least and greatest number of rounds (default: the scenario's, or 6..12).", valueName: "least..most"))
  var rounds: String?

  @Option(
    help: ArgumentHelp("Time limit of the measurements, such as 90s or 10m.", valueName: "time"),
    transform: RunOptions.seconds)
  var budget: Double?

  @Option(help: ArgumentHelp("Two targets closer than this may be called the same.", valueName: "percent"))
  var equivalence = 10.0

  @Option(help: "Seed for arrivals, ids and bodies (default: the scenario's).")
  var seed: UInt64?

  @Option(
    name: .customLong("set"), parsing: .singleValue,
    help: ArgumentHelp("Set any scenario key, such as loads.0.concurrency=8.", valueName: "key=value"))
  var overrides: [String] = []

  @Option(help: "A broker that is already running, such as nats://127.0.0.1:4222 (default: one is started).")
  var server: String?

  @Flag(help: "Print only the result to standard output, as one JSON document.")
  var json = false

  @Flag(help: "Print all tables, not only the answer.")
  var details = false

  @Flag(name: .customLong("no-color"), help: "Print no colours.")
  var noColor = false

  @Flag(help: "Print only results and errors.")
  var quiet = false

  @Flag(name: .shortAndLong, help: "Report each step.")
  var verbose = false

  @Flag(
    help: "Exit with 80 if a claim is worse or fails, or a stored run regressed; 82 if that is inconclusive.")
  var gate = false

  var loader: ScenarioLoader.Options {
    var loader = ScenarioLoader.Options(metrics: SummaryRow.numericColumns)
    loader.overrides = overrides + (rounds.map { ["rounds=\($0)"] } ?? [])
    (loader.seed, loader.quick, loader.server) = (seed, quick, server)
    return loader
  }

  /// Loads the scenario's plan, without optional targets whose plugin or worker program is missing.
  func plan(_ path: String) throws -> Plan {
    try ScenarioLoader.load(path: path, options: loader).withoutMissingTargets()
  }

  /// Parses a duration such as `90s`, `10m` or `1h`, of at most one day.
  static func seconds(_ text: String) throws -> Double {
    let units = ["s": 1.0, "m": 60, "h": 3600]
    guard let unit = text.last, let factor = units[String(unit)], let value = Double(text.dropLast()),
      value > 0, value * factor <= 86_400
    else { throw ValidationError("'\(text)' is not a time; write for example 90s, 10m or 1h") }
    return value * factor
  }
}

// MARK: Child processes of other commands

struct MeasureCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "__measure", abstract: "Loads one target once (started by run).", shouldDisplay: false)

  func run() throws { try MeasureProcess.main() }
}

struct TrialCommand: ParsableCommand {
  static let name = "__conform"
  static let configuration = CommandConfiguration(
    commandName: name, abstract: "Tests a plugin once (started by conform).", shouldDisplay: false)

  func run() throws { try TrialProcess.main() }
}

struct BaselineWorkerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "__baseline-worker", abstract: "The bare echo worker (started by calibrate).",
    shouldDisplay: false)

  @Argument var port: UInt16
  @Argument var subject: String
  @Argument var group: String

  func run() throws {
    let token = ProcessInfo.processInfo.environment["NATS_TOKEN"] ?? ""
    let failure = baseline_nats_worker(port, token, subject, group)
    if failure != 0 { Console.error("baseline worker: \(String(cString: strerror(-failure)))") }
    throw ExitCode(ExitReason.failure.rawValue)
  }
}

/// Prepares this process: standard descriptors, signals and a check of the address space limit.
enum OwnProcess {
  /// The minimum that every command needs for its threads and results. An allocation that fails later would
  /// end the process without a message.
  static let leastAddressSpace: UInt64 = 1 << 30

  static func prepare() throws(LabError) {
    // A file opened later would take the number of a closed standard descriptor. The replacements are opened
    // in the wrong direction, so that reads and writes still fail.
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
    // A write to a closed pipe then fails with EPIPE instead of ending the process.
    signal(SIGPIPE, SIG_IGN)
    // The Swift runtime's handler would print a crash report on SIGQUIT and continue.
    signal(SIGQUIT, SIG_DFL)
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0 {
      try check(addressSpace: UInt64(limit.rlim_cur))
    }
  }

  static func check(addressSpace bytes: UInt64) throws(LabError) {
    guard bytes < leastAddressSpace else { return }
    throw .system(
      "The address space is limited to \(bytes >> 20) MiB, but a command needs \(leastAddressSpace >> 20) "
        + "MiB (raise the limit: ulimit -v unlimited)", errno: ENOMEM)
  }
}
