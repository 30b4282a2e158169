import struct Foundation.Data
import Nylon
import Testing

@testable import Engine
@testable import Report
@testable import Results

/// A request that the host noted.
private func sent(
  _ low: UInt64, _ end: Counter = .ok, phase: Phase = .logging, attempts: UInt16 = 1, isMeasured: Bool = true
) -> LedgerEntry {
  LedgerEntry(
    id: RequestWords(high: 1, low: low), phase: phase, isMeasured: isMeasured, end: end, attempts: attempts)
}

/// A request that a handler noted.
private func seen(_ low: UInt64, at time: UInt64 = 50) -> HandledRequest {
  HandledRequest(id: RequestWords(high: 1, low: low), time: time, worker: 1, phase: .logging)
}

@Suite("The accounting of phase requests")
struct AccountingTests {
  private let load: ClosedRange<UInt64> = 10...90

  private func joined(_ entries: [LedgerEntry], _ records: [HandledRequest], unnoted: UInt64 = 0)
    -> Accounting
  {
    Accounting(sent: entries, handled: records, load: load, unnoted: unnoted)
  }

  private func row(
    _ end: Counter, never: UInt64 = 0, once: UInt64 = 0, twice: UInt64 = 0, more: UInt64 = 0,
    retries: UInt64 = 0, handled: UInt64, phase: Phase = .logging, measured: Bool = true
  ) -> AccountedRequests {
    var row = AccountedRequests(phase: phase.subjectFragment, measured: measured, end: end)
    (row.never, row.once, row.twice, row.more) = (never, once, twice, more)
    (row.retries, row.handled) = (retries, handled)
    return row
  }

  @Test("joins both ledgers by the requests' ids, in any order")
  func joins() {
    let accounting = joined(
      [
        sent(1), sent(2, .timeouts), sent(3), sent(4, .lost), sent(5, .timeouts, attempts: 3),
        sent(6, attempts: 2),
      ],
      [seen(6), seen(3), seen(5), seen(1), seen(6), seen(5), seen(5), seen(2)])
    #expect(
      accounting.requests == [
        row(.ok, once: 2, twice: 1, retries: 1, handled: 4),
        row(.timeouts, once: 1, more: 1, retries: 2, handled: 4), row(.lost, never: 1, handled: 0),
      ])
    #expect(accounting.handled == 8 && accounting.unknown == 0 && accounting.gap == nil)
    #expect(accounting.defects.isEmpty)
    #expect(
      accounting.words
        == "of 6 phase requests handlers saw 3 once, 1 twice, 1 more often, 1 never; 3 failed, 2 of them although a "
        + "handler saw them; 3 retries; the sums close")
  }

  @Test("separates phases and the warm-up, and describes the measured time")
  func apart() {
    let accounting = joined(
      [sent(1, isMeasured: false), sent(2, phase: .requestFilter), sent(3)], [seen(1), seen(2), seen(3)])
    #expect(
      accounting.requests == [
        row(.ok, once: 1, handled: 1, phase: .requestFilter), row(.ok, once: 1, handled: 1),
        row(.ok, once: 1, handled: 1, measured: false),
      ])
    #expect(accounting.words == "of 2 phase requests handlers saw 2 once, 0 never; the sums close")
  }

  @Test("an answer to a request that no handler saw is a defect; a failure without a handler is not")
  func unseen() {
    #expect(joined([sent(1, .lost), sent(2, .handlerErrors)], []).defects.isEmpty)
    let accounting = joined([sent(1), sent(2)], [seen(2)])
    #expect(accounting.defects == ["1 requests were answered successfully, but no handler saw them"])
    #expect(accounting.words.hasSuffix("the sums do not close"))
  }

  @Test(
    "what a handler saw and nobody sent is a defect while the load runs, and a question before and after it")
  func unknown() {
    let records = [seen(7, at: 9), seen(8, at: 91), seen(9, at: 10)]
    let accounting = joined([], records)
    #expect(accounting.unknown == 1 && accounting.outside == 2 && accounting.handled == 3)
    #expect(accounting.defects == ["handlers saw 1 requests that the host did not send"])
    // A load process that died may have sent what it did not come to note.
    let died = Accounting(sent: [sent(1, .sent)], handled: records + [seen(1)], load: nil)
    #expect(died.defects.isEmpty && died.outside == 3)
    #expect(died.words.contains("incomplete, since the load process died"))
  }

  @Test("a ledger that overflowed says so, and is not a defect")
  func overflow() {
    let accounting = joined([sent(1)], [seen(1), seen(2)], unnoted: 1)
    #expect(accounting.defects.isEmpty)
    #expect(accounting.words.hasSuffix("incomplete, since 1 requests did not fit into the host's ledger"))
  }

  @Test("a counter of the load that differs from the ledger is a defect")
  func counters() {
    var one = measurement("nats", around: 1_000_000, count: 2)
    let both = [seen(1), seen(2)]
    #expect(joined([sent(1), sent(2)], both).defects(of: one).isEmpty)
    // Of the warm-up, and so not counted.
    #expect(
      joined([sent(1), sent(2), sent(3, isMeasured: false)], both + [seen(3)]).defects(of: one).isEmpty)
    #expect(
      joined([sent(1)], [seen(1)]).defects(of: one) == ["logging: the host counted 2 ok and recorded 1"])
    one.scopes[1].counts.timeouts = 1
    #expect(
      joined([sent(1), sent(2)], both).defects(of: one) == [
        "logging: the host counted 1 timeouts and recorded 0"
      ])
  }

  @Test("is a row of accounting.csv for each way to end, and a sentence over all replicates")
  func tables() throws {
    var run = document(replicates("nats", around: 1_000_000, count: 2))
    #expect(!CSV.files(run).contains { $0.title == "accounting.csv" })
    #expect(Accounting.sentences(run).isEmpty)
    run.measurements[0].accounting = joined([sent(1), sent(2, .handlerErrors)], [seen(1)])
    run.measurements[1].accounting = joined([sent(1, attempts: 2)], [seen(1), seen(1)])
    let rows = records(csv("accounting.csv", run))
    #expect(rows.map { $0["end"] } == ["ok", "handler_errors", "ok"])
    #expect(rows[2]["twice"] == "1" && rows[2]["retries"] == "1" && rows[2]["replicate"] == "2")
    #expect(rows[1]["never"] == "1" && rows[1]["measured"] == "true" && rows[1]["phase"] == "logging")
    #expect(
      Accounting.sentences(run) == [
        "nats open-1000: of 3 phase requests handlers saw 1 once, 1 twice, 1 never; 1 failed, 0 of them although a "
          + "handler saw them; 1 retries; the sums close."
      ])
    #expect(Answer.text(run, folder: "f", colour: false).contains("handlers saw 1 once, 1 twice"))
    let stored = Data(try run.json().utf8)
    #expect(try RunDocument(json: stored, path: "run.json").measurements == run.measurements)
  }

  @Test("gives the reason when nothing is known")
  func nothing() {
    var run = document(replicates("nats", around: 1_000_000, count: 1))
    run.measurements[0].accounting = Accounting(gap: "the workers were not started by the run")
    #expect(
      Accounting.sentences(run) == [
        "nats open-1000: nothing is known, since the workers were not started by the run."
      ])
    #expect(Accounting().words == "nothing is known, since no request was sent")
  }
}
