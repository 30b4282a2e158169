// The faults of a scenario: their kinds, the parts that they affect, and the checks against a target.

/// The kind of a fault.
package enum FaultKind: String, Codable, Sendable, CaseIterable {
  /// The process is killed (SIGKILL).
  case kill
  /// The process is stopped (SIGSTOP) and continued after `for_seconds`.
  case stop
  /// The process is stopped and continued 100 times a second, half of the time.
  case slow
  /// The worker is asked to finish pending requests and exit (SIGTERM).
  case drain
  /// The worker closes its connection without draining, and exits.
  case close
  /// More workers are started.
  case add
  /// Other workers are started in another queue group, and the previous ones are drained.
  case switchPool = "switch"
  /// The broker asks its clients to reconnect elsewhere, and exits.
  case lameDuck = "lame_duck"
  /// Connections are reset.
  case reset
  /// Bytes are lost, while connections stay open.
  case silence

  /// The parts to which the fault can be applied.
  var parts: [FaultVictim.Part] {
    switch self {
    case .kill, .stop: [.worker, .broker, .plugin]
    case .slow, .drain, .close, .add: [.worker]
    case .switchPool: [.pool]
    case .lameDuck: [.broker]
    case .reset, .silence: [.link, .route]
    }
  }

  /// Whether the fault requires an end: to stop or silence a part until the end of the load, kill it instead.
  package var needsEnd: Bool { [.stop, .slow, .silence].contains(self) }

  /// Whether the fault can be undone: a worker that ended is replaced, a broker is started again.
  func mayEnd(_ victim: FaultVictim) -> Bool {
    needsEnd || [.drain, .close, .add, .lameDuck].contains(self) || self == .kill && victim != .plugin
  }

  /// Whether processes start or end with the fault.
  package var changesProcesses: Bool { !needsEnd && self != .reset }

  /// Whether the fault starts workers, so that it has a count.
  var startsWorkers: Bool { self == .add || self == .switchPool }

  /// Returns a description such as `worker killed`.
  package func words(_ victim: String) -> String {
    switch self {
    case .kill: "\(victim) killed"
    case .stop: "\(victim) stopped"
    case .slow: "\(victim) slowed"
    case .drain: "\(victim) drained"
    case .close: "\(victim) closed"
    case .add: "\(victim) added"
    case .switchPool: "\(victim) switched"
    case .lameDuck: "\(victim) in lame duck mode"
    case .reset: "\(victim) reset"
    case .silence: "\(victim) silent"
    }
  }
}

/// The target of a fault; `worker 2` in a scenario is number 1 here.
package enum FaultVictim: Sendable, Equatable {
  /// One worker; nil for a random one.
  case worker(Int?)
  case workers, pool, plugin
  case broker(BrokerChoice)
  case link(LinkPlace)
  /// The route between two brokers of the cluster.
  case route(Int, Int)

  /// The choice of a broker in a cluster.
  package enum BrokerChoice: Sendable, Equatable {
    case any
    /// The broker that the generator is connected to, or one of the others.
    case own, other
    case number(Int)
  }

  /// The kinds of parts.
  package enum Part: String { case worker, broker, plugin, pool, link, route }

  package var part: Part {
    switch self {
    case .worker, .workers: .worker
    case .pool: .pool
    case .plugin: .plugin
    case .broker: .broker
    case .link: .link
    case .route: .route
    }
  }

  /// Whether a worker that starts during the fault may be unable to reach a broker.
  package var mayPartWorkerFromBroker: Bool {
    switch self {
    case .broker, .link(.brokerWorkers): true
    default: false
    }
  }

  /// The highest index of a broker that the fault requires, from 0.
  var mostBroker: Int {
    switch self {
    case .broker(.number(let number)): number
    case .broker(.other): 1
    case .route(let one, let other): max(one, other)
    default: 0
    }
  }

  static let allowed =
    "`worker` (a random one), `worker N`, `workers`, `broker`, `broker N`, `broker own`, `broker other`, `plugin`, "
    + "`pool`, `link generator-broker`, `link broker-workers`, `route` (1-2), `route N-M`"
}

