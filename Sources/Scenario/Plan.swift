import Foundation
import Nylon

/// A validated scenario with all defaults filled in. All later stages use this value; none reads YAML again.
package struct Plan: Codable, Sendable, Equatable {
  /// The scenario's name, which is also part of the run folder's name.
  package var name: String
  /// The purpose of the scenario: the first comment line of the file, without `#`.
  package var summary = ""
  /// The file's path; empty for a scenario made from arguments.
  package var file = ""
  /// The text of a scenario made from command-line arguments, without secrets; nil for a file.
  package var text: String?
  package var targets: [Target]
  package var request = RequestSpec()
  /// The phases of a session, in order; a target may have its own phases.
  package var phases = Phase.session
  /// The loads, in order; a target may have its own loads.
  package var loads: [LoadShape]
  package var warmupSeconds = 1.0
  package var measureSeconds = 5.0
  package var drainSeconds = 2.0
  /// The minimum number of rounds, that is, replicates of each condition.
  package var replicates = 6
  /// The maximum number of rounds; rounds beyond the minimum are run only for undecided questions. Nil in
  /// runs without such rounds.
  var mostRounds: Int? = 12
  package var mostReplicates: Int { max(replicates, mostRounds ?? replicates) }
  package static let standardRounds = 6...12
  package var rounds: ClosedRange<Int> {
    get { replicates...mostReplicates }
    set { (replicates, mostRounds) = (newValue.lowerBound, newValue.upperBound) }
  }
  /// Such as `6..12`, or `3`.
  package var roundsText: String {
    replicates == mostReplicates ? "\(replicates)" : "\(replicates)..\(mostReplicates)"
  }
  fileprivate var fixedRounds: Int {
    get { replicates }
    set { rounds = newValue...newValue }
  }
  package var threads = 1
  package var connections = 1
  /// The nats-server to start if a target names no servers; nil for the machine's.
  package var broker: String?
  /// Whether that nats-server accepts only clients with a token generated for the run; nil means true, in
  /// runs without such tokens.
  var brokerToken: Bool?
  package var asksForToken: Bool {
    get { brokerToken ?? true }
    set { brokerToken = newValue }
  }
  /// The number of those nats-servers, which form a cluster; nil, as in older runs, means one.
  var brokers: Int?
  package var brokerCount: Int {
    get { brokers ?? 1 }
    set { brokers = newValue == 1 ? nil : newValue }
  }
  /// The maximum pending bytes of those nats-servers for a slow client; nil for their own default.
  var brokerMaxPendingBytes: Int?
  /// The write deadline of those nats-servers for a client, in seconds; nil for their own default.
  var brokerWriteDeadlineSeconds: Double?
  package var brokerLimits: BrokerLimits {
    BrokerLimits(maxPendingBytes: brokerMaxPendingBytes, writeDeadlineSeconds: brokerWriteDeadlineSeconds)
  }
  package var seed: UInt64 = 1
  /// Whether the phase requests are accounted for; nil: only those of targets with faults.
  package var accounting: Bool?
  /// The duration of the soak, in seconds: after the rounds each target runs at half its highest rate; nil
  /// for no soak.
  package var soakSeconds: Double?
  package var expectations: [Expectation] = []
  /// Warnings of the loader about suspicious settings; they contain no secrets.
  package var warnings: [String] = []

  static let keys = Keys<Plan>(
    "scenario", home: "the scenario itself, at the left margin", of: Plan(name: "", targets: [], loads: []),
    [
      Key(
        "name", "name in results and of the run folder", default: "the file's name",
        allowed: "1-64 of `a-z 0-9 -`, no leading, trailing or double dash"),
      Key(
        "config", "path of Nylon's own configuration, whose `plugins:` and `messaging:` are used",
        allowed: "a path"),
      Key(
        "plugins", "Nylon's own block, written here; added to that of `config`",
        allowed: "see below; names are unique across both"),
      Key(
        "messaging", "Nylon's own block, written here; added to that of `config`",
        allowed: "see below; names are unique across both"),
      Key("targets", "what to put under load", default: "required", allowed: "see below; at least one"),
      Key("request", \.request, RequestSpec.keys, "the HTTP request that each session carries"),
      Key(
        "response", \.request, RequestSpec.responseKeys,
        "the upstream's response, before any plugin changes it"),
      Key("phases", \.phases, .phases, "phases of a session", default: "all four"),
      Key(
        "loads", "the loads of all targets", default: "required unless each target has its own",
        allowed: "see below"),
      Key("warmup_seconds", \.warmupSeconds, .number(0...600), "warm-up, which is not recorded"),
      Key(
        "measure_seconds", \.measureSeconds, .number(0.01...3600), "length of the measured time"
      ).also("duration"),
      Key(
        "drain_seconds", \.drainSeconds, .number(0...600),
        "how long to wait for outstanding answers after the load"),
      Key(
        "rounds", \.rounds, .rounds,
        "minimum and maximum number of rounds, such as `6..12`; each round makes every measurement once, in "
          + "a fresh load process; rounds after the minimum measure only what is not decided yet"),
      Key(
        "replicates", \.fixedRounds, .whole(1...1000),
        "fixed number of rounds, whatever is decided: `N` means `rounds: N..N`",
        default: "none"
      ).also("repeats", "repeat", "runs"),
      Key("threads", \.threads, .whole(1...64), "load threads of the generator"),
      Key(
        "connections", \.connections, .whole(1...1024),
        "NATS connections of the generator, distributed over its threads"),
      Key(
        "broker", \.broker, .path, "path of the nats-server to start where `servers` is empty",
        default: "that of `NYLON_BENCH_NATS_SERVER`, else the installed one"),
      Key(
        "broker_token", \.brokerToken, .flag,
        "whether that nats-server accepts only clients with a token generated for the run. `false` is for "
          + "workers that cannot be given a token; every user of the machine can then read the messages",
        default: "`true`"),
      Key(
        "brokers", \.brokers, .whole(1...NodeChoice.most),
        "how many nats-servers to start, as a cluster with routes between all of them; see \"Clusters\"",
        default: "1"),
      Key(
        "broker_max_pending_bytes", \.brokerMaxPendingBytes, .whole(65_536...1_073_741_824),
        "`max_pending` of those nats-servers: bytes that wait for a client that reads slowly, before it is "
          + "cut off as a slow consumer", default: "nats-server's: 67108864"),
      Key(
        "broker_write_deadline_seconds", \.brokerWriteDeadlineSeconds, .number(0.1...600),
        "`write_deadline` of those nats-servers: how long a write to a client may take, before it is cut off "
          + "as a slow consumer", default: "nats-server's: 10"),
      Key("seed", \.seed, .seed, "seed of arrivals, bodies and ids"),
      Key(
        "accounting", \.accounting, .flag,
        "whether each phase request is accounted for: the host records what it sent, `nylon-worker` records "
          + "what its handlers saw, and the two records are matched; see \"Accounting\"",
        default: "`true` for pools with `faults`, else `false`"),
      Key(
        "soak_seconds", \.soakSeconds, .number(1...86_400),
        "after the rounds, each target runs this long at half the highest rate that its closed loads "
          + "reached, and the run checks that its figures stay the same; see \"Soak\"", default: "none"),
      Key(
        "decompose", "`true`: measure where the time of each phase goes; see \"Where the time goes\"",
        default: "`false`", allowed: "`true`, `false`"),
      Key(
        "faults", "faults injected into workers, brokers, links or the plugin under load; see \"Faults\"",
        allowed: "see below"),
      Key(
        "objective",
        "a latency bound, such as `response_p99_us < 5000`: after the rounds, the run searches for the "
          + "highest rate that meets it; see \"Objectives\"", allowed: "see below"
      ).also("slo"),
      Key("expect", "conditions that the results must meet, else exit code 80", allowed: "see below"),
    ])

  /// Returns the plan of `--quick`, whose figures show that everything works, not how fast anything is.
  package func quick() -> Plan {
    var plan = self
    plan.warmupSeconds = min(warmupSeconds, 0.3)
    // Faults take a fixed time, which does not shrink with that of the load.
    plan.measureSeconds = min(measureSeconds, targets.contains { !$0.plannedFaults.isEmpty } ? 3 : 1)
    plan.drainSeconds = min(drainSeconds, 1)
    plan.soakSeconds = soakSeconds.map { min($0, 6) }
    plan.rounds = 1...1
    plan.loads = plan.loads.map { $0.within(seconds: 1) }
    for place in plan.targets.indices {
      plan.targets[place].loads = plan.targets[place].loads.map { $0.within(seconds: 1) }
      plan.targets[place].faults = plan.targets[place].faults?.map {
        $0.scaled(by: plan.measureSeconds / measureSeconds)
      }
    }
    return plan
  }
}

