import Glibc
import Nylon
import Synchronization

/// A publication as it goes over the wire: `PUB subject 312`, CR LF, the payload, CR LF.
enum Publication {
  /// Bytes that it takes, at most.
  @inline(__always)
  static func byteCount(subject: Int, payload: Int) -> Int { 4 + subject + 1 + 20 + 2 + payload + 2 }

  /// Writes it; bytes that it takes.
  @inline(__always)
  static func write(
    _ payload: UnsafeRawBufferPointer, to subject: UnsafeRawBufferPointer, at place: UnsafeMutableRawPointer
  ) -> Int {
    place.storeBytes(of: UInt32(bigEndian: 0x5055_4220), as: UInt32.self)  // "PUB "
    var end = place + 4
    if let start = subject.baseAddress { memcpy(end, start, subject.count) }
    end += subject.count
    end.storeBytes(of: 0x20, as: UInt8.self)
    end = decimal(payload.count, at: end + 1)
    end.storeBytes(of: UInt16(bigEndian: 0x0D0A), as: UInt16.self)
    end += 2
    if let start = payload.baseAddress { memcpy(end, start, payload.count) }
    end += payload.count
    end.storeBytes(of: UInt16(bigEndian: 0x0D0A), as: UInt16.self)
    return end + 2 - place
  }

  /// Writes a number; where it ends.
  @inline(__always)
  private static func decimal(_ number: Int, at place: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    var digits = 1
    var limit = 10
    while number >= limit {
      digits += 1
      limit *= 10
    }
    var rest = number
    var digit = digits
    while digit > 0 {
      digit -= 1
      place.storeBytes(of: UInt8(truncatingIfNeeded: 48 + rest % 10), toByteOffset: digit, as: UInt8.self)
      rest /= 10
    }
    return place + digits
  }
}

/// Bytes that grow at their end and are emptied at once.
private struct ByteHeap {
  private(set) var start = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 16)
  private var capacity = 4096
  private(set) var count = 0

  /// Room for so many bytes behind the last one.
  mutating func room(_ more: Int) -> UnsafeMutableRawPointer {
    if count + more > capacity {
      capacity = max(2 * capacity, count + more)
      let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
      memcpy(larger, start, count)
      start.deallocate()
      start = larger
    }
    return start + count
  }

  mutating func add(_ more: Int) { count += more }
  mutating func clear() { count = 0 }
  func deallocate() { start.deallocate() }
}

/// What handler threads have for the loop's thread: replies to be written, and that it is to wake.
///
/// `@unchecked`: `spare` is the loop's thread's alone, `replies` and `isTaken` are
/// touched under `parker` only, the rest is atomic.
final class ReplyBox: @unchecked Sendable {
  /// Bytes of replies that wait, at most; a handler thread with one more waits too.
  private static let mostBytes = 8 << 20
  /// Complaints of the broker that are told.
  private static let mostComplaints = 10

  /// Bytes of a payload, at most, as the broker says.
  let longestPayload = Atomic<Int>(1 << 20)
  /// Whether a host has asked for stamps: only then the clock is read for each turn.
  let stampsReads = Atomic<Bool>(false)
  private let parker = Parker()
  private var replies = ByteHeap()
  /// Whether somebody takes replies now: without a connection there is nobody, and they are dropped.
  private var isTaken = true
  private var spare = ByteHeap()
  private let complaints = Atomic<Int>(0)
  /// Wakes the loop.
  let pipe: WakePipe

  /// nil when the system has no descriptors left.
  init?() {
    guard let pipe = WakePipe() else { return nil }
    self.pipe = pipe
  }

  deinit {
    replies.deallocate()
    spare.deallocate()
  }

  // MARK: From any thread

  /// Leaves a reply to be written; waits while too many wait already.
  func add(_ payload: UnsafeRawBufferPointer, to subject: UnsafeRawBufferPointer) {
    let most = Publication.byteCount(subject: subject.count, payload: payload.count)
    parker.lock()
    while isTaken, replies.count > 0, replies.count + most > Self.mostBytes { parker.wait() }
    if isTaken {
      let place = replies.room(most)
      replies.add(Publication.write(payload, to: subject, at: place))
    }
    parker.unlock()
    pipe.wake()
  }

  /// Whether replies are taken from now on. Those that wait when they are not any more were for a connection
  /// that is gone.
  func setTaken(_ isTaken: Bool) {
    parker.lock()
    self.isTaken = isTaken
    if !isTaken { replies.clear() }
    parker.broadcast()
    parker.unlock()
  }

  /// Tells what the broker complains of, a few times: one slow minute must not fill the disk.
  func complain(_ words: String) {
    if complaints.add(1, ordering: .relaxed).newValue <= Self.mostComplaints { logLine("error: \(words)") }
  }

  // MARK: On the loop's thread

  /// Whether no reply waits.
  var isEmpty: Bool {
    parker.lock()
    defer { parker.unlock() }
    return replies.count == 0
  }

  /// Gives all replies that wait.
  func take(_ body: (UnsafeRawBufferPointer) -> Void) {
    parker.lock()
    swap(&replies, &spare)
    parker.broadcast()
    parker.unlock()
    guard spare.count > 0 else { return }
    body(UnsafeRawBufferPointer(start: spare.start, count: spare.count))
    spare.clear()
  }
}

/// A descriptor that becomes readable when somebody wants its owner's loop to turn.
final class WakePipe: Sendable {
  private let isWoken = Atomic<Bool>(false)
  /// Readable when the loop is to wake.
  let descriptor: Int32
  private let writeEnd: Int32

  /// nil when the system has no descriptors left.
  init?() {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return nil }
    for end in ends {
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
    }
    (descriptor, writeEnd) = (ends[0], ends[1])
  }

  deinit {
    Glibc.close(descriptor)
    Glibc.close(writeEnd)
  }

  /// Makes the loop's turn end soon, from any thread; cheap when it is about to anyway.
  func wake() {
    if isWoken.exchange(true, ordering: .acquiringAndReleasing) { return }
    var byte: UInt8 = 1
    _ = write(writeEnd, &byte, 1)
  }

  /// The wake-up was seen; on the loop's thread.
  func woken() {
    var bytes: (UInt64, UInt64) = (0, 0)
    while read(descriptor, &bytes, 16) == 16 {}
    _ = isWoken.exchange(false, ordering: .acquiringAndReleasing)
  }
}