extension FaultVictim: CustomStringConvertible {
  /// The notation in a scenario.
  package var description: String {
    switch self {
    case .worker(let number): number.map { "worker \($0 + 1)" } ?? "worker"
    case .workers: "workers"
    case .pool: "pool"
    case .plugin: "plugin"
    case .broker(.any): "broker"
    case .broker(.own): "broker own"
    case .broker(.other): "broker other"
    case .broker(.number(let number)): "broker \(number + 1)"
    case .link(let place): "link \(place.rawValue)"
    case .route(let one, let other): "route \(one + 1)-\(other + 1)"
    }
  }

  /// The name in a sentence.
  fileprivate var words: String {
    switch self {
    case .broker(.own): "the generator's broker"
    case .broker(.other): "another broker"
    default: description
    }
  }

  /// Parses the notation of a scenario; returns nil if it is none of `allowed`.
  package init?(_ text: String) {
    let words = text.split(separator: " ").map(String.init)
    let last = words.count == 2 ? words[1] : nil
    guard let first = words.first, words.count <= 2 else { return nil }
    func number(_ text: some StringProtocol) -> Int? { Int(text).flatMap { $0 > 0 ? $0 - 1 : nil } }
    switch (first, last) {
    case ("worker", nil): self = .worker(nil)
    case ("worker", let last?):
      guard let place = number(last) else { return nil }
      self = .worker(place)
    case ("workers", nil): self = .workers
    case ("pool", nil): self = .pool
    case ("plugin", nil): self = .plugin
    case ("broker", nil): self = .broker(.any)
    case ("broker", "own"): self = .broker(.own)
    case ("broker", "other"): self = .broker(.other)
    case ("broker", let last?):
      guard let place = number(last) else { return nil }
      self = .broker(.number(place))
    case ("link", let last?):
      guard let place = LinkPlace(rawValue: last) else { return nil }
      self = .link(place)
    case ("route", nil): self = .route(0, 1)
    case ("route", let last?):
      let ends = last.split(separator: "-").map(number)
      guard ends.count == 2, let one = ends[0], let other = ends[1], one != other else { return nil }
      self = .route(min(one, other), max(one, other))
    default: return nil
    }
  }
}

extension FaultVictim: Codable {
  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let victim = FaultVictim(text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' cannot have a fault")
    }
    self = victim
  }

  package func encode(to encoder: any Encoder) throws { try description.encode(to: encoder) }
}

/// An entry of `faults:`.
package struct FaultSpec: Codable, Sendable, Equatable {
  package var what: FaultKind
  package var whom: FaultVictim
  /// The earliest and the latest time of the fault, in seconds of the measured time; equal if the time is not
  /// random.
  package var fromSeconds, toSeconds: Double
  /// The duration in seconds; nil if the fault is permanent.
  package var forSeconds: Double?
  /// The number of workers that `add` and `switch` start.
  package var count = 1

  package init(
    _ what: FaultKind, _ whom: FaultVictim, atSeconds: ClosedRange<Double>, forSeconds: Double? = nil,
    count: Int = 1
  ) {
    (self.what, self.whom, self.forSeconds, self.count) = (what, whom, forSeconds, count)
    (fromSeconds, toSeconds) = (atSeconds.lowerBound, atSeconds.upperBound)
  }

  package var atSeconds: ClosedRange<Double> { fromSeconds...max(fromSeconds, toSeconds) }

  /// The fault and its target, such as `worker killed`, for tables.
  package var words: String {
    let victim = count > 1 && what == .add ? "\(count) workers" : whom.words
    return what.words(victim) + (forSeconds.map { " for \(Block.short($0)) s" } ?? "")
  }

  /// Returns the fault with all times scaled to another measured time.
  func scaled(by factor: Double) -> FaultSpec {
    var fault = self
    (fault.fromSeconds, fault.toSeconds) = (fromSeconds * factor, toSeconds * factor)
    fault.forSeconds = forSeconds.map { $0 * factor }
    return fault
  }
}

extension Target {
  /// The faults injected under load; empty if there are none.
  package var plannedFaults: [FaultSpec] { faults ?? [] }