/// The limits of a nats-server started by the run for clients that read slowly; nil for its own defaults.
package struct BrokerLimits: Sendable, Equatable {
  package var maxPendingBytes: Int?
  package var writeDeadlineSeconds: Double?

  /// Those of nats-server itself.
  package static let standard = BrokerLimits()
}

extension Plan {
  package init(
    _ name: String, _ target: Target, request: RequestSpec, loads: [LoadShape], warmupSeconds: Double,
    measureSeconds: Double, drainSeconds: Double, seed: UInt64 = 1
  ) {
    self.init(
      name: name, targets: [target], request: request, phases: target.phases, loads: loads,
      warmupSeconds: warmupSeconds, measureSeconds: measureSeconds, drainSeconds: drainSeconds, seed: seed)
  }
}

extension Kind<ClosedRange<Int>> {
  /// A range of whole numbers, such as `6..12`; a single number is both ends.
  static var rounds: Kind {
    Kind(allowed: "`LEAST..MOST`, 1 to 1000", show: { "`\($0.lowerBound)..\($0.upperBound)`" }) {
      block, key in
      guard let text = block.get(key)?.text else { return nil }
      let ends = text.split(separator: "..", omittingEmptySubsequences: false).map { Int($0) }
      let isWhole = (1...2).contains(ends.count) && ends.allSatisfy { (1...1000).contains($0 ?? 0) }
      if isWhole, let least = ends[0], let most = ends[ends.count - 1], least <= most { return least...most }
      return block.refuse(
        key, "is '\(text)'", remedy: "write the fewest and the most rounds, such as 6..12")
    }
  }
}

