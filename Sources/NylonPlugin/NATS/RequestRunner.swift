import CLinux
import Nylon

/// Turns the bytes of a request into the bytes of the reply, without I/O. In a dialect in which each call is
/// a map, the maps are published through `calls`.
///
/// Not thread-safe: each thread has its own runner.
package final class RequestRunner {
  private let plugin: Plugin
  private let table: HandlerTable
  private let dialect: Dialect
  private let traits: DialectTraits
  private let encoder: ReplyEncoder
  /// Publishes the maps of calls; nil in a dialect without them.
  private let calls: CallMaps?
  /// Records the requests; nil if no ledger is configured.
  private let ledger: HandlerLedger?
  private let tables = FlatBufferWriter()
  /// The context of the current phase and its backend, in raw memory to avoid exclusivity checks.
  private let current = UnsafeMutablePointer<(context: PhaseContext, backend: NATSBackend)>.allocate(
    capacity: 1)
  /// Whether the last request asked for timestamps.
  private(set) var isStamping = false
  /// The timestamps of the current request, if it asked for them.
  private var stamps = WorkerStamps(read: 0)

  /// - Parameter calls: Required in a dialect in which each call is a map.
  init(
    plugin: Plugin, table: HandlerTable, dialect: WorkerDialect, ledger: HandlerLedger? = nil,
    calls: CallMaps? = nil
  ) {
    self.ledger = ledger
    self.plugin = plugin
    self.table = table
    self.dialect = dialect.dialect
    self.calls = calls
    traits = dialect.dialect.traits
    encoder = ReplyEncoder(writesNilData: dialect.writesNilData)
    let backend = NATSBackend()
    current.initialize(to: (PhaseContext(backend: backend), backend))
  }

  /// Creates a runner without a connection: the maps of calls are dropped, and reads fail.
  package convenience init(plugin: Plugin, dialect: Dialect) {
    var calls: CallMaps?
    if dialect.traits.end == .call, let box = ReplyBox() {
      box.setTaken(false)
      let mailbox = ReadMailbox(timeoutMilliseconds: 1, spins: 0)
      mailbox.close()
      calls = CallMaps(box, mailbox, writesNilData: false)
    }
    self.init(
      plugin: plugin, table: plugin.handlerTable(),
      dialect: WorkerDialect(dialect: dialect, writesNilData: false), calls: calls)
  }

  deinit {
    current.deinitialize(count: 1)
    current.deallocate()
  }

  /// Returns the reply to a request, valid until the next call; nil if the maps of calls are the whole
  /// answer.
  ///
  /// - Parameters:
  ///   - phase: The phase of the subject; nil for the lifecycle subject.
  ///   - readAt: When the request was read from the socket, in nanoseconds; 0 (unknown) means now.
  ///   - most: The broker's maximum payload in bytes. A longer reply is replaced by an error.
  @inline(__always)
  package func answer(
    to bytes: UnsafeRawBufferPointer, phase: Phase?, readAt: UInt64, most: Int
  ) -> UnsafeRawBufferPointer? {
    let answer =
      if let phase { reply(to: bytes, phase: phase, readAt: readAt) } else { lifecycleReply(to: bytes) }
    guard let answer, answer.count > most else { return answer }
    let error = MessageError.tooLarge(what: "reply", byteCount: answer.count, byteCountMost: most)
    return refuse(try? MessageView(request: bytes), .failed(error.description))
  }

  private func reply(
    to bytes: UnsafeRawBufferPointer, phase: Phase, readAt: UInt64
  ) -> UnsafeRawBufferPointer? {
    let request: MessageView
    isStamping = false
    do {
      request = try MessageView(request: bytes)
    } catch {
      return refuse(nil, .malformed(error.description))
    }
    if traits.configuredOn != .lifecycle, request.header("method") != nil { return configure(request) }
    isStamping = request.header(WorkerStamps.header) != nil
    if isStamping { stamps = WorkerStamps(read: readAt != 0 ? readAt : kernel_now_ns()) }
    do {
      if let calls {
        try run(request, phase: phase, calls)
        return nil
      }
      let reply = try run(request, phase: phase)
      if isStamping { encoder.stampPacked(kernel_now_ns()) }
      return reply
    } catch {
      return refuse(request, error)
    }
  }

  /// Returns the reply to a message of the lifecycle subject. `shutdown` only runs the hooks, because other
  /// hosts may use the same worker; signals end the process.
  private func lifecycleReply(to bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard let request = try? MessageView(request: bytes) else {
      return refuse(nil, .malformed(MessageError.notAMap(what: "lifecycle message").description))
    }
    return configure(request)
  }

  /// Executes the command in `headers.method` and returns the reply.
  private func configure(_ request: MessageView) -> UnsafeRawBufferPointer {
    switch request.header("method").map({ String(decoding: $0, as: UTF8.self) }) {
    case "initialize":
      do {
        try plugin.initialize(PluginConfiguration(json: request.data.map([UInt8].init) ?? []))
      } catch {
        return refuse(request, .failed("initialize: \(error)"))
      }
    case "shutdown": plugin.shutdown()
    default:
      return refuse(
        request, .malformed("lifecycle message: headers.method is neither initialize nor shutdown"))
    }
    return encode(request, .next)
  }

  /// The reason why a request is not passed to its handler, or why its handler failed.
  private struct Refusal: Error {
    var action: ReplyAction
    var text: String
    /// The request violates the wire format.
    static func malformed(_ text: String) -> Refusal { Refusal(action: .empty, text: text) }
    /// The request cannot be served.
    static func failed(_ text: String) -> Refusal { Refusal(action: .error, text: text) }
  }

  private func refuse(_ request: MessageView?, _ why: Refusal) -> UnsafeRawBufferPointer {
    encode(request, why.action, error: why.text)
  }

  /// Encodes an answer in the form of the dialect, with or without an action and a session.
  @inline(__always)
  private func encode(
    _ request: MessageView?, _ action: ReplyAction, data: UnsafeRawBufferPointer? = nil, error: String? = nil,
    stamps: WorkerStamps? = nil
  ) -> UnsafeRawBufferPointer {
    let id = request?.requestID
    return encoder.encode(
      requestID: traits.idIsText ? id?.asText : id,
      sessionID: traits.end == .map ? nil : request?.sessionID ?? 0,
      action: traits.end == .action ? action : .missing, data: data, error: error, stamps: stamps)
  }

  /// Returns the handler for a request after checking that the request matches the dialect.
  private func handler(of request: MessageView, phase: Phase) throws(Refusal) -> Plugin.Handler? {
    if request.requestID == nil {
      throw .malformed(MessageError.missingKey(what: "request", key: "request_id").description)
    }
    if let method = request.method, method != traits.startMethod {
      let wanted = traits.startMethod.map { "has \($0) to start a phase" } ?? "has none"
      throw .failed(
        "request: 'method' is \(method); this worker speaks the dialect '\(dialect.rawValue)', which \(wanted)"
      )
    }
    if let other = request.phase, other != phase {
      throw .malformed(
        "request: 'phase' is \(other.rawValue), but it arrived on \(phase.subjectFragment)'s subject")
    }
    return table[try entry(of: request), phase]
  }

  /// Records a request in the ledger, if there is one, before its handler runs.
  @inline(__always)
  private func note(_ request: MessageView, phase: Phase) throws(Refusal) {
    guard let why = ledger?.note(request.requestID, phase: phase) else { return }
    throw .failed("request: it cannot be noted in the ledger (\(HandledRequest.variable)): \(why)")
  }

  /// Runs a handler whose calls are published as separate maps.
  private func run(_ request: MessageView, phase: Phase, _ calls: CallMaps) throws(Refusal) {
    let handler = try handler(of: request, phase: phase)
    try note(request, phase: phase)
    let error = calls.run(handler, request, phase: phase, acknowledgement: encode(request, .missing))
    if let error { throw .failed("\(error)") }
  }

  private func run(_ request: MessageView, phase: Phase) throws(Refusal) -> UnsafeRawBufferPointer {
    let handler = try handler(of: request, phase: phase)
    do {
      let data = traits.sendsContext ? request.data : nil
      let view = try data.map(HTTPContextView.init) ?? HTTPContextView()
      current.pointee.backend.begin(view: view, timestampMilliseconds: request.timestampMilliseconds ?? 0)
    } catch {
      throw .malformed("request: data: \(error)")
    }
    current.pointee.context.begin(phase: phase, sessionID: request.sessionID ?? 0)
    defer { release() }
    try note(request, phase: phase)
    if isStamping { stamps.begun = kernel_now_ns() }
    let error = current.pointee.context.run(handler)
    if isStamping { stamps.ended = kernel_now_ns() }
    if let error { throw .failed("\(error)") }
    let action: ReplyAction = current.pointee.context.finishedBy == .end ? .end : .next
    var data: UnsafeRawBufferPointer?
    if traits.sendsContext, current.pointee.backend.isChanged, !current.pointee.backend.change.isEmpty {
      do {
        data = try current.pointee.backend.change.encode(with: tables)
      } catch {
        throw .failed(error.description)
      }
    }
    return encode(request, action, data: data, stamps: isStamping ? stamps : nil)
  }

  /// Returns the index of the requested entry; a plugin with a single entry needs no name.
  private func entry(of request: MessageView) throws(Refusal) -> Int {
    guard let name = request.header("entry") else {
      if table.names.count == 1 { return 0 }
      throw .failed("request: headers.entry is missing; this plugin has: \(table.list)")
    }
    if let index = table.index(of: name) { return index }
    let shown = String(decoding: name.prefix(100), as: UTF8.self)
    throw .failed("no entry '\(shown)'; this plugin has: \(table.list)")
  }

  /// Releases the request. A handler that kept its context must not see another session through it.
  private func release() {
    current.pointee.backend.end()
    if !isKnownUniquelyReferenced(&current.pointee.context) {
      let backend = NATSBackend()
      current.pointee = (PhaseContext(backend: backend), backend)
    }
  }
}
