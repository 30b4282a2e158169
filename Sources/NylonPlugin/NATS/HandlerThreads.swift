import CLinux
import Glibc
import Nylon
import Synchronization

/// Threads for handlers that wait: the loop hands messages over, the threads publish the replies.
///
/// `@unchecked`: `queue`, `busy` and `isStopping` are touched under `parker` only, `threads` by the loop alone.
final class HandlerThreads: @unchecked Sendable {
  private let parker = Parker()
  private var queue = Ring<WireJob>()
  /// Threads that do not wait for a job.
  private var busy: Int
  private var isStopping = false
  private var threads: [WorkerThread] = []

  /// Starts the threads, each with a runner of its own; nil when the system gives none.
  init?(count: Int, _ plugin: Plugin, _ table: HandlerTable, _ box: ReplyBox) {
    busy = count
    threads = (0..<count).compactMap { _ in
      WorkerThread { [self] in
        let runner = RequestRunner(plugin: plugin, table: table)
        while let job = take() {
          job.payload.withUnsafeBytes { payload in
            let answer = runner.answer(to: payload, phase: job.phase, readAt: job.readAt, most: job.most)
            if runner.isStamping { box.stampsReads.store(true, ordering: .relaxed) }
            if !job.reply.isEmpty { job.reply.withUnsafeBytes { box.add(answer, to: $0) } }
          }
        }
      }
    }
    if threads.count == count { return }
    stop()
    return nil
  }

  func submit(_ job: WireJob) {
    parker.locked {
      queue.append(job)
      parker.signal()
    }
  }

  var isIdle: Bool { parker.locked { queue.count == 0 && busy == 0 } }

  /// Ends the threads when each has done what it has.
  func stop() {
    parker.locked {
      isStopping = true
      parker.broadcast()
    }
    for thread in threads { thread.join() }
  }

  private func take() -> WireJob? {
    parker.lock()
    defer { parker.unlock() }
    busy -= 1
    while true {
      if let job = queue.popFirst() {
        busy += 1
        return job
      }
      if isStopping { return nil }
      parker.wait()
    }
  }
}

/// A request on its way to a handler thread, with bytes of its own.
struct WireJob: Sendable {
  let payload: [UInt8]
  let reply: [UInt8]
  let phase: Phase?
  let readAt: UInt64
  /// Bytes of a reply, at most.
  let most: Int
}

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
  private(set) var start = malloc(4096)
  private var capacity = 4096
  var count = 0

  /// Room for so many bytes behind the last one.
  mutating func room(_ more: Int) -> UnsafeMutableRawPointer? {
    if count + more > capacity {
      capacity = max(2 * capacity, count + more)
      start = realloc(start, capacity)
    }
    return start.map { $0 + count }
  }
}

/// What handler threads have for the loop's thread: replies to be written, that it is to stop, and that it is to wake.
///
/// `@unchecked`: `spare` is the loop's thread's alone, `replies` and `isTaken` are
/// touched under `parker` only, the rest is atomic.
final class ReplyBox: @unchecked Sendable {
  /// Bytes of replies that wait, at most; a handler thread with one more waits too.
  private static let mostBytes = 8 << 20

  /// Whether a host has asked for stamps: only then the clock is read for each turn.
  let stampsReads = Atomic<Bool>(false)
  /// Whether the loop is to finish what it has and to stop.
  let isStopping = Atomic<Bool>(false)
  /// Whether the connection was lost for good.
  let isLost = Atomic<Bool>(false)
  private let parker = Parker()
  private var replies = ByteHeap()
  /// Whether somebody takes replies now: without a connection there is nobody, and they are dropped.
  private var isTaken = true
  private var spare = ByteHeap()
  /// An eventfd, readable when the loop is to wake.
  let descriptor: Int32
  private let isWoken = Atomic<Bool>(false)

  /// nil when the system has no descriptors left.
  init?() {
    descriptor = eventfd(0, Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC))
    if descriptor < 0 { return nil }
  }

  deinit {
    Glibc.close(descriptor)
    Glibc.free(replies.start)
    Glibc.free(spare.start)
  }

  // MARK: From any thread

  /// Leaves a reply to be written; waits while too many wait already.
  func add(_ payload: UnsafeRawBufferPointer, to subject: UnsafeRawBufferPointer) {
    let most = Publication.byteCount(subject: subject.count, payload: payload.count)
    parker.locked {
      while isTaken, replies.count > 0, replies.count + most > Self.mostBytes { parker.wait() }
      if isTaken, let place = replies.room(most) {
        replies.count += Publication.write(payload, to: subject, at: place)
      }
    }
    wake()
  }

  /// Whether replies are taken from now on. Those that wait when they are not any more were for a connection
  /// that is gone.
  func setTaken(_ isTaken: Bool) {
    parker.locked {
      self.isTaken = isTaken
      if !isTaken { replies.count = 0 }
      parker.broadcast()
    }
  }

  /// Makes the loop's turn end soon; cheap when it is about to anyway.
  private func wake() {
    if !isWoken.exchange(true, ordering: .acquiringAndReleasing) { eventfd_write(descriptor, 1) }
  }

  func stop() {
    isStopping.store(true, ordering: .releasing)
    wake()
  }

  // MARK: On the loop's thread

  /// Whether no reply waits.
  var isEmpty: Bool { parker.locked { replies.count == 0 } }

  /// The wake-up was seen.
  func woken() {
    var count: eventfd_t = 0
    eventfd_read(descriptor, &count)
    _ = isWoken.exchange(false, ordering: .acquiringAndReleasing)
  }

  /// Gives all replies that wait.
  func take(_ body: (UnsafeRawBufferPointer) -> Void) {
    parker.locked {
      swap(&replies, &spare)
      parker.broadcast()
    }
    guard spare.count > 0 else { return }
    body(UnsafeRawBufferPointer(start: spare.start, count: spare.count))
    spare.count = 0
  }
}
