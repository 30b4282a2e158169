import NATS
import Nylon

/// One thing that is loaded: a plugin or a pool, with its handler.
package struct Target: Codable, Sendable, Equatable {
  package var name: String
  /// The plugin's name in `plugins:`.
  package var plugin: String
  /// The handler's name: `entry` of `register_session_stream`, `headers.entry` over NATS.
  package var handler: String
  package var transport: TransportSpec
  /// The phases of a session, the plan's unless the target has its own.
  package var phases = Phase.session
  /// The loads, the plan's unless the target has its own.
  package var loads: [LoadShape]
  /// How each phase is timed and retried; has an entry for each of the four phases.
  package var policies = Target.standardPolicies
  /// The most sessions in flight in an open load.
  package var maxInFlight = 1024
  /// What happens to a request when the most sessions are in flight.
  package var overflow = OverflowPolicy.queue
  /// What an answered session must have done to the response.
  package var verify = Verification()
  /// NATS connections of the generator for this target; nil: the plan's.
  package var connections: Int?
  /// Whether the run measures where the time of each phase goes; nil, as in older runs, means no.
  package var decompose: Bool?
  /// Whether the run does without it when its plugin, or the program of its workers, is not there; nil means no.
  package var optional: Bool?
  /// The plugin in the host's own process that each phase passes before it goes to the pool; nil where there is none.
  package var behind: PrecedingPlugin?
  /// What the highest rate is searched for, the scenario's unless the target has its own; nil where none is searched.
  package var objective: ServiceLevel?
  /// What is done to it under load, the scenario's unless the target has its own; nil where nothing is.
  package var faults: [FaultSpec]?

  static let longestName = 64

  package var isDecomposed: Bool { decompose == true }
  package var isOptional: Bool { optional == true }

  /// Nylon's defaults for all four phases.
  package static let standardPolicies: [Phase: PhasePolicy] = Dictionary(
    uniqueKeysWithValues: Phase.session.map { ($0, PhasePolicy.standard(for: $0)) })

  /// The plugin that the host loads into its own process for it; nil where there is none.
  package var inProcess: FFISpec? { if case .ffi(let spec) = transport { spec } else { behind?.spec } }

  /// The network links on the way to it; empty when there are none.
  package var links: [LinkSpec] {
    if case .nats(let pool) = transport { pool.links ?? [] } else { [] }
  }

  /// Which of the run's brokers each side connects to first.
  package var nodes: NodeChoice {
    if case .nats(let pool) = transport { pool.nodes ?? NodeChoice() } else { NodeChoice() }
  }

  /// How its host uses NATS; `lean` also of a plugin in this process.
  package var host: NATSHost {
    if case .nats(let pool) = transport { pool.host ?? .lean } else { .lean }
  }

  /// What `host: nylon` cannot do without, for messages.
  package static let nylonHostNeeds =
    "needs workers that answer to the subject in `headers.reply`, those of "
    + Dialect.names(where: \.namesReplySubject)

  /// How its host waits for the answer to a phase.
  package func policy(of phase: Phase) -> PhasePolicy {
    var policy = policies[phase] ?? .standard(for: phase)
    guard host == .nylon else { return policy }
    // It sends nothing again: a retry is one more wait. When the last one is over, the session goes on.
    if policy.onError == .retry { policy.timeoutMilliseconds *= policy.attempts }
    policy.onError = .continue
    return policy
  }

  /// The least that the links on its way add to a phase request, without jitter, ms; nil without a link.
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

/// A plugin in the host's own process whose phases come before those of a pool, in the same request.
package struct PrecedingPlugin: Codable, Sendable, Equatable {
  /// Its name in `plugins:`.
  package var plugin: String
  package var handler: String
  package var spec: FFISpec
  /// How each phase is timed; has an entry for each of the four phases.
  package var policies: [Phase: PhasePolicy]

  /// What the record of one of its phases is called.
  package func scope(_ phase: Phase) -> String { "\(plugin).\(phase.subjectFragment)" }

  static let keys = Keys<Void>(
    "behind", home: "a target's behind:", of: (),
    [
      Key("plugin", "an entry of `plugins:` with `type: ffi`", default: "required"),
      Key("handler", "name of the handler", default: "the plugin's `entry_point`").also("entry_point"),
    ])
}

extension PrecedingPlugin {
  /// The plugin of a target in process; nil of another one.
  package init?(_ target: Target) {
    guard case .ffi(let spec) = target.transport else { return nil }
    self.init(plugin: target.plugin, handler: target.handler, spec: spec, policies: target.policies)
  }
}

/// What happens to a request when `max_in_flight` sessions are in flight.
package enum OverflowPolicy: String, Codable, Sendable, CaseIterable {
  /// It waits; its intended time stands.
  case queue
  /// It fails at once, counted under this name.
  case reject, shed
}

/// What the response must look like after a session's last phase; empty parts are not checked. Its rows say
/// what the fields mean.
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
  /// Why the response cannot be verified in a dialect; nil when it can, or when nothing is asked for.
  package func obstacle(in dialect: Dialect) -> String? {
    guard !isEmpty, dialect.traits.changes == .lost else { return nil }
    return "cannot be checked with dialect: \(dialect.rawValue), whose replies do not carry the response"
  }
}

