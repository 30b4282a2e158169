import CLinux
import Glibc
import NATS
import Nylon
import Synchronization

/// Threads for handlers that wait: the loop hands messages over, the threads publish the replies.
///
/// `@unchecked`: `queue`, `busy` and `isStopping` are touched under `parker` only, `threads` by the loop alone.
final class HandlerThreads: @unchecked Sendable {
  private let parker = Parker()
  private var queue = Ring<WireJob>()
  private var queuedBytes = 0
  /// Threads that do not wait for a job.
  private var busy: Int
  private var isStopping = false
  private var threads: [WorkerThread] = []
  /// Where the answers to reads go, one for each thread; none in a dialect without calls.
  private let mailboxes: [ReadMailbox]
  /// Bytes of messages that wait for a thread, at most; NATS clients have 64 MB of them by habit.
  static let mostQueuedBytes = 64 << 20
  /// A host that has not answered a read by then will not.
  private static let readTimeoutMilliseconds = 10_000

  /// Starts the threads, each with a runner of its own; nil when the system gives none.
  init?(
    count: Int, _ plugin: Plugin, _ table: HandlerTable, _ dialect: WorkerDialect, _ ledger: HandlerLedger?,
    _ box: ReplyBox
  ) {
    busy = count
    let mailboxes = (0..<(dialect.dialect.traits.end == .call ? count : 0)).map { _ in
      // The answer comes by the broker: looking out for it would take the time of those who bring it.
      ReadMailbox(timeoutMilliseconds: Self.readTimeoutMilliseconds, spins: 0)
    }
    self.mailboxes = mailboxes
    threads = (0..<count).compactMap { place in
      WorkerThread { [self] in
        let calls =
          mailboxes.isEmpty
          ? nil : CallMaps(box, mailboxes[place], writesNilData: dialect.writesNilData)
        let runner = RequestRunner(
          plugin: plugin, table: table, dialect: dialect, ledger: ledger, calls: calls)
        while let job = take() {
          job.payload.withUnsafeBytes { payload in
            job.reply.withUnsafeBytes { reply in
              let subject = calls == nil ? reply : CallMaps.subject(of: payload, reply: reply)
              calls?.begin(subject: subject, most: job.most)
              let answer = runner.answer(to: payload, phase: job.phase, readAt: job.readAt, most: job.most)
              if runner.isStamping { box.stampsReads.store(true, ordering: .relaxed) }
              if let answer, !subject.isEmpty { box.add(answer, to: subject) }
              calls?.end()
            }
          }
        }
      }
    }
    if threads.count == count { return }
    stop()
    return nil
  }

  /// False when too many messages wait already: this one is dropped.
  func submit(_ job: WireJob) -> Bool {
    parker.locked {
      guard queuedBytes + job.byteCount <= Self.mostQueuedBytes || queue.count == 0 else { return false }
      queue.append(job)
      queuedBytes += job.byteCount
      parker.signal()
      return true
    }
  }

  /// Takes a message that answers a read; false when it is none.
  func takeAnswer(_ message: UnsafeRawBufferPointer) -> Bool {
    guard !mailboxes.isEmpty, let answer = try? MessageView(request: message), answer.phase == .zero,
      let method = answer.method.map(Method.init(rawValue:)), method.isRead, let session = answer.sessionID
    else { return false }
    let data = answer.data ?? UnsafeRawBufferPointer(start: nil, count: 0)
    for mailbox in mailboxes {
      mailbox.fulfil(sessionID: session, method: method, data: data)
    }
    return true
  }

  /// No answers come any more: releases the handlers that wait for one.
  func closeMailboxes() {
    for mailbox in mailboxes { mailbox.close() }
  }

  var isIdle: Bool { parker.locked { queue.count == 0 && busy == 0 } }

  /// Ends the threads when each has done what it has.
  func stop() {
    closeMailboxes()
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
        queuedBytes -= job.byteCount
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
  /// Bytes that it takes, two arrays' heads included.
  var byteCount: Int { payload.count + reply.count + 128 }
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
  /// Whether it is not even to finish what it has.
  let isAborted = Atomic<Bool>(false)
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
    let most = WirePublication.byteCount(subject: subject.count, payload: payload.count)
    parker.locked {
      while isTaken, replies.count > 0, replies.count + most > Self.mostBytes { parker.wait() }
      if isTaken, let place = replies.room(most) {
        replies.count += WirePublication.write(payload, to: subject, at: place)
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

  func abort() {
    isAborted.store(true, ordering: .releasing)
    stop()
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
