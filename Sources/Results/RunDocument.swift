import Engine
import Lab
import Scenario

/// All that one command measured: `run.json`. Every other file is made from it.
package struct RunDocument: Codable, Sendable, Equatable {
  /// The version of this layout that the suite writes and reads.
  package static let currentSchema = 1

  /// The layout's version.
  package var schema: Int
  /// The run's name, which is also its folder's.
  package var runID: String
  /// Version of nylon-bench; those of the libraries are in `machine.versions`.
  package var toolVersion: String
  /// The command line. The caller has removed secrets.
  package var commandLine: [String]
  /// The resolved scenario. The caller has removed secrets.
  package var scenario: Plan
  /// SHA-256 of the scenario file's text, lower-case hexadecimal; nil when it was not a file.
  package var scenarioSHA256: String?
  /// The plugins that were loaded.
  package var plugins: [PluginFile]
  /// Seed of arrivals, ids and bootstraps.
  package var seed: UInt64
  /// The machine, and versions of what took part.
  package var machine: MachineFacts
  /// When the run began.
  package var started: UTCSecond
  /// When it ended; nil while it runs.
  package var ended: UTCSecond?
  /// Whether it was interrupted, so that measurements are missing.
  package var interrupted: Bool
  /// What was measured, in that order.
  package var measurements: [Measurement]
  /// Targets held against each other.
  package var comparisons: [ComparisonRow]
  /// Verdicts on documented claims.
  package var claims: [ClaimVerdict]
  /// What documented pairs of latency and throughput imply; nil in runs that judge no claims.
  package var implied: [ImpliedPair]?
  /// What is known about where documented figures come from; nil in runs that judge no claims.
  package var origins: [ClaimOrigin]?
  /// This machine's own floor; nil when it is not known.
  package var floor: MachineFloor?
  /// What was tried for the claims about behaviour, in detail; nil when none was.
  package var behaviours: [BehaviourResult]?
  /// What a sweep's search held rates against; nil without one.
  package var serviceLevel: ServiceLevel?
  /// Results of `expect:`.
  package var expectations: [ExpectationResult]
  /// Things to know about the run as a whole.
  package var warnings: [String]
  /// Network links that were put between the parts, measured before the loads; nil when there were none.
  package var links: [LinkMeasurement]?

  /// A run without results yet.
  package init(
    runID: String, toolVersion: String, commandLine: [String], scenario: Plan,
    scenarioSHA256: String? = nil, plugins: [PluginFile] = [], seed: UInt64? = nil,
    machine: MachineFacts, started: UTCSecond = UTCSecond(), ended: UTCSecond? = nil,
    interrupted: Bool = false, measurements: [Measurement] = [], comparisons: [ComparisonRow] = [],
    claims: [ClaimVerdict] = [], expectations: [ExpectationResult] = [], warnings: [String] = [],
    links: [LinkMeasurement]? = nil
  ) {
    self.schema = Self.currentSchema
    self.runID = runID
    self.toolVersion = toolVersion
    self.commandLine = commandLine
    self.scenario = scenario
    self.scenarioSHA256 = scenarioSHA256
    self.plugins = plugins
    self.seed = seed ?? scenario.seed
    self.machine = machine
    self.started = started
    self.ended = ended
    self.interrupted = interrupted
    self.measurements = measurements
    self.comparisons = comparisons
    self.claims = claims
    self.expectations = expectations
    self.warnings = warnings
    self.links = links
  }

  /// Whether every measurement is valid.
  package var isValid: Bool { measurements.allSatisfy(\.isValid) }

  /// Fills in comparisons and expectations from the measurements.
  package mutating func judge() {
    comparisons = Comparison.rows(measurements: measurements, targets: scenario.targets, seed: seed)
    expectations = scenario.expectations.map { ExpectationResult($0, measurements: measurements) }
  }
}

/// A plugin that took part in a run.
package struct PluginFile: Codable, Sendable, Equatable {
  /// Its name in the scenario.
  package var name: String
  /// The file or the program.
  package var file: String
  /// SHA-256 of its bytes, lower-case hexadecimal; nil when it could not be read.
  package var sha256: String?

  /// A plugin; hashes the file.
  package init(name: String, file: String) {
    self.init(name: name, file: file, sha256: SHA256Text.ofFile(file))
  }

  /// A plugin with a known hash.
  package init(name: String, file: String, sha256: String?) {
    self.name = name
    self.file = file
    self.sha256 = sha256
  }
}
