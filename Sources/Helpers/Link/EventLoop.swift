import CEvent
import CLinux

func monotonicNanoseconds() -> Int64 { Int64(kernel_now_ns()) }

/// libevent's loop with nanosecond timers: its own have milliseconds, or cost a system call per iteration.
final class EventLoop {
  typealias Callback = @convention(c) (Int32, Int16, UnsafeMutableRawPointer?) -> Void

  let base: OpaquePointer
  private let timer: Int32
  /// The sleeping forwarders, by wake-up time.
  private var sleepers: [(wakesAt: Int64, forwarder: Forwarder)] = []
  private var armedAt = Int64.max
  /// The forwarders to wake in the next iteration, which follows at once, and in the current one.
  private var pollers: [Forwarder] = []
  private var turn: [Forwarder] = []

  init() {
    guard let base = event_base_new(), case let timer = kernel_timer_create(), timer >= 0 else {
      fatalError("the system gives no event loop")
    }
    self.base = base
    self.timer = timer
    // The timer is never read and stays readable, so the event is edge-triggered.
    let onTimer = event(timer, EV_READ | EV_PERSIST | EV_ET, for: self) { _, _, context in
      EventLoop.object(context, EventLoop.self)?.wakeSleepers()
    }
    event_add(onTimer, nil)
  }

  /// Creates an event for a descriptor. Its callback receives the object, which must outlive the event.
  func event(
    _ descriptor: Int32, _ what: Int32, for object: AnyObject, _ callback: Callback
  ) -> OpaquePointer {
    let context = Unmanaged.passUnretained(object).toOpaque()
    guard let event = event_new(base, descriptor, Int16(what), callback, context) else {
      fatalError("no memory for an event")
    }
    return event
  }

  /// The object that was passed to a callback.
  static func object<Object: AnyObject>(_ context: UnsafeMutableRawPointer?, _: Object.Type) -> Object? {
    context.map { Unmanaged<Object>.fromOpaque($0).takeUnretainedValue() }
  }

  func run() {
    while event_base_loop(base, EVLOOP_ONCE | (pollers.isEmpty ? 0 : EVLOOP_NONBLOCK)) == 0 {
      swap(&turn, &pollers)
      for forwarder in turn { forwarder.wake() }
      turn.removeAll(keepingCapacity: true)
    }
  }

  /// Wakes a forwarder in the loop's next iteration, after the loop has checked for bytes to read.
  func poll(_ forwarder: Forwarder) { pollers.append(forwarder) }

  /// Wakes a forwarder at a time (monotonic clock, ns).
  func sleep(_ forwarder: Forwarder, until wakesAt: Int64) {
    var place = sleepers.count
    while place > 0, sleepers[place - 1].wakesAt > wakesAt { place -= 1 }
    sleepers.insert((wakesAt, forwarder), at: place)
    if wakesAt < armedAt { arm(wakesAt) }
  }

  private func arm(_ wakesAt: Int64) {
    armedAt = wakesAt
    kernel_timer_set(timer, UInt64(wakesAt))
  }

  private func wakeSleepers() {
    armedAt = .max
    let now = monotonicNanoseconds()
    while let first = sleepers.first, first.wakesAt <= now {
      sleepers.removeFirst()
      first.forwarder.wake()
    }
    if let first = sleepers.first, first.wakesAt < armedAt { arm(first.wakesAt) }
  }
}
