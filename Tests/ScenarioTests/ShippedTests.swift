import Foundation
import Nylon
import Results
import Testing

@testable import Scenario

@Suite("What is shipped", .serialized)
struct ShippedTests {
  @Test("Every shipped scenario loads without a warning and says what it is for")
  func scenarios() throws {
    let folder = try ScenarioCatalog.folder(under: repository + "/Sources")
    let entries = try ScenarioCatalog.entries(in: folder)
    #expect(Set(entries.map(\.name)).isSuperset(of: ["ffi-baseline", "nats-local", "compare", "headline"]))
    #expect(!entries.contains { $0.name == "claims" })
    for entry in entries {
      let plan = try ScenarioLoader.load(path: entry.file, options: .init())
      #expect(plan.name == entry.name)
      #expect(!entry.summary.isEmpty && plan.summary == entry.summary)
      #expect(plan.warnings.isEmpty)
    }
  }

  @Test("The manual's tables of keys are those of the schema", arguments: Schema.tables.map(\.name))
  func tables(name: String) throws {
    let path = repository + "/docs/scenario.md"
    let manual = try String(contentsOfFile: path, encoding: .utf8)
    let table = try #require(Schema.tables.first { $0.name == name })
    let opening = "<!-- keys of \(name), rendered from the schema -->\n\n"
    let start = try #require(manual.range(of: opening), "docs/scenario.md needs the line\n\(opening)")
    let end = try #require(manual[start.upperBound...].range(of: "\n\n"))
    let written = start.upperBound..<end.lowerBound
    if ProcessInfo.processInfo.environment["NYLON_BENCH_WRITE_MANUAL"] != nil {
      try manual.replacingCharacters(in: written, with: table.markdown)
        .write(toFile: path, atomically: true, encoding: .utf8)
    } else {
      #expect(
        manual[written] == table.markdown,
        "to write it: NYLON_BENCH_WRITE_MANUAL=1 swift test --no-parallel --filter ScenarioTests")
    }
  }

  @Test("The manual names every key of a claim, and its first example loads")
  func manual() throws {
    let manual = try String(contentsOfFile: repository + "/docs/scenario.md", encoding: .utf8)
    for key in ClaimsFile.keys + ClaimsFile.behaviourKeys {
      #expect(manual.contains("`\(key)`"), "\(key)")
    }
    let example = try #require(manual.components(separatedBy: "```yaml\n").dropFirst().first)
    let plan = try load(try #require(example.components(separatedBy: "```").first))
    #expect(plan.targets.count == 2)
  }

  @Test("headline has the documented pairs for whole sessions and for single phases")
  func headline() throws {
    let plan = try ScenarioLoader.load(path: repository + "/Scenarios/headline.yaml", options: .init())
    #expect(plan.targets.prefix(4).map(\.name) == ["ffi", "nats", "ffi-phase", "nats-phase"])
    #expect(plan.targets.dropFirst(4).allSatisfy { $0.name.hasPrefix("nats-net-") })
    #expect(
      plan.targets.dropFirst(4).allSatisfy {
        $0.loads.map(\.label) == ["closed-1", "open-20000", "closed-80"]
      })
    #expect(plan.targets[0].loads.map(\.label) == ["closed-1", "open-44000", "closed-35", "closed-64"])
    #expect(plan.targets[3].loads.map(\.label) == ["closed-1", "open-30000", "closed-75", "closed-64"])
    #expect(plan.targets[1].phases == Phase.session && plan.targets[2].phases == [.requestFilter])
    #expect(plan.targets.allSatisfy { $0.maxInFlight == 2048 })
  }

  @Test("The claims are those of both guides, and their loads are in headline")
  func claims() throws {
    let file = try ClaimsFile(
      path: repository + "/Scenarios/claims.yaml", metrics: SummaryRow.numericColumns)
    let claims = file.claims
    #expect(claims.count == 12 && Set(claims.map(\.id)).count == 12)
    let ffi = try #require(claims.first { $0.id == "ffi-latency" })
    #expect(ffi.low == 0.72 && ffi.high == 0.88)
    #expect(ffi.line == 37 && ffi.alsoLines == [8] && ffi.documentedRatePerSecond == 44000)
    #expect(ffi.conditions.map(\.load) == ["closed-1", "open-44000", "closed-35"])
    let loss = try #require(claims.first { $0.id == "nats-throughput-loss" })
    #expect(loss.low == -33 && loss.high == -27 && loss.relation == .change && loss.against == .ffi)
    let plan = try ScenarioLoader.load(path: repository + "/Scenarios/headline.yaml", options: .init())
    for claim in claims where claim.notMeasured == nil && claim.target != .natsNet {
      let roles = [claim.target, claim.against].compactMap { $0 }
      for role in roles {
        let target = try #require(plan.targets.first { $0.name == role.rawValue })
        for condition in claim.conditions { #expect(target.loads.map(\.label).contains(condition.load)) }
      }
    }
    #expect(!file.origins.isEmpty)
    // A commit or a page that can be looked up.
    #expect(
      file.origins.allSatisfy { $0.source.hasPrefix("github.com/AssetsArt/nylon, ") && !$0.about.isEmpty })
    for part in ["array of integers", "fails open", "2025-10-23", "8 ms", "`servers`"] {
      #expect(file.origins.contains { $0.fact.contains(part) }, "\(part)")
    }
    #expect(
      try ScenarioLoader.validate(path: repository + "/Scenarios/claims.yaml", options: .init()).kind
        == .claims)
  }

  @Test("A wrong claim is named by line and key")
  func wrongClaims() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let path = try folder.write(
      """
      claims:
        - {id: x, document: d.md, line: 0, words: w, documented: [3, 2], unit: req/s, metric: response_p5_us, better: lower, target: fi}
      """, as: "claims.yaml")
    #expect {
      _ = try ClaimsFile(path: path, metrics: SummaryRow.numericColumns)
    } throws: { error in
      let text = "\(error)"
      return ["claims.yaml:2:", "claims.0.documented", "response_p50_us", "conditions: is missing"]
        .allSatisfy(text.contains)
    }
  }

  @Test("A wrong statement about behaviour is named by line and key")
  func wrongBehaviours() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let path = try folder.write(
      """
      claims: [{id: x}]
      behaviours:
        - {id: x, document: d.md, line: 1, words: w, test: round-robin}
        - {id: y, document: d.md, words: w, test: round-robbin}
        - {id: z, document: d.md, line: 2, words: w}
        - {id: u, document: d.md, line: 2, words: w, test: round-robin, not_measured: why}
      """, as: "claims.yaml")
    #expect {
      _ = try ClaimsFile(
        path: path, metrics: SummaryRow.numericColumns, tests: ["round-robin", "even-load"])
    } throws: { error in
      let text = "\(error)"
      return [
        "claims.yaml:3:", "behaviours.0.id = 'x': is the id of an earlier claim",
        "behaviours.1.line: is missing",
        "did you mean 'round-robin'?", "behaviours.2.test: exactly one of",
        "behaviours.3.test = 'round-robin': exactly one of",
      ].allSatisfy(text.contains)
    }
  }

  @Test("A file without statements about behaviour has none")
  func noBehaviours() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let claim = """
      claims:
        - {id: x, document: d.md, line: 1, words: w, documented: 3, unit: req/s, metric: throughput_rps, \
      better: higher, target: ffi, conditions: {a: closed-1}}
      """
    let path = try folder.write(claim, as: "claims.yaml")
    #expect(try ClaimsFile(path: path, metrics: SummaryRow.numericColumns).behaviours.isEmpty)
  }

  @Test("A folder without scenarios is named")
  func noFolder() throws {
    let folder = try Folder()
    defer { folder.remove() }
    #expect(throws: ScenarioError.self) { try ScenarioCatalog.folder(under: folder.path) }
    #expect(throws: ScenarioError.self) { try ScenarioCatalog.entries(in: folder.path + "/none") }
  }
}

extension Schema.Table {
  /// The manual's table.
  var markdown: String {
    let lines = rows.filter { $0.removed == nil }.map { row in
      let meaning = (row.only.isEmpty ? "" : "\(row.only) only: ") + row.meaning
      let cells = [
        "`\(row.name)`", row.isSecret ? meaning + "; secret" : meaning, row.standard, row.allowed,
      ]
      return "|" + cells.map { $0.isEmpty ? " |" : " \($0) |" }.joined()
    }
    return (["| key | meaning | default | allowed |", "|---|---|---|---|"] + lines).joined(separator: "\n")
  }
}