/// The way to a target.
package enum TransportSpec: Codable, Sendable, Equatable {
  /// A plugin in the host's own process.
  case ffi(FFISpec)
  /// A pool of workers behind a broker.
  case nats(NATSSpec)

  /// `ffi` or `nats`, as in CSV.
  package var name: String { if case .ffi = self { "ffi" } else { "nats" } }
}

/// A plugin in the host's own process.
package struct FFISpec: Codable, Sendable, Equatable {
  /// A path, or the name of a product of this package (such as `ExamplePlugin`).
  package var file: String
  /// The plugin's configuration, JSON text, given to `initialize`; empty when none.
  package var configJSON: String
  package var dispatch: Dispatch
  /// Who owns the bytes that the plugin hands over; nil, as in older runs, means the plugin.
  package var payloads: PayloadOwner?
  /// How the host waits for a callback; nil means `auto`. In older runs hosts stayed awake, whatever is here.
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

/// Where the host handles what a plugin calls.
package enum Dispatch: String, Codable, Sendable, CaseIterable {
  /// Copied and handed to the thread that owns the session, as the real host does.
  case queued
  /// Handled inside the callback, on the plugin's thread.
  case inline
}

/// Who owns the bytes that a plugin hands to the callback.
package enum PayloadOwner: String, Codable, Sendable, CaseIterable {
  /// They are valid during the callback only.
  case plugin
  /// The host gives them back with `plugin_free`.
  case host
}

extension Target {
  /// How the host waits for a plugin's thread; nil of a target behind NATS.
  package var spin: Spin? { if case .ffi(let spec) = transport { spec.spin ?? .auto } else { nil } }
}

/// What a load thread does while it waits for a callback from another thread.
package enum Spin: String, Codable, Sendable, CaseIterable {
  /// It sleeps at once.
  case off
  /// With one session in flight it sleeps at once, as the real host does. With more it stays awake, as a host does
  /// that has the other sessions' work to do.
  case auto
  /// It stays awake for as long as falling asleep and waking up would cost.
  case on
}

/// A pool of workers behind a broker.
package struct NATSSpec: Codable, Sendable, Equatable {
  /// Broker URLs; empty means that a broker is started. May hold secrets: never print.
  package var servers: [String] = []
  /// What the subjects of all messages begin with.
  package var subjectPrefix = "nylon.plugin"
  /// The queue group of the workers.
  package var group = "default"
  /// What the workers speak; nil when one is asked before the first load.
  package var dialect: Dialect? = .reply
  /// How the host uses NATS; nil, as in older runs, means `lean`.
  package var host: NATSHost?
  /// How long `nylon` waits for the answer to an `initialize` request; nil: 500.
  package var initializeTimeoutMilliseconds: Int?
  /// How the generator proves who it is. Secret: never print.
  package var auth = NATSAuth()
  package var tls = NATSTLS()
  /// The workers to start; nil when they run already.
  package var workers: WorkersSpec?
  /// The plugin's configuration, JSON text, for the `initialize` message; empty when none.
  package var configJSON = ""
  /// The network links that are put between the parts, at most one on each side of the broker; nil
  /// when there are none.
  package var links: [LinkSpec]?
  /// Which brokers each side connects to first; nil, as in older runs, where the target does not say.
  package var nodes: NodeChoice?
  /// Headers that every message to the workers carries, beside those of the interface; nil when there are none.
  package var defaultHeaders: [KeyValue]?
}

/// How a host uses NATS.
package enum NATSHost: String, Codable, Sendable, CaseIterable {
  /// One subscription for all answers, and a reply subject with each request.
  case lean
  /// As Nylon's own host does, at b1b1305.
  case nylon
}

extension NATSSpec {
  package init(pool group: String, servers: [String] = [], workers: WorkersSpec? = nil) {
    self.init(servers: servers, group: group, workers: workers)
  }
}

/// Workers that the run starts for a pool. Its rows say what the fields mean.
package struct WorkersSpec: Codable, Sendable, Equatable {
  package var count: Int
  package var command: [String]
  package var environment: [String: String] = [:]
  package var startSeconds = 10.0

  /// The name of this package's own worker.
  package static let ownName = "nylon-worker"
  /// One of this package's own.
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
          + "`nylon-worker` alone is this package's own; a program with `/` in it starts from the scenario's "
          + "folder; any other is found in `PATH`", default: "none: they run already"),
      Key(
        "environment", \.environment, .environment, "extra environment variables", default: "none"
      ).also("env"),
      Key(
        "start_seconds", \.startSeconds, .number(0.1...600), "how long a worker may take until it answers"),
    ])
}