  /// The links to the target, including those that are needed only for a fault.
  package var wiredLinks: [LinkSpec] {
    let places = plannedFaults.compactMap { fault in
      if case .link(let place) = fault.whom { place } else { nil }
    }
    return places.reduce(into: links) { links, place in
      guard !links.contains(where: { $0.between == place }) else { return }
      links.append(LinkSpec(between: place, delayMilliseconds: 0))
    }
  }
}

/// A fault as written.
struct FaultReader {
  var moments: ClosedRange<Double>?
  var what: FaultKind?
  var whom: FaultVictim?
  var forSeconds: Double?
  var count: Int?

  /// A fault and the block that defines it, for messages.
  typealias Placed = (fault: FaultReader, block: Block)

  private static let secondRange = 0.0...3600.0

  static let keys = Keys<FaultReader>(
    "faults", home: "an entry of faults:", of: FaultReader(),
    [
      Key(
        "at_seconds", \.moments,
        .moments(secondRange).required("write the second of the measured time, such as at_seconds: 2"),
        "when, in seconds of the measured time; `A..B` is a random moment in that range, different in each "
          + "round and determined by `seed`"
      ).also("at", "when"),
      Key(
        "what", \.what,
        .choice.required("write \(FaultKind.allCases.map(\.rawValue).joined(separator: ", "))"),
        "the kind of fault; see below"
      ).also("kind", "action", "do"),
      Key(
        "whom", \.whom, .victim.required("write for example whom: worker"), "the part to inject it into"
      ).also("target", "victim", "who"),
      Key(
        "for_seconds", \.forSeconds, .number(0.01...secondRange.upperBound),
        "how long the fault lasts. After that, what was stopped continues, a worker that ended is replaced, "
          + "a broker is restarted on its port, added workers are drained, a silence ends",
        default: "until the end; required for `stop`, `slow` and `silence`"
      ).also("for", "duration"),
      Key(
        "count", \.count, .whole(1...256), "how many workers `add` and `switch` start",
        default: "`add`: 1; `switch`: as many as there are"),
    ])

  /// Reads the faults of a scenario or a target; nil if it has no `faults:`, and empty for an empty list.
  static func faults(of block: Block) -> [Placed]? {
    guard block.get("faults") != nil else { return nil }
    let blocks = block.blocks(
      "faults", of: "faults such as {at_seconds: 2, what: kill, whom: worker}", rows: keys.rows)
    return (blocks ?? []).map { block in
      var fault = FaultReader()
      keys.read(block, into: &fault)
      fault.checkAlone(block)
      return (fault, block)
    }
  }

  /// Reports problems that do not depend on the target.
  private func checkAlone(_ block: Block) {
    guard let what, let whom else { return }
    guard what.parts.contains(whom.part) else {
      let pairs = FaultKind.allCases.map { kind in
        "\(kind.rawValue) \(kind.parts.map(\.rawValue).joined(separator: "|"))"
      }
      return block.fail(
        "whom", "cannot be combined with what: \(what.rawValue)",
        remedy: "allowed: \(pairs.joined(separator: ", "))")
    }
    if what == .add, whom != .worker(nil) {
      block.fail("whom", "must be worker: a worker has no number before it is added")
    }
    if forSeconds == nil, what.needsEnd {
      block.fail("for_seconds", "is missing", remedy: "write how long, such as for_seconds: 1")
    }
    if forSeconds != nil, !what.mayEnd(whom) {
      block.fail(
        "for_seconds", "cannot be combined with \(what.rawValue) \(whom): this fault has no end",
        remedy: "leave it out")
    }
    if count != nil, !what.startsWorkers {
      block.fail("count", "is for add and switch only", remedy: "leave it out")
    }
  }
}

/// Checks faults against a target.
struct FaultCheck {
  let target: Target
  /// The target's block, for messages about the whole.
  let block: Block
  let measureSeconds: Double
  /// The number of brokers that the run starts.
  let brokers: Int

