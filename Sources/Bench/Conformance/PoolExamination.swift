import Engine
import Foundation
import Nylon
import Results
import Scenario

/// A request and the maps received in reply.
struct Exchange: Sendable {
  var request: WorkerMessage
  var dialect: DialectTraits
  /// The maps received; nil for a message that is not a map or has values of the wrong types.
  private(set) var maps: [WorkerMessage?] = []
  /// The errors found in keys, types and payloads.
  private(set) var faults: [String] = []
  /// The index of the first map that ends the phase.
  private(set) var end: Int?
  /// Whether the broker replied that there are no responders.
  var isRefused = false

  /// Adds one received map.
  mutating func take(_ bytes: UnsafeRawBufferPointer) {
    let message = try? WorkerMessage(reply: bytes)
    maps.append(message)
    if let message, let view = MessageView(reply: bytes) { noteFaults(message, view) }
    if end == nil, isEnd(message) { end = maps.count - 1 }
  }

  private func isEnd(_ message: WorkerMessage?) -> Bool {
    guard dialect.end == .call, let message else { return true }
    return message.method.map { Nylon.Method(rawValue: $0).endsPhase } ?? (message.error?.isEmpty == false)
  }

  private mutating func noteFaults(_ message: WorkerMessage, _ view: MessageView) {
    let data = view.data ?? UnsafeRawBufferPointer(start: nil, count: 0)
    // The type of the request ID is checked separately, against the one sent.
    if let sign = dialect.foreignSign(in: view), sign != .textID { faults.append("a map \(sign.words)") }
    let hasSession = dialect.end == .action || message.method != nil
    if hasSession, message.sessionID != request.sessionID { faults.append("session_id is not the request's") }
    if message.action == .unknown { faults.append("action is not next, end or error") }
    if dialect.end == .action, !data.isEmpty, (try? HTTPContextView(data)) == nil {
      faults.append("data: \(data.count) bytes are not a NylonHttpContext")
    }
    let method = message.method.map(Nylon.Method.init(rawValue:))
    if let fault = method?.fault(phase: 0, payload: data) { faults.append(fault) }
  }

  /// The map that ended the phase.
  private var answer: WorkerMessage? { end.flatMap { maps[$0] } }

  /// The worker's error for a request that it rejects; nil when there is none.
  var error: String? {
    if let error = answer?.error, !error.isEmpty { return error }
    return answer?.action == .error || answer?.action == .empty ? "an error without a message" : nil
  }

  /// The reason why there is no reply with the request's ID; nil when there is one.
  var failure: RuleFinding? {
    if isRefused { return .deviates("no subscriber (503 no responders)") }
    if end == nil {
      return .hangs(maps.isEmpty ? "no answer" : "\(maps.count) maps, none of which ends the phase,")
    }
    guard let answer else { return .deviates("the answer is not a MessagePack map of the interface's types") }
    if answer.requestID == request.requestID { return nil }
    return .deviates("request_id \(answer.requestID == nil ? "is missing" : "has another value or type")")
  }

  var finding: RuleFinding {
    failure ?? error.map { .deviates("an error: \($0)") }
      ?? .ok(maps.count > 1 ? "\(maps.count) maps" : "answered")
  }

  /// A description of an unexpected map after the end of the phase. Late acknowledgements are allowed.
  var surplus: String? {
    guard let end else { return nil }
    let late = maps[(end + 1)...].first { dialect.end != .call || $0 == nil || $0?.method != nil }
    return late.map { map in
      map?.method.map { "\(Nylon.Method(rawValue: $0)) after the end of the phase" } ?? "a second answer"
    }
  }
}

private struct PoolRequest {
  var phase = Phase.requestFilter
  /// Whether the request ID is sent as text; nil for the dialect's default.
  var idIsText: Bool?
  var change: (inout WorkerMessage) -> Void = { _ in }
  /// Changes the encoded message.
  var alter: (inout [UInt8]) -> Void = { _ in }
}

/// A request in progress. It has its own connection, so that replies belong to it whatever ID they carry.
private final class Conversation {
  private let talk: WorkerTalk
  private let subject: String
  private let responses: CalledResponses
  private(set) var exchange: Exchange

