import ArgumentParser
import ExampleHandlers
import Foundation
import NylonPlugin

/// One worker process: the example handlers in a queue group.
@main
struct NylonWorker: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nylon-worker",
    abstract: "Serves the example handlers noop, authz, echo, work, api, wait, crash and pause through NATS.",
    discussion: """
      Workers of one group share the requests; start as many as you like. Stops on SIGTERM \
      or SIGINT after answering pending requests, and on SIGUSR1 without answering them.

      Secrets come from the environment only: NATS_TOKEN, NATS_USER, NATS_PASSWORD. \
      NATS_SERVERS, NATS_NO_RANDOMIZE, NATS_GROUP, NATS_CREDS, NATS_NKEY, NATS_CA, NATS_CERT, NATS_KEY, \
      NYLON_PLUGIN_CONFIG and NYLON_DIALECT apply if the option is not given. TLS is used for tls:// URLs, \
      if one of its files or NATS_TLS=1 is given, and if the broker requires it.

      Examples:
        nylon-worker --name my-plugin
        nylon-worker --name my-plugin --group workers --servers nats://a:4222,nats://b:4222
        nylon-worker --name my-plugin --max-workers 4 --config '{"work_us": 250}'
        NATS_USER=me NATS_PASSWORD=… nylon-worker --name my-plugin --tls-ca ca.pem
        nylon-worker --name my-plugin --servers tls://a:4222 --creds-file user.creds

      Exit codes: 0 stopped, 1 failed while running, 64 wrong usage or a file that cannot be \
      used, 69 no broker answers, or it refuses the worker.
      """)

  @Option(help: "The plugin's name in Nylon's configuration.")
  var name: String
  @Option(
    help: """
      Broker URLs, comma separated; the worker starts with a random one, or with NATS_NO_RANDOMIZE=1 with the \
      first. (default: nats://127.0.0.1:4222)
      """)
  var servers: String?
  @Option(help: "The queue group. (default: default)")
  var group: String?
  @Option(help: "The prefix of the subjects.")
  var prefix = "nylon.plugin"
  @Option(
    help: """
      The wire dialect: reply, text-id, reply-sdk or stream-sdk; for the latter NYLON_NIL_DATA=1 writes data: nil \
      into maps without data. (default: reply)
      """)
  var dialect: String?
  @Option(help: "Threads that run handlers; 1 is the fastest unless handlers wait.")
  var maxWorkers = 1
  @Option(help: "JSON for the handlers' initialize hooks.")
  var config: String?
  @Option(help: "A file with a JWT and its seed.")
  var credsFile: String?
  @Option(help: "A file with an nkey's seed (SU…).")
  var nkeyFile: String?
  @Option(
    help: "Authorities to check the broker's certificate against, instead of the system's; enables TLS.")
  var tlsCa: String?
  @Option(help: "The worker's certificate; needs --tls-key.")
  var tlsCert: String?
  @Option(help: "The key of --tls-cert.")
  var tlsKey: String?

  func run() throws {
    do {
      let worker = try NATSWorker(plugin: ExampleHandlers.makePlugin(), configuration: settings)
      try worker.run()
    } catch {
      try? FileHandle.standardError.write(contentsOf: Data("nylon-worker: \(error)\n".utf8))
      throw ExitCode(Self.code(error))
    }
  }

  private var settings: NATSConfiguration {
    var settings = NATSConfiguration(name: name)
    let environment = ProcessInfo.processInfo.environment
    settings.apply(environment: environment)
    if let servers { settings.servers = NATSConfiguration.servers(of: servers) }
    if let group { settings.queueGroup = group }
    if let dialect { settings.dialect = dialect }
    settings.subjectPrefix = prefix
    settings.maxWorkers = maxWorkers
    let json = config ?? environment["NYLON_PLUGIN_CONFIG"] ?? ""
    settings.pluginConfiguration = PluginConfiguration(json: Array(json.utf8))
    // Credentials of the command line replace those of the environment, whichever kind they are.
    if credsFile != nil || nkeyFile != nil {
      settings.credentialsFile = credsFile
      settings.nkeySeedFile = nkeyFile
    }
    if let tlsCa { settings.tlsCAFile = tlsCa }
    if let tlsCert { settings.tlsCertificateFile = tlsCert }
    if let tlsKey { settings.tlsKeyFile = tlsKey }
    return settings
  }

  private static func code(_ error: NATSWorkerError) -> Int32 {
    switch error {
    case .badOption, .initializeFailed: 64
    case .noBroker, .refused, .noTLS: 69
    case .connectionLost, .failed: 1
    }
  }
}
