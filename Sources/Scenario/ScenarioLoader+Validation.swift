import Foundation
import Nylon

/// What a file is and what was found in it.
package struct ValidationSummary: Sendable, Equatable, Encodable {
  /// The kinds of files that can be checked.
  package enum Kind: String, Sendable, Codable {
    /// A scenario: what to load and how.
    case scenario
    /// Nylon's own configuration.
    case nylonConfiguration = "nylon configuration"
    /// A file of documented claims.
    case claims
  }

  /// What the file was taken for.
  package var kind: Kind
  /// The file.
  package var file: String
  /// The scenario's name; empty for the other kinds.
  package var name: String
  /// One line for each target, plugin, broker or claim, without secrets.
  package var items: [String]
  /// What is wrong and what is odd.
  package var problems: [ScenarioProblem]

  /// True when there is no error; warnings do not count.
  package var isValid: Bool { !problems.contains { $0.severity == .error } }
}

extension ScenarioLoader {
  /// Checks a scenario, a Nylon configuration or a claims file without running anything.
  ///
  /// The kind is told by the top-level keys: `targets` or `loads` make a scenario, `claims` a claims
  /// file, `plugins`, `messaging` or any other key of Nylon a configuration.
  ///
  /// - Throws: ``ScenarioError`` when the file cannot be read as YAML at all.
  package static func validate(
    path: String, options: Options
  ) throws(ScenarioError) -> ValidationSummary {
    let file = try SourceFile(path: path)
    let keys = Set((try file.tree(what: "a scenario or a Nylon configuration").entries ?? []).map(\.key))
    let ofNylon = Set(NylonConfiguration.otherTopLevelKeys + ["plugins", "messaging"])
    let ofScenario = Set(Self.keys).subtracting(["plugins", "messaging", "name"])
    if keys.contains("claims") { return claims(file, metrics: options.metrics) }
    if keys.isDisjoint(with: ofScenario), !keys.isDisjoint(with: ofNylon) { return try nylon(file) }
    let problems = ProblemCollector()
    let plan = try read(file, options: options, problems: problems)
    return ValidationSummary(
      kind: .scenario, file: path, name: plan?.name ?? "", items: (plan?.targets ?? []).map(line),
      problems: problems.sorted)
  }

  private static func claims(_ file: SourceFile, metrics: [String]) -> ValidationSummary {
    var summary = ValidationSummary(kind: .claims, file: file.path, name: "", items: [], problems: [])
    do throws(ScenarioError) {
      summary.items = try ClaimsFile.load(path: file.path, metrics: metrics).map {
        "claim \($0.id): \($0.words)"
      }
      summary.items += try BehavioursFile.load(path: file.path).map { "behaviour \($0.id): \($0.words)" }
    } catch {
      summary.problems = error.problems
    }
    return summary
  }

  private static func nylon(_ file: SourceFile) throws(ScenarioError) -> ValidationSummary {
    let problems = ProblemCollector()
    var configuration = NylonConfiguration()
    try readNylon(file, into: &configuration, problems: problems)
    configuration.checkReferences(problems)
    if configuration.plugins.isEmpty, !problems.hasErrors {
      problems.add(
        .warning, at: .file(file.path), key: "plugins", "has no entry, so there is nothing to load")
    }
    return ValidationSummary(
      kind: .nylonConfiguration, file: file.path, name: "",
      items: configuration.plugins.map(line) + configuration.messaging.map(line), problems: problems.sorted)
  }

  private static func line(_ target: Target) -> String {
    let loads = target.loads.map(\.label).joined(separator: ", ")
    let links = target.links.map { ", \(Block.short($0.delayMilliseconds)) ms \($0.between.rawValue)" }
    return
      "target \(target.name): \(target.transport.name), plugin \(target.plugin), handler \(target.handler), \(loads)\(links.joined())"
  }

  private static func line(_ plugin: NylonConfiguration.Plugin) -> String {
    switch plugin.kind {
    case .ffi(let file, _): "plugin \(plugin.name): ffi, \(file)"
    case .messaging(let broker, let group, _): "plugin \(plugin.name): messaging \(broker), group \(group)"
    case .other(let type): "plugin \(plugin.name): \(type), which cannot be loaded here"
    case .broken: "plugin \(plugin.name): has errors"
    }
  }

  private static func line(_ broker: NylonConfiguration.Messaging) -> String {
    let servers =
      broker.servers.isEmpty ? "no servers" : broker.servers.map(redactedURL).joined(separator: ", ")
    return
      "messaging \(broker.name): \(servers), prefix \(broker.subjectPrefix), max_inflight \(broker.maxInFlight)"
  }
}
