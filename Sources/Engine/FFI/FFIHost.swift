import CLinux
import CNylonABI
import Glibc
import Nylon
import Scenario
import Synchronization

/// The host's side of one plugin in this process, which receives its callbacks.
///
/// The ABI's callback has no user pointer, so a process has one host, reached through a global. It is set
/// once, before the first session, and never freed: a plugin's thread may call back at any later time.
struct FFIHost: ~Copyable {
  let numbering: SessionNumbering
  let slotCount: Int
  /// All session ids of this host are greater, because a plugin of an earlier host may still call back.
  let lastForeignSID: UInt32
  /// The session id of each slot; 0 without a session.
  let currentSID: UnsafeMutablePointer<Atomic<UInt32>>
  /// The index of the load thread that owns each slot.
  let ownerOfSlot: UnsafeMutablePointer<UInt16>
  let threads: UnsafeMutablePointer<FFIThread>
  let threadCount: Int
  let isInline: Bool
  /// Frees the bytes of a callback in the plugin.
  let freePayload: NylonPluginFree
  /// Whether a thread other than the owner ever called; inline dispatch locks only then.
  let foreignSeen = Atomic<Bool>(false)

  /// `slotCounts`: the slots of each load thread; `after`: the greatest session id that any plugin may know.
  init(
    slotCounts: [Int], isInline: Bool, queueBytes: Int, after lastSID: UInt32,
    freePayload: @escaping NylonPluginFree
  ) {
    let total = slotCounts.reduce(0, +)
    numbering = SessionNumbering(slots: total)
    slotCount = total
    lastForeignSID = lastSID
    self.isInline = isInline
    self.freePayload = freePayload
    currentSID = .allocate(capacity: total)
    ownerOfSlot = .allocate(capacity: total)
    threads = .allocate(capacity: slotCounts.count)
    threadCount = slotCounts.count
    var place = 0
    for (thread, count) in slotCounts.enumerated() {
      (threads + thread).initialize(
        to: FFIThread(firstSlot: place, foreign: ForeignQueue(capacity: queueBytes)))
      for slot in place..<place + count {
        (currentSID + slot).initialize(to: Atomic(0))
        ownerOfSlot[slot] = UInt16(thread)
      }
      place += count
    }
  }
}

extension FFIHost {
  /// The greatest session id assigned so far.
  var lastSID: UInt32 {
    (0..<threadCount).reduce(lastForeignSID) { last, thread in
      threads[thread].transport.map { max(last, $0.takeUnretainedValue().lastSID) } ?? last
    }
  }
}

/// The state of one load thread.
struct FFIThread: ~Copyable {
  let firstSlot: Int
  /// The identity of the load thread; 0 until it runs.
  let owner = Atomic<UInt>(0)
  var openSessions = 0
  var local = LocalQueue(capacity: 64 << 10)
  let foreign: ForeignQueue
  /// Callbacks for a session that has ended.
  let stale = Atomic<UInt64>(0)
  /// Callbacks for a session that never existed.
  let unexpected = Atomic<UInt64>(0)
  /// Callbacks that violate the ABI, or that found the queue full for too long.
  let broken = Atomic<UInt64>(0)
  /// The transport, for inline dispatch; it outlives the load.
  var transport: Unmanaged<FFITransport>?
}

/// The process's only host.
nonisolated(unsafe) var theHost: UnsafeMutablePointer<FFIHost>?

extension FFIHost {
  /// The callback that is passed to a plugin. In a decomposed load, it stamps each call on arrival.
  static func callback(isStamping: Bool, payloads: PayloadOwner) -> NylonCallback {
    switch (payloads, isStamping) {
    case (.plugin, false): { hostReceived($0, isStamping: false) }
    case (.plugin, true): { hostReceived($0, isStamping: true) }
    case (.host, false): { hostTook($0, isStamping: false) }
    case (.host, true): { hostTook($0, isStamping: true) }
    }
  }
}

/// Receives a callback whose bytes the host owns, and frees them in any case.
@inline(__always)
private func hostTook(_ buffer: UnsafePointer<NylonFfiBuffer>?, isStamping: Bool) {
  let payload = buffer?.pointee.ptr
  hostReceived(buffer, isStamping: isStamping)
  if let payload, let host = theHost { host.pointee.freePayload(UnsafeMutablePointer(mutating: payload)) }
}

