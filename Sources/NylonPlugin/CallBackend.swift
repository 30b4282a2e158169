import CLinux
import FoundationEssentials
import Glibc
import Nylon
import Synchronization

/// The way of a handler's calls to the host.
protocol CallPort {
  static var transport: Transport { get }
  func send(_ method: Method, _ payload: UnsafeRawBufferPointer, in phase: Phase, of sessionID: UInt32)
}

/// A phase whose handler's calls go to the host at once, each by itself; a read waits for the host's answer.
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

  /// Asks the host and waits; the answer's bytes are valid until the next read.
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
    // A host that has none to tell may answer nothing at all.
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

/// Where the host's answer to a read meets the handler's thread that waits for it.
///
/// One per thread, as a thread waits for one answer at a time. `awaited` is the whole protocol:
/// the key of the read that waits, or one of three marks. No lock is held while the host is called,
/// so it may answer from any thread, or from inside the callback.
///
/// `@unchecked`: `storage` and `count` belong to the thread that moved `awaited` to `filling`, and to the
/// reader again from `ready` on.
final class ReadMailbox: @unchecked Sendable {
  /// Looks before sleep, for a host that answers from another core: longer than an answer takes there, and shorter
  /// than the two switches that a sleep costs. A thread does not yield meanwhile: that gives the core away for much
  /// longer.
  static let spins = 4000

  // Reads have numbers from 3 on, so that no key equals a mark, not even for session 0.
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

  /// `spins`: looks before sleep.
  init(timeoutMilliseconds: Int, spins: Int = ReadMailbox.spins) {
    self.timeoutMilliseconds = timeoutMilliseconds
    self.spins = spins
  }

  deinit { storage.deallocate() }

  private static func key(_ sessionID: UInt32, _ method: Method) -> UInt64 {
    UInt64(sessionID) << 32 | UInt64(method.rawValue)
  }

  /// A phase begins. With the lock held under which sessions are closed, as for `close`.
  func begin() { isClosed.store(false, ordering: .sequentiallyConsistent) }

  /// The session of the phase that runs is closed: releases its reader, and every later one.
  func close() {
    isClosed.store(true, ordering: .sequentiallyConsistent)
    let key = awaited.load(ordering: .sequentiallyConsistent)
    if key > Self.ready, move(from: key, to: Self.nothing) { wake() }
  }

  /// Takes the step unless another thread was faster.
  private func move(from old: UInt64, to new: UInt64) -> Bool {
    awaited.compareExchange(expected: old, desired: new, ordering: .sequentiallyConsistent).exchanged
  }

  /// Says what is waited for; before the host is asked, for it may answer at once. False when
  /// the session is closed: nobody would answer.
  func expect(sessionID: UInt32, method: Method) -> Bool {
    awaited.store(Self.key(sessionID, method), ordering: .sequentiallyConsistent)
    return !isClosed.load(ordering: .sequentiallyConsistent)
  }

  /// Takes the host's answer; one that nobody waits for is ignored.
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

  /// Waits for the answer: a short while awake, then asleep. The bytes are valid until `expect`.
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

  /// nil as long as there is none.
  private func outcome(_ method: Method) throws(PluginError) -> UnsafeRawBufferPointer? {
    switch awaited.load(ordering: .sequentiallyConsistent) {
    case Self.ready: return UnsafeRawBufferPointer(rebasing: storage[..<count])
    case Self.nothing: throw .sessionClosed(method: method)
    default: return nil
    }
  }

  /// The time is over; false when the answer is being written right now, or has come.
  private func giveUp() -> Bool {
    let key = awaited.load(ordering: .acquiring)
    if key == Self.filling { sched_yield() }
    return key > Self.ready && move(from: key, to: Self.nothing)
  }
}
