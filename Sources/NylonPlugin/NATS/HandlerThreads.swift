import CLinux
import Glibc
import NATS
import Nylon
import Synchronization

/// A thread pool for handlers that block: the loop submits messages, and the threads publish the replies.
///
/// `@unchecked`: `queue`, `busy` and `isStopping` are accessed only with `parker` locked, `threads` only by
/// the loop.
final class HandlerThreads: @unchecked Sendable {
  private let parker = Parker()
  private var queue = Ring<WireJob>()
  private var queuedBytes = 0
  /// The number of threads that are not waiting for a job.
  private var busy: Int
  private var isStopping = false
  private var threads: [WorkerThread] = []
  /// Receive the answers to reads, one mailbox per thread; empty in a dialect without calls.
  private let mailboxes: [ReadMailbox]
  /// The maximum size of queued messages in bytes; 64 MB is the usual pending limit of NATS clients.
  static let mostQueuedBytes = 64 << 20
  /// The time in which the host must answer a read.
  private static let readTimeoutMilliseconds = 10_000

  /// Starts the threads, each with its own runner. Returns nil if the system cannot create them.
  init?(
    count: Int, _ plugin: Plugin, _ table: HandlerTable, _ dialect: WorkerDialect, _ ledger: HandlerLedger?,
    _ box: ReplyBox
  ) {
    busy = count
    let mailboxes = (0..<(dialect.dialect.traits.end == .call ? count : 0)).map { _ in
      // The answer comes through the broker: polling would take CPU time from the threads that deliver it.
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

  /// Returns false if the queue is full; the message is then dropped.
  func submit(_ job: WireJob) -> Bool {
    parker.locked {
      guard queuedBytes + job.byteCount <= Self.mostQueuedBytes || queue.count == 0 else { return false }
      queue.append(job)
      queuedBytes += job.byteCount
      parker.signal()
      return true
    }
  }

  /// Delivers a message that answers a read. Returns false if the message is not such an answer.
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

  /// Releases the handlers that wait for an answer, because no more answers will arrive.
  func closeMailboxes() {
    for mailbox in mailboxes { mailbox.close() }
  }

  var isIdle: Bool { parker.locked { queue.count == 0 && busy == 0 } }

  /// Ends the threads after each has finished the queued jobs.
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

/// A request queued for a handler thread, with its own copy of the bytes.
struct WireJob: Sendable {
  let payload: [UInt8]
  let reply: [UInt8]
  let phase: Phase?
  let readAt: UInt64
  /// The maximum size of a reply in bytes.
  let most: Int
  /// The job's memory in bytes, including the headers of the two arrays.
  var byteCount: Int { payload.count + reply.count + 128 }
}

/// A growing byte buffer that is emptied all at once.
private struct ByteHeap {
  private(set) var start = malloc(4096)
  private var capacity = 4096
  var count = 0

  /// Makes room for `more` bytes after the last one.
  mutating func room(_ more: Int) -> UnsafeMutableRawPointer? {
    if count + more > capacity {
      capacity = max(2 * capacity, count + more)
      start = realloc(start, capacity)
    }
    return start.map { $0 + count }
  }
}

/// Carries replies, stop requests and wake-ups from the handler threads to the loop's thread.
///
/// `@unchecked`: `spare` is accessed only by the loop's thread, `replies` and `isTaken` only with `parker`
/// locked; the rest is atomic.
final class ReplyBox: @unchecked Sendable {
  /// The maximum size of pending replies in bytes; a handler thread that exceeds it waits.
  private static let mostBytes = 8 << 20

  /// Whether a host has requested timestamps; the clock is read on each turn only then.
  let stampsReads = Atomic<Bool>(false)
  /// Whether the loop should finish its pending work and stop.
  let isStopping = Atomic<Bool>(false)
  /// Whether the loop should stop without finishing its pending work.
  let isAborted = Atomic<Bool>(false)
  /// Whether the connection is permanently lost.
  let isLost = Atomic<Bool>(false)
  private let parker = Parker()
  private var replies = ByteHeap()
  /// Whether the loop takes replies; without a connection they are dropped.
  private var isTaken = true
  private var spare = ByteHeap()
  /// An eventfd that becomes readable to wake the loop.
  let descriptor: Int32
  private let isWoken = Atomic<Bool>(false)

  /// Returns nil if the system cannot create an eventfd.
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

  /// Queues a reply; waits while the queue is full.
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

  /// Sets whether replies are accepted. Setting this to false drops the pending replies, which belong to a
  /// connection that no longer exists.
  func setTaken(_ isTaken: Bool) {
    parker.locked {
      self.isTaken = isTaken
      if !isTaken { replies.count = 0 }
      parker.broadcast()
    }
  }

  /// Wakes the loop; cheap if a wake-up is already pending.
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

  /// Whether no reply is pending.
  var isEmpty: Bool { parker.locked { replies.count == 0 } }

  /// Acknowledges the wake-up.
  func woken() {
    var count: eventfd_t = 0
    eventfd_read(descriptor, &count)
    _ = isWoken.exchange(false, ordering: .acquiringAndReleasing)
  }

  /// Passes all pending replies to `body`.
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
