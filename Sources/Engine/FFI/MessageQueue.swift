import CLinux
import Glibc
import Synchronization

/// A copy of a plugin's call: the ABI's bytes are valid only during the callback.
struct PluginMessage {
  var sid: UInt32
  var phase: UInt8
  var method: UInt32
  /// When the plugin called, nanoseconds; 0 means that the time of handling is used.
  var calledAt: UInt64
  var payload: UnsafeRawBufferPointer
}

extension PluginMessage {
  /// Creates the message for the end of a phase.
  @inline(__always)
  init(_ end: PhaseEndCall, calledAt: UInt64 = 0) {
    self.init(
      sid: end.sid, phase: end.phase, method: end.method, calledAt: calledAt,
      payload: UnsafeRawBufferPointer(start: nil, count: 0))
  }
}

/// A call that ends a phase without a payload, packed into one word: most calls of plugins are of this kind.
struct PhaseEndCall {
  /// The session's id, the phase and the method; never 0, because no session has the id 0.
  let word: UInt64

  @inline(__always)
  init(sid: UInt32, phase: UInt8, method: UInt32) {
    word = UInt64(sid) | UInt64(phase) << 32 | UInt64(method) << 40
  }

  @inline(__always)
  init(word: UInt64) { self.word = word }

  var sid: UInt32 { UInt32(truncatingIfNeeded: word) }
  var phase: UInt8 { UInt8(truncatingIfNeeded: word >> 32) }
  var method: UInt32 { UInt32(truncatingIfNeeded: word >> 40) }
  /// Whether the call is END, which makes the plugin's response the answer.
  var isEnd: Bool { word >> 40 == 2 }
}

/// The size of the header before each message's payload, in both queues.
private let headerBytes = 32

@inline(__always)
private func store(_ message: PluginMessage, at place: UnsafeMutableRawPointer) {
  place.storeBytes(
    of: UInt64(message.sid) | UInt64(message.method) << 32, toByteOffset: 8, as: UInt64.self)
  place.storeBytes(
    of: UInt64(message.phase) | UInt64(message.payload.count) << 8, toByteOffset: 16, as: UInt64.self)
  place.storeBytes(of: message.calledAt, toByteOffset: 24, as: UInt64.self)
  if message.payload.count > 0, let bytes = message.payload.baseAddress {
    (place + headerBytes).copyMemory(from: bytes, byteCount: message.payload.count)
  }
}

@inline(__always)
private func load(at place: UnsafeMutableRawPointer) -> PluginMessage {
  let ids = place.load(fromByteOffset: 8, as: UInt64.self)
  let size = place.load(fromByteOffset: 16, as: UInt64.self)
  return PluginMessage(
    sid: UInt32(truncatingIfNeeded: ids), phase: UInt8(truncatingIfNeeded: size),
    method: UInt32(truncatingIfNeeded: ids >> 32),
    calledAt: place.load(fromByteOffset: 24, as: UInt64.self),
    payload: UnsafeRawBufferPointer(start: place + headerBytes, count: Int(size >> 8)))
}

@inline(__always)
private func roundedSize(of message: PluginMessage) -> Int {
  (headerBytes + message.payload.count + 15) & ~15
}

/// The calls that the plugin made on the session's owner thread, inside `event_stream`.
///
/// A plain buffer, filled during `event_stream` and drained after it. It grows only when a plugin makes more
/// calls at once than ever before.
struct LocalQueue {
  private var messages: GrowingBytes
  private var head = 0
  /// The oldest message, if it ends a phase and was pushed to an empty queue; else 0.
  private var first: UInt64 = 0

  init(capacity: Int) { messages = GrowingBytes(capacity: capacity) }

  @inline(__always)
  var isEmpty: Bool { first == 0 && head == messages.count }

  /// Adds the end of a phase to an empty queue; false when the queue is not empty.
  @inline(__always)
  mutating func pushFirst(_ end: PhaseEndCall) -> Bool {
    guard isEmpty else { return false }
    first = end.word
    return true
  }

  /// Removes the oldest message if `pushFirst` added it.
  @inline(__always)
  mutating func popFirst() -> PhaseEndCall? {
    guard first != 0 else { return nil }
    defer { first = 0 }
    return PhaseEndCall(word: first)
  }

  mutating func push(_ message: PluginMessage) {
    store(message, at: messages.extend(by: roundedSize(of: message)))
  }

  /// Removes the oldest message added by `push`; its payload is valid until the next push or pop.
  @inline(__always)
  mutating func pop() -> PluginMessage? {
    guard head != messages.count else { return nil }
    let message = load(at: messages.start + head)
    head &+= roundedSize(of: message)
    if head == messages.count {
      head = 0
      messages.count = 0
    }
    return message
  }
}

