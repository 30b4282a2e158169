import Report
import Results

/// What a command prints of a run, and the exit code that follows from it.
enum Outcome {
  /// Tables that a command shows.
  enum Table {
    case results, parts, comparison, claims, behaviours, implied, costs, floor, network
    case sweep, expectations
  }

  /// Prints a run and throws the reason when the exit code is not 0.
  static func present(_ document: RunDocument, options: some RunOptions, tables: [Table]) throws {
    if options.json {
      Console.result(try document.json())
    } else {
      let colour = Console.usesColour(!options.noColor)
      let shown = tables.flatMap { self.tables(document, $0) }.filter { !$0.rows.isEmpty }
      Console.result(shown.map { $0.text(colour: colour) }.joined(separator: "\n"))
      printReasons(document)
    }
    if let reason = reason(document, gate: options.gate) { throw reason }
  }

  private static func tables(_ document: RunDocument, _ table: Table) -> [ReportTable] {
    switch table {
    case .results: [ResultTables.results(document)]
    case .parts: [ResultTables.parts(document)]
    case .comparison: [ResultTables.comparison(document.comparisons)]
    case .claims: [ResultTables.claims(document.claims)]
    case .implied: [ResultTables.implied(document.implied ?? [])]
    case .behaviours: [ResultTables.behaviours(document.behaviours ?? [])]
    case .costs: [ResultTables.costs(document), ResultTables.costsOverLength(document)]
    case .sweep: [ResultTables.sweep(document)]
    case .floor: [ResultTables.baseline(document)]
    case .network: [ResultTables.links(document)] + ResultTables.network(document)
    case .expectations: [ResultTables.expectations(document.expectations)]
    }
  }

  private static func printReasons(_ document: RunDocument) {
    for measurement in document.measurements {
      for reason in measurement.invalidReasons {
        Console.error(
          "invalid: \(measurement.target) \(measurement.load) #\(measurement.replicate): \(reason)"
        )
      }
    }
  }

  /// Why a command that made this run does not end with 0; nil when it does.
  static func reason(_ document: RunDocument, gate: Bool) -> ExitReason? {
    let verdicts = document.claims.filter(\.isOverall).map(\.verdict)
    let expectations = document.expectations.map(\.verdict)
    if document.interrupted { return .interrupted }
    if expectations.contains(.notMet) { return .gateNotMet }
    if gate, verdicts.contains(.worse) || verdicts.contains(.fails) { return .gateNotMet }
    if gate, verdicts.contains(.inconclusive) { return .inconclusive }
    if expectations.contains(.unmeasured) || !document.isValid { return .invalid }
    return nil
  }
}
