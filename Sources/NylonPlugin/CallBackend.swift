import CLinux
import FoundationEssentials
import Glibc
import Nylon
import Synchronization

/// Carries a handler's calls to the host.
protocol CallPort {
  static var transport: Transport { get }
  func send(_ method: Method, _ payload: UnsafeRawBufferPointer, in phase: Phase, of sessionID: UInt32)
}

/// A backend that sends each call to the host immediately; a read blocks until the host answers.
final class CallBackend<Port: CallPort>: PhaseBackend {
  private let mailbox: ReadMailbox
  private let writer = FlatBufferWriter()
  var port: Port
  var sessionID: UInt32 = 0
  var phase = Phase.zero

  init(_ mailbox: ReadMailbox, port: Port) {
    self.mailbox = mailbox
    self.port = port
  }

  var transport: Transport { Port.transport }

  private func send(_ method: Method, _ payload: UnsafeRawBufferPointer, in phase: Phase) {
    port.send(method, payload, in: phase, of: sessionID)
  }

  private func send(_ method: Method, _ bytes: [UInt8] = []) {
    bytes.withUnsafeBytes { send(method, $0, in: phase) }
  }

  private func send(_ method: Method, text: String, in phase: Phase) {
    var text = text
    text.withUTF8 { send(method, UnsafeRawBufferPointer($0), in: phase) }
  }

  /// Sends a read to the host and waits for the answer, whose bytes are valid until the next read.
  private func read(_ method: Method, _ argument: String = "") throws(PluginError) -> UnsafeRawBufferPointer {
    guard mailbox.expect(sessionID: sessionID, method: method) else {
      throw .sessionClosed(method: method)
    }
    send(method, text: argument, in: .zero)
    return try mailbox.answer(to: method)
  }

  func text(_ method: Method, _ argument: String) throws(PluginError) -> String {
    String(decoding: try read(method, argument), as: UTF8.self)
  }

  func bytes(_ method: Method) throws(PluginError) -> [UInt8] { [UInt8](try read(method)) }

  func headers(_ method: Method) throws(PluginError) -> [KeyValue] {
    let bytes = try read(method)
    // A host without headers may send an empty answer.
    if bytes.isEmpty { return [] }
    do {
      return try HeaderTable.decode(bytes)
    } catch {
      throw .badAnswer(method: method, wanted: "a NylonHttpHeaders table")
    }
  }

  func params() throws(PluginError) -> [String: String] {
    let json = try read(.readRequestParams)
    if json.isEmpty { return [:] }
    guard let params = try? JSONDecoder().decode([String: String].self, from: Data(json)) else {
      throw .badAnswer(method: .readRequestParams, wanted: "a JSON object of strings")
    }
    return params
  }

  func setHeader(_ name: String, _ value: String) throws(PluginError) {
    do {
      let pair = try HeaderKeyValueCodec.encode(key: name, value: value, with: writer)
      send(.setResponseHeader, pair, in: phase)
    } catch {
      throw .tooLarge(error)
    }
  }

  func removeHeader(_ name: String) { send(.removeResponseHeader, text: name, in: phase) }

  func setStatus(_ status: UInt16) {
    withUnsafeBytes(of: status.bigEndian) { send(.setResponseStatus, $0, in: phase) }
  }

  func setBody(_ bytes: [UInt8]) { send(.setResponseFullBody, bytes) }

  func streamHeader() { send(.setResponseStreamHeader) }

  func streamData(_ bytes: [UInt8]) { send(.setResponseStreamData, bytes) }

  func finish(_ method: Method) { send(method) }
}

/// Passes the host's answer to the handler thread that waits for it.
///
/// Each thread has one mailbox, because a thread waits for only one answer at a time. `awaited` is the whole
/// protocol: it holds the key of the pending read, or one of three marks. No lock is held during a call to
/// the host, so the host may answer from any thread, or from inside the callback.
///
/// `@unchecked`: `storage` and `count` belong to the thread that moved `awaited` to `filling`; from `ready`
/// on they belong to the reader again.
final class ReadMailbox: @unchecked Sendable {
  /// The number of polls before the thread sleeps. Polling lasts longer than a host on another core takes to
  /// answer, and shorter than the two context switches of a sleep. The thread does not yield while polling,
  /// because a yield gives the core away for much longer.
  static let spins = 4000