/// The calls that the plugin made on its own threads, on their way to the owner thread.
///
/// Many producers, one consumer, no lock: a producer reserves bytes by moving the tail, writes, and
/// publishes by storing the record's size into its first word. The consumer zeroes what it took,
/// so that an unwritten record is never mistaken for a published one. (The reservation scheme of
/// the kernel's perf and BPF ring buffers.)
/// The memory is never freed, because a plugin's thread may call at any time.
struct ForeignQueue: ~Copyable {
  private let memory: UnsafeMutableRawPointer
  private let capacity: UInt64
  private let tail = Atomic<UInt64>(0)
  private let head = Atomic<UInt64>(0)
  /// The futex word: 1 while the owner sleeps.
  private let sleeping: UnsafeMutablePointer<Atomic<UInt32>>
  /// An eventfd that wakes an owner that sleeps in its own epoll set; -1 when the owner sleeps on the futex.
  /// It stays open as long as the process, because a plugin's thread may call at any time.
  private let wakeDescriptor = Atomic<Int32>(-1)
  private static let paddingMark: UInt64 = 1 << 63
  private static let indirectMark: UInt8 = 1 << 7

  /// Creates a queue of `capacity` bytes, a power of two.
  init(capacity: Int) {
    self.capacity = UInt64(capacity)
    memory = .allocate(byteCount: capacity, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: capacity)
    sleeping = .allocate(capacity: 1)
    sleeping.initialize(to: Atomic(0))
  }

  /// The largest payload that is stored in the queue itself.
  private var largestPayload: Int { Int(capacity) / 4 - headerBytes }

  private func word(at position: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
    (memory + Int(position & (capacity - 1))).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// Adds a message from any thread; false when the queue is full.
  borrowing func push(_ message: PluginMessage) -> Bool {
    guard message.payload.count > largestPayload else { return pushInline(message) }
    // A payload too large for the queue is copied to the heap, and the queue carries its address.
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: message.payload.count, alignment: 8)
    copy.copyMemory(from: message.payload)
    var indirect = message
    indirect.phase |= Self.indirectMark
    let pushed = withUnsafeBytes(of: UnsafeRawBufferPointer(copy)) { bytes in
      indirect.payload = bytes
      return pushInline(indirect)
    }
    if !pushed { copy.deallocate() }
    return pushed
  }

  private borrowing func pushInline(_ message: PluginMessage) -> Bool {
    let size = UInt64(roundedSize(of: message))
    var position = tail.load(ordering: .relaxed)
    var padding: UInt64
    while true {
      let left = capacity - (position & (capacity - 1))
      padding = left < size ? left : 0
      // A stale tail may be behind the head: then the exchange fails.
      let used = Int64(bitPattern: position &+ padding &+ size &- head.load(ordering: .acquiring))
      guard used <= Int64(capacity) else { return false }
      let (exchanged, found) = tail.compareExchange(
        expected: position, desired: position + padding + size, ordering: .relaxed)
      if exchanged { break }
      position = found
    }
    if padding > 0 {
      word(at: position).pointee.store(padding | Self.paddingMark, ordering: .releasing)
    }
    let start = position + padding
    store(message, at: memory + Int(start & (capacity - 1)))
    word(at: start).pointee.store(size, ordering: .sequentiallyConsistent)
    wakeOwner()
    return true
  }

  private borrowing func wakeOwner() {
    guard sleeping.pointee.load(ordering: .sequentiallyConsistent) == 1 else { return }
    if sleeping.pointee.exchange(0, ordering: .sequentiallyConsistent) == 1 {
      let descriptor = wakeDescriptor.load(ordering: .relaxed)
      if descriptor < 0 { kernel_futex_wake(futexWord) } else { kernel_eventfd_wake(descriptor) }
    }
  }

  private var futexWord: UnsafePointer<UInt32> {
    UnsafeRawPointer(sleeping).assumingMemoryBound(to: UInt32.self)
  }

  /// Removes the oldest published message, if any; its payload is valid during `body`.
  borrowing func take(_ body: (PluginMessage) -> Void) -> Bool {
    var position = head.load(ordering: .relaxed)
    var size = word(at: position).pointee.load(ordering: .acquiring)
    if size & Self.paddingMark != 0 {
      let padding = size & ~Self.paddingMark
      release(position, padding)
      position += padding
      size = word(at: position).pointee.load(ordering: .acquiring)
    }
    guard size != 0 else { return false }
    var message = load(at: memory + Int(position & (capacity - 1)))
    if message.phase & Self.indirectMark != 0 {
      message.phase &= ~Self.indirectMark
      message.payload = message.payload.loadUnaligned(as: UnsafeRawBufferPointer.self)
      body(message)
      message.payload.deallocate()
    } else {
      body(message)
    }
    release(position, size)
    return true
  }

  private borrowing func release(_ position: UInt64, _ size: UInt64) {
    memset(memory + Int(position & (capacity - 1)), 0, Int(size))
    head.store(position + size, ordering: .releasing)
  }

  /// Sleeps until a message arrives or the deadline passes.
  borrowing func sleep(until time: UInt64) {
    sleep { kernel_futex_wait(futexWord, 1, time) }
  }

  /// Runs `wait`, which returns when the owner is woken; skips it when a message is pending.
  @inline(__always)
  borrowing func sleep(in wait: () -> Void) {
    sleeping.pointee.store(1, ordering: .sequentiallyConsistent)
    if !hasMessage { wait() }
    sleeping.pointee.store(0, ordering: .sequentiallyConsistent)
  }

  /// Makes later messages wake the owner through this eventfd.
  borrowing func wake(through descriptor: Int32) {
    wakeDescriptor.store(descriptor, ordering: .relaxed)
  }

  private var hasMessage: Bool {
    word(at: head.load(ordering: .relaxed)).pointee.load(ordering: .sequentiallyConsistent) != 0
  }
}
