import Engine
import Scenario
import Testing

@testable import Bench

/// Notes what is done, and when.
private final class NotingStage: FaultStage {
  private(set) var done: [String] = []
  var now = 0.0
  /// Faults that cannot be done, and ends that cannot.
  var fails: Set<String> = []
  /// Seconds that doing one takes.
  var takes = 0.0

  func begin(_ fault: FaultSpec, draw: UInt64) throws -> (words: String, end: () throws -> Void) {
    let words = fault.words
    if fails.contains(words) { throw FaultError(description: "it cannot") }
    done.append("\(words) at \(now)")
    now += takes
    return (
      words,
      { [self] in
        if fails.contains("end of \(words)") { throw FaultError(description: "it would not") }
        done.append("end of \(words) at \(now)")
      }
    )
  }
}

@Suite("The director of faults")
struct FaultDirectorTests {
  private let stop = FaultSpec(.stop, .worker(1), atSeconds: 2...2, forSeconds: 1)
  private let kill = FaultSpec(.kill, .worker(nil), atSeconds: 2.5...2.5)

  /// Asks a director whenever it wants to be asked.
  private func play(_ director: FaultDirector, _ stage: NotingStage, until end: Double = 10) {
    while let next = director.nextSeconds, next < end {
      stage.now = max(stage.now, next)
      director.doDue { stage.now }
    }
    stage.now = end
    director.finish { stage.now }
  }

  @Test("does each fault and its end in the order of time, and keeps when that was")
  func order() {
    let stage = NotingStage()
    let director = FaultDirector([kill, stop], seed: 1, replicate: 1, stage: stage)
    #expect(director.nextSeconds == 2)
    director.doDue { 1.9 }
    #expect(stage.done.isEmpty)
    play(director, stage)
    #expect(
      stage.done == [
        "worker 2 stopped for 1 s at 2.0", "worker killed at 2.5", "end of worker 2 stopped for 1 s at 3.0",
      ])
    #expect(
      director.records.map(\.begunSeconds) == [2.5, 2] && director.records.map(\.overSeconds) == [nil, 3])
    #expect(director.records.map(\.number) == [1, 2] && director.records.allSatisfy { $0.error == nil })
  }

  @Test("lets a fault last as long as it should when it began late")
  func late() {
    let stage = NotingStage()
    stage.takes = 0.8
    let director = FaultDirector([stop, kill], seed: 1, replicate: 1, stage: stage)
    play(director, stage)
    #expect(director.records[1].begunSeconds == 2.8)
    #expect(director.records[0].begunSeconds == 2 && (director.records[0].overSeconds ?? 0) >= 3)
  }

  @Test("ends what is under way when the load ends early, and says what was not done")
  func early() {
    let stage = NotingStage()
    let director = FaultDirector([stop, kill], seed: 1, replicate: 1, stage: stage)
    play(director, stage, until: 2.2)
    #expect(stage.done.last == "end of worker 2 stopped for 1 s at 2.2")
    #expect(director.records[0].error == nil && director.records[0].overSeconds == nil)
    #expect(director.records[1].begunSeconds == nil && director.records[1].error?.contains("ended") == true)
    #expect(director.nextSeconds == nil)
  }

  @Test("reports a fault that could not be injected, and continues with the others")
  func fails() {
    let stage = NotingStage()
    stage.fails = ["worker killed", "end of worker 2 stopped for 1 s"]
    let director = FaultDirector([stop, kill], seed: 1, replicate: 1, stage: stage)
    play(director, stage)
    #expect(
      director.records[0].begunSeconds == 2 && director.records[0].error == "ending it failed: it would not")
    #expect(director.records[1].begunSeconds == nil && director.records[1].error == "it cannot")
  }

  @Test("draws moments within their range by seed and replicate, the same for every target")
  func moments() {
    let faults = [
      FaultSpec(.kill, .worker(nil), atSeconds: 2...3), FaultSpec(.kill, .worker(nil), atSeconds: 2...3),
    ]
    func draw(_ seed: UInt64, _ replicate: Int) -> [Double] {
      FaultDirector.draw(faults, seed: seed, replicate: replicate).map(\.atSeconds)
    }
    #expect(draw(1, 1) == draw(1, 1))
    let all = (1...50).flatMap { replicate in (1...4).flatMap { draw($0, replicate) } }
    #expect(Set(all).count == all.count && all.allSatisfy { (2...3).contains($0) })
    #expect(all.contains { $0 < 2.1 } && all.contains { $0 > 2.9 })
  }
}
