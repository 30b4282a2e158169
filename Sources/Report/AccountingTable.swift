import Engine
import Results

extension ResultTables {
  /// How often handlers saw the phase requests of the measured time, by how they ended.
  static func accounting(_ document: RunDocument) -> ReportTable {
    struct Row {
      let group: MeasurementGroup
      let requests: AccountedRequests
    }
    let rows = MeasurementGroup.all(document).flatMap { group -> [Row] in
      let sum = Accounting.sum(group.measurements.compactMap(\.accounting))
      return (sum?.requests ?? []).filter(\.measured).map { Row(group: group, requests: $0) }
    }
    func count(_ head: String, _ value: @escaping @Sendable (AccountedRequests) -> UInt64) -> Column<Row> {
      .grouped(head) { Double(value($0.requests)) }
    }
    let columns: [Column<Row>] = [
      .text("target", \.group.target), .text("load", \.group.load), .text("phase", \.requests.phase),
      .text("the host says", \.requests.end), count("requests") { $0.count },
      count("never seen") { $0.never },
      count("once") { $0.once }, count("twice") { $0.twice }, count("more often") { $0.more },
      count("retries") { $0.retries },
    ]
    return ReportTable(
      "Accounting: what the host says of phase requests, and how often handlers saw them", columns, rows,
      notes: Accounting.sentences(document))
  }
}