extension Kind<[Phase]> {
  /// A subset of a session's phases, in session order.
  static var phases: Kind {
    let names = Phase.session.map(\.subjectFragment)
    let allowed = names.joined(separator: ", ")
    return Kind(allowed: names.map { "`\($0)`" }.joined(separator: ", ") + "; once each, in this order") {
      block, key in
      guard let items = block.items(key, of: "phases") else { return nil }
      if items.isEmpty { block.fail(key, "is empty", remedy: "allowed: \(allowed)") }
      var result: [Phase] = []
      for item in items {
        let text = item.value.text ?? ""
        if let phase = Phase(subjectFragment: text), phase != .zero {
          if let last = result.last, phase <= last {
            item.fail(
              result.contains(phase) ? "is in the list twice" : "comes before '\(last.subjectFragment)'",
              remedy: "phases are listed once each, in the order: \(allowed)")
          } else {
            result.append(phase)
          }
        } else {
          item.fail(
            "is not a phase of a session", suggestion: Suggestion.nearest(to: text, among: names),
            remedy: "Allowed: \(allowed)")
        }
      }
      return result.isEmpty ? nil : result
    }
  }
}

/// The request of a session and the upstream's answer. The rows of `keys` explain the fields.
package struct RequestSpec: Codable, Sendable, Equatable {
  package var method = "GET"
  package var path = "/"
  package var params: [KeyValue] = []
  package var headers: [KeyValue] = []
  package var bodyBytes = 0
  /// The number of chunks of the response's body over FFI; nil, as in older runs, means one.
  package var bodyChunks: Int?
  package var clientIP = "127.0.0.1"
  /// The upstream's status.
  package var responseStatus: UInt16 = 200
  /// The upstream's headers.
  package var responseHeaders: [KeyValue] = []

  static let keys = Keys<RequestSpec>(
    "request", home: "request:", of: RequestSpec(),
    [
      Key(
        "method", \.method, .text("an HTTP token", fault: "is not an HTTP method", if: isToken),
        "the HTTP method"),
      Key(
        "path", \.path,
        .text(
          "begins with `/`, no spaces, no `#`", fault: "must begin with '/' and have no spaces and no '#'"
        ) {
          $0.hasPrefix("/") && !$0.contains { $0.isWhitespace || $0 == "#" }
        }, "path and, after `?`, the query"),
      Key("params", \.params, .params, "path parameters of the route"),
      Key(
        "headers", \.headers, .headers,
        "request headers, in order; a list of values repeats the header"),
      Key(
        "body_bytes", \.bodyBytes, .whole(0...67_108_864),
        "bytes of the request's body and of the upstream's response body"
      ).also("body", "payload_bytes"),
      Key(
        "body_chunks", \.bodyChunks, .whole(1...1024),
        "number of chunks of the response's body. Over FFI `response_body_filter` runs once for each, and "
          + "reads and sets that chunk, as in Nylon; over NATS it runs once, with the whole body",
        default: "1"),
      Key(
        "client_ip", \.clientIP,
        .text(
          "IPv4 or IPv6", fault: "is not an IPv4 or IPv6 address", remedy: "write for example 203.0.113.7"
        ) { text in
          var storage = in6_addr()
          return inet_pton(AF_INET, text, &storage) == 1 || inet_pton(AF_INET6, text, &storage) == 1
        }, "the client's address that plugins read"),
    ])

  static let responseKeys = Keys<RequestSpec>(
    "response", home: "response:", of: RequestSpec(),
    [
      Key("status", \.responseStatus, .whole(100...599), "the upstream's status"),
      Key("headers", \.responseHeaders, .headers, "the upstream's headers, as for the request"),
    ])

  /// Whether a text is an HTTP token, as methods and header names are.
  @Sendable fileprivate static func isToken(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 256
      && text.unicodeScalars.allSatisfy { $0.isPlain(or: "!#$%&'*+-.^_`|~") }
  }
}