/// Receives a callback on any thread: finds the session's owner, copies the message and hands it over. In a
/// decomposed load, it stamps the call first.
@inline(__always)
func hostReceived(_ buffer: UnsafePointer<NylonFfiBuffer>?, isStamping: Bool) {
  guard let buffer, let host = theHost else { return }
  let calledAt = isStamping ? MonotonicClock.nanoseconds : 0
  let sid = buffer.pointee.sid
  let slot = host.pointee.numbering.slot(of: sid)
  guard slot < host.pointee.slotCount else {
    host.pointee.threads.pointee.unexpected.add(1, ordering: .relaxed)
    return
  }
  let thread = host.pointee.threads + Int(host.pointee.ownerOfSlot[slot])
  let current = host.pointee.currentSID[slot].load(ordering: .acquiring)
  let method = buffer.pointee.method
  // 0 is not a valid session id, though a slot without a session has it.
  guard current == sid, sid != 0 else {
    countStray(sid: sid, current: current, method: method, thread: thread)
    return
  }
  // A phase end has no payload, and reading a buffer that the plugin has just written is expensive: stores of
  // another width than the load stall it for longer than everything else here takes.
  if Method(rawValue: method).endsPhase {
    let end = PhaseEndCall(sid: sid, phase: buffer.pointee.phase & 0x7F, method: method)
    if !isStamping, !host.pointee.isInline,
      kernel_thread_identity() == thread.pointee.owner.load(ordering: .relaxed),
      thread.pointee.local.pushFirst(end)
    {
      return
    }
    received(PluginMessage(end, calledAt: calledAt), host, thread, isStamping: isStamping)
    return
  }
  receivedCall(buffer, host, thread, calledAt: calledAt, isStamping: isStamping)
}

/// Receives a call with a payload.
@inline(never)
private func receivedCall(
  _ buffer: UnsafePointer<NylonFfiBuffer>, _ host: UnsafeMutablePointer<FFIHost>,
  _ thread: UnsafeMutablePointer<FFIThread>, calledAt: UInt64, isStamping: Bool
) {
  let count = Int(truncatingIfNeeded: buffer.pointee.len)
  guard count == 0 || (buffer.pointee.ptr != nil && count > 0) else {
    thread.pointee.broken.add(1, ordering: .relaxed)
    return
  }
  let message = PluginMessage(
    sid: buffer.pointee.sid, phase: buffer.pointee.phase & 0x7F, method: buffer.pointee.method,
    calledAt: calledAt, payload: UnsafeRawBufferPointer(start: buffer.pointee.ptr, count: count))
  received(message, host, thread, isStamping: isStamping)
}

@inline(never)
private func received(
  _ message: PluginMessage, _ host: UnsafeMutablePointer<FFIHost>, _ thread: UnsafeMutablePointer<FFIThread>,
  isStamping: Bool
) {
  if kernel_thread_identity() == thread.pointee.owner.load(ordering: .relaxed) {
    if host.pointee.isInline {
      thread.pointee.transport?._withUnsafeGuaranteedRef { $0.handleInline(message, onOwner: true) }
    } else {
      thread.pointee.local.push(message)
    }
    return
  }
  guard host.pointee.isInline else {
    handOver(message, to: thread)
    return
  }
  host.pointee.foreignSeen.store(true, ordering: .sequentiallyConsistent)
  var stamped = message
  if !isStamping { stamped.calledAt = MonotonicClock.nanoseconds }
  thread.pointee.transport?._withUnsafeGuaranteedRef { $0.handleInline(stamped, onOwner: false) }
}

/// Pushes a message to the owner's queue; retries for 2 s when it is full.
func handOver(_ message: PluginMessage, to thread: UnsafeMutablePointer<FFIThread>) {
  if thread.pointee.foreign.push(message) { return }
  let limit = MonotonicClock.nanoseconds + 2_000_000_000
  while MonotonicClock.nanoseconds < limit {
    sched_yield()
    if thread.pointee.foreign.push(message) { return }
  }
  thread.pointee.broken.add(1, ordering: .relaxed)
}

/// Counts a callback for a session that the slot no longer has.
private func countStray(
  sid: UInt32, current: UInt32, method: UInt32, thread: UnsafeMutablePointer<FFIThread>
) {
  // A slot's session id grows with each session; between sessions it is 0.
  if sid == 0 || current != 0 && sid > current {
    thread.pointee.unexpected.add(1, ordering: .relaxed)
  } else if Method(rawValue: method).endsPhase {
    thread.pointee.stale.add(1, ordering: .relaxed)
  }
}
