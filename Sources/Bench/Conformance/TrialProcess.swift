// What runs in a trial's process: it plays the host for one plugin, step by step, and notes all that it sees.
import CNylonABI
import Engine
import Foundation
import Lab
import Nylon
import Scenario

/// What a trial does with a plugin, one after the other.
enum TrialStep: Codable, Sendable, Hashable {
  case load, initialize
  /// Opens a session for this entry; the steps behind it are this session's.
  case open(String)
  /// Starts a phase and waits for its end; without one the trial is over.
  case phase(UInt8)
  /// Starts a phase that need not be answered, and waits for a short while.
  case event(UInt8)
  /// Starts a phase and leaves the handler's read without an answer; nothing while it waits for one already.
  case untilRead(UInt8)
  case close, shutdown
  /// Waits for calls that ought not to come; they belong to the step before.
  case settle

  /// What the plugin is in the middle of.
  var words: String {
    switch self {
    case .load: "dlopen"
    case .initialize: "initialize"
    case .open: "register_session_stream"
    case .phase(let number), .event(let number), .untilRead(let number):
      Phase(rawValue: number).map(\.subjectFragment) ?? "phase \(number)"
    case .close: "close_session_stream"
    case .shutdown: "shutdown"
    case .settle: "a wait"
    }
  }
}

/// What a trial's process gets on standard input.
struct TrialOrder: Codable, Sendable {
  var pluginPath, configJSON: String
  var steps: [TrialStep]
  /// Whether reads are answered with no bytes.
  var readsAreEmpty = false
  /// Who is taken for the owner of the bytes of calls, with a malloc that notices bytes freed twice; nil where that is
  /// not looked at.
  var payloads: PayloadOwner?
  /// How long a phase may take.
  var limitSeconds: Double
}

/// What a trial's process tells, one in each line, as it happens: a plugin that crashes takes back nothing.
enum TrialNote: Codable, Sendable {
  case begin(TrialStep)
  case call(PluginCall)
  /// The step is over: whether the session was opened, whether the phase ended or the handler read.
  case end(Bool)
  /// The trial is over; the error says why the plugin could not be loaded.
  case over(PluginError?)
}

/// One call of a plugin's.
struct PluginCall: Codable, Sendable, Equatable {
  var sid: UInt32
  /// The session that was under way.
  var session: UInt32
  var phase: UInt8
  var method: UInt32
  /// Whether the call pointed to bytes, even to none.
  var hasPointer: Bool
  /// The thread that called; 0 for the host's own.
  var thread: UInt64
  /// What is wrong with the method or its payload; nil when nothing is.
  var fault: String?

  var name: String { Nylon.Method(rawValue: method).description }
  var isRead: Bool { Nylon.Method(rawValue: method).isRead }
  /// Whether it ends a phase of the session that was under way.
  var isEnd: Bool { sid == session && Nylon.Method(rawValue: method).endsPhase }
  func ends(_ number: UInt8) -> Bool { isEnd && (phase == 0 || phase == number) }
}

extension Nylon.Method {
  /// Why no plugin calls this with these bytes; nil when one may.
  func fault(phase: UInt8, payload: UnsafeRawBufferPointer) -> String? {
    if !isKnown { return "\(self) is unknown" }
    if (350...354).contains(rawValue) { return "\(self) is for the host to call" }
    if isRead, phase != 0 { return "\(self) names phase \(phase); a read names 0" }
    switch self {
    case .setResponseHeader where HeaderKeyValueCodec.decode(payload) == nil:
      return "\(self): \(payload.count) bytes are no HeaderKeyValue"
    case .setResponseStatus where payload.count != 2:
      return "\(self): \(payload.count) bytes; a status has 2, big-endian"
    case .removeResponseHeader, .readRequestHeader:
      let isName = !payload.isEmpty && String(validating: payload, as: UTF8.self) != nil
      return isName ? nil : "\(self): the payload is no header's name"
    default: return nil
    }
  }
}

