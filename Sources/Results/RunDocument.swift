import COpenSSL
import Engine
import Foundation
import Lab
import Scenario
import struct Engine.Measurement

/// All that one command measured: `run.json`. Every other file can be made from it.
package struct RunDocument: Codable, Sendable, Equatable {
  /// The version of this layout that nylon-bench writes and reads.
  static let currentSchema = 1

  /// The version of this layout. New fields do not change it: a run of before lacks them.
  package var schema = Self.currentSchema
  /// The run's name, which is also its folder's.
  package var runID: String
  /// Version of nylon-bench; those of the libraries are in `machine.versions`.
  package var toolVersion: String
  /// The command and its arguments, without secrets, as `scenario`.
  package var commandLine: [String]
  package var scenario: Plan
  /// SHA-256 of the scenario's text, lower-case hexadecimal; nil when it had none.
  package var scenarioSHA256: String?
  package var plugins: [PluginFile]
  /// The seed of arrivals, bodies and ids.
  package var seed: UInt64
  package var machine: MachineFacts
  /// When the run began.
  package var started: UTCSecond
  /// When it ended; nil while it runs.
  package var ended: UTCSecond?
  /// Whether the run was interrupted, so that measurements are missing.
  package var interrupted = false
  /// Each target under each load, in the order in which they were measured.
  package var measurements: [Measurement] = []
  package var comparisons: [ComparisonRow] = []
  package var claims: [ClaimVerdict] = []
  /// Documented latencies with the throughput stated beside them; nil, as `origins`, in runs that judge no claims.
  package var implied: [ImpliedPair]?
  package var origins: [ClaimOrigin]?
  /// What bare C does on this machine; nil when it was not measured.
  package var baseline: BaselineFigures?
  /// What was tried for the claims about behaviour, in detail; nil when none was.
  package var behaviours: [BehaviourResult]?
  /// The bound that a sweep's search set for a latency; nil without one.
  package var serviceLevel: ServiceLevel?
  /// What became of the objectives of the targets; nil when none has one.
  package var objectives: [ObjectiveResult]?
  package var expectations: [ExpectationResult] = []
  /// How many rounds were made and why no more; nil in runs that knew no rounds.
  package var rounds: RoundsMade?
  /// How far two targets may be apart and still be called the same, 0.1 is 10 %; nil for the default.
  package var equivalence: Double?
  /// Things to know about the run as a whole.
  package var warnings: [String] = []
  /// Network links between the parts, measured before the loads; nil when there were none.
  package var links: [LinkMeasurement]?

  private enum CodingKeys: String, CodingKey {
    case schema, runID, toolVersion, commandLine, scenario, scenarioSHA256, plugins, seed, machine, started
    case ended, interrupted, measurements, comparisons, claims, implied, origins, behaviours, serviceLevel,
      objectives
    case expectations, rounds, equivalence, warnings, links
    // The promised key.
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

  /// Whether figures of every condition may be used.
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

  /// Says of each condition whether it was steady, and fills in comparisons, expectations, documented figures
  /// and what their pairs of latency and throughput imply.
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

/// How many rounds a run made and why it ended then.
package struct RoundsMade: Codable, Sendable, Equatable {
  /// Rounds that were made.
  package var made: Int
  /// Questions that were still open, of all.
  package var open: Int
  /// The rows of the comparison, the claims and the lines of `expect:`.
  package var questions: Int
  /// `answered`, `mostRounds` or `budget`; nil when it was interrupted.
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
  /// The file's path, or its name where it is a product of nylon-bench.
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
  /// What the exit code follows from.
  package enum Kind: String, Sendable {
    /// There is no such run, or it may not be read.
    case missing
    /// It is there and is not a run that this version reads.
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

/// A moment in whole seconds UTC, so that it is the same after it was stored and read again.
package struct UTCSecond: Codable, Sendable, Equatable, CustomStringConvertible {
  /// Seconds since 1970-01-01T00:00:00Z.
  package var epochSeconds: Int

  package init(epochSeconds: Int = Int(Date().timeIntervalSince1970)) { self.epochSeconds = epochSeconds }

  package var description: String {
    Date(timeIntervalSince1970: Double(epochSeconds)).formatted(.iso8601)
  }

  /// Such as `20261122T050420Z`, for names of folders.
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
