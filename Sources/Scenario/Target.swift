import NATS
import Nylon

/// A plugin or a pool under load, with its handler.
package struct Target: Codable, Sendable, Equatable {
  package var name: String
  /// The plugin's name in `plugins:`.
  package var plugin: String
  /// The handler's name: `entry` of `register_session_stream`, `headers.entry` over NATS.
  package var handler: String
  package var transport: TransportSpec
  /// The phases of a session; those of the plan unless the target has its own.
  package var phases = Phase.session
  /// The loads; those of the plan unless the target has its own.
  package var loads: [LoadShape]
  /// The timeout and retries of each phase; has an entry for each of the four phases.
  package var policies = Target.standardPolicies
  /// The maximum number of sessions in flight in an open load.
  package var maxInFlight = 1024
  /// The handling of a request when the maximum number of sessions is in flight.
  package var overflow = OverflowPolicy.queue
  /// The required response after an answered session.
  package var verify = Verification()
  /// The number of NATS connections of the generator for this target; nil for the plan's.
  package var connections: Int?
  /// Whether the run measures how the time of each phase is spent; nil, as in older runs, means no.
  package var decompose: Bool?
  /// Whether the run skips the target when its plugin or the program of its workers is missing; nil means no.
  package var optional: Bool?
  /// The plugin in the host's own process that each phase passes before it goes to the pool; nil for none.
  package var behind: PrecedingPlugin?
  /// The objective of the search for the highest rate; the scenario's unless the target has its own. Nil for
  /// no search.
  package var objective: ServiceLevel?
  /// The faults injected under load; the scenario's unless the target has its own. Nil for none.
  package var faults: [FaultSpec]?

  static let longestName = 64

  package var isDecomposed: Bool { decompose == true }
  package var isOptional: Bool { optional == true }

  /// Nylon's default policies for all four phases.
  package static let standardPolicies: [Phase: PhasePolicy] = Dictionary(
    uniqueKeysWithValues: Phase.session.map { ($0, PhasePolicy.standard(for: $0)) })

  /// The plugin that the host loads into its own process for the target; nil if there is none.
  package var inProcess: FFISpec? { if case .ffi(let spec) = transport { spec } else { behind?.spec } }

  /// The pool of the target; nil for an in-process plugin. Setting it to nil changes nothing.
  package var nats: NATSSpec? {
    get { if case .nats(let pool) = transport { pool } else { nil } }
    set { if let newValue { transport = .nats(newValue) } }
  }

  /// The network links to the target; empty if there are none.
  package var links: [LinkSpec] { nats?.links ?? [] }

  /// The brokers of the run that each side connects to first.
  package var nodes: NodeChoice { nats?.nodes ?? NodeChoice() }

  /// How the target's host uses NATS; `lean` also for an in-process plugin.
  package var host: NATSHost { nats?.host ?? .lean }

  /// The requirement of `host: nylon`, for messages.
  package static let nylonHostNeeds =
    "needs workers that answer to the subject in `headers.reply`, those of "
    + Dialect.names(where: \.namesReplySubject)

  /// Returns how the target's host waits for the answer to a phase.
  package func policy(of phase: Phase) -> PhasePolicy {
    var policy = policies[phase] ?? .standard(for: phase)
    guard host == .nylon else { return policy }
    // Nylon's host never resends: a retry only prolongs the wait. After the last one, the session continues.
    if policy.onError == .retry { policy.timeoutMilliseconds *= policy.attempts }
    policy.onError = .continue
    return policy
  }

  /// The minimum round-trip delay of the links to the target, without jitter, in milliseconds; nil without a
  /// link.
  package var roundTripMilliseconds: Double? {
    links.isEmpty ? nil : links.reduce(0) { $0 + 2 * $1.delayMilliseconds }
  }
}

extension Target {
  package init(
    _ name: String, plugin: String, handler: String, _ transport: TransportSpec,
    phases: [Phase] = Phase.session, loads: [LoadShape],
    policies: [Phase: PhasePolicy] = Target.standardPolicies
  ) {
    self.init(
      name: name, plugin: plugin, handler: handler, transport: transport, phases: phases, loads: loads,
      policies: policies)
  }
}

