import Engine
import Foundation
import Lab
import Report
import Results
import Scenario

/// Creates scenarios for plugins and workers that the command line names directly.
enum Drafts {
  /// Whether an argument is a plugin library or a product of this package, and not a text file.
  static func isPlugin(_ path: String) -> Bool {
    if path.wholeMatch(of: /.*\.so(?:\.[0-9]+)*$/) != nil { return true }
    if FileManager.default.fileExists(atPath: path) { return (try? PluginLibrary.checkFile(path)) != nil }
    return !path.contains("/") && Executables.library(path) != nil
  }

  /// The plugin's name in a draft: an absolute path or the name of a product.
  static func library(_ file: String) throws(LabError) -> String {
    if !FileManager.default.fileExists(atPath: file) {
      if !file.contains("/"), Executables.library(file) != nil { return file }
      throw .missing("The plugin '\(file)'", remedy: "Build it, or correct its path.")
    }
    return ScenarioDraft.absolute(file)
  }

  /// Creates a draft for one plugin of a Nylon configuration. When `name` is nil, lists the plugins of the
  /// configuration and throws `ExitReason.wrongUsage`.
  static func configured(_ path: String, plugin name: String?, handler: String?) throws -> ScenarioDraft {
    let plugins = try ScenarioLoader.plugins(ofNylon: path)
    guard let first = plugins.first else {
      throw ScenarioError(
        at: .file(path), key: "plugins", "has no entry, so there is nothing to measure",
        remedy: "name the file that has the plugins")
    }
    guard let name else {
      Console.error(
        "\(path) is Nylon's own configuration: choose one of its plugins.\n\n\(list(plugins))\n"
          + "For example: nylon-bench run \(path) --plugin "
          + (plugins.first { $0.obstacle == nil } ?? first).name)
      throw ExitReason.wrongUsage
    }
    guard let plugin = plugins.first(where: { $0.name == name }) else {
      throw ScenarioError(
        at: .argument("--plugin \(name)"), "is not a plugin of \(path)",
        remedy: "there are: \(plugins.map(\.name).joined(separator: ", "))")
    }
    return .configured([plugin], of: path, handler: handler)
  }

  private static func list(_ plugins: [ConfiguredPlugin]) -> String {
    ReportTable(
      "Plugins",
      [
        .text("name", \.name), .text("type", \.type), .text("file, or subject and brokers", \.place),
        .text("handlers") { $0.handlers.joined(separator: ", ") }, .text("remark", \.obstacle),
      ], plugins
    ).text()
  }

  // MARK: The plan

  /// Creates the draft's plan, with an open load at a rate that each of its targets can sustain.
  static func plan(_ draft: ScenarioDraft, handler: String?, _ options: RunOptions) throws -> Plan {
    var draft = draft
    // Insert the load before its rate is known, so that --set can refer to it.
    draft.openRatePerSecond = unknownRate
    var plan = try ScenarioLoader.load(draft, options: options.loader)
    if !options.quiet, handler == nil, let used = draft.subjects.first?.handler {
      Console.error("handler '\(used)'; --handler NAME chooses another")
    }
    let isUnknown = plan.loads.contains(.open(ratePerSecond: unknownRate, arrivals: .poisson))
    draft.openRatePerSecond = isUnknown ? try bearableRate(plan, options) : nil
    if isUnknown { plan = try ScenarioLoader.load(draft, options: options.loader) }
    plan.text = draft.storedText()
    return plan
  }

  private static let unknownRate = 1.0

  /// Returns at most half the throughput of the slowest target with the most requests in flight; nil when
  /// that is below one request per second.
  private static func bearableRate(_ plan: Plan, _ options: RunOptions) throws -> Double? {
    let inFlight = plan.loads.compactMap {
      if case .closed(let concurrency) = $0 { concurrency } else { nil }
    }
    guard let most = inFlight.max() else { return nil }
    var short = plan
    (short.warmupSeconds, short.measureSeconds) = (0.2, 0.5)
    let progress = ProgressLine(quiet: options.quiet, verbose: options.verbose)
    let trap = try SignalTrap()
    let lab = try Workbench(plan: short)
    defer {
      progress.clear()
      lab.tearDown()
    }
    let rates = try plan.targets.map { target in
      progress.say("finding a rate for the open load: \(target.name) with \(most) in flight")
      let load = LoadShape.closed(concurrency: most)
      let measurement = try lab.measure(target: target, load: load, replicate: 1) { _ in !trap.isSprung }
      if trap.isSprung {
        Console.error("Interrupted before anything was measured.")
        throw ExitReason.interrupted
      }
      return measurement.throughputPerSecond ?? 0
    }
    return rates.min().flatMap(rate)
  }

  /// No proxy sends more, and higher rates would measure the generator instead of the plugin.
  private static let mostRate = 100_000.0

  /// Rounds half a throughput down to 1, 2 or 5 times a power of ten, so that most runs use the same rate;
  /// nil below one per second.
  static func rate(under throughput: Double) -> Double? {
    let half = min(throughput / 2, mostRate)
    guard half >= 1 else { return nil }
    let power = pow(10, log10(half).rounded(.down))
    return ([5, 2, 1].first { $0 * power <= half } ?? 1) * power
  }
}
