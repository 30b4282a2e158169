import CLinux
import CNylonABI
import Glibc
import Nylon
import Scenario
import Synchronization

/// The host's side of one plugin in this process: where its callbacks arrive.
///
/// The ABI's callback has no user pointer, so there is one host for a process, reached
/// through a global. It is set once, before the first session, and never freed: a plugin's
/// thread may call back at any later time.
struct FFIHost: ~Copyable {
  let numbering: SessionNumbering
  let slotCount: Int
  /// Ids of this host's sessions are greater: a plugin of an earlier host may still call back.
  let lastForeignSID: UInt32
  /// The session of each slot, 0 when none.
  let currentSID: UnsafeMutablePointer<Atomic<UInt32>>
  /// Which thread's queue a slot belongs to.
  let ownerOfSlot: UnsafeMutablePointer<UInt16>
  let threads: UnsafeMutablePointer<FFIThread>
  let threadCount: Int
  let isInline: Bool
  /// Gives the bytes of a callback back to the plugin.
  let freePayload: NylonPluginFree
  /// Whether a thread that is no owner ever called: only then inline dispatch locks.
  let foreignSeen = Atomic<Bool>(false)

  /// `slotCounts`: slots of each load thread; `after`: the greatest id that any plugin may know.
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
  /// The greatest session id that was given out.
  var lastSID: UInt32 {
    (0..<threadCount).reduce(lastForeignSID) { last, thread in
      threads[thread].transport.map { max(last, $0.takeUnretainedValue().lastSID) } ?? last
    }
  }
}

/// What belongs to one load thread.
struct FFIThread: ~Copyable {
  let firstSlot: Int
  /// The identity of the load thread, once it runs.
  let owner = Atomic<UInt>(0)
  var openSessions = 0
  var local = LocalQueue(capacity: 64 << 10)
  let foreign: ForeignQueue
  /// Callbacks for a session that is over.
  let stale = Atomic<UInt64>(0)
  /// Callbacks for a session that never was.
  let unexpected = Atomic<UInt64>(0)
  /// Callbacks that break the ABI, or that found the queue full for too long.
  let broken = Atomic<UInt64>(0)
  /// The transport, for inline dispatch; it outlives the load.
  var transport: Unmanaged<FFITransport>?
}

/// The one host of this process.
nonisolated(unsafe) var theHost: UnsafeMutablePointer<FFIHost>?

extension FFIHost {
  /// What a plugin is given as its callback. In a decomposed load it stamps each call as it comes.
  static func callback(isStamping: Bool, payloads: PayloadOwner) -> NylonCallback {
    switch (payloads, isStamping) {
    case (.plugin, false): { hostReceived($0, isStamping: false) }
    case (.plugin, true): { hostReceived($0, isStamping: true) }
    case (.host, false): { hostTook($0, isStamping: false) }
    case (.host, true): { hostTook($0, isStamping: true) }
    }
  }
}

/// Takes a callback whose bytes are the host's: whatever it is, they are given back.
@inline(__always)
private func hostTook(_ buffer: UnsafePointer<NylonFfiBuffer>?, isStamping: Bool) {
  let payload = buffer?.pointee.ptr
  hostReceived(buffer, isStamping: isStamping)
  if let payload, let host = theHost { host.pointee.freePayload(UnsafeMutablePointer(mutating: payload)) }
}

/// Takes a callback, on any thread: finds the session's owner, copies, and hands over. In a
/// decomposed load it stamps the call first.
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
  // 0 is no session's id, though a slot without one has it.
  guard current == sid, sid != 0 else {
    countStray(sid: sid, current: current, method: method, thread: thread)
    return
  }
  // The end of a phase carries nothing, and reading what a plugin has just written costs: stores of
  // another width than the load stall it for longer than all else here takes.
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

/// A call with a payload.
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

/// Puts a message into the owner's queue; waits a while when it is full.
func handOver(_ message: PluginMessage, to thread: UnsafeMutablePointer<FFIThread>) {
  if thread.pointee.foreign.push(message) { return }
  let limit = MonotonicClock.nanoseconds + 2_000_000_000
  while MonotonicClock.nanoseconds < limit {
    sched_yield()
    if thread.pointee.foreign.push(message) { return }
  }
  thread.pointee.broken.add(1, ordering: .relaxed)
}

/// A callback for another session than the slot has now.
private func countStray(
  sid: UInt32, current: UInt32, method: UInt32, thread: UnsafeMutablePointer<FFIThread>
) {
  // The slot's number goes up with each session; between two of them it is 0.
  if sid == 0 || current != 0 && sid > current {
    thread.pointee.unexpected.add(1, ordering: .relaxed)
  } else if Method(rawValue: method).endsPhase {
    thread.pointee.stale.add(1, ordering: .relaxed)
  }
}