extension Kind<[String]> {
  /// A command's words; a program with a `/` in it is found from the scenario's folder.
  static var command: Kind {
    Kind(allowed: "a line or a list") { block, key in
      guard let value = block.get(key) else { return nil }
      var words: [String]
      if let items = value.items {
        words = items.compactMap(\.text)
        if words.count != items.count { block.fail(key, "holds something that is not text") }
      } else {
        guard let text = block.text(key) else { return nil }
        guard let split = Kind.words(of: text) else {
          // The command itself is left out: it may hold a secret, and its quotes are not closed.
          block.problems.add(
            at: value.place, key: block.childPath(key),
            "has a quote that is not closed, or ends with '\\'",
            remedy: "close it, or write the command as a list")
          return nil
        }
        words = split
      }
      guard let program = words.first, !program.isEmpty else {
        return block.refuse(key, "is empty", remedy: "leave it out when the workers run already")
      }
      if program.contains("/") { words[0] = block.resolve(program) }
      return words
    }
  }

  /// Splits a command as a shell would, without expanding anything; nil when a quote is not closed or a
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

/// A network link that is put between two parts on this machine, as if they were on two. Its rows say what the
/// fields mean.
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
        "where it is; `broker-workers` needs workers that the run starts"),
      Key(
        "delay_ms", \.delayMilliseconds,
        .number(0...10_000).required("write the delay of one way, such as delay_ms: 0.5"),
        "how long each byte is held back, **each way**: a round trip takes twice that"),
      Key(
        "jitter_ms", \.jitterMilliseconds, .number(0...10_000),
        "the delay is spread evenly from so much less to so much more", allowed: "0 to `delay_ms`"),
      Key(
        "bandwidth_mbit_per_second", \.bandwidthMegabitPerSecond, .number(1...100_000),
        "bandwidth each way, shared by all connections of the link", default: "no limit"),
    ]
  ) { block, link in
    if block.get("delay_ms") != nil, link.jitterMilliseconds > link.delayMilliseconds {
      block.fail(
        "jitter_ms", "is over \(block.childPath("delay_ms")) (\(Block.short(link.delayMilliseconds)))",
        remedy: "the delay varies by so much both ways, and cannot be less than nothing")
    }
  }
}

/// Between which parts a network link lies.
package enum LinkPlace: String, Codable, Sendable, CaseIterable {
  /// Between the generator, which stands for the proxy, and the broker.
  case generatorBroker = "generator-broker"
  /// Between the broker and the workers.
  case brokerWorkers = "broker-workers"
}

extension Kind<[LinkSpec]> {
  /// One link, or a list with one for each side of the broker.
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
            "between", "cannot be broker-workers: the workers run already, and have their own connections",
            remedy: "start them here with workers: {command: …}, or write generator-broker")
        }
        links.append(link)
      }
      return links.isEmpty ? nil : links
    }
  }
}

/// Targets with other numbers of workers and of connections: every combination, each with a name of its own.
package struct TargetVariants: Sendable {
  /// Workers of a pool that the run starts, beside the target's own number.
  package var workers: [Int]
  /// NATS connections of the generator, beside the target's own number.
  package var connections: [Int]

  package init(workers: [Int] = [], connections: [Int] = []) {
    self.workers = workers
    self.connections = connections
  }

  /// Each target as it is, followed by its variants, whose names say what differs: `nats-4w`, `nats-2c`,
  /// `nats-4w-2c`. A plugin has none, and a pool that runs already keeps its workers. `planned` are the
  /// connections of a target that does not say how many it has.
  package func applied(to targets: [Target], connections planned: Int) -> [Target] {
    var names = Set(targets.map(\.name))
    return targets.flatMap { target -> [Target] in
      guard case .nats(var spec) = target.transport else { return [target] }
      // Nil is a number that stays.
      let counts = [nil] + (spec.workers.map { Self.others(workers, than: $0.count) } ?? [])
      let lines = [nil] + Self.others(connections, than: target.connections ?? planned)
      let pairs = counts.flatMap { count in lines.map { (workers: count, connections: $0) } }
      let own = spec.workers?.count
      return pairs.map { pair in
        var variant = target
        if let count = pair.workers ?? own { spec.workers?.count = count }
        variant.transport = .nats(spec)
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

  /// The name with its suffix. A base that makes it too long is cut; a number follows where another target
  /// has the name.
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

/// Which of a run's brokers the generator and the workers connect to first. They know all others, and go there when
/// theirs is lost. Its rows say what the fields mean.
package struct NodeChoice: Codable, Sendable, Equatable {
  /// The broker that the generator connects to first, from 1.
  package var generator = 1
  /// The brokers that the workers connect to first, from 1, in turn; nil: all.
  package var workers: [Int]?

  package init(generator: Int = 1, workers: [Int]? = nil) {
    self.generator = generator
    self.workers = workers
  }

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

  /// The places, from 0, in a list of so many brokers that the workers begin with, in turn.
  package func homes(of brokers: Int) -> [Int] { workers?.map { $0 - 1 } ?? Array(0..<brokers) }

  /// A list with the item at this place first, and those behind it next.
  package static func order<Item>(_ items: [Item], first: Int) -> [Item] {
    items.isEmpty ? [] : Array(items[(first % items.count)...] + items[..<(first % items.count)])
  }
}

extension Kind<[Int]> {
  /// Numbers of brokers: one, or a list.
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
