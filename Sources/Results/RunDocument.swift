import COpenSSL
import Engine
import Foundation
import Lab
import Scenario
import struct Engine.Measurement

/// All data that one command measured: `run.json`. Every other file can be made from it.
package struct RunDocument: Codable, Sendable, Equatable {
  /// The version of this layout that nylon-bench writes and reads.
  static let currentSchema = 1

  /// The version of this layout. New fields do not change it: an older run lacks them.
  package var schema = Self.currentSchema
  /// The name of the run and of its folder.
  package var runID: String
  /// Version of nylon-bench; those of the libraries are in `machine.versions`.
  package var toolVersion: String
  /// The command and its arguments, without secrets, as in `scenario`.
  package var commandLine: [String]
  package var scenario: Plan
  /// SHA-256 of the scenario's text, lower-case hexadecimal; nil when there was no text.
  package var scenarioSHA256: String?
  package var plugins: [PluginFile]
  /// The seed of arrivals, bodies and ids.
  package var seed: UInt64
  package var machine: MachineFacts
  /// When the run began.
  package var started: UTCSecond
  /// When the run ended; nil while it runs.
  package var ended: UTCSecond?
  /// Whether the run was interrupted, so that measurements are missing.
  package var interrupted = false
  /// Each target under each load, in the order in which they were measured.
  package var measurements: [Measurement] = []
  package var comparisons: [ComparisonRow] = []
  package var claims: [ClaimVerdict] = []
  /// Documented latencies with the throughput stated beside them; nil, like `origins`, in runs without
  /// claims.
  package var implied: [ImpliedPair]?
  package var origins: [ClaimOrigin]?
  /// The speed of bare C on this machine; nil when not measured.
  package var baseline: BaselineFigures?
  /// The detailed results of the claims about behaviour; nil when none was tested.
  package var behaviours: [BehaviourResult]?
  /// The latency bound of a sweep's search; nil without one.
  package var serviceLevel: ServiceLevel?
  /// The results for the objectives of the targets; nil when none has one.
  package var objectives: [ObjectiveResult]?
  package var expectations: [ExpectationResult] = []
  /// How many rounds were made and why the run ended; nil in runs without rounds.
  package var rounds: RoundsMade?
  /// The greatest difference at which two targets still count as the same, 0.1 is 10 %; nil for the default.
  package var equivalence: Double?
  /// Warnings about the run as a whole.
  package var warnings: [String] = []
  /// Network links between the parts, measured before the loads; nil when there were none.
  package var links: [LinkMeasurement]?

  private enum CodingKeys: String, CodingKey {
    case schema, runID, toolVersion, commandLine, scenario, scenarioSHA256, plugins, seed, machine, started
    case ended, interrupted, measurements, comparisons, claims, implied, origins, behaviours, serviceLevel,
      objectives
    case expectations, rounds, equivalence, warnings, links
    // The key `floor` is part of the promised format.
    case baseline = "floor"
  }

  package init(
    runID: String, toolVersion: String, commandLine: [String], scenario: Plan,
    scenarioSHA256: String? = nil, plugins: [PluginFile] = [], machine: MachineFacts,
    started: UTCSecond
  ) {
    self.runID = runID
    self.toolVersion = toolVersion
    self.commandLine = commandLine
    self.scenario = scenario
    self.scenarioSHA256 = scenarioSHA256
    self.plugins = plugins
    seed = scenario.seed
    self.machine = machine
    self.started = started
  }

  /// Whether the figures of every condition may be used.
  package var isValid: Bool { MeasurementGroup.all(self).allSatisfy { $0.isValid || $0.isOfSearch } }

  package mutating func mark(_ target: String, _ load: String, _ reason: InvalidReason) {
    for place in places(target, load) { measurements[place].invalidReasons.append(reason) }
  }

  package mutating func unmark(_ target: String, _ load: String, _ code: InvalidReason.Code) {
    for place in places(target, load) { measurements[place].invalidReasons.removeAll { $0.code == code } }
  }

  private func places(_ target: String, _ load: String) -> [Int] {
    measurements.indices.filter { measurements[$0].target == target && measurements[$0].load == load }
  }

  /// Marks the conditions that never became steady, and fills in comparisons, expectations, objectives,
  /// claims and the pairs of latency and throughput that claims imply.
  package mutating func judge(_ checks: [ClaimCheck] = []) {
    for place in measurements.indices {
      measurements[place].invalidReasons.removeAll { $0.code == .neverSteady }
    }
    for group in MeasurementGroup.all(self) {
      guard let trend = group.trend else { continue }
      mark(group.target, group.load, trend)
    }
    comparisons = Comparison.rows(
      measurements: measurements, targets: scenario.targets,
      equivalence: equivalence ?? Comparison.equivalence)
    expectations =
      scenario.expectations.map { ExpectationResult($0, measurements: measurements) }
      + SoakResult.all(self).flatMap(\.checks)
    let found = ObjectiveResult.all(self)
    objectives = found.isEmpty ? nil : found
    claims = ClaimEvaluator.verdicts(checks, measurements: measurements)
    implied = checks.isEmpty ? nil : ImpliedPair.pairs(checks, measurements: measurements)
  }
}

