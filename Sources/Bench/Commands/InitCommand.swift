import ArgumentParser
import Foundation
import Lab
import Results
import Scenario

struct InitCommand: BenchCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Writes a commented scenario to start from.",
    discussion: """
      The scenario runs as it is; the most common other keys are commented out. It is for the example \
      plugin and workers, for your plugin's library, or for the plugins of a Nylon configuration.

      EXAMPLES
        nylon-bench init                                   writes scenario.yaml
        nylon-bench init my.yaml
        nylon-bench init ./mine.so --handler authz         writes mine.yaml
        nylon-bench init nylon.yaml my.yaml --plugin fast
      """)

  @Argument(
    help: ArgumentHelp(
      "The file to write (default: scenario.yaml); or a plugin's library, or a Nylon configuration.",
      valueName: "file"), completion: .file(extensions: ["yaml", "yml", "so"]))
  var first: String?

  @Argument(
    help: ArgumentHelp("The file to write for a plugin or a configuration.", valueName: "scenario"),
    completion: .file(extensions: ["yaml", "yml"]))
  var second: String?

  @Option(help: ArgumentHelp("Only this plugin of a Nylon configuration.", valueName: "name"))
  var plugin: String?

  @OptionGroup var handler: HandlerOption

  @Flag(help: "Replace an existing file.")
  var force = false

  func execute() throws {
    let subject = try subject()
    let file = second ?? subject.map { "\($0.name).yaml" } ?? first ?? "scenario.yaml"
    if let first, subject != nil, ScenarioDraft.absolute(first) == ScenarioDraft.absolute(file) {
      throw ScenarioError(
        at: .file(file), "is the file that the scenario is written for",
        remedy: "name another file: nylon-bench init \(first) my.yaml")
    }
    let draft = (subject ?? .example).written(to: file)
    // Refuse whatever 'run' would refuse.
    _ = try ScenarioLoader.load(draft, options: ScenarioLoader.Options(metrics: SummaryRow.numericColumns))
    try write(draft.text(), to: file)
    try Console.result("wrote \(file); run it with: nylon-bench run \(file)")
  }

  /// The draft for the given plugin or configuration; nil when the first argument is the file to write.
  private func subject() throws -> ScenarioDraft? {
    if let first, Drafts.isPlugin(first), plugin == nil {
      return .library(try Drafts.library(first), handler: handler.name)
    }
    // Do not replace an existing file that cannot be parsed: it may be a configuration with an error.
    if let first, FileManager.default.fileExists(atPath: first), !Drafts.isPlugin(first),
      try ScenarioLoader.kind(ofFile: first) == .nylonConfiguration
    {
      return try configured(first)
    }
    let needless = second ?? plugin.map { "--plugin \($0)" } ?? handler.name.map { "--handler \($0)" }
    guard let needless else { return nil }
    throw ScenarioError(
      at: .argument(needless), "is only for a plugin's library or a Nylon configuration",
      remedy: "name that first: nylon-bench init ./mine.so my.yaml")
  }

  private func configured(_ path: String) throws -> ScenarioDraft {
    if let plugin { return try Drafts.configured(path, plugin: plugin, handler: handler.name) }
    let plugins = try ScenarioLoader.plugins(ofNylon: path)
    for plugin in plugins {
      if let obstacle = plugin.obstacle { Console.error("skipped: \(plugin.name): \(obstacle)") }
    }
    let fit = plugins.filter { $0.obstacle == nil }
    guard !fit.isEmpty else {
      throw ScenarioError(
        at: .file(path), key: "plugins", "has no entry that can be measured as it stands",
        remedy: "name a configuration with an FFI plugin, or with a messaging plugin and its servers")
    }
    return .configured(fit, of: path, handler: handler.name)
  }

  private func write(_ text: String, to path: String) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (force ? O_TRUNC : O_EXCL), 0o644)
    guard file >= 0 else {
      guard errno == EEXIST else { throw LabError.system("\(path) cannot be written", errno: errno) }
      throw ScenarioError(
        at: .file(path), "already exists", remedy: "name another file, or replace it with --force")
    }
    try FileHandle(fileDescriptor: file, closeOnDealloc: true).write(contentsOf: Data(text.utf8))
  }
}
