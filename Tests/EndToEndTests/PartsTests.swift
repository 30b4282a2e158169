import Foundation
import Engine
import Lab
import Results
import Report
import Testing

extension EndToEnd {
  @Suite("Where the time goes") struct PartsTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    @Test("Both transports tell it for every phase, and the parts add up to the service time")
    func both() throws {
      let finished = try sandbox.run(Small.both, "--set", "decompose=true", "--set", "replicates=1")
      let document = try sandbox.latest()
      expectHonest(finished, document, loads: "closed-")
      expectCounts(document)
      for one in document.measurements {
        #expect(!one.warnings.contains { $0.contains("stamps") }, "\(one.warnings)")
        for scope in one.scopes.dropFirst() {
          let cut = try #require(scope.decomposition)
          #expect(cut.parts.count == 5)
          #expect(cut.withoutStamps == 0 && cut.impossibleStamps == 0)
          for part in cut.parts { #expect(part.time.count == scope.counts.ok) }
          // A timeout on a busy machine has a service time, but no parts.
          guard scope.service.count == scope.counts.ok else { continue }
          #expect(cut.parts.reduce(0) { $0 + $1.time.sumNanoseconds } == scope.service.sumNanoseconds)
        }
        #expect(one.request?.decomposition == nil)
      }
      #expect(finished.out.contains("Where the time of a request goes"))
      #expect(finished.out.contains("worker to host"))
      #expect(finished.out.contains("in event_stream"))
      let csv = try String(contentsOfFile: "\(sandbox.results)/latest/parts.csv", encoding: .utf8)
      #expect(csv.hasPrefix("target,load,phase,replicate,part,count,mean_us,p50_us,p99_us\r\n"))
      // 2 targets, 2 loads, 4 phases, 5 parts and the service time; and the head.
      #expect(csv.components(separatedBy: "\r\n").count == 2 * 2 * 4 * 6 + 2)
      let report = try String(contentsOfFile: "\(sandbox.results)/latest/report.html", encoding: .utf8)
      #expect(report.contains("waiting in the worker"))
    }
  }
}
