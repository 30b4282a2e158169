import Lab
import Results
import Testing

@testable import Engine

@Suite struct CostsTests {
  private func switches(_ counts: [Int32: (UInt64, UInt64)]) -> ContextSwitches {
    counts.mapValues { SIMD2($0.0, $0.1) }
  }

  @Test func switchesAreCountedThreadByThreadSoThatOneThatEndedTakesNothingFromTheOthers() {
    let before = switches([1: (100, 10), 2: (5000, 500), 3: (40, 4)])
    // 2 ended; 3 ended and a new thread has its id; 4 began.
    let after = switches([1: (130, 11), 3: (7, 2), 4: (20, 1)])
    let since = after.since(before)
    #expect(since.x == 30 + 7 + 20)
    #expect(since.y == 1 + 2 + 1)
  }

  @Test func whatWasNotReadAtBothEndsIsNil() {
    let reading: ProcessReading = (residentBytes: 4096, switches: switches([1: (1, 1)]))
    #expect(ProcessCosts(from: nil, to: nil) == nil)
    #expect(ProcessCosts(from: reading, to: nil) == ProcessCosts(residentStartBytes: 4096))
    #expect(
      ProcessCosts(from: reading, to: reading)
        == ProcessCosts(
          residentStartBytes: 4096, residentEndBytes: 4096, voluntarySwitches: 0, involuntarySwitches: 0))
  }
}
