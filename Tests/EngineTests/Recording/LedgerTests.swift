import Results
import TestSupport
import Testing

@testable import Engine
@testable import Nylon
@testable import Scenario

@Suite("The host's ledger")
struct LedgerTests {
  private let layout = LedgerLayout(threads: 2, entriesPerThread: 3)

  private func words(_ low: UInt64) -> RequestWords { RequestWords(high: 1, low: low) }

  @Test("keeps what each thread sent, and how it ended")
  func entries() {
    let ledger = LoadLedger(layout)
    let first = ledger.area.thread(0, slots: 2)
    let second = ledger.area.thread(1, slots: 1)
    defer {
      first.deallocate()
      second.deallocate()
    }
    first.begin(slot: 0, words(1), phase: .requestFilter, isMeasured: false)
    first.begin(slot: 1, words(2), phase: .logging, isMeasured: true)
    first.retry(slot: 1, attempt: 3)
    first.fail(slot: 1, .timeouts, isMeasured: true)
    second.begin(slot: 0, words(3), phase: .logging, isMeasured: false)
    second.fail(slot: 0, .lost, isMeasured: true)
    let open = LedgerEntry(id: words(1), phase: .requestFilter, isMeasured: false)
    let others = [
      LedgerEntry(id: words(2), phase: .logging, isMeasured: true, end: .timeouts, attempts: 3),
      LedgerEntry(id: words(3), phase: .logging, isMeasured: true, end: .lost),
    ]
    #expect(ledger.area.entries == [open] + others)
    first.settleAll()
    var answered = open
    answered.end = .ok
    #expect(ledger.area.entries == [answered] + others)
    #expect(ledger.area.unnoted == 0)
  }

  @Test("a slot that sends again was answered before, unless its request failed")
  func settles() {
    let ledger = LoadLedger(layout)
    let thread = ledger.area.thread(0, slots: 1)
    defer { thread.deallocate() }
    thread.begin(slot: 0, words(1), phase: .logging, isMeasured: true)
    thread.begin(slot: 0, words(2), phase: .logging, isMeasured: true)
    thread.fail(slot: 0, .handlerErrors, isMeasured: true)
    thread.begin(slot: 0, words(3), phase: .logging, isMeasured: true)
    #expect(ledger.area.entries.map(\.end) == [.ok, .handlerErrors, .sent])
  }

  @Test("counts entries that do not fit, and keeps the existing ones")
  func overflow() {
    let ledger = LoadLedger(layout)
    let thread = ledger.area.thread(1, slots: 1)
    defer { thread.deallocate() }
    for number in 1...5 { thread.begin(slot: 0, words(UInt64(number)), phase: .logging, isMeasured: true) }
    thread.fail(slot: 0, .lost, isMeasured: true)
    thread.retry(slot: 0, attempt: 9)
    #expect(ledger.area.entries.map(\.id.low) == [1, 2, 3])
    #expect(ledger.area.entries.allSatisfy { $0.end == .ok && $0.attempts == 1 })
    #expect(ledger.area.unnoted == 2)
  }

  @Test("an overflow in a load is reported, and requests seen by a handler are no defect")
  func overflowInALoad() throws {
    var load = SimulatedLoad(measure: 100 * millisecond)
    load.ledgerEntries = 10
    let result = load.run()
    let sent = result.simulation.started.count
    #expect(sent > 10)
    let accounting = try #require(result.accounting)
    #expect(accounting.unnoted == UInt64(sent - 10) && accounting.unknown == accounting.unnoted)
    #expect(accounting.gap?.contains("did not fit") == true)
    #expect(accounting.defects(of: result.measurement).isEmpty)
  }

  @Test("has room for all requests of an open load, and never more than there may be")
  func room() {
    func entries(_ load: LoadShape, phases: [Phase] = [.logging], seconds: UInt64 = 1) -> Int {
      let order = SimulatedLoad(load: load, phases: phases, measure: seconds * second).order
      return LedgerLayout(order).entriesPerThread
    }
    let one = entries(.open(ratePerSecond: 1000, arrivals: .poisson))
    #expect(one > 1200 && one < 2000)
    #expect(entries(.open(ratePerSecond: 1000, arrivals: .poisson), phases: Phase.session) >= 4 * one)
    #expect(entries(.ramp(Ramp(fromPerSecond: 1, toPerSecond: 1000, overSeconds: 1))) == one)
    let most = entries(.closed(concurrency: 1))
    #expect(entries(.open(ratePerSecond: 1_000_000, arrivals: .poisson), seconds: 3600) == most)
    #expect(most == LedgerLayout.mostEntries)
  }
}
