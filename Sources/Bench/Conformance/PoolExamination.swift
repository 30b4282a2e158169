import Engine
import Foundation
import Nylon
import Results
import Scenario

/// What came back for one request.
struct Exchange: Sendable {
  var request: WorkerMessage
  var dialect: DialectTraits
  /// The maps; nil where one is none, or has values of other types than the interface says.
  private(set) var maps: [WorkerMessage?] = []
  /// What is wrong with keys, types and payloads.
  private(set) var faults: [String] = []
  /// The place of the first map that ends the phase.
  private(set) var end: Int?
  /// Whether the broker found nobody who subscribes.
  var isRefused = false

  init(request: WorkerMessage, dialect: DialectTraits) { (self.request, self.dialect) = (request, dialect) }

  /// Takes one map. Whether it is the first that ends the phase.
  mutating func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let message = try? WorkerMessage(reply: bytes)
    maps.append(message)
    if let message, let view = MessageView(reply: bytes) { noteFaults(message, view) }
    guard end == nil, isEnd(message) else { return false }
    end = maps.count - 1
    return true
  }

  private func isEnd(_ message: WorkerMessage?) -> Bool {
    guard dialect.end == .call, let message else { return true }
    return message.method.map { Nylon.Method(rawValue: $0).endsPhase } ?? (message.error?.isEmpty == false)
  }

  private mutating func noteFaults(_ message: WorkerMessage, _ view: MessageView) {
    let data = view.data ?? UnsafeRawBufferPointer(start: nil, count: 0)
    // The type of the id is compared with the request's own.
    if let sign = dialect.foreignSign(in: view), sign != .textID { faults.append("a map \(sign.words)") }
    let hasSession = dialect.end == .action || message.method != nil
    if hasSession, message.sessionID != request.sessionID { faults.append("session_id is not the request's") }
    if message.action == .unknown { faults.append("action is none of next, end and error") }
    if dialect.end == .action, !data.isEmpty, (try? HTTPContextView(data)) == nil {
      faults.append("data: \(data.count) bytes are no NylonHttpContext")
    }
    let method = message.method.map(Nylon.Method.init(rawValue:))
    if let fault = method?.fault(phase: 0, payload: data) { faults.append(fault) }
  }

  /// The map that ended the phase.
  private var answer: WorkerMessage? { end.flatMap { maps[$0] } }

  /// What a worker says of a request that it does not serve.
  var error: String? {
    if let error = answer?.error, !error.isEmpty { return error }
    return answer?.action == .error || answer?.action == .empty ? "an error without words" : nil
  }

  /// Why there is no answer with the request's id; nil when there is.
  var failure: RuleFinding? {
    if isRefused { return .deviates("nobody subscribes (503 no responders)") }
    if end == nil {
      return .hangs(maps.isEmpty ? "no answer" : "\(maps.count) maps, none of which ends the phase,")
    }
    guard let answer else { return .deviates("the answer is no MessagePack map with the interface's types") }
    if answer.requestID == request.requestID { return nil }
    return .deviates(
      "request_id comes back \(answer.requestID == nil ? "not at all" : "as another, or another type")")
  }

  var finding: RuleFinding {
    failure ?? error.map { .deviates("an error: \($0)") }
      ?? .ok(maps.count > 1 ? "\(maps.count) maps" : "answered")
  }

  /// What came behind the end; an acknowledgement may be late.
  var surplus: String? {
    guard let end else { return nil }
    let late = maps[(end + 1)...].first { dialect.end != .call || $0 == nil || $0?.method != nil }
    return late.map { map in
      map?.method.map { "\(Nylon.Method(rawValue: $0)) behind the end of the phase" } ?? "a second answer"
    }
  }
}

/// Tries a running pool of workers against the interface.
final class PoolExamination: Examination {
  /// So long maps are waited for that ought not to come.
  private static let settlingNanoseconds: UInt64 = 200_000_000

  private let spec: NATSSpec
  private lazy var order: LoadOrder = {
    let plan = plan(report.subject, .nats(spec), seconds: 1)
    var order = LoadOrder(
      plan, target: plan.targets[0], load: .closed(concurrency: 1), replicate: 1, pluginPath: "")
    order.servers = spec.servers
    return order
  }()
  private var dialect = DialectTraits.question(idIsText: false)
  private let content = RequestContent(.trial, seed: 1)

  init(
    name: String, handler: String, spec: NATSSpec, limitSeconds: Double, progress: @escaping (String) -> Void
  ) {
    self.spec = spec
    super.init(of: name, handler: handler, limitSeconds: limitSeconds, progress: progress)
  }

  /// Tries every rule. Throws ``BrokerError`` without a broker.
  func examine() throws -> Conformance {
    report.isCut = try !examineSpeaking()
    if !report.isCut { try examineRequests() }
    return report
  }

  /// Whether workers are there, in a dialect that is known, and have the handler.
  private func examineSpeaking() throws -> Bool {
    guard try rule("subscribers", try subscribers()) else { return false }
    try rule("dialect", try spoken())
    guard let dialect = report.dialect else { return false }
    self.dialect = dialect.traits
    return try rule("entry", try entry())
  }