/// A plugin in the host's own process whose phases precede those of a pool in the same request.
package struct PrecedingPlugin: Codable, Sendable, Equatable {
  /// The plugin's name in `plugins:`.
  package var plugin: String
  package var handler: String
  package var spec: FFISpec
  /// The timeout of each phase; has an entry for each of the four phases.
  package var policies: [Phase: PhasePolicy]

  /// Returns the scope name for the records of a phase.
  package func scope(_ phase: Phase) -> String { "\(plugin).\(phase.subjectFragment)" }

  static let keys = Keys<Void>(
    "behind", home: "a target's behind:", of: (),
    [
      Key("plugin", "an entry of `plugins:` with `type: ffi`", default: "required"),
      Key("handler", "name of the handler", default: "the plugin's `entry_point`").also("entry_point"),
    ])
}

extension PrecedingPlugin {
  /// Creates the plugin of an in-process target; returns nil for any other target.
  package init?(_ target: Target) {
    guard case .ffi(let spec) = target.transport else { return nil }
    self.init(plugin: target.plugin, handler: target.handler, spec: spec, policies: target.policies)
  }
}

/// The handling of a request when `max_in_flight` sessions are in flight.
package enum OverflowPolicy: String, Codable, Sendable, CaseIterable {
  /// The request waits; its intended time is unchanged.
  case queue
  /// The request fails immediately and is counted under this name.
  case reject, shed
}

/// The required response after a session's last phase; empty parts are not checked. The rows of `keys`
/// explain the fields.
package struct Verification: Codable, Sendable, Equatable {
  package var status: UInt16?
  package var responseHeaders: [KeyValue]
  package var bodyUnchanged: Bool
  package var body: String?

  package init(
    status: UInt16? = nil, responseHeaders: [KeyValue] = [], bodyUnchanged: Bool = false, body: String? = nil
  ) {
    self.status = status
    self.responseHeaders = responseHeaders
    self.bodyUnchanged = bodyUnchanged
    self.body = body
  }

  package var isEmpty: Bool { self == Verification() }

  static let keys = Keys<Verification>(
    "verify", home: "a target's verify:", of: Verification(),
    [
      Key("status", \.status, .whole(100...599), "the response's status", default: "not checked"),
      Key(
        "response_headers", \.responseHeaders, .headers,
        "header names and values; an empty value means any value", default: "not checked"),
      Key(
        "body_unchanged", \.bodyUnchanged, .flag,
        "whether the body must be the upstream's, byte for byte"),
      Key(
        "body", \.body,
        Kind { block, key in
          block.get(key).flatMap { $0.text ?? block.refuse(key, "is \($0.kind), not text") }
        }, "the exact body as text; not together with `body_unchanged`", default: "not checked"),
    ]
  ) { block, verify in
    if verify.bodyUnchanged, verify.body != nil {
      block.fail("body", "cannot be checked together with body_unchanged", remedy: "keep one of them")
    }
  }
}

extension Verification {
  /// Returns why the response cannot be verified in a dialect; nil if it can, or if nothing is required.
  package func obstacle(in dialect: Dialect) -> String? {
    guard !isEmpty, dialect.traits.changes == .lost else { return nil }
    return "cannot be checked with dialect: \(dialect.rawValue), whose replies do not carry the response"
  }
}

/// The transport to a target.
package enum TransportSpec: Codable, Sendable, Equatable {
  /// A plugin in the host's own process.
  case ffi(FFISpec)
  /// A pool of workers behind a broker.
  case nats(NATSSpec)

  package var kind: TransportKind { if case .ffi = self { .ffi } else { .nats } }
}

/// The way in which the host reaches a target.
package enum TransportKind: String, Codable, Sendable, CaseIterable {
  /// A plugin in the host's own process.
  case ffi
  /// A pool of workers behind a broker.
  case nats
}

/// A plugin in the host's own process.
package struct FFISpec: Codable, Sendable, Equatable {
  /// A path, or the name of a product of this package, such as `ExamplePlugin`.
  package var file: String
  /// The plugin's configuration as JSON, passed to `initialize`; empty for none.
  package var configJSON: String
  package var dispatch: Dispatch
  /// The owner of the bytes that the plugin passes to the callback; nil, as in older runs, means the plugin.
  package var payloads: PayloadOwner?
  /// How the host waits for a callback; nil means `auto`. In older runs the host always stayed awake.
  package var spin: Spin?

  package init(
    file: String, configJSON: String = "", dispatch: Dispatch = .queued, payloads: PayloadOwner? = nil,
    spin: Spin? = nil
  ) {
    self.file = file
    self.configJSON = configJSON
    self.dispatch = dispatch
    self.payloads = payloads
    self.spin = spin
  }
}

/// Where the host handles a plugin's calls.
package enum Dispatch: String, Codable, Sendable, CaseIterable {
  /// Copied and passed to the thread that owns the session, as in the real host.
  case queued
  /// Handled inside the callback, on the plugin's thread.
  case inline
}

