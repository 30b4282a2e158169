import Synchronization

/// Threads for handlers that wait: the loop hands messages over, the threads publish the replies.
///
/// `@unchecked`: `queue`, `busy` and `isStopping` are touched under `parker` only.
final class NATSPool<Job: Sendable>: @unchecked Sendable {
  private let parker = Parker()
  private var queue = Ring<Job>()
  private var busy = 0
  private var isStopping = false
  private let threads = Mutex<[WorkerThread]>([])

  /// Starts the threads, each with a runner of its own; false when the system gives none.
  func start(_ count: Int, _ makeServe: @Sendable @escaping () -> (Job) -> Void) -> Bool {
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

  func submit(_ job: Job) {
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

  private func take() -> Job? {
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
