// The commands that take no measurements.
import ArgumentParser
import Lab
import Report
import Results
import Scenario

struct ExportCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Writes a stored run in another format, without measuring.",
    discussion: """
      Writes one file to standard output: of a format with several, such as csv, the first. With --to, \
      writes all of them to a folder.

      EXAMPLES
        nylon-bench export results/latest --format csv
        nylon-bench export results/latest --format csv --to csv/
        nylon-bench export results/latest --format html > report.html
        nylon-bench export results/latest --format openmetrics
      """)

  @Argument(
    help: ArgumentHelp("A run's folder, or its run.json.", valueName: "run"),
    completion: .file(extensions: ["json"]))
  var runPath: String

  @Option(help: "The format.")
  var format: ExportFormat

  @Option(help: "The folder for all files of the format.", completion: .directory)
  var to: String?

  func execute() throws {
    let files = try format.render(try RunFolder.open(path: runPath).document)
    if let to {
      try RunFolder.write(files, to: to)
      Console.error("wrote to \(to): \(files.map(\.name).listed(atMost: 5))")
    } else if let first = files.first {
      try Console.result(first.contents)
      if files.count > 1 {
        Console.error("not shown: \(files.dropFirst().map(\.name).listed(atMost: 5)) (use --to DIR)")
      }
    } else {
      Console.error("The run holds no measurement to export as \(format.rawValue).")
    }
  }
}

extension ExportFormat: ExpressibleByArgument {}

struct ScenariosCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "scenarios", abstract: "Lists Scenarios/ with their one-line descriptions.")

  @Option(help: "Folder to list (default: Scenarios/ here or beside the package).", completion: .directory)
  var folder: String?

  @Flag(help: "Print JSON.")
  var json = false

  func execute() throws {
    let entries = try ScenarioCatalog.entries(in: try folder ?? PackageFiles.scenarios())
    if json { return try Console.result(RunJSON.text(entries)) }
    let width = entries.map(\.file.count).max() ?? 0
    for entry in entries { try Console.result(entry.file.padded(width + 2) + entry.summary) }
  }
}

struct ValidateCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Checks a scenario, or a Nylon configuration, without running.",
    discussion: """
      Reports what 'run' would refuse, except for errors that occur only at a start: no broker is contacted, \
      no plugin is loaded.

      EXAMPLES
        nylon-bench validate my.yaml
        nylon-bench validate /etc/nylon/nylon.yaml
        nylon-bench validate my.yaml --set loads.0.concurrency=4096
      """)

  @Argument(help: "The file.", completion: .file(extensions: ["yaml", "yml"]))
  var file: String

  @OptionGroup var options: RunOptions

  func execute() throws {
    let summary = try ScenarioLoader.validate(path: file, options: options.loader)
    for problem in summary.problems { Console.error(problem.description) }
    guard summary.isValid else { throw ExitReason.badInput }
    // Check for the missing files and programs that a run would report before it starts anything.
    if summary.kind == .scenario { _ = try Workbench(plan: options.plan(file), asksBrokers: false) }
    try Console.result("\(file): a valid \(summary.kind.rawValue), '\(summary.name)'")
    for item in summary.items { try Console.result("  \(item)") }
  }
}

struct DoctorCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Checks whether this machine is fit to measure, and says what to install.")

  @Flag(help: "Print JSON.")
  var json = false

  func execute() throws {
    let (findings, fitness) = Doctor.examine(optimisedBuild: ToolVersion.isOptimised)
    if json {
      try Console.result(RunJSON.text(findings + [fitness.asFinding]))
    } else {
      let width = findings.map(\.name.count).max() ?? 0
      for finding in findings {
        let name = finding.name.padded(width)
        try Console.result("\(finding.state.rawValue.padded(7)) \(name)  \(finding.detail)")
        if let remedy = finding.remedy { try Console.result("        \(name)  -> \(remedy)") }
      }
      try Console.result("\ngrade \(fitness.grade.rawValue): \(fitness.grade.meaning)")
    }
    if findings.contains(where: { $0.state == .missing }) { throw ExitReason.missing }
  }
}

extension MachineFitness {
  fileprivate var asFinding: DoctorFinding {
    let why = reasons.isEmpty ? "" : ": " + reasons.joined(separator: "; ")
    return DoctorFinding(
      "grade", grade <= .limited ? .ok : .warn, "\(grade.rawValue), \(grade.meaning)\(why)",
      remedy: grade <= .limited ? nil : "See the other findings' remedies.")
  }
}

extension MachineFitness.Grade {
  fileprivate var meaning: String {
    switch self {
    case .fit: "fit; nothing was found that would distort a figure"
    case .limited:
      "limited by the machine itself; ratios within a run hold, absolute figures only here"
    case .disturbed: "disturbed; wait, or use another machine for figures to publish"
    case .unfit: "unfit; figures are invalid, or cannot be measured"
    }
  }
}