enum TrialProcess {
  static func main() throws {
    let input = FileHandle.standardInput.readDataToEndOfFile()
    guard let order = try? JSONDecoder().decode(TrialOrder.self, from: input) else {
      throw LoadFailure(
        kind: .failed, message: "__conform wants an order on standard input; use: nylon-bench conform")
    }
    let descriptor = MeasureProcess.number(LoadProcess.documentVariable) ?? STDOUT_FILENO
    try TrialHost(order, notes: FileHandle(fileDescriptor: descriptor)).run()
    // A plugin's own threads and exit handlers are not waited for: all is noted.
    _exit(0)
  }
}

/// A call as it came, on whatever thread.
private struct ReceivedCall: Sendable {
  var call: PluginCall
  var payload: [UInt8]
}

private struct Inbox: Sendable {
  /// What was called and is not handled yet.
  var calls: [ReceivedCall] = []
  /// Whose `plugin_free` gets the bytes of calls; nil where they are the plugin's.
  var freedBy: PluginLibrary?
}

/// The callback has no user pointer, so there is one for the process.
private let inbox = Guarded(Inbox())

/// The callback. Bytes are copied, and nothing is answered on the plugin's stack, as Nylon does it.
private func receive(_ buffer: UnsafePointer<NylonFfiBuffer>?) {
  let event = buffer?.pointee ?? NylonFfiBuffer()
  let method = Nylon.Method(rawValue: event.method)
  // No plugin sends more; a length that is none must not be read.
  let isReadable = event.len == 0 || event.ptr != nil && event.len <= 1 << 30
  let bytes = UnsafeRawBufferPointer(start: event.ptr, count: isReadable ? Int(event.len) : 0)
  let fault =
    buffer == nil
    ? "the callback was given NULL"
    : isReadable
      ? method.fault(phase: event.phase, payload: bytes)
      : "\(method): \(event.len) bytes at \(event.ptr == nil ? "NULL" : "an address")"
  let call = PluginCall(
    sid: event.sid, session: 0, phase: event.phase, method: event.method,
    hasPointer: event.ptr != nil, thread: UInt64(pthread_self()), fault: fault)
  let received = ReceivedCall(call: call, payload: [UInt8](bytes))
  let freedBy = inbox.withLock { inbox in
    // Nobody waits for so many, and they must not fill the memory.
    if inbox.calls.count < 1 << 17 { inbox.calls.append(received) }
    return inbox.freedBy
  }
  if isReadable, let pointer = event.ptr { freedBy?.free(UnsafeMutablePointer(mutating: pointer)) }
}

private final class TrialHost {
  private static let settling = Duration.milliseconds(50)
  private static let shortWait = Duration.milliseconds(250)

  private let order: TrialOrder
  private let notes: FileHandle
  private let responses: CalledResponses
  private let hostThread = UInt64(pthread_self())
  private var plugin: PluginLibrary?
  /// Calls that were taken out of the inbox, the last one first.
  private var pending: [ReceivedCall] = []
  private var session: UInt32 = 1000
  /// Whether the handler waits for the answer to a read.
  private var isReading = false

  init(_ order: TrialOrder, notes: FileHandle) {
    self.order = order
    self.notes = notes
    responses = CalledResponses(.trial, content: RequestContent(.trial, seed: 1))
  }

  func run() throws {
    do {
      for step in order.steps { guard try run(step) else { break } }
      try note(.over(nil))
    } catch let error as PluginError {
      try note(.over(error))
    }
  }

  /// Whether the steps behind this one can be tried.
  private func run(_ step: TrialStep) throws -> Bool {
    if step == .settle {
      let deadline = Deadline.after(Self.settling)
      while let received = try take(until: deadline) { handle(received) }
      return true
    }
    try note(.begin(step))
    let isDone = try perform(step)
    try note(.end(isDone))
    return switch step {
    case .open, .phase: isDone
    default: true
    }
  }

  private func note(_ note: TrialNote) throws {
    try notes.write(contentsOf: try JSONEncoder().encode(note) + Data([10]))
  }

