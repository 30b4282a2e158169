import Glibc

/// A mutex with a condition variable, on which a thread sleeps.
///
/// `@unchecked`: the two pointers never change, and the objects behind them are thread-safe.
final class Parker: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init() {
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    // With the monotonic clock, setting back the wall clock cannot prolong a timed wait.
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  @inline(__always) func lock() { pthread_mutex_lock(mutex) }
  @inline(__always) func unlock() { pthread_mutex_unlock(mutex) }
  @inline(__always)
  func locked<Result>(_ body: () -> Result) -> Result {
    lock()
    defer { unlock() }
    return body()
  }
  /// Call with the lock held.
  func wait() { pthread_cond_wait(condition, mutex) }
  /// Call with the lock held. Returns false after the deadline.
  func wait(untilNanoseconds end: UInt64) -> Bool {
    var deadline = timespec(tv_sec: Int(end / 1_000_000_000), tv_nsec: Int(end % 1_000_000_000))
    return pthread_cond_timedwait(condition, mutex, &deadline) == 0
  }
  func signal() { pthread_cond_signal(condition) }
  func broadcast() { pthread_cond_broadcast(condition) }
}

/// A thread of the SDK.
struct WorkerThread: Sendable {
  private let handle: pthread_t

  /// Starts a thread; returns nil if the system cannot create one.
  init?(_ body: @escaping @Sendable () -> Void) {
    let box = Unmanaged.passRetained(ThreadBody(run: body))
    var handle = pthread_t()
    let status = pthread_create(
      &handle, nil,
      { argument in
        guard let argument else { return nil }
        let body = Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
        body.run()
        return nil
      }, box.toOpaque())
    guard status == 0 else {
      box.release()
      return nil
    }
    self.handle = handle
  }

  /// Waits for the thread to end; does nothing on the thread itself.
  func join() {
    if pthread_equal(handle, pthread_self()) == 0 { pthread_join(handle, nil) }
  }
}

private final class ThreadBody: Sendable {
  let run: @Sendable () -> Void

  init(run: @escaping @Sendable () -> Void) { self.run = run }
}

/// A queue that reuses its memory.
struct Ring<Element> {
  private var slots: [Element?] = Array(repeating: nil, count: 64)
  private var first = 0
  private(set) var count = 0

  mutating func append(_ element: Element) {
    if count == slots.count {
      slots = (0..<count).map { slots[(first + $0) % count] } + Array(repeating: nil, count: count)
      first = 0
    }
    slots[(first + count) & (slots.count - 1)] = element
    count += 1
  }

  mutating func popFirst() -> Element? {
    guard count > 0 else { return nil }
    let element = slots[first]
    slots[first] = nil
    first = (first + 1) & (slots.count - 1)
    count -= 1
    return element
  }
}

/// Writes a line to standard error with a single write, because threads and processes share the stream.
func logLine(_ text: String, from name: String = "NatsPlugin") {
  var line = "[\(name)] \(text)\n"
  line.withUTF8 { bytes in _ = write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
}
