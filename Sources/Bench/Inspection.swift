import Lab
import Report
import Results
import Scenario

/// The commands that measure nothing.
package enum Inspection {
  /// Writes a stored run in another format, to standard output or into a folder.
  package static func export(_ run: String, format: ExportFormat, to folder: String?) throws {
    let files = try format.render(try RunFolder.open(path: run).document)
    if let folder {
      try RunFolder.write(files, to: folder)
      for file in files { Console.error("wrote \(folder)/\(file.name)") }
    } else if let first = files.first {
      Console.result(first.contents)
      for file in files.dropFirst() { Console.error("not shown: \(file.name) (use --to DIR)") }
    } else {
      Console.error("The run holds no measurement to export as \(format.rawValue).")
    }
  }

  package static func scenarios(in folder: String?, json: Bool) throws {
    let entries = try ScenarioCatalog.entries(in: try folder ?? PackageFiles.scenarios())
    if json { return Console.result(try RunJSON.text(entries)) }
    let width = entries.map(\.file.count).max() ?? 0
    for entry in entries { Console.result(entry.file.padded(width + 2) + entry.summary) }
  }

  package static func validate(_ file: String, options: some RunOptions) throws {
    let summary = try ScenarioLoader.validate(path: file, options: options.loaderOptions)
    for problem in summary.problems { Console.error(problem.description) }
    guard summary.isValid else { throw ExitReason.badInput }
    Console.result("\(file): a valid \(summary.kind.rawValue), '\(summary.name)'")
    for item in summary.items { Console.result("  \(item)") }
  }

  package static func doctor(json: Bool) throws {
    let (findings, fitness) = Doctor.examine(optimisedBuild: ToolVersion.isOptimised)
    if json {
      Console.result(try RunJSON.text(findings + [fitness.asFinding]))
    } else {
      let width = findings.map(\.name.count).max() ?? 0
      for finding in findings {
        let name = finding.name.padded(width)
        Console.result("\(finding.state.rawValue.padded(7)) \(name)  \(finding.detail)")
        if let remedy = finding.remedy { Console.result("        \(name)  -> \(remedy)") }
      }
      Console.result("\ngrade \(fitness.grade.rawValue): \(fitness.grade.meaning)")
    }
    if findings.contains(where: { $0.state == .missing }) { throw ExitReason.missing }
  }
}

extension MachineFitness {
  /// The grade as the last finding.
  fileprivate var asFinding: DoctorFinding {
    let why = reasons.isEmpty ? "" : ": " + reasons.joined(separator: "; ")
    return DoctorFinding(
      "grade", grade <= .limited ? .ok : .warn, "\(grade.rawValue), \(grade.meaning)\(why)",
      remedy: grade <= .limited ? nil : "See the other findings' remedies.")
  }
}

extension MachineFitness.Grade {
  /// What the grade says of figures from here.
  fileprivate var meaning: String {
    switch self {
    case .fit: "fit; nothing was found that would spoil a figure"
    case .limited:
      "limited by the machine itself; ratios of one run hold, absolute figures are this machine's"
    case .disturbed: "disturbed; wait, or use another machine for figures that you show"
    case .unfit: "unfit; figures from here are invalid, or cannot be had"
    }
  }
}