  private func perform(_ step: TrialStep) throws -> Bool {
    guard let plugin else {
      let plugin = try PluginLibrary(path: order.pluginPath)
      self.plugin = plugin
      if order.payloads == .host { inbox.withLock { $0.freedBy = plugin } }
      return true
    }
    switch step {
    case .load, .settle: break
    case .initialize: Self.unterminated(order.configJSON) { plugin.initialize($0, Int32($1)) }
    case .open(let entry):
      session += 1
      isReading = false
      responses.open(0, at: MonotonicClock.nanoseconds)
      return Self.unterminated(entry) {
        plugin.registerSessionStream(session, $0, UInt32($1), receive)
      }
    case .phase(let number):
      start(number)
      return try waitForEnd(number, within: limit)
    case .event(let number):
      start(number)
      return try waitForEnd(number, within: Self.shortWait)
    case .untilRead(let number):
      if isReading { return true }
      start(number)
      _ = try waitForEnd(number, within: limit, answersReads: false)
      return isReading
    case .close: plugin.closeSessionStream(session)
    case .shutdown: plugin.shutdown()
    }
    return true
  }

  private var limit: Duration { .seconds(order.limitSeconds) }

  private func start(_ number: UInt8) {
    send(NylonFfiBuffer(sid: session, phase: number, method: 0, ptr: nil, len: 0))
  }

  private func send(_ event: NylonFfiBuffer) {
    var event = event
    plugin?.eventStream(&event)
  }

  /// Handles calls until the phase ends.
  private func waitForEnd(_ number: UInt8, within limit: Duration, answersReads: Bool = true) throws -> Bool {
    let deadline = Deadline.after(limit)
    while let received = try take(until: deadline) {
      if received.call.ends(number) { return true }
      isReading = !answersReads && received.call.isRead && received.call.sid == session
      if isReading { return false }
      handle(received)
    }
    return false
  }

  /// The next call, noted; nil when none comes in time.
  private func take(until deadline: Deadline) throws -> ReceivedCall? {
    if pending.isEmpty {
      _ = inbox.wait(until: deadline) { $0.calls.isEmpty ? nil : true }
      inbox.withLock { swap(&$0.calls, &pending) }
      pending.reverse()
    }
    // A plugin that calls without end must not keep the host.
    guard Deadline.now < deadline, var received = pending.popLast() else { return nil }
    received.call.session = session
    if received.call.thread == hostThread { received.call.thread = 0 }
    try note(.call(received.call))
    return received
  }

  /// Answers a read, and does what else was called.
  private func handle(_ received: ReceivedCall) {
    guard received.call.sid == session else { return }
    let method = Nylon.Method(rawValue: received.call.method)
    received.payload.withUnsafeBytes { payload in
      guard method.isRead else {
        responses.apply(method, payload, slot: 0)
        return
      }
      _ = responses.answer(method, payload, slot: 0) { answer in
        let bytes = order.readsAreEmpty ? UnsafeRawBufferPointer(start: nil, count: 0) : answer
        send(
          NylonFfiBuffer(
            sid: session, phase: 0, method: method.rawValue,
            ptr: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), len: UInt64(bytes.count)))
      }
    }
  }

  /// Gives `body` a text without a NUL: behind it lies memory that nobody may read, so who looks for one crashes.
  private static func unterminated<Result>(
    _ text: String, _ body: (UnsafePointer<CChar>, Int) -> Result
  ) -> Result {
    let bytes = Array(text.utf8)
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let room = (bytes.count + page - 1) / page * page
    // It is never given back: the interface does not say how long a plugin may keep the pointer.
    guard
      let memory = mmap(nil, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | Int32(MAP_ANONYMOUS), -1, 0),
      memory != MAP_FAILED
    else { preconditionFailure("no memory for \(room + page) bytes") }
    mprotect(memory + room, page, PROT_NONE)
    let start = memory + (room - bytes.count)
    start.copyMemory(from: bytes, byteCount: bytes.count)
    return body(start.assumingMemoryBound(to: CChar.self), bytes.count)
  }
}
