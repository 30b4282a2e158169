import CLinux
import Nylon

/// Turns a request's bytes into the reply's bytes, without I/O; in a dialect in which each call is a map, those go
/// through a port.
///
/// Not for two threads at once: each thread has its own.
package final class RequestRunner {
  private let plugin: Plugin
  private let table: HandlerTable
  private let dialect: Dialect
  private let traits: DialectTraits
  private let encoder: ReplyEncoder
  /// Where the maps of calls go; nil in a dialect without them.
  private let calls: CallMaps?
  /// Where requests are noted; nil where nobody asks for it.
  private let ledger: HandlerLedger?
  private let tables = FlatBufferWriter()
  /// The context of the phase under way, and what stands behind it. In raw memory, where no access is checked.
  private let current = UnsafeMutablePointer<(context: PhaseContext, backend: NATSBackend)>.allocate(
    capacity: 1)
  /// Whether the last request asked for stamps.
  private(set) var isStamping = false
  /// The times of the request under way, when it asked for them.
  private var stamps = WorkerStamps(read: 0)

  /// `calls` are needed in a dialect in which each call is a map.
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

  /// One without a connection: the maps of calls go nowhere, and no read is answered.
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

  /// The reply to a request that came on the subject of `phase`, nil for the lifecycle's; valid until the next one, and
  /// nil where the maps of calls have said everything. `readAt` is when it was read from the socket, 0 when that is not known: then it counts from here. A reply of over
  /// `most` bytes, which the broker would not carry, becomes an error.
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

  /// The reply to a message of the lifecycle subject; `shutdown` only runs the hooks, since other
  /// hosts may use the same worker. Signals end the process.
  private func lifecycleReply(to bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard let request = try? MessageView(request: bytes) else {
      return refuse(nil, .malformed(MessageError.notAMap(what: "lifecycle message").description))
    }
    return configure(request)
  }

  /// Does what `headers.method` says, and answers it.
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

  /// Why a request gets no answer of a handler.
  private struct Refusal: Error {
    var action: ReplyAction
    var text: String
    /// The request is not what the interface says.
    static func malformed(_ text: String) -> Refusal { Refusal(action: .empty, text: text) }
    /// The request cannot be served.
    static func failed(_ text: String) -> Refusal { Refusal(action: .error, text: text) }
  }

  private func refuse(_ request: MessageView?, _ why: Refusal) -> UnsafeRawBufferPointer {
    encode(request, why.action, error: why.text)
  }

  /// An answer as the dialect has it: with an action or without, with the session or without.
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

  /// The handler that a request asks for, when it is as the dialect has it.
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
        "request: 'phase' is \(other.rawValue), but it came on \(phase.subjectFragment)'s subject")
    }
    return table[try entry(of: request), phase]
  }

  /// Notes a request, where that is asked for, before its handler sees it.
  @inline(__always)
  private func note(_ request: MessageView, phase: Phase) throws(Refusal) {
    guard let why = ledger?.note(request.requestID, phase: phase) else { return }
    throw .failed("request: it cannot be noted in the ledger (\(HandledRequest.variable)): \(why)")
  }

  /// Runs a handler whose calls are maps of their own.
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

  /// The handlers that the request names; a plugin with a single entry needs no name.
  private func entry(of request: MessageView) throws(Refusal) -> Int {
    guard let name = request.header("entry") else {
      if table.names.count == 1 { return 0 }
      throw .failed("request: headers.entry is missing; this plugin has: \(table.list)")
    }
    if let index = table.index(of: name) { return index }
    let shown = String(decoding: name.prefix(100), as: UTF8.self)
    throw .failed("no entry '\(shown)'; this plugin has: \(table.list)")
  }

  /// A handler that kept its context keeps a finished one without bytes, not another session's.
  private func release() {
    current.pointee.backend.end()
    if !isKnownUniquelyReferenced(&current.pointee.context) {
      let backend = NATSBackend()
      current.pointee = (PhaseContext(backend: backend), backend)
    }
  }
}
