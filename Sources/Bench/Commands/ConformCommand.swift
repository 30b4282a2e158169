import ArgumentParser
import Engine
import Lab
import NATS
import Nylon
import Report
import Results
import Scenario

struct ConformCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "conform",
    abstract: "Tests a plugin, or a running pool of workers, against the interface, rule by rule.",
    discussion: """
      A plugin is tested in separate processes: a crash or a hang is a finding, and the next rule is tested. \
      Requests to a pool are real, so it should not serve other requests meanwhile.

      RESULTS
        ok        the rule holds; the column 'seen' has details
        deviates  the rule does not hold, or the plugin ended its process
        refused   the plugin does not have that handler
        hangs     a call or a phase took longer than --timeout

      EXIT CODES
        0 all rules are ok, 80 a rule deviates or hangs (also missing symbols), 65 the file is not an ELF \
      library or the handler is refused, 69 the file, a library that it needs, or the broker is missing

      EXAMPLES
        nylon-bench conform ./plugin.so --handler authz
        nylon-bench conform ./plugin.so --handler work --config '{"work_us": 50}' --json
        nylon-bench conform --nats my-plugin --server nats://127.0.0.1:4222 --handler authz
        nylon-bench conform --nats my-plugin --dialect text-id
      """)

  @Argument(
    help: "The plugin: a shared library, or a product of this package.", completion: .file(extensions: ["so"])
  )
  var plugin: String?

  @Option(
    help: ArgumentHelp(
      "Instead of a plugin: the plugin name of workers that are already running.", valueName: "name"))
  var nats: String?

  @Option(help: "The broker of --nats; its URL may contain a user and a password.")
  var server = "nats://127.0.0.1:4222"

  @Option(help: "The subject prefix of --nats.")
  var prefix = Subject.standardPrefix

  @Option(help: "The expected dialect of the workers of --nats (default: detected).")
  var dialect: Dialect?

  @Option(help: "The handler to test.")
  var handler = ScenarioDraft.standardHandler

  @Option(help: ArgumentHelp("The plugin's configuration.", valueName: "json"))
  var config = "{}"

  @Option(help: "The time limit of a call or a phase in seconds.")
  var timeout = 2.0

  @Flag(help: "Print JSON.")
  var json = false

  @Flag(name: .customLong("no-color"), help: "Print no colours.")
  var noColor = false

  @Flag(help: "Print only the summary, and the rules that do not hold.")
  var quiet = false

  func validate() throws {
    guard (plugin == nil) != (nats == nil) else {
      throw ValidationError("name a plugin's file, or a pool with --nats")
    }
    guard timeout >= 0.1, timeout <= 600 else { throw ValidationError("--timeout must be from 0.1 to 600") }
  }

  func execute() throws {
    let progress = ProgressLine(quiet: quiet)
    let conformance: Conformance
    do {
      defer { progress.clear() }
      conformance = try examine { progress.say("conform: \($0)") }
    } catch let error as PluginError {
      guard case .notALibrary = error else { throw LoadFailure(error) }
      throw LoadFailure(kind: .scenario, message: "\(error)")
    } catch let error as BrokerError {
      throw LoadFailure(error)
    }
    if json {
      try Console.result(RunJSON.text(conformance))
    } else {
      let table = conformance.table(onlyBad: quiet)
      let rows = table.rows.isEmpty ? "" : "\n" + table.text(colour: Console.usesColour(!noColor))
      try Console.result(conformance.summary + rows)
    }
    if let reason = conformance.reason { throw reason }
  }

  private func examine(_ progress: @escaping (String) -> Void) throws -> Conformance {
    if let plugin {
      let examination = PluginExamination(
        path: try PackageFiles.plugin(plugin), handler: handler, configJSON: config, limitSeconds: timeout,
        progress: progress)
      return try examination.examine()
    }
    var spec = NATSSpec(pool: "default", servers: [server])
    (spec.subjectPrefix, spec.dialect) = (prefix, dialect)
    do {
      _ = try Subject(prefix: prefix, plugin: nats ?? "")
    } catch {
      throw LoadFailure(kind: .scenario, message: "\(error)")
    }
    try Broker.probe(url: server)
    let examination = PoolExamination(
      name: nats ?? "", handler: handler, spec: spec, limitSeconds: timeout, progress: progress)
    return try examination.examine()
  }
}

extension Dialect: ExpressibleByArgument {}
