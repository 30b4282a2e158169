import Foundation
import Testing

@testable import Engine
@testable import Report
@testable import Results

@Suite("The folder of results") struct ResultsPathTests {
  @Test(
    "holds every run, whatever its scenario is called",
    arguments: [
      "../../x", "/etc/x", "..", ".", "", "a\u{0}b", "a\nb", "a/../b", "~", "a\u{301}/b", "%2e%2e%2f",
      "a\\..\\b",
      String(repeating: "long/", count: 100),
    ])
  func names(scenario: String) throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    var run = document([])
    run.runID = "../../\(scenario)"
    run.scenario.name = scenario
    run.scenario.text = "name: x\n"
    let folder = try RunFolder.create(in: "\(directory)/results", scenario: scenario)
    try folder.save(run)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["results"])
    let names = try FileManager.default.contentsOfDirectory(atPath: "\(directory)/results")
    #expect(Set(names) == ["latest", folder.runID])
    #expect(try RunFolder.open(path: "\(directory)/results/latest").document == run)
  }

  @Test("is written to in place of a link, and never through one")
  func links() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let other = "\(directory)/other"
    try Data("mine".utf8).write(to: URL(fileURLWithPath: other))
    let folder = try RunFolder.create(in: "\(directory)/results", scenario: "x")
    for name in ["run.json", "report.html", "summary.csv", "run.json.\(getpid()).part"] {
      try FileManager.default.createSymbolicLink(atPath: "\(folder.path)/\(name)", withDestinationPath: other)
    }
    try folder.save(document([]))
    #expect(try String(contentsOfFile: other, encoding: .utf8) == "mine")
    let kind = try FileManager.default.attributesOfItem(atPath: "\(folder.path)/run.json")[.type]
    #expect(kind as? FileAttributeType == .typeRegular)
  }
}