  /// Returns the faults that are possible for the target; reports all others.
  func faults(_ all: [FaultReader.Placed]) -> [FaultSpec] {
    if !all.isEmpty {
      for load in target.loads where !load.isEven {
        block.fail(
          "faults", "need open loads, but '\(target.name)' has \(load.label)",
          remedy:
            "give it loads: [{mode: open, rate_per_second: 500}], or faults: [] for none"
        )
      }
    }
    // Workers started by other faults also have numbers.
    let started = all.reduce(0) { $0 + ($1.fault.count ?? 1) }
    return all.compactMap { fault($0.fault, $0.block, workersStarted: started) }
  }

  private func fault(_ written: FaultReader, _ place: Block, workersStarted: Int) -> FaultSpec? {
    guard let what = written.what, let whom = written.whom, let moments = written.moments else { return nil }
    if let why = obstacle(whom, workersStarted: workersStarted) {
      place.fail(
        "whom", "is not a part of target '\(target.name)': \(why)",
        remedy: "give the target its own faults:; faults: [] is none")
      return nil
    }
    let end = moments.upperBound + (written.forSeconds ?? 0)
    if moments.upperBound >= measureSeconds || end > measureSeconds {
      let what = written.forSeconds == nil ? "is not before" : "and for_seconds end after"
      place.fail(
        "at_seconds", "\(what) the end of the measured time (\(Block.short(measureSeconds)) s)",
        remedy: "raise measure_seconds")
    }
    let count = written.count ?? (what == .switchPool ? target.nats?.workers?.count : nil) ?? 1
    return FaultSpec(what, whom, atSeconds: moments, forSeconds: written.forSeconds, count: count)
  }

  /// Returns why the target has no such part; nil if it has the part.
  private func obstacle(_ victim: FaultVictim, workersStarted: Int) -> String? {
    guard let spec = target.nats else {
      return victim == .plugin ? nil : "it is loaded in-process; its only part is plugin"
    }
    let runsAlready = "are already running, so the run cannot end them"
    switch victim {
    case .plugin: return target.behind == nil ? "it is reached over NATS; a plugin is in-process" : nil
    case .worker(let number):
      guard let workers = spec.workers else { return "its workers \(runsAlready)" }
      guard let number, number >= workers.count + workersStarted else { return nil }
      return "it has \(workers.count) workers"
    case .workers, .pool, .link(.brokerWorkers):
      return spec.workers == nil ? "its workers \(runsAlready)" : nil
    case .link(.generatorBroker): return nil
    case .broker, .route:
      if !spec.servers.isEmpty { return "its servers \(runsAlready)" }
      if victim.mostBroker >= brokers {
        return "the run starts \(brokers == 1 ? "one broker" : "\(brokers) brokers")"
      }
      return nil
    }
  }
}

extension LoadShape {
  /// Whether the rate is constant and independent of the answers.
  fileprivate var isEven: Bool { if case .open = self { true } else { false } }
}

extension Kind<ClosedRange<Double>> {
  /// A time, or a range of times such as `2..3`.
  static func moments(_ range: ClosedRange<Double>) -> Kind {
    let ends = "\(Block.short(range.lowerBound)) to \(Block.short(range.upperBound))"
    return Kind(allowed: "\(ends), or `A..B`") { block, key in
      guard let text = block.get(key)?.text, text.contains("..") else {
        return block.number(key, in: range).map { $0...$0 }
      }
      let parts = text.split(separator: "..", omittingEmptySubsequences: false).map {
        Block.parse($0.trimmingCharacters(in: .whitespaces))
      }
      if parts.count == 2, let first = parts[0], let last = parts[1], first <= last, range.contains(first),
        range.contains(last)
      {
        return first...last
      }
      return block.refuse(
        key, "is not a range of seconds from \(ends)", remedy: "write for example at_seconds: 2..3")
    }
  }
}

extension Kind<FaultVictim> {
  static var victim: Kind {
    Kind(allowed: FaultVictim.allowed) { block, key in
      guard let text = block.text(key) else { return nil }
      let names = [
        "worker", "workers", "broker", "broker own", "broker other", "plugin", "pool", "route",
        "link generator-broker", "link broker-workers",
      ]
      return FaultVictim(text)
        ?? block.refuse(
          key, "is not a possible target of a fault",
          suggestion: Suggestion.nearest(to: text, among: names),
          remedy: "Allowed: \(FaultVictim.allowed.replacing("`", with: ""))")
    }
  }
}
