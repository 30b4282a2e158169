// The content of report.md and report.html, in reading order.
import Engine
import Results
import Scenario

struct ReportSection {
  var title: String
  var paragraphs: [String] = []
  var tables: [ReportTable] = []
  /// Whether HTML shows only the title until a reader opens it.
  var isFolded = true

  var isList: Bool { paragraphs.count > 3 }
}

enum ReportText {
  /// A command that is safe to copy: a stored run must not inject another one.
  static func shell(_ words: [String]) -> String {
    words.map { word in
      let isPlain = !word.isEmpty && word.unicodeScalars.allSatisfy { $0.isPlain(or: "_./:=,@%+-") }
      return isPlain ? word : "'" + word.replacing(scalars: ["'": "'\\''"]) + "'"
    }.joined(separator: " ")
  }

  static func sections(_ document: RunDocument) -> [ReportSection] {
    /// Adds a section if it has rows or facts.
    func section(
      _ title: String, facts: [String] = [], about: [String] = [], tables: [ReportTable] = []
    ) -> [ReportSection] {
      let filled = tables.filter { !$0.rows.isEmpty }
      guard !facts.isEmpty || !filled.isEmpty else { return [] }
      return [ReportSection(title: title, paragraphs: about + facts, tables: filled)]
    }
    let comparisons = document.comparisons.map {
      "\($0.metric), \($0.condition), \($0.b) / \($0.a): \($0.verdictText), \($0.why)."
    }
    let claims = document.claims.map {
      "\($0.id), \($0.condition): \($0.verdict.rawValue), \($0.why). The document says: \"\($0.claim)\"."
    }
    let implied = claims.isEmpty ? [] : document.implied ?? []
    let origins = (document.origins ?? []).map {
      "\($0.about.joined(separator: ", ")): \($0.fact) Source: \($0.source)."
    }
    let tried = document.behaviours ?? []
    let faults = FaultFigures.all(document).map(\.sentence)
    return [Answer.section(document), what(document), results(document)]
      + section(
        "Faults", facts: faults,
        tables: ResultTables.faults(document) + [ResultTables.faultReplicates(document)])
      + section("Network", tables: [ResultTables.links(document)] + ResultTables.network(document))
      + section(
        "Comparison", facts: comparisons, tables: [ResultTables.comparison(document.comparisons)])
      + section(
        "Claims", facts: claims, about: subjects(document),
        tables: [ResultTables.claims(document.claims), ResultTables.implied(implied)])
      + section("Where the documented figures come from", facts: origins)
      + section("Behaviour", tables: [ResultTables.behaviours(tried)] + ResultTables.behaviourDetails(tried))
      + section("Expectations", tables: [ResultTables.expectations(document.expectations)])
      + [trouble(document), circumstances(document)]
  }

  private static func what(_ document: RunDocument) -> ReportSection {
    var paragraphs = document.scenario.summary.isEmpty ? [] : [document.scenario.summary]
    if document.interrupted {
      paragraphs.append("The run was interrupted: what follows is what was measured until then.")
    }
    paragraphs += [
      "What is measured: phase requests to a Nylon plugin, each one phase started and ended, in-process (FFI) "
        + "or through a NATS queue group. A request is one session through its phases, as in the proxy for "
        + "one HTTP request; HTTP itself is not measured.",
      "A closed load keeps a number of sessions in flight and sends the next when one ends: it shows the "
        + "highest throughput, and at concurrency 1 the unloaded time, but it waits when the target is slow, "
        + "so it does not state latency under load. An open load sends on a schedule, and its response time "
        + "starts at the scheduled time.",
    ]
    return ReportSection(title: "What this is", paragraphs: paragraphs, isFolded: false)
  }

  private static func subjects(_ document: RunDocument) -> [String] {
    let each = document.scenario.targets.map { target in
      switch target.transport {
      case .ffi(let spec): "plugin '\(spec.file)', handler '\(target.handler)', in-process"
      case .nats(let spec):
        "pool '\(target.plugin)', handler '\(target.handler)', "
          + (spec.workers.map { "\($0.count) workers '\($0.command.joined(separator: " "))'" }
            ?? "already running workers") + ", over NATS" + (target.host == .nylon ? ", host: nylon" : "")
          + (target.behind.map { ", behind plugin '\($0.plugin)', handler '\($0.handler)', in-process" } ?? "")
      }
    }
    return [
      "Tested on: \(each.uniqued().joined(separator: "; ")). Per request of all phases, and, where a name ends "
        + "with -per-phase, per phase request. HTTP is not measured."
    ]
  }

