// The commands that measure nothing.
import ArgumentParser
import Bench
import Report

struct ExportCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Writes a stored run in another format, without measuring.",
    discussion: """
      One file goes to standard output. Formats with several files (csv, hgrm) print summary.csv, or \
      the first distribution, unless --to names a folder, which gets all of them.

      EXAMPLES
        nylon-bench export results/latest --format csv
        nylon-bench export results/latest --format csv --to csv/
        nylon-bench export results/latest --format html > report.html
      """)

  @Argument(help: ArgumentHelp("A run's folder, or its run.json.", valueName: "run"))
  var runPath: String

  @Option(help: "csv, json, markdown, html, hgrm or hlog.")
  var format: ExportFormat

  @Option(help: "Folder that gets all files of the format.")
  var to: String?

  func execute() throws { try Inspection.export(runPath, format: format, to: to) }
}

extension ExportFormat: ExpressibleByArgument {}

struct ScenariosCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "scenarios", abstract: "Lists Scenarios/ with their one-line descriptions.")

  @Option(help: "Folder to list (default: Scenarios/ here or beside the package).")
  var folder: String?

  @Flag(help: "As JSON.")
  var json = false

  func execute() throws { try Inspection.scenarios(in: folder, json: json) }
}

struct ValidateCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Checks a scenario, or a Nylon configuration, without running.",
    discussion: """
      EXAMPLES
        nylon-bench validate my.yaml
        nylon-bench validate /etc/nylon/nylon.yaml
        nylon-bench validate my.yaml --set loads.0.concurrency=4096
      """)

  @Argument(help: "The file.")
  var file: String

  @OptionGroup var options: CommonOptions

  func execute() throws { try Inspection.validate(file, options: options) }
}

struct DoctorCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Checks whether this machine is fit to measure, and says what to install.")

  @Flag(help: "As JSON.")
  var json = false

  func execute() throws { try Inspection.doctor(json: json) }
}
