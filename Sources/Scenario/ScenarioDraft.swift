import Foundation

/// A scenario for plugins and workers named on the command line, as text for the scenario reader.
package struct ScenarioDraft: Sendable, Equatable {
  /// A target and the location of its plugin.
  package struct Subject: Sendable, Equatable {
    package enum Way: Sendable, Equatable {
      /// A shared library, or a product of this package.
      case library(file: String)
      /// Workers in a queue group. Without a command they are already running, at brokers whose URLs may hold
      /// secrets.
      case workers(command: [String], servers: [String])
      /// An entry of Nylon's own file.
      case configured
    }

    package var target: String
    package var plugin: String
    package var handler: String
    package var way: Way
  }

  /// The default handler, used if neither a command nor a configuration names one.
  package static let standardHandler = "authz"

  package var name: String
  package var summary: String
  /// The user's arguments, without secrets, for messages about the text.
  package var origin: String
  /// The path of Nylon's own file, if the subjects are its plugins.
  package var configuration: String?
  package var subjects: [Subject]
  /// The rate of an open load that all subjects can sustain; nil if unknown.
  package var openRatePerSecond: Double?
  /// The maximum number of requests in flight that the configuration of every subject allows.
  package var maxInFlight = 64
  /// The folder of the written file, against which its paths are resolved; nil if all paths are absolute.
  package var folder: String?
}

// MARK: Creating drafts

extension ScenarioDraft {
  /// Creates a draft for a plugin's shared library, given by its absolute path, or for a product of this
  /// package.
  package static func library(_ file: String, handler: String?) -> ScenarioDraft {
    let name = pluginName(of: file)
    return ScenarioDraft(
      name: ScenarioLoader.slug(name), summary: "What the plugin \(name) costs in process.", origin: file,
      subjects: [library(file, target: name, plugin: name, handler)])
  }

  /// Creates a draft for a library and a pool with the same handlers. Without a `command`, the workers are
  /// already running at the brokers `servers`.
  package static func sideBySide(
    library file: String, pool: String, command: [String], servers: [String], handler: String?
  ) -> ScenarioDraft {
    let name = pluginName(of: file)
    // The text may be read from another folder, so all its paths are absolute, including that of a script.
    let words = command.enumerated().map { place, word in
      let isPath = place == 0 ? word.contains("/") : word.contains { "./".contains($0) } && isFile(word)
      return isPath ? absolute(word) : word
    }
    let workers = Subject(
      target: "nats", plugin: pool, handler: handler ?? standardHandler,
      way: .workers(command: words, servers: servers))
    return ScenarioDraft(
      name: "ffi-nats-" + ScenarioLoader.slug(String(pool.prefix(40))),
      summary: "The plugin \(name) in process against the pool \(pool) behind NATS.",
      origin: "--ffi \(file) --nats \(pool)",
      subjects: [
        library(file, target: "ffi", plugin: name == pool ? "\(name)-ffi" : name, handler), workers,
      ])
  }

  /// Creates a draft for plugins of a Nylon configuration. Without a `handler`, each uses the first one that
  /// the configuration names.
  package static func configured(
    _ plugins: [ConfiguredPlugin], of path: String, handler: String?
  ) -> ScenarioDraft {
    let file = URL(fileURLWithPath: absolute(path))
    let names = plugins.map(\.name).joined(separator: ", ")
    let stem = file.deletingPathExtension().lastPathComponent
    return ScenarioDraft(
      name: ScenarioLoader.slug(String((plugins.count == 1 ? names : "\(stem)-plugins").prefix(40))),
      summary: "What \(names) of \(file.lastPathComponent) cost\(plugins.count == 1 ? "s" : "").",
      origin: path, configuration: file.path,
      subjects: plugins.map {
        Subject(
          target: targetName($0.name), plugin: $0.name,
          handler: handler ?? $0.handlers.first ?? standardHandler, way: .configured)
      }, maxInFlight: min(64, plugins.compactMap(\.maxInFlight).min() ?? 64))
  }

  /// A draft for the example plugin and the example workers.
  package static let example = ScenarioDraft(
    name: "my-scenario", summary: "FFI and NATS side by side, with the example plugin and workers.",
    origin: "the example",
    subjects: [
      library("ExamplePlugin", target: "ffi", plugin: "in-process", nil),
      Subject(
        target: "nats", plugin: "pool", handler: standardHandler,
        way: .workers(command: [WorkersSpec.ownName], servers: [])),
    ], openRatePerSecond: 1000)

