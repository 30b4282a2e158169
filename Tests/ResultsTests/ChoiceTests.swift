import Testing

import Lab

@testable import Engine
@testable import Report
@testable import Results

@Suite("The chosen workers")
struct ChoiceTests {
  /// 200 choices of 4 that nats-server 2.9.10 made, recorded one request after the other.
  static let recorded =
    ("1003111101212022130012333213211211003022202012220300102201030330203312012301010023130003012313311010"
    + "3231130012121122112302301312220123122102332310301110101201223323131110102113300001021301311012001112")
    .compactMap(\.wholeNumberValue)

  @Test("Round-robin is recognized in any order, and is not random")
  func roundRobin() throws {
    let sequence = (0..<200).map { [2, 0, 3, 1][$0 % 4] }
    #expect(Statistics.roundRobinShare(sequence, of: 4) == 1)
    let test = try #require(Statistics.independentChoices(sequence, of: 4))
    #expect(test.pValue < 1e-12)
    // Each in turn is as even as can be: evenness alone tells nothing of the order.
    #expect(Statistics.evenCounts([50, 50, 50, 50])?.pValue == 1)
  }

  @Test("A broker's random choice is distinguished from round-robin")
  func random() throws {
    #expect(Self.recorded.count == 200)
    let share = try #require(Statistics.roundRobinShare(Self.recorded, of: 4))
    #expect(share > 0.25 && share < 0.45)
    #expect(try #require(Statistics.independentChoices(Self.recorded, of: 4)).pValue > 0.001)
  }

  @Test("One slip in round-robin costs at most three steps")
  func slip() throws {
    var sequence = (0..<101).map { $0 % 4 }
    sequence[50] = (sequence[50] + 1) % 4
    let share = try #require(Statistics.roundRobinShare(sequence, of: 4))
    #expect(share >= 0.97 && share < 1)
  }

  @Test("A worker that sticks is neither even nor independent")
  func sticky() throws {
    let sequence = (0..<300).map { $0 / 50 % 2 }
    #expect(try #require(Statistics.independentChoices(sequence, of: 2)).pValue < 1e-12)
    #expect(try #require(Statistics.evenCounts([290, 10])).pValue < 1e-12)
  }

  @Test(
    "The chi-square tail is that of the tables",
    arguments: [
      (3.841, 1, 0.05), (5.991, 2, 0.05), (7.815, 3, 0.05), (21.026, 12, 0.05), (26.217, 12, 0.01),
      (0.711, 4, 0.95), (124.342, 100, 0.05),
    ])
  func table(statistic: Double, degrees: Int, tail: Double) {
    #expect(abs(ChiSquare(statistic: statistic, degrees: degrees).pValue - tail) < 1e-4)
  }

  @Test("Too little, and what is out of range, gives no answer")
  func tooLittle() {
    #expect(Statistics.roundRobinShare([0], of: 4) == nil)
    #expect(Statistics.roundRobinShare([0, 4], of: 4) == nil)
    #expect(Statistics.roundRobinShare([0, 0], of: 1) == nil)
    #expect(Statistics.evenCounts([3, 4]) == nil)
    #expect(Statistics.independentChoices([0, 1, 0], of: 2) == nil)
    #expect(Statistics.roundRobinShare([0, 1, 0], of: 2) == 1)
  }
}
