import ArgumentParser
import Bench

struct ClaimsCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "claims", abstract: "Tests every documented figure and promise, and prints the verdicts.",
    discussion: """
      Latency claims are tested unloaded (a), in an open loop at the documented throughput (b), and in a \
      closed loop at the concurrency that Little's law implies from the documented pair (c); each per \
      request of four phases and per phase request. HTTP is not part of it. Then every statement about \
      behaviour is tested with real processes, each on its own broker.

      The subjects are the example plugin and the example workers, handler authz. With --scenario they are \
      the first FFI and the first NATS target of that scenario, with its request, or those that --ffi and \
      --nats name; loads, phases and times stay those of Scenarios/headline.yaml.

      EXAMPLES
        nylon-bench claims
        nylon-bench claims --quick                              a look, in one replicate
        nylon-bench claims --gate                               for CI: exit 80 when a claim is worse
        nylon-bench claims --scenario my.yaml                   your own plugin and workers
        nylon-bench claims --scenario my.yaml --ffi fast --nats pool
        nylon-bench claims --only behaviours                    faults, scaling, defaults: two minutes
      """)

  @Option(help: "A scenario with your own FFI target, NATS target, or both (default: the example's).")
  var scenario: String?

  @Option(help: ArgumentHelp("The FFI target that is tested, by its name.", valueName: "target"))
  var ffi: String?

  @Option(help: ArgumentHelp("The NATS target that is tested, by its name.", valueName: "target"))
  var nats: String?

  @Option(help: "The scenario that says what is measured (default: Scenarios/headline.yaml).")
  var headline: String?

  @Option(help: "The file of claims (default: Scenarios/claims.yaml).")
  var claims: String?

  @Option(help: "figures or behaviours: only these (default: both).")
  var only: ClaimsPart?

  @OptionGroup var options: CommonOptions

  func execute() throws {
    try Claims.run(
      scenario: scenario, ffi: ffi, nats: nats, headline: headline, claims: claims, only: only,
      options: options)
  }
}

extension ClaimsPart: ExpressibleByArgument {}
