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
  enum Outcome {
    case answer(UnsafeRawBufferPointer)
    case closed
    case timedOut
  }

  // Reads have numbers from 3 on, so that no key equals a mark, not even for session 0.
  private static let nothing: UInt64 = 0
  private static let filling: UInt64 = 1
  private static let ready: UInt64 = 2

  private let awaited = Atomic<UInt64>(nothing)
  private let isClosed = Atomic<Bool>(false)
  private let asleep = Atomic<Bool>(false)
  private let parker = Parker()
  private var storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
  private var count = 0

  deinit { storage.deallocate() }

  private static func key(_ sessionID: UInt32, _ method: UInt32) -> UInt64 {
    UInt64(sessionID) << 32 | UInt64(method)
  }

  /// A phase begins. With the lock held under which sessions are closed, as for `close`.
  func begin() { isClosed.store(false, ordering: .sequentiallyConsistent) }

  /// The session of the phase that runs is closed: releases its reader, and every later one.
  func close() {
    isClosed.store(true, ordering: .sequentiallyConsistent)
    let key = awaited.load(ordering: .sequentiallyConsistent)
    guard key > Self.ready else { return }
    let nothing = Self.nothing
    if awaited.compareExchange(expected: key, desired: nothing, ordering: .sequentiallyConsistent)
      .exchanged
    {
      wake()
    }
  }

  /// Says what is waited for; before the host is asked, for it may answer at once. False when
  /// the session is closed: nobody would answer.
  func expect(sessionID: UInt32, method: Method) -> Bool {
    awaited.store(Self.key(sessionID, method.rawValue), ordering: .sequentiallyConsistent)
    return !isClosed.load(ordering: .sequentiallyConsistent)
  }

  /// Takes the host's answer; one that nobody waits for is ignored.
  func fulfil(sessionID: UInt32, method: Method, data: UnsafeRawBufferPointer) {
    guard method.isRead else { return }
    let key = Self.key(sessionID, method.rawValue)
    guard
      awaited.compareExchange(expected: key, desired: Self.filling, ordering: .acquiring).exchanged
    else { return }
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
    guard asleep.load(ordering: .sequentiallyConsistent) else { return }
    parker.lock()
    parker.signal()
    parker.unlock()
  }

  /// Waits for the answer: a short while awake, then asleep. The bytes are valid until `expect`.
  func wait(timeoutMilliseconds: Int) -> Outcome {
    for _ in 0..<Spin.turns {
      if let outcome = outcome { return outcome }
    }
    let deadline = Parker.deadline(milliseconds: timeoutMilliseconds)
    parker.lock()
    defer { parker.unlock() }
    asleep.store(true, ordering: .sequentiallyConsistent)
    defer { asleep.store(false, ordering: .relaxed) }
    while true {
      if let outcome = outcome { return outcome }
      if !parker.wait(until: deadline) { return giveUp() }
    }
  }

  private var outcome: Outcome? {
    switch awaited.load(ordering: .sequentiallyConsistent) {
    case Self.ready: .answer(UnsafeRawBufferPointer(rebasing: storage[..<count]))
    case Self.nothing: .closed
    default: nil
    }
  }

  /// The time is over, unless the answer is being written right now.
  private func giveUp() -> Outcome {
    while true {
      if let outcome = outcome { return outcome }
      let key = awaited.load(ordering: .acquiring)
      if key == Self.filling {
        sched_yield()
      } else if key > Self.ready {
        let nothing = Self.nothing
        if awaited.compareExchange(expected: key, desired: nothing, ordering: .acquiringAndReleasing)
          .exchanged
        {
          return .timedOut
        }
      }
    }
  }
}

/// How a thread waits before it sleeps: it looks again for a few microseconds, for a host that
/// answers from another core. Longer than an answer takes there, and shorter than the two
/// switches that a sleep costs. It does not yield: that gives the core away for much longer.
enum Spin {
  /// Looks before sleep.
  static let turns = 4000
}