  /// Returns the draft for a file: named after the file, with paths relative to its folder.
  package func written(to path: String) -> ScenarioDraft {
    let file = URL(fileURLWithPath: Self.absolute(path))
    var draft = self
    draft.name = ScenarioLoader.slug(String(file.deletingPathExtension().lastPathComponent.prefix(40)))
    draft.folder = file.deletingLastPathComponent().path
    return draft
  }

  /// Returns an absolute path; a relative path is resolved against the current folder.
  package static func absolute(_ path: String) -> String {
    let here = URL(fileURLWithPath: FileManager.default.currentDirectoryPath)
    return (path.hasPrefix("/") ? URL(fileURLWithPath: path) : here.appendingPathComponent(path)).standardized
      .path
  }

  private static func isFile(_ path: String) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && !isFolder.boolValue
  }

  /// Splits a command into words as in `workers.command`. An error does not show the command, which may hold
  /// a secret.
  package static func words(
    of command: String, option: String
  ) throws(ScenarioError) -> [String] {
    guard let words = Kind<[String]>.words(of: command) else {
      throw ScenarioError(
        at: .argument(option), "has a quote that is not closed, or ends with '\\'", remedy: "close it")
    }
    guard words.first?.isEmpty == false else {
      throw ScenarioError(
        at: .argument(option), "names no program", remedy: "write for example \(option) './my-worker'")
    }
    return words
  }

  private static func library(
    _ file: String, target: String, plugin: String, _ handler: String?
  ) -> Subject {
    Subject(
      target: target, plugin: plugin, handler: handler ?? standardHandler, way: .library(file: file))
  }

  /// Returns the plugin's name, such as `mine` for `/tmp/libmine.so.1`.
  static func pluginName(of file: String) -> String {
    let name = URL(fileURLWithPath: file).lastPathComponent
    let stem =
      name.hasSuffix(".so")
      ? name.dropLast(3) : name[..<(name.range(of: ".so.")?.lowerBound ?? name.endIndex)]
    return targetName(String(stem.hasPrefix("lib") && stem.count > 3 ? stem.dropFirst(3) : stem))
  }

  /// Replaces the characters that a target's name may not have.
  private static func targetName(_ text: String) -> String {
    let name = text.unicodeScalars.prefix(Target.longestName).map {
      $0.isPlain(or: "-_") ? Character($0) : "-"
    }
    return name.isEmpty ? "plugin" : String(name)
  }
}

// MARK: The text

extension ScenarioDraft {
  /// The text without secrets: those in broker URLs and in the workers' command are `***`.
  package func storedText() -> String { text(isStored: true) }

  /// The text to load. Brokers that are already running are passed by `--server` and do not appear in it.
  package func text(isStored: Bool = false) -> String {
    let blocks = [
      head, plugins, messaging(isStored: isStored), targets(isStored: isStored), load,
    ]
    return blocks.filter { !$0.isEmpty }.joined(separator: "\n\n") + "\n"
  }

  /// The commands and servers of the targets that are workers in a queue group.
  private var pools: [(command: [String], servers: [String])] {
    subjects.compactMap { subject in
      if case .workers(let command, let servers) = subject.way { (command, servers) } else { nil }
    }
  }

  private var head: String {
    """
    # \(Self.comment(summary))
    # A line that begins with '#' and no space is an optional key: delete the '#' to enable it.
    # docs/scenario.md has all keys; 'nylon-bench validate' names every mistake by line.
    name: \(name)
    """
  }

  private var plugins: String {
    if let configuration {
      return """
        # Nylon's own file; only its plugins: and messaging: are used.
        config: \(Self.yaml(shown(configuration)))
        """
    }
    let entries = subjects.map { subject in
      guard case .library(let file) = subject.way else {
        return """
            # Behind NATS the plugin's name is a part of the subjects, such as nylon.plugin.NAME.request_filter.
            - {name: \(Self.yaml(subject.plugin)), messaging: default}
          """
      }
      return """
          # A shared library with Nylon's six symbols. Its `initialize` gets `config` as JSON.
          - name: \(Self.yaml(subject.plugin))
            type: ffi
            file: \(Self.yaml(shown(file)))
            #config: {debug: false}
        """
    }
    let spare = """
        # A pool of workers behind NATS for comparison: enable all of its lines.
        #- {name: pool, messaging: default}
      """
    return (["plugins:"] + entries + (pools.isEmpty ? [spare] : [])).joined(separator: "\n")
  }