extension RequestSpec {
  /// Returns the request and the upstream's answer, both with the given body.
  package func messages(body: [UInt8]) -> (request: HTTPRequest, response: HTTPResponse) {
    let parts = path.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let request = HTTPRequest(
      method: method, path: String(parts.first ?? "/"), query: parts.count > 1 ? String(parts[1]) : "",
      params: params, headers: headers, body: body)
    return (request, HTTPResponse(status: responseStatus, headers: responseHeaders, body: body))
  }

  package init(to path: String, headers: [KeyValue] = [], bodyBytes: Int = 0) {
    self.init(path: path, headers: headers, bodyBytes: bodyBytes)
  }
}

extension Kind<[KeyValue]> {
  static var params: Kind {
    Kind(allowed: "name: text", show: { _ in "none" }) { $0.pairs($1, fault: fault) }
  }

  static var headers: Kind {
    Kind(allowed: "name: text", show: { _ in "none" }) { block, key in
      block.pairs(key, repeats: true) { name, text in
        RequestSpec.isToken(name)
          ? fault(name, text) : "is not a header name: letters, digits and '-' only"
      }
    }
  }

  @Sendable private static func fault(_ name: String, _ text: String?) -> String? {
    let isClean = text?.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 || $0 == "\t" }
    return isClean == false ? "contains a control character" : nil
  }
}

/// The pattern in which requests are sent.
package enum LoadShape: Codable, Sendable, Hashable {
  /// A closed load: a fixed number of concurrent sessions, each followed by the next.
  case closed(concurrency: Int)
  /// An open load: sessions are sent at a fixed rate by the schedule, independently of the answers.
  case open(ratePerSecond: Double, arrivals: Arrivals)
  /// An open load whose rate rises linearly during its measured time.
  case ramp(Ramp)

  /// The name in CSV and tables, such as `closed-64`, `open-44000` or `ramp-1000-50000`; with uniform
  /// arrivals `open-44000-uniform`.
  package var label: String {
    switch self {
    case .closed(let concurrency): "closed-\(concurrency)"
    case .open(let rate, let arrivals): "open-\(Block.short(rate))\(arrivals.suffix)"
    case .ramp(let ramp):
      "ramp-\(Block.short(ramp.fromPerSecond))-\(Block.short(ramp.toPerSecond))\(ramp.arrivals.suffix)"
    }
  }

  /// Whether requests are sent by a schedule and not after the previous answer.
  package var isOpen: Bool { if case .closed = self { false } else { true } }

  /// The measured time, if the load rather than the scenario sets it.
  package var overSeconds: Double? { if case .ramp(let ramp) = self { ramp.overSeconds } else { nil } }

  /// Returns the load for a quick run, with a shortened ramp.
  fileprivate func within(seconds: Double) -> LoadShape {
    guard case .ramp(var ramp) = self else { return self }
    ramp.overSeconds = min(ramp.overSeconds, seconds)
    return .ramp(ramp)
  }
}

/// A rate that rises linearly.
package struct Ramp: Codable, Sendable, Hashable {
  /// The initial rate, in requests per second.
  package var fromPerSecond: Double
  /// The final rate, in requests per second.
  package var toPerSecond: Double
  /// The duration of the ramp, in seconds.
  package var overSeconds: Double
  /// The spacing of its arrivals.
  package var arrivals = Arrivals.poisson

  /// Returns the rate at a time; before the ramp its initial rate, and after it its final rate.
  package func ratePerSecond(at seconds: Double) -> Double {
    fromPerSecond + (toPerSecond - fromPerSecond) * min(max(seconds / overSeconds, 0), 1)
  }
}

/// The spacing of the arrivals of an open load.
package enum Arrivals: String, Codable, Sendable, CaseIterable {
  /// Exponential gaps, as of independent clients.
  case poisson
  /// Equal gaps.
  case uniform

  /// The suffix of a load's label.
  fileprivate var suffix: String { self == .poisson ? "" : "-uniform" }
}

