import CLinux
import Glibc
import Synchronization

/// What a plugin called, copied: the ABI's bytes are valid only during the callback.
struct PluginMessage {
  var sid: UInt32
  var phase: UInt8
  var method: UInt32
  /// When the plugin called, nanoseconds; 0 means that the time of handling counts.
  var calledAt: UInt64
  var payload: UnsafeRawBufferPointer
}

extension PluginMessage {
  /// The end of a phase.
  @inline(__always)
  init(_ end: PhaseEndCall, calledAt: UInt64 = 0) {
    self.init(
      sid: end.sid, phase: end.phase, method: end.method, calledAt: calledAt,
      payload: UnsafeRawBufferPointer(start: nil, count: 0))
  }
}

/// A call that ends a phase and carries nothing, in one word: most of what plugins call.
struct PhaseEndCall {
  /// The session's id, the phase and the method; no session has the id 0.
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
  /// Whether it is END: the plugin's response is the answer.
  var isEnd: Bool { word >> 40 == 2 }
}

/// Bytes of the header before each message's payload, in both queues.
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

/// Messages that the plugin called on the thread that owns the session, inside `event_stream`.
///
/// A plain buffer: filled during the call, emptied after it. It grows only when a plugin calls
/// more at once than ever before.
struct LocalQueue {
  private var messages: GrowingBytes
  private var head = 0
  /// The oldest message where it is the end of a phase and found the queue empty; else 0.
  private var first: UInt64 = 0

  init(capacity: Int) { messages = GrowingBytes(capacity: capacity) }

  @inline(__always)
  var isEmpty: Bool { first == 0 && head == messages.count }

  /// Adds the end of a phase to an empty queue; false when it is not empty.
  @inline(__always)
  mutating func pushFirst(_ end: PhaseEndCall) -> Bool {
    guard isEmpty else { return false }
    first = end.word
    return true
  }

  /// Takes the oldest message where `pushFirst` added it.
  @inline(__always)
  mutating func popFirst() -> PhaseEndCall? {
    guard first != 0 else { return nil }
    defer { first = 0 }
    return PhaseEndCall(word: first)
  }

  mutating func push(_ message: PluginMessage) {
    store(message, at: messages.extend(by: roundedSize(of: message)))
  }

  /// The oldest message that `popFirst` does not give; its payload is valid until the next push or pop.
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

/// Messages that the plugin called on threads of its own, on their way to the owner's thread.
///
/// Many producers, one consumer, no lock: a producer reserves bytes by moving the tail, writes, and
/// publishes by storing the record's size into its first word. The consumer zeroes what it took,
/// so that an unwritten record is never taken for a published one. (The reservation scheme of
/// the kernel's perf and BPF ring buffers.)
/// A plugin's thread may call at any time, so its memory is never given back.
struct ForeignQueue: ~Copyable {
  private let memory: UnsafeMutableRawPointer
  private let capacity: UInt64
  private let tail = Atomic<UInt64>(0)
  private let head = Atomic<UInt64>(0)
  /// 1 while the owner sleeps, the futex word.
  private let sleeping: UnsafeMutablePointer<Atomic<UInt32>>
  /// An eventfd that wakes the owner where it sleeps in an epoll set of its own; -1 where it sleeps on the futex. It
  /// stays open as long as a plugin's thread may call, which is as long as the process.
  private let wakeDescriptor = Atomic<Int32>(-1)
  private static let paddingMark: UInt64 = 1 << 63
  private static let indirectMark: UInt8 = 1 << 7

  /// A queue of `capacity` bytes, a power of two.
  init(capacity: Int) {
    self.capacity = UInt64(capacity)
    memory = .allocate(byteCount: capacity, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: capacity)
    sleeping = .allocate(capacity: 1)
    sleeping.initialize(to: Atomic(0))
  }

  /// The largest payload that lies in the queue itself.
  private var largestPayload: Int { Int(capacity) / 4 - headerBytes }

  private func word(at position: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
    (memory + Int(position & (capacity - 1))).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// Adds a message from any thread; false when the queue is full.
  borrowing func push(_ message: PluginMessage) -> Bool {
    guard message.payload.count > largestPayload else { return pushInline(message) }
    // Too large for the queue: its copy goes through the heap, and the queue carries the address.
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
      // A tail that was read long ago may lie behind the head: then the exchange fails.
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

  /// Takes the oldest message, if one is published; its payload is valid during `body`.
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

  /// Sleeps until a message is there or the time has come.
  borrowing func sleep(until time: UInt64) {
    sleep { kernel_futex_wait(futexWord, 1, time) }
  }

  /// Sleeps in a closure that ends when the owner is woken; at once when there is a message.
  @inline(__always)
  borrowing func sleep(in wait: () -> Void) {
    sleeping.pointee.store(1, ordering: .sequentiallyConsistent)
    if !hasMessage { wait() }
    sleeping.pointee.store(0, ordering: .sequentiallyConsistent)
  }

  /// From now on the owner sleeps where this eventfd wakes it.
  borrowing func wake(through descriptor: Int32) {
    wakeDescriptor.store(descriptor, ordering: .relaxed)
  }

  private var hasMessage: Bool {
    word(at: head.load(ordering: .relaxed)).pointee.load(ordering: .sequentiallyConsistent) != 0
  }
}