  // Read methods are numbered from 3, so that no key equals a mark, not even for session 0.
  private static let nothing: UInt64 = 0
  private static let filling: UInt64 = 1
  private static let ready: UInt64 = 2

  private let awaited = Atomic<UInt64>(nothing)
  private let isClosed = Atomic<Bool>(false)
  private let asleep = Atomic<Bool>(false)
  private let parker = Parker()
  private let timeoutMilliseconds: Int
  private let spins: Int
  private var storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
  private var count = 0

  /// - Parameter spins: The number of polls before the thread sleeps.
  init(timeoutMilliseconds: Int, spins: Int = ReadMailbox.spins) {
    self.timeoutMilliseconds = timeoutMilliseconds
    self.spins = spins
  }

  deinit { storage.deallocate() }

  private static func key(_ sessionID: UInt32, _ method: Method) -> UInt64 {
    UInt64(sessionID) << 32 | UInt64(method.rawValue)
  }

  /// Begins a phase. Like `close`, call this with the lock held that guards the sessions.
  func begin() { isClosed.store(false, ordering: .sequentiallyConsistent) }

  /// Closes the session of the current phase: releases its reader and fails every later read.
  func close() {
    isClosed.store(true, ordering: .sequentiallyConsistent)
    let key = awaited.load(ordering: .sequentiallyConsistent)
    if key > Self.ready, move(from: key, to: Self.nothing) { wake() }
  }

  /// Returns false if another thread changed `awaited` first.
  private func move(from old: UInt64, to new: UInt64) -> Bool {
    awaited.compareExchange(expected: old, desired: new, ordering: .sequentiallyConsistent).exchanged
  }

  /// Registers the awaited answer. Call this before sending the read, because the host may answer
  /// immediately. Returns false if the session is closed and no answer will come.
  func expect(sessionID: UInt32, method: Method) -> Bool {
    awaited.store(Self.key(sessionID, method), ordering: .sequentiallyConsistent)
    return !isClosed.load(ordering: .sequentiallyConsistent)
  }

  /// Stores the host's answer; an answer that no read waits for is ignored.
  func fulfil(sessionID: UInt32, method: Method, data: UnsafeRawBufferPointer) {
    guard method.isRead, move(from: Self.key(sessionID, method), to: Self.filling) else { return }
    if data.count > storage.count {
      storage.deallocate()
      storage = .allocate(byteCount: data.count * 2, alignment: 16)
    }
    storage.copyMemory(from: data)
    count = data.count
    awaited.store(Self.ready, ordering: .sequentiallyConsistent)
    wake()
  }

  private func wake() {
    if asleep.load(ordering: .sequentiallyConsistent) { parker.locked { parker.signal() } }
  }

  /// Polls briefly for the answer, then sleeps until it arrives. The bytes are valid until the next `expect`.
  func answer(to method: Method) throws(PluginError) -> UnsafeRawBufferPointer {
    for _ in 0..<spins {
      if let answer = try outcome(method) { return answer }
    }
    let deadline = kernel_now_ns() + UInt64(timeoutMilliseconds) * 1_000_000
    parker.lock()
    defer { parker.unlock() }
    asleep.store(true, ordering: .sequentiallyConsistent)
    defer { asleep.store(false, ordering: .relaxed) }
    var isOver = false
    while true {
      if let answer = try outcome(method) { return answer }
      if !isOver {
        isOver = !parker.wait(untilNanoseconds: deadline)
      } else if giveUp() {
        throw .readTimedOut(method: method, timeoutMilliseconds: timeoutMilliseconds)
      }
    }
  }

  /// Returns nil while there is no answer.
  private func outcome(_ method: Method) throws(PluginError) -> UnsafeRawBufferPointer? {
    switch awaited.load(ordering: .sequentiallyConsistent) {
    case Self.ready: return UnsafeRawBufferPointer(rebasing: storage[..<count])
    case Self.nothing: throw .sessionClosed(method: method)
    default: return nil
    }
  }

  /// Cancels the read after the timeout. Returns false if the answer is being written or has arrived.
  private func giveUp() -> Bool {
    let key = awaited.load(ordering: .acquiring)
    if key == Self.filling { sched_yield() }
    return key > Self.ready && move(from: key, to: Self.nothing)
  }
}