/// The owner of the bytes that a plugin passes to the callback.
package enum PayloadOwner: String, Codable, Sendable, CaseIterable {
  /// The plugin; the bytes are valid only during the callback.
  case plugin
  /// The host, which returns them with `plugin_free`.
  case host
}

extension Target {
  /// How the host waits for a plugin's thread; nil for a target behind NATS.
  package var spin: Spin? { if case .ffi(let spec) = transport { spec.spin ?? .auto } else { nil } }
}

/// How a load thread waits for a callback from another thread.
package enum Spin: String, Codable, Sendable, CaseIterable {
  /// It sleeps immediately.
  case off
  /// With one session in flight it sleeps immediately, as the real host does. With more sessions it stays
  /// awake, like a host that has work for the other sessions.
  case auto
  /// It stays awake for as long as falling asleep and waking up would take.
  case on
}

/// A pool of workers behind a broker.
package struct NATSSpec: Codable, Sendable, Equatable {
  /// The broker URLs; if empty, the run starts a broker. May hold secrets: never print.
  package var servers: [String] = []
  /// The prefix of all subjects.
  package var subjectPrefix = "nylon.plugin"
  /// The queue group of the workers.
  package var group = "default"
  /// The dialect of the workers; nil if one is probed before the first load.
  package var dialect: Dialect? = .reply
  /// How the host uses NATS; nil, as in older runs, means `lean`.
  package var host: NATSHost?
  /// The timeout of `nylon` for the answer to an `initialize` request, in milliseconds; nil means 500.
  package var initializeTimeoutMilliseconds: Int?
  /// The credentials of the generator. Secret: never print.
  package var auth = NATSAuth()
  package var tls = NATSTLS()
  /// The workers to start; nil if they are already running.
  package var workers: WorkersSpec?
  /// The plugin's configuration as JSON, for the `initialize` message; empty for none.
  package var configJSON = ""
  /// The simulated network links, at most one on each side of the broker; nil for none.
  package var links: [LinkSpec]?
  /// The brokers that each side connects to first; nil, as in older runs, if the target does not specify
  /// them.
  package var nodes: NodeChoice?
  /// Additional headers of every message to the workers, besides those of the interface; nil for none.
  package var defaultHeaders: [KeyValue]?
}

/// How a host uses NATS.
package enum NATSHost: String, Codable, Sendable, CaseIterable {
  /// One subscription for all answers, and a reply subject for each request.
  case lean
  /// As Nylon's own host does, at b1b1305.
  case nylon
}

extension NATSSpec {
  package init(pool group: String, servers: [String] = [], workers: WorkersSpec? = nil) {
    self.init(servers: servers, group: group, workers: workers)
  }
}

/// Workers that the run starts for a pool. The rows of `keys` explain the fields.
package struct WorkersSpec: Codable, Sendable, Equatable {
  package var count: Int
  package var command: [String]
  package var environment: [String: String] = [:]
  package var startSeconds = 10.0

  /// The name of this package's own worker program.
  package static let ownName = "nylon-worker"
  /// One worker of this package.
  package static let own = WorkersSpec(count: 1, command: [ownName])
  package var isOwn: Bool { command.first == Self.ownName }
  static let none = WorkersSpec(count: 1, command: [])

  static let keys = Keys<WorkersSpec>(
    "workers", home: "a target's workers:", of: none,
    [
      Key("count", \.count, .whole(1...1024), "how many"),
      Key(
        "command", \.command, .command,
        "program and arguments: one line, split as a shell does without expanding anything, or a list. "
          + "`nylon-worker` alone is this package's own; a program with `/` in it is relative to the "
          + "scenario's folder; any other is looked up in `PATH`", default: "none: they are already running"),
      Key(
        "environment", \.environment, .environment, "extra environment variables", default: "none"
      ).also("env"),
      Key(
        "start_seconds", \.startSeconds, .number(0.1...600), "how long a worker may take to answer"),
    ])
}

extension Kind<[String]> {
  /// The words of a command; a program with a `/` is resolved against the scenario's folder.
  static var command: Kind {
    Kind(allowed: "a line or a list") { block, key in
      guard let value = block.get(key) else { return nil }
      var words: [String]
      if let items = value.items {
        words = items.compactMap(\.text)
        if words.count != items.count { block.fail(key, "contains an item that is not text") }
      } else {
        guard let text = block.text(key) else { return nil }
        guard let split = Kind.words(of: text) else {
          // The command is not shown: it may hold a secret, and its quotes are not closed.
          block.problems.add(
            at: value.place, key: block.childPath(key),
            "has a quote that is not closed, or ends with '\\'",
            remedy: "close it, or write the command as a list")
          return nil
        }
        words = split
      }
      guard let program = words.first, !program.isEmpty else {
        return block.refuse(key, "is empty", remedy: "leave it out if the workers are already running")
      }
      if program.contains("/") { words[0] = block.resolve(program) }
      return words
    }
  }

