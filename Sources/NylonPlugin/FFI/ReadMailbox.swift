import Glibc
import Nylon
import Synchronization

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
  private var storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
  private var count = 0

  init(timeoutMilliseconds: Int) { self.timeoutMilliseconds = timeoutMilliseconds }

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
    for _ in 0..<Self.spins {
      if let answer = try outcome(method) { return answer }
    }
    let deadline = Parker.deadline(milliseconds: timeoutMilliseconds)
    parker.lock()
    defer { parker.unlock() }
    asleep.store(true, ordering: .sequentiallyConsistent)
    defer { asleep.store(false, ordering: .relaxed) }
    var isOver = false
    while true {
      if let answer = try outcome(method) { return answer }
      if !isOver {
        isOver = !parker.wait(until: deadline)
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
