import Foundation
import TestSupport
import Testing

@testable import Engine
@testable import Results
@testable import Scenario

@Suite("The schema of run.json")
struct SchemaTests {
  private static let package = URL(fileURLWithPath: #filePath).appendingPathComponent("../../..")
    .standardizedFileURL.path
  private static let page = package + "/docs/run.schema.json"

  @Test("docs/run.schema.json is what the types decode, and says of each field what it means")
  func rendered() throws {
    let text = try RunSchema.text(package: Self.package)
    // NYLON_BENCH_WRITE_DOCS=1 scripts/test --filter ResultsTests renews it.
    if ProcessInfo.processInfo.environment["NYLON_BENCH_WRITE_DOCS"] != nil {
      try text.write(toFile: Self.page, atomically: true, encoding: .utf8)
    }
    #expect(try String(contentsOfFile: Self.page, encoding: .utf8) == text)
  }

  /// The committed runs.
  private static var stored: [String] {
    let folder = package + "/results/reference"
    let names = FileManager.default.enumerator(atPath: folder)?.allObjects as? [String] ?? []
    return names.filter { $0.hasSuffix("run.json") }.sorted().map { "\(folder)/\($0)" }
  }

  @Test(
    "is kept by every committed run and by one that has all kinds of things, and broken by damaged ones",
    .enabled(if: ForeignReaders.areThere, Comment(rawValue: ForeignReaders.absence)))
  func validates() throws {
    let folder = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    func file(_ name: String, _ text: String) throws -> String {
      let path = "\(folder)/\(name).json"
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      return path
    }
    let whole = try fullRun().json()
    let good = Self.stored + [try file("whole", whole)]
    #expect(good.count >= 4)
    let damages = [
      ("\"schema\" : 1", "\"schema\" : 2", "schema"),
      ("\"run_id\"", "\"runid\"", ""),
      ("\"seed\" : 42", "\"seed\" : -42", "scenario/seed"),
      ("\"sent\" : 2000", "\"sent\" : \"2000\"", "measurements/0/scopes/0/counts/sent"),
      ("\"ok_in_window\" : 2000,", "", "measurements/0/scopes/0"),
      ("\"code\" : \"steal\"", "\"code\" : \"stolen\"", "measurements/0/invalid_reasons/0/code"),
      ("\"started\" : \"2026-11-22T", "\"started\" : \"22.11.2026 ", "started"),
      ("\"overflow\" : \"queue\"", "\"overflow\" : \"queue\", \"forgotten\" : 1", "scenario/targets/0"),
    ]
    let bad = try damages.enumerated().map { place, damage in
      let part = try #require(whole.range(of: damage.0), "\(damage.0)")
      return try file("damaged-\(place)", whole.replacingCharacters(in: part, with: damage.1))
    }
    let faults = try ForeignReaders.faults(of: good + bad, bySchema: Self.page)
    #expect(faults.count == good.count + bad.count)
    for (path, found) in zip(good, faults) { #expect(found.isEmpty, "\(path)") }
    for (damage, found) in zip(damages, faults.dropFirst(good.count)) {
      #expect(found.contains { $0.hasPrefix("\(damage.2): ") }, "\(damage.0): \(found)")
    }
  }

  /// A run that has as many kinds of things as one can have.
  private func fullRun() -> RunDocument {
    var one = measurement("nats", around: 1_000_000, invalid: [.steal])
    (one.client, one.connections, one.dialect) = ("native", 2, .streamSDK)
    one.stall = MeasuredStall(startSeconds: 0.5, seconds: 0.2, slowestBeforeNanoseconds: 7)
    var evidence = FailureEvidence()
    (evidence.workerError, evidence.spokenDialect) = ("none", .textID)
    one.evidence = evidence
    one.generator = ProcessCosts(residentStartBytes: 1, voluntarySwitches: 2)
    one.scopes[1].decomposition = Decomposition(
      parts: [PhasePart(name: "handler", time: one.scopes[1].service)])
    let harmed = faulty(faults: [FaultRecord(number: 1, words: "worker 1 killed", begunSeconds: 2)])
    var target = natsTarget("nats")
    target.faults = [FaultSpec(.kill, .worker(nil), atSeconds: 2...3, forSeconds: 1)]
    var run = document(
      [one, harmed] + replicates("ffi", around: 5000, transport: .ffi) + replicates("nats", around: 9000),
      targets: [ffiTarget("ffi"), target])
    run.judge([
      ClaimCheck(
        spec: claim(low: 0.5, high: 0.7),
        conditions: [.init(circumstance: .documentedRate, target: "nats", load: "open-1000")])
    ])
    run.baseline = BaselineFigures(
      measured: run.started, ffiNanoseconds: .infinity,
      nats: [.init(inFlight: 1, ratePerSecond: 2, p50Microseconds: 3)])
    run.behaviours = [.of(.holds, "seen", columns: ["a"], rows: [["b"]])]
    run.rounds = RoundsMade(made: 6, open: 0, questions: 1, end: "answered")
    run.serviceLevel = ServiceLevel(metric: "response_p99_us", microseconds: 5)
    return run
  }
}