  init(
    _ request: PoolRequest, order: LoadOrder, spec: NATSSpec, dialect: DialectTraits
  ) throws {
    talk = try WorkerTalk(order: order, spec: spec)
    subject = talk.subject.phase(request.phase)
    var traits = dialect
    traits.idIsText = request.idIsText ?? dialect.idIsText
    var asked = talk.question(request.phase, traits, order: order)
    responses = asked.responses
    request.change(&asked.message)
    exchange = Exchange(request: asked.message, dialect: dialect)
    var bytes = try asked.message.encoded()
    request.alter(&bytes)
    talk.publish(bytes, to: subject)
  }

  deinit { talk.close() }

  var isOver: Bool { exchange.isRefused || exchange.end != nil }

  /// Waits for the next reply until a monotonic time, and answers it when it is a read.
  func take(until end: UInt64) {
    guard let reply = talk.next(until: end) else { return }
    guard case .payload(let map) = reply else {
      exchange.isRefused = true
      return
    }
    map.withUnsafeBytes { map in
      exchange.take(map)
      guard let view = MessageView(reply: map), let method = view.method.map(Nylon.Method.init(rawValue:)),
        method.isRead
      else { return }
      talk.answer(method, view, on: subject, from: responses)
    }
  }
}

/// Checks a running pool of workers against the interface.
final class PoolExamination: Examination {
  /// How long to wait for maps that should not arrive.
  private static let settlingNanoseconds: UInt64 = 200_000_000

  private let spec: NATSSpec
  private lazy var order: LoadOrder = {
    let plan = plan(report.subject, .nats(spec))
    var order = LoadOrder(
      plan, target: plan.targets[0], load: .closed(concurrency: 1), replicate: 1, pluginPath: "")
    order.servers = spec.servers
    return order
  }()
  private var dialect = DialectTraits.question(idIsText: false)

  init(
    name: String, handler: String, spec: NATSSpec, limitSeconds: Double, progress: @escaping (String) -> Void
  ) {
    self.spec = spec
    super.init(of: name, handler: handler, limitSeconds: limitSeconds, progress: progress)
  }

  /// Checks every rule. Throws ``BrokerError`` when the broker cannot be reached.
  func examine() throws -> Conformance {
    report.isCut = try !examineSpeaking()
    if !report.isCut { try examineRequests() }
    return report
  }

  /// Checks that workers are subscribed, speak a known dialect and have the handler.
  private func examineSpeaking() throws -> Bool {
    guard try rule("subscribers", try subscribers()) else { return false }
    try rule("dialect", try spoken())
    guard let dialect = report.dialect else { return false }
    self.dialect = dialect.traits
    return try rule("entry", try entry())
  }

  private func subscribers() throws -> RuleFinding {
    let subject = try Subject(prefix: spec.subjectPrefix, plugin: report.subject)
    // The entry need not exist: only a 503 matters. A handler that runs anyway may send reads, so settle.
    let requests = Phase.session.map { PoolRequest(phase: $0, change: { $0.nameEntry(Self.unknownEntry) }) }
    let deaf = try ask(requests, within: Self.settlingNanoseconds, settles: true)
      .filter(\.isRefused).compactMap(\.request.phase)
    return deaf.isEmpty
      ? .ok("all four phases")
      : .deviates(
        "503 no responders on \(deaf.map(subject.phase).listed())",
        "start the workers; check the plugin's name and --prefix.")
  }

  /// Detects the workers' dialect; falls back to the one in the spec.
  private func spoken() throws -> RuleFinding {
    order.sessionIDsAfter += 1
    report.dialect = spec.dialect
    switch try DialectProbe(order: order, spec: spec).ask() {
    case .speaks(let spoken):
      report.dialect = spoken
      return spec.dialect == nil || spec.dialect == spoken
        ? .ok(spoken.rawValue)
        : .deviates(
          "\(spoken.rawValue), not \(spec.dialect?.rawValue ?? "")", "write dialect: \(spoken.rawValue).")
    case .silence: return .hangs("no answer")
    case .unknown(let words):
      return .deviates(words, spec.dialect == nil ? "name the dialect: --dialect NAME." : nil)
    }
  }

  private func entry() throws -> RuleFinding {
    let exchange = try ask(PoolRequest())
    let remedy = "name a handler that the workers have: --handler NAME."
    if exchange.end == nil, let failure = exchange.failure { return failure }
    return exchange.error.map { .refused("'\(report.handler)': \($0)", remedy) }
      ?? .ok("'\(report.handler)' is accepted")
  }

