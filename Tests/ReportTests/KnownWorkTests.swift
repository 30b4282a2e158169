import Foundation
import Measure
import Testing

@testable import Report

@Suite("A delay of known size, in a recorded run")
struct KnownWorkTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../results/reference/known-work").standardizedFileURL.path

  @Test("of 200 us in the handler is measured within 5 %", arguments: ["ffi", "nats"])
  func measured(transport: String) throws {
    let run = try RunFolder.open(path: Self.folder).document
    let claim = ClaimCheck(
      id: "known-work", document: "Scenarios/known-work.yaml", line: 1, words: "200 us more", low: 190,
      high: 210, unit: "us", metric: "response_p50_us", relation: .difference,
      conditions: [
        .init(letter: "a", target: "\(transport)-400", load: "closed-1", against: "\(transport)-200")
      ])
    let verdicts = ClaimEvaluator.verdicts([claim], measurements: run.measurements, seed: run.seed)
    let row = try #require(verdicts.first { $0.isOverall })
    let measured = try #require(row.measured)
    #expect(abs(measured - 200) <= 10, "\(row)")
    #expect(row.low.map { $0 <= measured } == true && row.high.map { $0 >= measured } == true)
  }
}