  private static func results(_ document: RunDocument) -> ReportSection {
    let tables = [
      ResultTables.sweep(document), ResultTables.objectives(document), ResultTables.results(document),
      ResultTables.intervals(document),
      ResultTables.phases(document), ResultTables.parts(document), ResultTables.costs(document),
      ResultTables.costsOverLength(document), ResultTables.resources(document), ResultTables.broker(document),
      ResultTables.nodes(document),
      ResultTables.accounting(document), ResultTables.baseline(document),
    ]
    return ReportSection(
      title: "Results", tables: (tables + ResultTables.ramps(document)).filter { !$0.rows.isEmpty })
  }

  private static func trouble(_ document: RunDocument) -> ReportSection {
    func each(_ mark: String, _ said: (Measurement) -> [String]) -> [String] {
      document.measurements.flatMap { one in
        said(one).map { "\(mark): \(one.target), \(one.load), replicate \(one.replicate): \($0)." }
      }
    }
    let whole = (ResultTables.nearBaseline(document) + document.warnings).map { "Warning: \($0)." }
    let all =
      each("Invalid") { $0.invalidReasons.map { "\($0)" } } + whole + each("Warning", \.warnings)
    return ReportSection(
      title: "Validity and warnings",
      paragraphs: all.isEmpty ? ["Every measurement is valid, and there are no warnings."] : all,
      isFolded: all.count > 8)
  }

  private static func circumstances(_ document: RunDocument) -> ReportSection {
    let facts = document.machine
    var rows: [(String, String?)] = [
      ("run", document.runID), ("began", document.started.description),
      ("ended", document.ended?.description), ("command line", shell(document.commandLine)),
      (
        "scenario",
        document.scenario.text == nil
          ? document.scenario.file : "\(RunFolder.scenarioName) beside this report"
      ), ("scenario's SHA-256", document.scenarioSHA256),
      ("seed", String(document.seed)), ("nylon-bench", document.toolVersion),
      ("optimised build", facts.optimisedBuild ? "yes" : "no"), ("CPU", facts.cpuModel),
      ("cores", facts.cores.map(String.init)), ("threads per core", facts.threadsPerCore.map(String.init)),
      ("CPU limit of the cgroup", Number.text(facts.cgroupCores)), ("governor", facts.governor),
      ("clock source", facts.clockSource), ("hypervisor", facts.hypervisor), ("kernel", facts.kernel),
      ("operating system", facts.operatingSystem),
      (
        "memory",
        Number.text(facts.memoryBytes.map { Double($0) / 1_073_741_824 }, digits: 1).map { "\($0) GiB" }
      ),
      ("load average at the beginning", Number.text(facts.loadAverage, digits: 2)),
      (
        "fitness",
        facts.fitness.map { fitness in
          "grade \(fitness.grade.rawValue) of A to D"
            + (fitness.reasons.isEmpty ? "" : ": " + fitness.reasons.joined(separator: "; "))
        }
      ),
    ]
    rows += (facts.fitness?.jitter ?? []).map { core in
      let share = Number.text(core.lostShare * 100, digits: 2) ?? "?"
      let rate = Number.grouped(core.interruptionsPerSecond) ?? "?"
      let longest = Number.time(microseconds: core.longestMicroseconds) ?? "?"
      return (
        "OS jitter, core \(core.core)",
        "\(share) % lost to \(rate) interruptions a second, longest \(longest)"
      )
    }
    rows += facts.versions.sorted { $0.key < $1.key }.map { ("version of \($0.key)", $0.value) }
    rows += document.plugins.map { ("plugin \($0.name)", "\($0.file), SHA-256 \($0.sha256 ?? "unknown")") }
    let columns: [Column<(String, String?)>] = [.text("fact", \.0), .text("value", \.1)]
    let table = ReportTable("Machine and versions", columns, rows)
    return ReportSection(
      title: "Circumstances",
      paragraphs: [
        "Histograms are HdrHistograms of 3 significant digits from 1 ns to 60 s (histograms.hlog); sum, least "
          + "and greatest are exact. Everything in this report can be generated again from run.json."
      ], tables: [table], isFolded: false)
  }
}
