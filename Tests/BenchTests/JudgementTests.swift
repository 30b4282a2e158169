import Foundation
@testable import Lab
@testable import Engine
@testable import Results
import Nylon
import Report
@testable import Scenario
import Testing

@testable import Bench

@Suite("Verdicts on what was seen")
struct JudgementTests {
  @Test("One delivery and one answer of each request holds; a second or a missing one fails")
  func one() {
    #expect(BrokerPromises.judgeOne(count: 3, deliveries: [1, 2], answers: [1, 1, 1]).verdict == .holds)
    #expect(BrokerPromises.judgeOne(count: 3, deliveries: [2, 2], answers: [1, 1, 1]).verdict == .fails)
    #expect(BrokerPromises.judgeOne(count: 3, deliveries: [1, 2], answers: [1, 0, 2]).verdict == .fails)
  }

  @Test("Two groups mean two deliveries and two answers, one group means one of each")
  func groups() {
    func verdict(_ groups: Int, _ deliveries: [UInt64], _ answers: [Int]) -> ClaimVerdict.Verdict {
      BrokerPromises.judgeGroups(count: 2, groups: groups, deliveries: deliveries, answers: answers).verdict
    }
    #expect(verdict(1, [2], [1, 1]) == .holds)
    #expect(verdict(1, [4], [2, 2]) == .fails)
    #expect(verdict(2, [2, 2], [2, 2]) == .holds)
    #expect(verdict(2, [2, 0], [1, 1]) == .fails)
  }

  @Test("Round-robin holds, the broker's own random choice fails, and a handful says nothing")
  func order() {
    func choices(_ sequence: [Int]) -> BrokerPromises.Choices {
      BrokerPromises.Choices(sequence: sequence, workers: 4, unclear: 0)
    }
    var generator = SplitMix64(seed: 7)
    let random = (0..<200).map { _ in Int(generator.next() >> 62) }
    #expect(BrokerPromises.roundRobin(choices((0..<200).map { $0 % 4 })).verdict == .holds)
    #expect(BrokerPromises.roundRobin(choices(random)).verdict == .fails)
    #expect(BrokerPromises.roundRobin(choices(random)).why.contains("chooses at random"))
    #expect(BrokerPromises.roundRobin(choices([0, 1, 2])).verdict == .inconclusive)
    #expect(BrokerPromises.evenLoad(choices(random)).verdict == .holds)
    #expect(BrokerPromises.evenLoad(choices((0..<200).map { $0 < 150 ? 0 : $0 % 4 })).verdict == .fails)
    #expect(BrokerPromises.evenLoad(choices((0..<201).map { $0 % 3 })).verdict == .fails)
  }

  @Test("The layout is the four documented subjects in the group, no more and no fewer")
  func layout() {
    let fragments = ["request_filter", "response_filter", "response_body_filter", "logging"]
    let all = fragments.map {
      BrokerSubscription(subject: "nylon.plugin.my-plugin.\($0)", group: "production-workers", clientID: 5)
    }
    let lifecycle = BrokerSubscription(subject: "nylon.plugin.my-plugin.lifecycle", group: nil, clientID: 5)
    #expect(BrokerPromises.judgeLayout(all + [lifecycle], answered: 4).verdict == .holds)
    #expect(BrokerPromises.judgeLayout(all, answered: 3).verdict == .fails)
    #expect(BrokerPromises.judgeLayout(Array(all.dropLast()), answered: 4).verdict == .fails)
    var other = all
    other[0].group = "default"
    #expect(BrokerPromises.judgeLayout(other, answered: 4).verdict == .fails)
  }

  private func seen(
    _ phase: Phase, attempts: [Int], took: Double? = nil, timeout: Int? = nil, policy: PhasePolicy? = nil
  ) -> SettingPromises.Seen {
    let standard = PhasePolicy.standard(for: phase)
    return SettingPromises.Seen(
      phase: phase, policy: policy ?? standard, timeoutMilliseconds: timeout ?? standard.timeoutMilliseconds,
      attempts: attempts, tookMilliseconds: took)
  }

  @Test("Defaults hold with the documented attempts and a timeout that is not early")
  func defaults() {
    #expect(seen(.requestFilter, attempts: [3, 3], timeout: 100).isRight)
    #expect(!seen(.requestFilter, attempts: [3, 2], timeout: 100).isRight)
    #expect(!seen(.requestFilter, attempts: [], timeout: 100).isRight)
    #expect(seen(.logging, attempts: [1], took: 203).isRight)
    #expect(!seen(.logging, attempts: [1], took: 150).isRight)
    #expect(!seen(.logging, attempts: [1], took: 900).isRight)
    #expect(!seen(.logging, attempts: [2], took: 203).isRight)
    #expect(!seen(.logging, attempts: [1], took: 203, policy: .standard(for: .responseFilter)).isRight)
    #expect(
      SettingPromises.judge([seen(.logging, attempts: [2], took: 203)]).why.contains(
        "not as documented: logging"))
  }

  @Test("Scaling holds while there is CPU left, fails when more workers bring nothing, else is unclear")
  func scaling() {
    func points(_ values: [(Double, Double?)]) -> [ScalingPromises.Point] {
      values.enumerated().map { place, value in
        ScalingPromises.Point(workers: 1 << place, throughputPerSecond: value.0, busyShare: value.1)
      }
    }
    func verdict(_ values: [(Double, Double?)]) -> ClaimVerdict.Verdict {
      ScalingPromises.judgeScaling(points(values)).verdict
    }
    #expect(verdict([(100, 0.2), (195, 0.3), (390, 0.6)]) == .holds)
    #expect(verdict([(100, 0.2), (195, 0.3), (200, 0.95)]) == .holds)
    #expect(verdict([(100, 0.2), (110, 0.3), (390, 0.6)]) == .fails)
    #expect(verdict([(100, 0.9), (110, 0.9)]) == .inconclusive)
    #expect(verdict([(100, 0.9), (190, 1)]) == .holds)
    #expect(verdict([(100, nil), (120, nil)]) == .inconclusive)
    #expect(ScalingPromises.bound(points([(1, 0.9)])).contains("other processes on this machine"))
  }
}