/// A load as written; its mode determines the keys that it may have.
struct LoadReader {
  enum Mode: String, CaseIterable {
    case closed, open, ramp

    /// The keys of the mode, for messages about keys that it does not have.
    var has: String {
      switch self {
      case .closed: "a closed load has a concurrency"
      case .open: "an open load has a rate"
      case .ramp: "a ramp has a first rate, a last rate and its seconds"
      }
    }
  }

  /// A load and the block that defines it, for messages.
  typealias Placed = (load: LoadShape, block: Block)

  var concurrency: Int?
  var rate: Double?
  var from: Double?
  var to: Double?
  var over: Double?
  var arrivals = Arrivals.poisson

  static let rateRange = 0.1...10_000_000.0

  static let keys = Keys<LoadReader>(
    "loads", home: "a load", of: LoadReader(),
    [
      Key(
        "mode",
        "`closed`: a fixed number of sessions in flight, each followed by the next. `open`: a fixed rate, "
          + "sent on schedule. `ramp`: like `open`, at a rate that rises evenly",
        default: "required", allowed: Kind<Mode>.choice.allowed
      ).also("type"),
      Key(
        "concurrency", \.concurrency,
        .whole(1...65_536).required("write how many sessions are in flight, such as 8"), "sessions in flight"
      ).only("closed").also("users", "clients", "vus"),
      Key(
        "rate_per_second", \.rate, .number(rateRange).required("write requests a second, such as 5000"),
        "sessions a second"
      ).only("open").also("rps", "qps"),
      Key(
        "from_per_second", \.from,
        .number(rateRange).required("write the rate that the ramp begins with, such as 1000"),
        "sessions a second at the beginning, and during the warm-up"
      ).only("ramp").also("from", "start", "start_rate"),
      Key(
        "to_per_second", \.to,
        .number(rateRange).required("write the rate that the ramp ends with, such as 50000"),
        "sessions a second at the end; more than at the beginning"
      ).only("ramp").also("to", "target"),
      Key(
        "over_seconds", \.over, .number(0.01...3600).required("write how long the rate rises, such as 10"),
        "how long the rate rises: the load's measured time, instead of `measure_seconds`"
      ).only("ramp").also("over"),
      Key(
        "arrivals", \.arrivals, .choice,
        "open and ramp only: spacing of the arrivals; those of `poisson` are independent of each other"
      ),
    ])

  /// Reads the loads of a scenario or a target; nil if it has no `loads:`. Labels must be unique.
  static func loads(of block: Block) -> [Placed]? {
    guard let value = block.get("loads") else { return nil }
    if value.items?.isEmpty == true { block.fail("loads", "is empty", remedy: "write at least one load") }
    let blocks = block.blocks("loads", of: "loads such as {mode: closed, concurrency: 8}", rows: keys.rows)
    return (blocks ?? []).reduce(into: []) { result, block in
      guard let load = load(block) else { return }
      if result.contains(where: { $0.load.label == load.label }) {
        block.problems.add(
          at: block.value.place, key: block.path, value: load.label, "is in the list twice",
          remedy: "labels are unique in a list")
      } else {
        result.append((load, block))
      }
    }
  }

  private static func load(_ block: Block) -> LoadShape? {
    guard let text = block.required("mode", "write mode: closed, mode: open or mode: ramp") else {
      return nil
    }
    if ["sweep", "search"].contains(text) {
      return block.refuse(
        "mode", "is not a kind of load; allowed: closed, open, ramp",
        remedy: "the command 'nylon-bench sweep' searches for the knee")
    }
    guard let mode = block.choice("mode", of: Mode.self) else { return nil }
    var load = LoadReader()
    keys.read(block, into: &load, type: text) { row in
      "belongs to mode: \(row.only); \(mode.has)"
    }
    switch mode {
    case .closed:
      if block.get("arrivals") != nil { block.fail("arrivals", "belongs to mode: open; \(mode.has)") }
      return load.concurrency.map { .closed(concurrency: $0) }
    case .open: return load.rate.map { .open(ratePerSecond: $0, arrivals: load.arrivals) }
    case .ramp:
      guard let from = load.from, let to = load.to, let over = load.over else { return nil }
      guard to > from else {
        return block.refuse(
          "to_per_second", "is not more than from_per_second",
          remedy: "a ramp rises; an even rate is mode: open")
      }
      return .ramp(
        Ramp(fromPerSecond: from, toPerSecond: to, overSeconds: over, arrivals: load.arrivals))
    }
  }
}
