import Nylon
import Synchronization

/// Threads for handlers that wait: the loop hands messages over, the threads publish the replies.
///
/// `@unchecked`: `queue`, `busy` and `isStopping` are touched under `parker` only.
final class HandlerThreads: @unchecked Sendable {
  private let parker = Parker()
  private var queue = Ring<WireJob>()
  private var busy = 0
  private var isStopping = false
  private let threads = Mutex<[WorkerThread]>([])

  /// Starts the threads, each with a runner of its own; false when the system gives none.
  func start(_ count: Int, _ makeServe: @Sendable @escaping () -> (WireJob) -> Void) -> Bool {
    let started = (0..<count).map { _ in
      WorkerThread { [self] in
        let serve = makeServe()
        while let job = take() {
          serve(job)
          done()
        }
      }
    }
    threads.withLock { $0 = started.compactMap { $0 } }
    return started.allSatisfy { $0 != nil }
  }

  func submit(_ job: WireJob) {
    parker.lock()
    queue.append(job)
    parker.signal()
    parker.unlock()
  }

  var isIdle: Bool {
    parker.lock()
    defer { parker.unlock() }
    return queue.count == 0 && busy == 0
  }

  /// Ends the threads when each has done what it has.
  func stop() {
    parker.lock()
    isStopping = true
    parker.broadcast()
    parker.unlock()
    for thread in threads.withLock({ $0 }) { thread.join() }
  }

  private func take() -> WireJob? {
    parker.lock()
    defer { parker.unlock() }
    while true {
      if let job = queue.popFirst() {
        busy += 1
        return job
      }
      if isStopping { return nil }
      parker.wait()
    }
  }

  private func done() {
    parker.lock()
    busy -= 1
    parker.unlock()
  }
}

/// A request on its way to a handler thread, with bytes of its own.
struct WireJob: Sendable {
  private let payload: [UInt8]
  private let reply: [UInt8]
  private let phase: Phase?
  private let readAt: UInt64

  init(payload: UnsafeRawBufferPointer, reply: UnsafeRawBufferPointer, phase: Phase?, readAt: UInt64) {
    self.payload = Array(payload)
    self.reply = Array(reply)
    self.phase = phase
    self.readAt = readAt
  }

  /// Runs the handler and leaves its reply in the box.
  func serve(with runner: RequestRunner, into box: ReplyBox) {
    payload.withUnsafeBytes { bytes in
      reply.withUnsafeBytes { subject in
        let answer =
          phase.map { runner.reply(to: bytes, phase: $0, readAt: readAt) } ?? runner.lifecycleReply(to: bytes)
        if runner.isStamping { box.stampsReads.store(true, ordering: .relaxed) }
        guard !subject.isEmpty else { return }
        let most = box.longestPayload.load(ordering: .relaxed)
        box.add(
          answer.count <= most
            ? answer : runner.tooLargeReply(to: bytes, byteCount: answer.count, byteCountMost: most),
          to: subject)
      }
    }
  }
}
