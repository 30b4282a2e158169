import Foundation
import Report
import TestSupport
import Testing
import struct Engine.Measurement

@testable import Engine
@testable import Results

extension EndToEnd {
  @Suite("Clusters", .tags(.besideOthers)) struct ClusterRunTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// A pool behind a number of brokers, under an open load, with more keys at the margin and at the target.
    private func pool(
      brokers: Int = 3, workers: Int = 3, seconds: Double = 2, onError: String = "retry", target: String = "",
      margin: String = ""
    ) -> String {
      Small.underLoad(
        workers: workers, timeoutMilliseconds: 300, seconds: seconds, onError: onError, target: target,
        margin: "brokers: \(brokers)\n\(margin)")
    }

    /// Runs it; the one measurement, whose counts close, in which each fault was done, and after which nothing is left.
    private func measure(_ scenario: String) throws -> (Measurement, Finished) {
      let finished = try sandbox.run(scenario)
      let one = try #require(try sandbox.latest().measurements.first, "\(finished.err)")
      #expect(
        (one.faults ?? []).allSatisfy { $0.error == nil && $0.begunSeconds != nil }, "\(one.faults ?? [])")
      for scope in one.scopes { #expect(scope.counts.closes) }
      let codes = Set(one.invalidReasons.map(\.code))
      #expect(codes.isDisjoint(with: [.workerDied, .brokerDied, .linkDied, .faultFailed, .noAnswers]))
      #expect(sandbox.processes().isEmpty)
      return (one, finished)
    }

    @Test("Workers that are spread get a third each, whichever broker the generator is at")
    func spread() throws {
      let (one, finished) = try measure(pool(target: ", nodes: {generator: 2}"))
      let nodes = try #require(one.nodes)
      #expect(nodes.map(\.node) == [1, 2, 3])
      let all = nodes.reduce(0.0) { $0 + Double($1.workerDeliveries ?? 0) }
      // A binomial share: six standard deviations at 600 requests are 0.12.
      for node in nodes { #expect(abs(Double(node.workerDeliveries ?? 0) / all - 1 / 3) < 0.12, "\(nodes)") }
      #expect(nodes[1].generatorDeliveries ?? 0 > 0)
      #expect(nodes[0].generatorDeliveries == 0 && nodes[2].generatorDeliveries == 0)
      let counts = try #require(one.request?.counts)
      #expect(counts.ok == counts.sent && counts.retries == 0)
      #expect(finished.out.contains("at broker 3"), "\(finished.out)")
      let report = try String(contentsOfFile: "\(sandbox.results)/latest/report.html", encoding: .utf8)
      #expect(report.contains("The brokers of the cluster"))
    }

    @Test("Workers at other brokers than the generator's get everything over the routes")
    func apart() throws {
      let (one, _) = try measure(
        pool(brokers: 2, workers: 2, seconds: 0.5, target: ", nodes: {generator: 1, workers: 2}"))
      let nodes = try #require(one.nodes)
      #expect(nodes[0].workerDeliveries == 0 && nodes[1].workerDeliveries ?? 0 > 0)
    }

    @Test("The generator's broker and another one are killed; the rest continues")
    func killed() throws {
      let (one, _) = try measure(
        pool(
          seconds: 4,
          margin: """
            faults:
              - {at_seconds: 0.5, what: kill, whom: broker own, for_seconds: 1}
              - {at_seconds: 2.5, what: kill, whom: broker 3}
            """))
      #expect(one.faults?.map(\.words) == ["broker 1 killed", "broker 3 killed"])
      let counts = try #require(one.request?.counts)
      #expect(counts.ok * 10 > counts.sent * 9, "\(counts)")
      #expect(one.warnings.contains { $0.contains("lost and made again") })
    }

    @Test("Clients leave a broker in lame duck mode before it ends, and nothing is lost")
    func lameDuck() throws {
      // With retries: a request on a route is lost when the last worker at its end takes its subscription back just then.
      let (one, _) = try measure(
        pool(
          brokers: 2, workers: 2, seconds: 3.5,
          margin: "faults: [{at_seconds: 0.5, what: lame_duck, whom: broker own}]"))
      let counts = try #require(one.request?.counts)
      #expect(counts.ok == counts.sent && counts.duplicates == 0, "\(counts)")
      #expect(one.warnings.contains { $0.contains("moved to another broker once") })
      #expect(!one.warnings.contains { $0.contains("lost and made again") })
    }

    @Test("A route is reset and silenced; requests that cross it are retried")
    func routes() throws {
      let (one, _) = try measure(
        pool(
          seconds: 4,
          margin: """
            faults:
              - {at_seconds: 0.5, what: reset, whom: route 1-2}
              - {at_seconds: 2.5, what: silence, whom: route 1-2, for_seconds: 0.5}
            """))
      let counts = try #require(one.request?.counts)
      #expect(counts.ok * 10 > counts.sent * 9, "\(counts)")
      #expect(counts.retries > 0)
    }

    @Test("Workers that are added and drained lose nothing, nor does a switched pool")
    func elastic() throws {
      let (one, _) = try measure(
        pool(
          brokers: 1, workers: 2, seconds: 4, onError: "end",
          margin: """
            faults:
              - {at_seconds: 0.5, what: add, whom: worker, count: 2}
              - {at_seconds: 1.5, what: drain, whom: worker 1}
              - {at_seconds: 2.5, what: switch, whom: pool, count: 1}
            """))
      let counts = try #require(one.request?.counts)
      #expect(counts.ok == counts.sent, "\(counts)")
      #expect(one.nodes == nil)
    }

    @Test("A worker that is stopped under large bodies is disconnected as a slow consumer")
    func slowConsumer() throws {
      let (one, _) = try measure(
        pool(
          brokers: 1, workers: 2, seconds: 4,
          margin: """
            broker_max_pending_bytes: 1048576
            broker_write_deadline_seconds: 0.5
            request: {body_bytes: 65536}
            faults: [{at_seconds: 0.5, what: stop, whom: worker 1, for_seconds: 3}]
            """))
      #expect(one.brokerActivity?.slowConsumers == 1)
      #expect(one.warnings.contains { $0.contains("cut off 1 slow consumer") })
      let counts = try #require(one.request?.counts)
      #expect(counts.ok * 10 > counts.sent * 8, "\(counts)")
    }
  }
}