  /// Splits a command as a shell does, without expansions; returns nil if a quote is not closed or a
  /// backslash ends the text.
  static func words(of text: String) -> [String]? {
    var words: [String] = []
    var word: String?
    var quote: Character?
    var isEscaped = false
    for character in text {
      if isEscaped || quote == "'" && character != "'" || quote == "\"" && !"\"\\".contains(character) {
        word = (word ?? "") + String(character)
        isEscaped = false
      } else if character == "\\" {
        isEscaped = true
      } else if character == quote {
        quote = nil
      } else if "'\"".contains(character) {
        quote = character
        word = word ?? ""
      } else if character.isWhitespace {
        if let word { words.append(word) }
        word = nil
      } else {
        word = (word ?? "") + String(character)
      }
    }
    if let word { words.append(word) }
    return quote == nil && !isEscaped ? words : nil
  }
}

extension Kind<[String: String]> {
  static var environment: Kind {
    Kind(allowed: "name: text") { block, key in
      block.pairs(key) { name, text in
        if name.isEmpty || name.contains("=") || name.contains("\0") {
          return "is not a name of an environment variable"
        }
        return text?.contains("\0") == false ? nil : "is not text; write a single value"
      }.map { pairs in Dictionary(pairs.map { ($0.key, $0.value) }) { _, last in last } }
    }
  }
}

/// A simulated network link between two parts on this machine, as if they ran on two. The rows of `keys`
/// explain the fields.
package struct LinkSpec: Codable, Sendable, Equatable, Hashable {
  package var between = LinkPlace.generatorBroker
  package var delayMilliseconds: Double
  package var jitterMilliseconds = 0.0
  package var bandwidthMegabitPerSecond: Double?

  static let keys = Keys<LinkSpec>(
    "link", home: "a target's link:", of: LinkSpec(delayMilliseconds: 0),
    [
      Key(
        "between", \.between,
        .choice.required("write \(LinkPlace.allCases.map(\.rawValue).joined(separator: " or "))"),
        "where the link is; `broker-workers` needs workers that the run starts"),
      Key(
        "delay_ms", \.delayMilliseconds,
        .number(0...10_000).required("write the delay of one way, such as delay_ms: 0.5"),
        "how long each byte is held back, **each way**: a round trip takes twice that"),
      Key(
        "jitter_ms", \.jitterMilliseconds, .number(0...10_000),
        "how far the delay varies in either direction, evenly distributed", allowed: "0 to `delay_ms`"),
      Key(
        "bandwidth_mbit_per_second", \.bandwidthMegabitPerSecond, .number(1...100_000),
        "bandwidth each way, shared by all connections of the link", default: "no limit"),
    ]
  ) { block, link in
    if block.get("delay_ms") != nil, link.jitterMilliseconds > link.delayMilliseconds {
      block.fail(
        "jitter_ms", "is over \(block.childPath("delay_ms")) (\(Block.short(link.delayMilliseconds)))",
        remedy: "the delay varies by jitter_ms in either direction and cannot be negative")
    }
  }
}

/// The parts that a network link connects.
package enum LinkPlace: String, Codable, Sendable, CaseIterable {
  /// Between the generator, which represents the proxy, and the broker.
  case generatorBroker = "generator-broker"
  /// Between the broker and the workers.
  case brokerWorkers = "broker-workers"
}

extension Kind<[LinkSpec]> {
  /// A single link, or a list with one link for each side of the broker.
  static var links: Kind {
    Kind(allowed: "see below") { target, key in
      let keys = LinkSpec.keys
      let blocks =
        target.get(key)?.items == nil
        ? target.block(key, rows: keys.rows).map { [$0] } : target.blocks(key, of: "links", rows: keys.rows)
      var links: [LinkSpec] = []
      for block in blocks ?? [] {
        var link = LinkSpec(delayMilliseconds: 0)
        keys.read(block, into: &link)
        if block.get("between") != nil, links.contains(where: { $0.between == link.between }) {
          block.fail(
            "between", "has a link already (\(link.between.rawValue))",
            remedy: "write one link for each side of the broker")
        }
        if link.between == .brokerWorkers, target.get("workers")?["command"] == nil {
          block.fail(
            "between", "cannot be broker-workers: the workers already run and have their own connections",
            remedy: "start them here with workers: {command: …}, or write generator-broker")
        }
        links.append(link)
      }
      return links.isEmpty ? nil : links
    }
  }
}