  private func examineRequests() throws {
    let ids = dialect.idIsText ? [true] : [true, false]
    let exchanges = try ask(
      Phase.session.map { PoolRequest(phase: $0) } + ids.map { PoolRequest(idIsText: $0) }, settles: true)
    let names = Phase.session.map(\.subjectFragment) + ["id as text", "id as 16 bytes"]
    for (name, exchange) in zip(names, exchanges) { rule(name, exchange.finding) }
    let faults = exchanges.flatMap(\.faults).uniqued()
    rule("keys and types", faults.isEmpty ? .ok("as the interface says") : .deviates(faults.listed("; ")))
    let surplus = exchanges.compactMap(\.surplus).first
    rule("after the end", surplus.map { .deviates($0) } ?? .ok("nothing"))
    let others = try ask([
      PoolRequest(change: { $0.nameEntry(Self.unknownEntry) }), PoolRequest(change: { $0.nameEntry(nil) }),
      // The message starts with a fixmap of at most 15 entries, so the count is in the first byte.
      PoolRequest(alter: {
        $0[0] += 1
        $0 += [0xa9] + Array("x-unknown".utf8) + [0xc3]
      }),
    ])
    rule("wrong entry", named(Self.unknownEntry, others[0]))
    rule("no entry", named(nil, others[1]))
    rule("unknown keys", others[2].finding)
    try rule("unknown version", try unknownVersion())
  }

  /// Judges the reply to a request with an unknown entry, or with none.
  private func named(_ entry: String?, _ exchange: Exchange) -> RuleFinding {
    if let failure = exchange.failure { return failure }
    if let error = exchange.error { return .ok("an error: \(error)") }
    return entry == nil
      ? .ok("answered")
      : .deviates("'\(Self.unknownEntry)' is accepted", "answer an unknown entry with an error.")
  }

  /// A worker may treat an unknown version in any way, but it must keep working.
  private func unknownVersion() throws -> RuleFinding {
    // The version's value follows the map header and the first key.
    let other = try ask(PoolRequest(alter: { $0[2 + "version".utf8.count] = 9 }))
    let after = try ask(PoolRequest()).finding
    if after.result != .ok { return .hangs("after version 9: \(after.seen)") }
    return .ok(other.end == nil ? "not answered" : other.error.map { "an error: \($0)" } ?? "answered")
  }

  private func ask(_ request: PoolRequest) throws -> Exchange { try ask([request])[0] }

  /// Sends requests concurrently, and collects the replies until each phase has ended.
  ///
  /// - Parameters:
  ///   - limitNanoseconds: the longest time without any phase ending, since workers may handle one request
  ///     at a time.
  ///   - settles: whether to keep waiting for surplus replies after the phases have ended.
  private func ask(
    _ requests: [PoolRequest], within limitNanoseconds: UInt64? = nil, settles: Bool = false
  ) throws -> [Exchange] {
    let conversations = try requests.map { request in
      // Use a new session for each request, since workers may keep state per session.
      order.sessionIDsAfter += 1
      return try Conversation(request, order: order, spec: spec, dialect: dialect)
    }
    let limit = limitNanoseconds ?? UInt64(limitSeconds * 1e9)
    var end = MonotonicClock.nanoseconds + limit
    var open = conversations
    while !open.isEmpty, MonotonicClock.nanoseconds < end {
      for one in open { one.take(until: MonotonicClock.nanoseconds + 1_000_000) }
      let count = open.count
      open.removeAll(where: \.isOver)
      if open.count < count { end = MonotonicClock.nanoseconds + limit }
    }
    end = MonotonicClock.nanoseconds + (settles ? Self.settlingNanoseconds : 0)
    while MonotonicClock.nanoseconds < end {
      for one in conversations { one.take(until: MonotonicClock.nanoseconds + 1_000_000) }
    }
    return conversations.map(\.exchange)
  }
}

extension WorkerMessage {
  /// Replaces the `entry` header, or removes it.
  fileprivate mutating func nameEntry(_ entry: String?) {
    headers.removeAll { $0.key == "entry" }
    if let entry { headers.append(KeyValue(key: "entry", value: entry)) }
  }
}
