// OpenMetrics 1.0, the text format of Prometheus: the numeric columns of summary.csv in base units, with a
// sample for each replicate that has a figure.
import Foundation
import Results
import Scenario

enum OpenMetrics {
  static func render(_ document: RunDocument) -> String {
    let rows = SummaryRow.all(document)
    let families = facts(document) + measured(rows)
    return families.map(\.text).joined() + "# EOF\n"
  }

  private typealias Labels = [(name: String, value: String?)]

  /// Samples that share a name, a type and a unit.
  private struct Family {
    enum Kind: String { case gauge, counter, info }

    var name: String
    var kind = Kind.gauge
    /// The unit, such as `seconds`, which also ends the name.
    var unit: String?
    var meaning: String
    var samples: [(labels: Labels, value: Double)] = []

    /// The family's lines; empty without samples, since a missing figure has none.
    var text: String {
      let suffix = kind == .gauge ? "" : kind == .counter ? "_total" : "_info"
      let lines = samples.filter(\.value.isFinite).map { labels, value in
        let pairs = labels.compactMap { name, value in value.map { "\(name)=\"\(escaped($0))\"" } }
        let set = pairs.isEmpty ? "" : "{\(pairs.joined(separator: ","))}"
        return "\(name)\(suffix)\(set) \(number(value))\n"
      }
      guard !lines.isEmpty else { return "" }
      let unitLine = unit.map { "# UNIT \(name) \($0)\n" } ?? ""
      return "# TYPE \(name) \(kind.rawValue)\n\(unitLine)# HELP \(name) \(escaped(meaning))\n"
        + lines.joined()
    }
  }

  // MARK: The run and its machine

  private static func facts(_ document: RunDocument) -> [Family] {
    func info(_ name: String, _ meaning: String, _ all: [Labels]) -> Family {
      Family(name: name, kind: .info, meaning: meaning, samples: all.map { ($0, 1) })
    }
    let machine = document.machine
    return [
      info(
        "nylon_bench_run", "the run that the figures belong to",
        [
          [
            ("run_id", document.runID), ("scenario", document.scenario.name),
            ("scenario_sha256", document.scenarioSHA256), ("interrupted", "\(document.interrupted)"),
          ]
        ]),
      info(
        "nylon_bench_machine", "the machine that the run was made on",
        [
          [
            ("cpu_model", machine.cpuModel), ("cores", machine.cores.map(String.init)),
            ("kernel", machine.kernel), ("operating_system", machine.operatingSystem),
            ("hypervisor", machine.hypervisor), ("governor", machine.governor),
            ("clock_source", machine.clockSource), ("grade", machine.fitness?.grade.rawValue),
          ]
        ]),
      info(
        "nylon_bench_version", "the versions of the components",
        machine.versions.merging(["nylon-bench": document.toolVersion]) { own, _ in own }.sorted {
          $0.key < $1.key
        }
        .map { [("component", $0.key), ("version", $0.value)] }),
      Family(
        name: "nylon_bench_started_timestamp_seconds", unit: "seconds",
        meaning: "when the run began, Unix time",
        samples: [([], Double(document.started.epochSeconds))]),
    ]
  }

  // MARK: The columns of summary.csv

  private static func measured(_ rows: [SummaryRow]) -> [Family] {
    let valid = Family(
      name: "nylon_bench_valid", meaning: "1 if the measurement is valid, else 0",
      samples: rows.map { (labels($0), $0.measurement.isValid ? 1 : 0) })
    // The columns of a family may be apart in the file, but the samples must be adjacent here.
    var families: [Family] = []
    for column in SummaryRow.columns where !column.isText && column.name != "replicate" {
      let (shape, factor, quantile) = series(column)
      var family = shape
      family.samples = rows.compactMap { row in
        column.figure(row).map { (labels(row, quantile: quantile), $0 / factor) }
      }
      if let place = families.firstIndex(where: { $0.name == family.name }) {
        families[place].samples += family.samples
      } else {
        families.append(family)
      }
    }
    return [valid] + families
  }

  private static func labels(_ row: SummaryRow, quantile: String? = nil) -> Labels {
    let one = row.measurement
    return [
      ("target", one.target), ("transport", one.transport.rawValue), ("handler", one.handler),
      ("load", one.load),
      ("phase", row.scope.scope), ("replicate", "\(one.replicate)"), ("quantile", quantile),
    ]
  }

  /// The family of a column, the column's units per base unit, and the quantile of a percentile.
  private static func series(_ column: Column<SummaryRow>) -> (Family, factor: Double, quantile: String?) {
    let units: [String: (suffix: String, unit: String, factor: Double)] = [
      "us": ("_us", "seconds", 1e6), "s": ("_s", "seconds", 1), "%": ("_percent", "ratio", 100),
      "req/s": ("_rps", "requests_per_second", 1), "B": ("_bytes", "bytes", 1),
    ]
    var (name, meaning) = (column.name, column.meaning)
    // A column of bytes may carry its unit only in its name.
    let base = units[column.unit] ?? units["B"].flatMap { name.hasSuffix($0.suffix) ? $0 : nil }
    if let base, name.hasSuffix(base.suffix) { name.removeLast(base.suffix.count) }
    var quantile: String?
    if let match = name.firstMatch(of: /_p(\d+)$/) {
      quantile = Number.text(Double("0.\(match.1)"), digits: 6)
      name.removeSubrange(match.range)
      meaning = meaning.components(separatedBy: ", percentile ")[0]
    }
    if let base { name += "_\(base.unit)" }
    let family = Family(
      name: "nylon_bench_\(name)", kind: SummaryRow.counters.contains(column.name) ? .counter : .gauge,
      unit: base?.unit, meaning: meaning)
    return (family, base?.factor ?? 1, quantile)
  }

  // MARK: The format

  /// Escapes backslashes, quotes and line ends in labels and meanings.
  private static func escaped(_ text: String) -> String {
    text.harmless(keeping: ["\n"]).replacing(scalars: ["\\": "\\\\", "\"": "\\\"", "\n": "\\n"])
  }

  /// A number that parses back to the same value.
  private static func number(_ value: Double) -> String {
    value.magnitude < 1e15 && value == value.rounded() ? "\(Int64(value))" : "\(value)"
  }
}