/// The number of rounds that a run made and why it ended.
package struct RoundsMade: Codable, Sendable, Equatable {
  /// Rounds that were made.
  package var made: Int
  /// Questions that were still open.
  package var open: Int
  /// All questions: the rows of the comparison, the claims and the lines of `expect:`.
  package var questions: Int
  /// `answered`, `mostRounds` or `budget`; nil when the run was interrupted.
  package var end: String?

  package init(made: Int, open: Int, questions: Int, end: String?) {
    self.made = made
    self.open = open
    self.questions = questions
    self.end = end
  }
}

/// A file whose code was measured: a plugin's library or a worker's program.
package struct PluginFile: Codable, Sendable, Equatable {
  /// The plugin's name in `plugins:`.
  package var name: String
  /// The file's path, or only its name for a product of nylon-bench.
  package var file: String
  /// SHA-256 of its bytes, lower-case hexadecimal; nil when it could not be read.
  package var sha256: String?
}

extension PluginFile {
  package init(name: String, file: String) {
    self.init(name: name, file: file, sha256: SHA256Text.ofFile(file))
  }
}

/// Why a run folder could not be read or written.
package struct RunFolderError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The kind of error, which decides the exit code.
  package enum Kind: String, Sendable {
    /// There is no such run, or it may not be read.
    case missing
    /// It exists but is not a run that this version can read.
    case invalid
    case unwritable
    case full
  }

  package var kind: Kind
  package var path: String
  package var problem: String
  package var remedy: String

  package init(kind: Kind, path: String, problem: String, remedy: String) {
    self.kind = kind
    self.path = path
    self.problem = problem
    self.remedy = remedy
  }

  package var description: String { "\(path): \(problem); \(remedy)" }
}

/// A moment in whole seconds UTC, so that it survives storing and reading unchanged.
package struct UTCSecond: Codable, Sendable, Equatable, CustomStringConvertible {
  /// Seconds since 1970-01-01T00:00:00Z.
  package var epochSeconds: Int

  package init(epochSeconds: Int = Int(Date().timeIntervalSince1970)) { self.epochSeconds = epochSeconds }

  package var description: String {
    Date(timeIntervalSince1970: Double(epochSeconds)).formatted(.iso8601)
  }

  /// A form such as `20261122T050420Z`, for folder names.
  package var compact: String { description.filter { $0 != "-" && $0 != ":" } }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    let read = (try? Date(text, strategy: .iso8601)).map { Int($0.timeIntervalSince1970) }
    self.init(epochSeconds: read ?? 0)
    guard description == text else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "'\(text)' is not a time such as 2026-11-22T05:04:20Z")
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// SHA-256 (FIPS 180-4) as lower-case hexadecimal text, by OpenSSL.
package enum SHA256Text {
  package static func of(_ bytes: some Sequence<UInt8>) -> String {
    let input = Array(bytes)
    var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
    _ = COpenSSL.SHA256(input, input.count, &digest)
    return digest.map { String(format: "%02x", $0) }.joined()
  }

  package static func ofFile(_ path: String) -> String? {
    FileManager.default.contents(atPath: path).map { of($0) }
  }
}
