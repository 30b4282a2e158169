import Foundation
import Results
import Scenario
import Testing

@testable import Bench

@Suite("The shipped statements about behaviour")
struct ShippedPromiseTests {
  private static let file =
    URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path + "/Scenarios/claims.yaml"

  @Test("Every statement names an existing test, and every test is named by a statement")
  func names() throws {
    let specs = try ClaimsFile(
      path: Self.file, metrics: SummaryRow.numericColumns, tests: Promises.names
    ).behaviours
    #expect(specs.count >= 60)
    #expect(Set(specs.compactMap(\.test)) == Promises.names)
    #expect(Set(specs.map(\.document)) == ["nats-plugin-quick-start-guide.md", "nats-plugin-quick-start.md"])
    for spec in specs where spec.test == nil {
      #expect(spec.notMeasured?.contains("need") == true, "\(spec.id) does not say what it needs")
    }
  }

  @Test("Statements are in the order of their documents")
  func order() throws {
    let specs = try ClaimsFile(path: Self.file, metrics: SummaryRow.numericColumns).behaviours
    for document in Set(specs.map(\.document)) {
      let lines = specs.filter { $0.document == document }.map(\.line)
      #expect(lines == lines.sorted())
    }
  }
}
