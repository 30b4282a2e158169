// Accounting of requests: joins the host's ledger with the handlers' ledgers by request id.
import Engine
import Nylon

extension Accounting {
  /// - Parameters:
  ///   - sent: The requests that the host noted.
  ///   - handled: The requests that the handlers noted.
  ///   - load: When the host sent its load, in monotonic nanoseconds; nil when the load process died, so that
  ///     the host's notes may lack the last requests.
  ///   - unnoted: The number of requests that the host had no room to note.
  package init(
    sent: [LedgerEntry], handled: [HandledRequest], load: ClosedRange<UInt64>?, unnoted: UInt64 = 0
  ) {
    self.init()
    var places = [RequestWords: Int](minimumCapacity: sent.count)
    for (place, entry) in sent.enumerated() { places[entry.id] = place }
    var seen = [UInt32](repeating: 0, count: sent.count)
    for record in handled {
      if let place = places[record.id] {
        seen[place] += 1
      } else if load?.contains(record.time) == true {
        unknown += 1
      } else {
        outside += 1
      }
    }
    self.unnoted = unnoted
    self.handled = UInt64(handled.count)
    requests = Self.grouped(sent, seen)
    if unnoted > 0 {
      gap = "\(Number.grouped(Double(unnoted)) ?? "") requests did not fit into the host's ledger"
    } else if load == nil {
      gap = "the load process died before it had recorded how all requests ended"
    }
  }

  private static func grouped(_ sent: [LedgerEntry], _ seen: [UInt32]) -> [AccountedRequests] {
    // The keys sort by phase, then the measured time before the warm-up, then by end.
    var groups: [Int: AccountedRequests] = [:]
    for (entry, seen) in zip(sent, seen) {
      let key = (Int(entry.phase) << 1 | (entry.isMeasured ? 0 : 1)) << 8 | entry.end.rawValue
      let name = Phase(rawValue: entry.phase)?.subjectFragment ?? "\(entry.phase)"
      groups[key, default: AccountedRequests(phase: name, measured: entry.isMeasured, end: entry.end)]
        .add(seen: seen, retries: UInt64(max(1, entry.attempts) - 1))
    }
    return groups.sorted { $0.key < $1.key }.map(\.value)
  }

  /// Contradictions, each of which is a defect of nylon-bench: requests answered well that no handler saw,
  /// requests seen by a handler that nobody sent, and sums that differ.
  package var defects: [String] {
    let unseen = requests.filter { $0.end == "\(Counter.ok)" }.reduce(0) { $0 &+ $1.never }
    let counted = requests.reduce(unknown &+ outside) { $0 &+ $1.handled }
    return [
      unseen > 0 ? "\(unseen) requests were answered successfully, but no handler saw them" : nil,
      unknown > 0 && unnoted == 0 ? "handlers saw \(unknown) requests that the host did not send" : nil,
      counted != handled ? "handlers recorded \(handled) requests; \(counted) are accounted for" : nil,
    ].compactMap { $0 }
  }

  /// The contradictions of `defects`, and differences between the ledger and the counters of the same load.
  package func defects(of measurement: Measurement) -> [String] {
    guard gap == nil else { return defects }
    // A session that cannot be opened is a handler error without a request; one without a free slot is lost.
    let compared: [Counter] = [.ok, .timeouts]
    return defects
      + measurement.scopes.dropFirst().flatMap { scope -> [String] in
        compared.compactMap { end in
          let noted = requests.filter { $0.measured && $0.phase == scope.scope && $0.end == "\(end)" }
            .reduce(0) { $0 &+ $1.count }
          let counted = scope.counts[end]
          guard Measurement.isOwnPhase(scope.scope), noted != counted else { return nil }
          return "\(scope.scope): the host counted \(counted) \(RunKeys.stored("\(end)")) and recorded "
            + "\(noted)"
        }
      }
  }

