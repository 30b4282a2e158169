// The process of a trial: it acts as the host of one plugin, step by step, and reports all calls.
import CNylonABI
import Engine
import Foundation
import Lab
import Nylon
import Scenario

/// One step of a trial.
enum TrialStep: Codable, Sendable, Hashable {
  case load, initialize
  /// Opens a session for this entry, which the following steps use.
  case open(String)
  /// Starts a phase and waits for its end. If it does not end, the trial is over.
  case phase(UInt8)
  /// Starts a phase that need not be answered, and waits briefly.
  case event(UInt8)
  /// Starts a phase and leaves the handler's read unanswered. Does nothing when a read is already pending.
  case untilRead(UInt8)
  case close, shutdown
  /// Waits for calls that should not arrive; they count towards the previous step.
  case settle

  /// The call or phase in progress, for messages.
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

/// The input of a trial's process, on standard input.
struct TrialOrder: Codable, Sendable {
  var pluginPath, configJSON: String
  var steps: [TrialStep]
  /// Whether reads are answered with empty data.
  var readsAreEmpty = false
  /// The assumed owner of payloads, tested with a malloc that detects double frees; nil when ownership is not
  /// tested.
  var payloads: PayloadOwner?
  /// The time limit of a phase.
  var limitSeconds: Double
}

/// A note of a trial's process, one per line, written at once so that a crash of the plugin loses none.
enum TrialNote: Codable, Sendable {
  case begin(TrialStep)
  case call(PluginCall)
  /// The step is over. The value says whether the session was opened, the phase ended or the handler read.
  case end(Bool)
  /// The trial is over; the error says why the plugin could not be loaded.
  case over(PluginError?)
}

/// One call from the plugin to the host.
struct PluginCall: Codable, Sendable, Equatable {
  var sid: UInt32
  /// The session in progress.
  var session: UInt32
  var phase: UInt8
  var method: UInt32
  /// Whether the payload pointer was not null, even for a payload of length 0.
  var hasPointer: Bool
  /// The calling thread; 0 for the host's own.
  var thread: UInt64
  /// A description of an invalid method or payload; nil when both are valid.
  var fault: String?

  var name: String { Nylon.Method(rawValue: method).description }
  var isRead: Bool { Nylon.Method(rawValue: method).isRead }
  /// Whether the call ends a phase of the session in progress.
  var isEnd: Bool { sid == session && Nylon.Method(rawValue: method).endsPhase }
  func ends(_ number: UInt8) -> Bool { isEnd && (phase == 0 || phase == number) }
}

extension Nylon.Method {
  /// Returns why a plugin must not call the method with this payload; nil when it may.
  func fault(phase: UInt8, payload: UnsafeRawBufferPointer) -> String? {
    if !isKnown { return "\(self) is unknown" }
    if (350...354).contains(rawValue) { return "\(self) is for the host to call" }
    if isRead, phase != 0 { return "\(self) names phase \(phase); a read names 0" }
    switch self {
    case .setResponseHeader where HeaderKeyValueCodec.decode(payload) == nil:
      return "\(self): \(payload.count) bytes are not a HeaderKeyValue"
    case .setResponseStatus where payload.count != 2:
      return "\(self): \(payload.count) bytes; a status has 2, big-endian"
    case .removeResponseHeader, .readRequestHeader:
      let isName = !payload.isEmpty && String(validating: payload, as: UTF8.self) != nil
      return isName ? nil : "\(self): the payload is not a header name"
    default: return nil
    }
  }
}

enum TrialProcess {
  static func main() throws {
    let input = FileHandle.standardInput.readDataToEndOfFile()
    guard let order = try? JSONDecoder().decode(TrialOrder.self, from: input) else {
      throw LoadFailure(
        kind: .failed, message: "__conform expects an order on standard input; use: nylon-bench conform")
    }
    let descriptor = MeasureProcess.number(LoadProcess.documentVariable) ?? STDOUT_FILENO
    try TrialHost(order, notes: FileHandle(fileDescriptor: descriptor)).run()
    // Do not wait for the plugin's threads and exit handlers: all notes are written.
    _exit(0)
  }
}

/// A call as received, on any thread.
private struct ReceivedCall: Sendable {
  var call: PluginCall
  var payload: [UInt8]
}

private struct Inbox: Sendable {
  /// The calls that have not been handled yet.
  var calls: [ReceivedCall] = []
  /// The library whose `plugin_free` releases payloads; nil when the plugin owns them.
  var freedBy: PluginLibrary?
}

/// One inbox per process, because the callback has no user pointer.
private let inbox = Guarded(Inbox())

/// The callback. As in Nylon, it copies the payload and never answers on the plugin's stack.
private func receive(_ buffer: UnsafePointer<NylonFfiBuffer>?) {
  let event = buffer?.pointee ?? NylonFfiBuffer()
  let method = Nylon.Method(rawValue: event.method)
  // Do not read payloads over 1 GiB: such a length is certainly invalid.
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
    // Drop calls over this limit, so that a plugin that calls endlessly does not fill the memory.
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
  /// Calls taken from the inbox, in reverse order.
  private var pending: [ReceivedCall] = []
  private var session: UInt32 = 1000
  /// Whether a read of the handler is pending.
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

  /// Runs a step and returns whether the trial can continue.
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
      return Self.unterminated(entry) { plugin.registerSessionStream(session, $0, UInt32($1), receive) }
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

  /// Takes and reports the next call; nil when none arrives in time.
  private func take(until deadline: Deadline) throws -> ReceivedCall? {
    if pending.isEmpty {
      _ = inbox.wait(until: deadline) { $0.calls.isEmpty ? nil : true }
      inbox.withLock { swap(&$0.calls, &pending) }
      pending.reverse()
    }
    // Check the deadline even with calls pending: a plugin may call endlessly.
    guard Deadline.now < deadline, var received = pending.popLast() else { return nil }
    received.call.session = session
    if received.call.thread == hostThread { received.call.thread = 0 }
    try note(.call(received.call))
    return received
  }

  /// Answers a read, or applies any other call.
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

  /// Passes `body` a text without a terminating NUL, followed by an inaccessible page, so that a plugin that
  /// reads past the end crashes.
  private static func unterminated<Result>(
    _ text: String, _ body: (UnsafePointer<CChar>, Int) -> Result
  ) -> Result {
    let bytes = Array(text.utf8)
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let room = (bytes.count + page - 1) / page * page
    // Never unmapped: the interface does not say how long a plugin may keep the pointer.
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
