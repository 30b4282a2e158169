import Foundation
import Lab
import Testing

@testable import Engine
@testable import Report
@testable import Results

@Suite("A delay of known size, in a recorded run")
struct KnownWorkTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../results/reference/known-work").standardizedFileURL.path

  /// What one target takes longer than another, in microseconds.
  private func difference(_ target: String, to other: String, _ run: RunDocument) throws -> ClaimVerdict {
    let check = ClaimCheck(
      spec: claim(low: 190, high: 210, unit: .microseconds, relation: .difference),
      conditions: [.init(circumstance: .unloaded, target: target, load: "closed-1", against: other)])
    let verdicts = ClaimEvaluator.verdicts([check], measurements: run.measurements)
    return try #require(verdicts.first { $0.isOverall })
  }

  @Test(
    "of 200 us in the handler is measured within 5 %, or the noise floor of the same run",
    arguments: ["ffi", "nats"])
  func measured(transport: String) throws {
    let run = try RunFolder.open(path: Self.folder).document
    let noise = try difference("\(transport)-400-again", to: "\(transport)-400", run)
    let floor = try max(abs(#require(noise.low)), abs(#require(noise.high)))
    let row = try difference("\(transport)-600", to: "\(transport)-400", run)
    let measured = try #require(row.measured)
    #expect(abs(measured - 200) <= max(10, floor), "\(measured) us, noise floor \(floor) us")
    // A floor so high that anything would pass shows nothing.
    #expect(floor < 100)
    #expect(row.low.map { $0 <= measured } == true && row.high.map { $0 >= measured } == true)
  }
}