  private func messaging(isStored: Bool) -> String {
    if configuration != nil { return "" }
    guard let pool = pools.first else {
      return "#messaging: [{name: default, servers: []}]"
    }
    let servers = isStored ? pool.servers.map { Self.yaml(Redaction.redactedURL($0)) } : []
    return """
      messaging:
        # Without servers the run starts a broker, on a free port of this machine.
        - {name: default, servers: [\(servers.joined(separator: ", "))]}
      """
  }

  private func targets(isStored: Bool) -> String {
    let entries = subjects.flatMap { subject in
      [
        "  - name: \(Self.yaml(subject.target))",
        "    plugin: \(Self.yaml(subject.plugin))",
        "    # The handler's name in the plugin or the worker.",
        "    handler: \(Self.yaml(subject.handler))",
        keys(of: subject, isStored: isStored),
        "    # What the response must have after the last phase.",
        "    #verify: {status: 200, response_headers: {X-Processed-By: \"\"}}",
        "    #timeout_ms: 1000",
      ]
    }
    let spare =
      pools.isEmpty && configuration == nil
      ? [
        "  #- {name: nats, plugin: pool, handler: \(Self.yaml(subjects.first?.handler ?? Self.standardHandler)), "
          + "workers: {count: 2, command: \(WorkersSpec.ownName)}}"
      ] : []
    return (["targets:"] + entries + spare).joined(separator: "\n")
  }

  /// Returns the keys that only this kind of target has.
  private func keys(of subject: Subject, isStored: Bool) -> String {
    switch subject.way {
    case .library:
      """
          # Stay awake while the plugin works, even with one request in flight.
          #spin: "on"
          # Return the plugin's bytes with plugin_free, as Nylon's branch sdk-mvp does.
          #payloads: host
      """
    case .workers(let command, _) where command.isEmpty:
      """
          # The workers are already running; this would start others.
          #workers: {count: 2, command: \(WorkersSpec.ownName)}
      """
    case .workers(let command, _):
      """
          # They find the broker in NATS_SERVERS, the group in NATS_GROUP and the plugin's name in NYLON_PLUGIN.
          workers:
            count: 2
            command: [\((isStored ? Redaction.command(command) : command).map(Self.yaml).joined(separator: ", "))]
            #environment: {LOG_LEVEL: error}
      """
    case .configured:
      """
          # More keys of a target, such as `workers`, which starts a pool: docs/scenario.md.
      """
    }
  }

  private var load: String {
    let open =
      openRatePerSecond.map { "  - {mode: open, rate_per_second: \(Block.short($0))}" }
      ?? "  #- {mode: open, rate_per_second: 1000}"
    let closed = Set([1, 8, 64].map { min($0, maxInFlight) }).sorted()
      .map { "  - {mode: closed, concurrency: \($0)}" }.joined(separator: "\n")
    return """
      request:
        method: GET
        path: /api/users
        headers: {host: example.test, authorization: Bearer example}
        body_bytes: 128
      #phases: [request_filter, response_filter, response_body_filter, logging]

      loads:
        # `closed`: N requests in flight, each followed by the next. One shows the unloaded latency.
      \(closed)
        # `open`: N requests a second, whether or not answers come. Use half of the last closed load's rate.
      \(open)

      warmup_seconds: 0.3
      measure_seconds: 1
      drain_seconds: 1
      # At least 6 rounds; later ones measure only what is not decided yet.
      rounds: 6..12
      #expect: ["\(subjects.first?.target ?? "").closed-1.response_p99_us < 1000"]
      """
  }

  private func shown(_ path: String) -> String {
    guard let folder, path.hasPrefix(folder + "/") else { return path }
    return "./" + path.dropFirst(folder.count + 1)
  }

  /// Formats a text as a YAML value: plain if it has no special meaning, otherwise quoted.
  private static func yaml(_ text: String) -> String {
    let value = YAMLValue(content: .scalar(text: text, plain: true), place: .argument(""))
    let isPlain =
      !value.isNull && !text.hasPrefix("-")
      && text.unicodeScalars.allSatisfy { $0.isPlain(or: "_./-") }
    return isPlain ? text : YAMLValue.quoted(text)
  }

  /// Formats a text as a single line.
  private static func comment(_ text: String) -> String { text.harmless(else: "?") }
}