/// Variants of targets in all combinations of numbers of workers and connections, each with its own name.
package struct TargetVariants: Sendable {
  /// Additional numbers of workers of a pool that the run starts.
  package var workers: [Int]
  /// Additional numbers of NATS connections of the generator.
  package var connections: [Int]

  package init(workers: [Int] = [], connections: [Int] = []) {
    self.workers = workers
    self.connections = connections
  }

  /// Returns each target followed by its variants, whose names show the difference: `nats-4w`, `nats-2c`,
  /// `nats-4w-2c`. A plugin has no variants, and a pool that is already running keeps its workers. `planned`
  /// is the number of connections of a target that does not set one.
  package func applied(to targets: [Target], connections planned: Int) -> [Target] {
    var names = Set(targets.map(\.name))
    return targets.flatMap { target -> [Target] in
      guard let spec = target.nats else { return [target] }
      // nil keeps the target's own number.
      let counts = [nil] + (spec.workers.map { Self.others(workers, than: $0.count) } ?? [])
      let lines = [nil] + Self.others(connections, than: target.connections ?? planned)
      let pairs = counts.flatMap { count in lines.map { (workers: count, connections: $0) } }
      return pairs.map { pair in
        var variant = target
        if let count = pair.workers { variant.nats?.workers?.count = count }
        variant.connections = pair.connections ?? target.connections
        let changes = [pair.workers.map { "-\($0)w" }, pair.connections.map { "-\($0)c" }].compactMap { $0 }
        if !changes.isEmpty { variant.name = Self.name(target.name, changes.joined(), without: names) }
        names.insert(variant.name)
        return variant
      }
    }
  }

  private static func others(_ numbers: [Int], than own: Int) -> [Int?] {
    Set(numbers).subtracting([own]).sorted()
  }

  /// Appends a suffix to a name. A base that makes the name too long is truncated, and a number is appended
  /// if another target has the name.
  private static func name(_ base: String, _ suffix: String, without taken: Set<String>) -> String {
    var number = 1
    while true {
      let end = number == 1 ? suffix : "\(suffix)-\(number)"
      let name = String(base.prefix(Target.longestName - end.count)) + end
      if !taken.contains(name) { return name }
      number += 1
    }
  }
}

/// The brokers of a run that the generator and the workers connect to first. All of them know the other
/// brokers and fail over to these. The rows of `keys` explain the fields.
package struct NodeChoice: Codable, Sendable, Equatable {
  /// The broker that the generator connects to first, from 1.
  package var generator = 1
  /// The brokers that the workers connect to first, from 1, assigned in turn; nil for all.
  package var workers: [Int]?

  static let most = 9

  static let keys = Keys<NodeChoice>(
    "nodes", home: "a target's nodes:", of: NodeChoice(),
    [
      Key(
        "generator", \.generator, .whole(1...most), "the broker that the generator connects to first, from 1"),
      Key(
        "workers", \.workers, .nodes,
        "the brokers that the workers connect to first, in turn: with `[1, 2]` every second worker begins with "
          + "broker 2",
        default: "all, in turn"),
    ])

  /// Returns the indices, from 0, of the brokers that the workers connect to first, assigned in turn.
  package func homes(of brokers: Int) -> [Int] { workers?.map { $0 - 1 } ?? Array(0..<brokers) }

  /// Rotates a list so that the item at an index comes first.
  package static func order<Item>(_ items: [Item], first: Int) -> [Item] {
    items.isEmpty ? [] : Array(items[(first % items.count)...] + items[..<(first % items.count)])
  }
}

extension Kind<[Int]> {
  /// Broker numbers: a single one, or a list.
  static var nodes: Kind {
    Kind(allowed: "1 to \(NodeChoice.most), or a list") { block, key in
      guard let value = block.get(key) else { return nil }
      let texts = value.items?.map(\.text) ?? [value.text]
      let numbers = texts.compactMap { $0.flatMap { Int($0) } }
      if numbers.count == texts.count, !numbers.isEmpty, numbers.allSatisfy({ (1...NodeChoice.most) ~= $0 }) {
        return numbers
      }
      return block.refuse(key, "must be numbers of brokers", remedy: "write for example [1, 2, 3]")
    }
  }
}