  /// One sentence about the requests of the measured time.
  package var words: String {
    guard !requests.isEmpty else { return "nothing is known, since \(gap ?? "no request was sent")" }
    let mine = requests.filter(\.measured)
    func sum(_ figure: (AccountedRequests) -> UInt64, _ rows: [AccountedRequests]? = nil) -> UInt64 {
      (rows ?? mine).reduce(0) { $0 &+ figure($1) }
    }
    func shown(_ number: UInt64) -> String { Number.grouped(Double(number)) ?? "" }
    let often = [(sum(\.twice), "twice"), (sum(\.more), "more often"), (sum(\.never), "never")]
      .filter { $0.0 > 0 || $0.1 == "never" }.map { "\(shown($0.0)) \($0.1)" }
    var text =
      "of \(shown(sum(\.count))) phase requests handlers saw \(shown(sum(\.once))) once, "
      + often.joined(separator: ", ")
    let failed = mine.filter { $0.end != "\(Counter.ok)" }
    if sum(\.count, failed) > 0 {
      let all = sum(\.count, failed)
      text +=
        "; \(shown(all)) failed, \(shown(all &- sum(\.never, failed))) of them although a handler saw them"
    }
    if sum(\.retries) > 0 { text += "; \(shown(sum(\.retries))) retries" }
    return text
      + (gap.map { "; incomplete, since \($0)" }
        ?? (defects.isEmpty ? "; the sums close" : "; the sums do not close"))
  }

  /// The sum over replicates.
  package static func sum(_ all: [Accounting]) -> Accounting? {
    guard var sum = all.first else { return nil }
    for one in all.dropFirst() {
      sum.gap = sum.gap ?? one.gap
      sum.unnoted &+= one.unnoted
      sum.handled &+= one.handled
      sum.unknown &+= one.unknown
      sum.outside &+= one.outside
      for row in one.requests {
        let place = sum.requests.firstIndex {
          ($0.phase, $0.measured, $0.end) == (row.phase, row.measured, row.end)
        }
        if let place { sum.requests[place].add(row) } else { sum.requests.append(row) }
      }
    }
    return sum
  }

  /// One sentence for each target and load with accounting.
  package static func sentences(_ document: RunDocument) -> [String] {
    MeasurementGroup.all(document).compactMap { group in
      sum(group.measurements.compactMap(\.accounting)).map { "\(group.target) \(group.load): \($0.words)." }
    }
  }
}

extension AccountedRequests {
  fileprivate mutating func add(_ other: AccountedRequests) {
    never &+= other.never
    once &+= other.once
    twice &+= other.twice
    more &+= other.more
    handled &+= other.handled
    retries &+= other.retries
  }
}

/// A row of accounting.csv.
package struct AccountingRow {
  let measurement: Measurement
  let requests: AccountedRequests

  package static let columns: [Column<AccountingRow>] = [
    .text("target", "the target's name", \.measurement.target),
    .text("load", "such as `open-2000`", \.measurement.load),
    .count("replicate", "1 for the first", int: \.measurement.replicate),
    .text("phase", "the phase", \.requests.phase),
    .text("measured", "`true` for the measured time, `false` for the warm-up") {
      $0.requests.measured ? "true" : "false"
    },
    .text(
      "end",
      "how the requests ended, as the host knows it: `ok`, `handler_errors`, `timeouts`, `lost`; `sent` if "
        + "the load process died before it knew"
    ) { RunKeys.stored($0.requests.end) },
    .count("requests", "phase requests that the host sent and that ended this way", \.requests.count),
    .count("never", "requests that no handler saw", better: .less, \.requests.never),
    .count("once", "requests that handlers saw once", \.requests.once),
    .count("twice", "requests that handlers saw twice", better: .less, \.requests.twice),
    .count("more", "requests that handlers saw more than twice", better: .less, \.requests.more),
    .count("handled", "how often handlers saw them in all", \.requests.handled),
    .count("retries", "attempts after the first", better: .less, \.requests.retries),
  ]

  package static func all(_ document: RunDocument) -> [AccountingRow] {
    document.measurements.flatMap { one in
      (one.accounting?.requests ?? []).map { AccountingRow(measurement: one, requests: $0) }
    }
  }
}