  private func subscribers() throws -> RuleFinding {
    let subject = try Subject(prefix: spec.subjectPrefix, plugin: report.subject)
    let deaf = try Phase.session.filter { try ask($0, within: Self.settlingNanoseconds).isRefused }
    return deaf.isEmpty
      ? .ok("all four phases")
      : .deviates(
        "503 no responders on \(deaf.map { subject.phase($0) }.listed())",
        "start the workers; check the plugin's name and --prefix.")
  }

  /// What the workers speak; what was named where they do not tell.
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
    let exchange = try ask()
    let remedy = "name a handler that the workers have: --handler NAME."
    if exchange.end == nil, let failure = exchange.failure { return failure }
    return exchange.error.map { .refused("'\(report.handler)': \($0)", remedy) }
      ?? .ok("'\(report.handler)' is accepted")
  }

  private func examineRequests() throws {
    var exchanges: [Exchange] = []
    func asked(_ exchange: Exchange) -> RuleFinding {
      exchanges.append(exchange)
      return exchange.finding
    }
    for phase in Phase.session { try rule(phase.subjectFragment, asked(try ask(phase))) }
    let id = UUID()
    try rule("id as text", asked(try ask(change: { $0.requestID = .text(id.uuidString.lowercased()) })))
    if !dialect.idIsText {
      let bytes = withUnsafeBytes(of: id.uuid) { [UInt8]($0) }
      try rule("id as 16 bytes", asked(try ask(change: { $0.requestID = .bytes(bytes) })))
    }
    let faults = exchanges.flatMap(\.faults).uniqued()
    rule("keys and types", faults.isEmpty ? .ok("as the interface says") : .deviates(faults.listed("; ")))
    let surplus = exchanges.compactMap(\.surplus).first
    rule("after the end", surplus.map { .deviates($0) } ?? .ok("nothing"))
    try rule("wrong entry", try named(Self.unknownEntry))
    try rule("no entry", try named(nil))
    // A message begins with a map of at most 15 entries.
    try rule(
      "unknown keys",
      try ask(alter: {
        $0[0] += 1
        $0 += [0xa9] + Array("x-unknown".utf8) + [0xc3]
      }).finding)
    try rule("unknown version", try unknownVersion())
  }

  /// What becomes of a request that names a handler which is not there, or none.
  private func named(_ entry: String?) throws -> RuleFinding {
    let exchange = try ask(change: { message in
      message.headers.removeAll { $0.key == "entry" }
      if let entry { message.headers.append(KeyValue(key: "entry", value: entry)) }
    })
    if let failure = exchange.failure { return failure }
    if let error = exchange.error { return .ok("an error: \(error)") }
    return entry == nil
      ? .ok("answered")
      : .deviates("'\(Self.unknownEntry)' is accepted", "answer an unknown entry with an error.")
  }

  /// Whatever a worker does with a version that it does not know: it must live on.
  private func unknownVersion() throws -> RuleFinding {
    // Behind the map and the key, which are the first two entries.
    let other = try ask(alter: { $0[2 + "version".utf8.count] = 9 })
    let after = try ask().finding
    if after.result != .ok { return .hangs("after version 9: \(after.seen)") }
    return .ok(other.end == nil ? "not answered" : other.error.map { "an error: \($0)" } ?? "answered")
  }

  /// Sends one request and gathers what comes, reads answered, until the phase has ended and nothing more comes.
  private func ask(
    _ phase: Phase = .requestFilter, within limitNanoseconds: UInt64? = nil,
    change: (inout WorkerMessage) -> Void = { _ in }, alter: (inout [UInt8]) -> Void = { _ in }
  ) throws -> Exchange {
    let talk = try WorkerTalk(order: order, spec: spec)
    defer { talk.close() }
    // Workers may keep what they know of a session.
    order.sessionIDsAfter += 1
    let now = MonotonicClock.unixNanoseconds
    var message = WorkerMessage(
      dialect, id: ((now / 1_000_000) << 16 | 0x7000, 1 << 63 | UInt64.random(in: 0..<1 << 62)),
      sessionID: order.sessionIDsAfter, phase: phase, entry: report.handler,
      context: HTTPContext(request: content.request, response: content.response).encoded(),
      reply: talk.inbox, timestampMilliseconds: now / 1_000_000)
    change(&message)
    var bytes = try message.encoded()
    alter(&bytes)
    let responses = CalledResponses(
      .trial, content: content, verify: Verification(), unixOffset: now &- MonotonicClock.nanoseconds,
      slots: 1)
    responses.open(0, at: MonotonicClock.nanoseconds)
    let subject = talk.subject.phase(phase)
    talk.publish(bytes, to: subject)
    var exchange = Exchange(request: message, dialect: dialect)
    var end = MonotonicClock.nanoseconds + (limitNanoseconds ?? UInt64(limitSeconds * 1e9))
    while let reply = talk.next(until: end) {
      guard case .payload(let map) = reply else {
        exchange.isRefused = true
        break
      }
      map.withUnsafeBytes { map in
        if exchange.take(map) { end = MonotonicClock.nanoseconds + Self.settlingNanoseconds }
        guard let view = MessageView(reply: map), let method = view.method.map(Nylon.Method.init(rawValue:)),
          method.isRead
        else { return }
        talk.answer(method, view, on: subject, from: responses)
      }
    }
    return exchange
  }
}
