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

  init(count: Int) { busy = count }

  /// Starts the threads, each with a runner of its own; false when the system gives none.
  func start(_ plugin: Plugin, _ table: HandlerTable, _ box: ReplyBox) -> Bool {
    let count = busy
    threads = (0..<count).compactMap { _ in
      WorkerThread { [self] in
        let runner = RequestRunner(plugin: plugin, table: table)
        while let job = take() { job.serve(with: runner, into: box) }
      }
    }
    return threads.count == count
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

  /// Runs the handler and leaves its reply in the box.
  fileprivate func serve(with runner: RequestRunner, into box: ReplyBox) {
    payload.withUnsafeBytes { bytes in
      let answer = runner.answer(to: bytes, phase: phase, readAt: readAt, most: most)
      if runner.isStamping { box.stampsReads.store(true, ordering: .relaxed) }
      if !reply.isEmpty { reply.withUnsafeBytes { box.add(answer, to: $0) } }
    }
  }
}
