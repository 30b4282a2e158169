import CNats
import Glibc
import Nylon
import Synchronization

/// A pointer of libnats. `@unchecked`: libnats locks its objects by itself.
struct NATSHandle: @unchecked Sendable {
  let pointer: OpaquePointer
}

/// The event loop under one connection: reads, the client's work and one write, on one thread.
///
/// libnats by itself writes from a flusher thread that sleeps a millisecond. With a loop it only
/// asks for a write; here that is done once for all that a batch has published. There are two
/// descriptors to watch, so poll(2) does it: nothing to register when a reconnect brings
/// another socket.
///
/// `@unchecked`: `socket` is a lock of its own, `readAt` is the loop's thread's alone, the rest is atomic
/// or never changes.
final class NATSLoop: @unchecked Sendable {
  private struct Socket {
    var connection: NATSHandle?
    var descriptor: Int32 = -1
    var isReading = false
  }

  private let socket = Mutex(Socket())
  private let wantsWrite = Atomic<Bool>(false)
  private let thread = Atomic<UInt>(0)
  /// Whether a host has asked for stamps: only then the clock is read for each turn.
  private let stampsReads = Atomic<Bool>(false)
  /// When the last turn began to read, monotonic nanoseconds; 0 without stamps.
  private(set) var readAt: UInt64 = 0
  private let pipe: WakePipe
  private let polled = UnsafeMutablePointer<pollfd>.allocate(capacity: 2)

  /// nil when the system has no descriptors left.
  init?() {
    guard let pipe = WakePipe() else { return nil }
    self.pipe = pipe
  }

  deinit { polled.deallocate() }

  // MARK: from any thread

  /// Makes `turn` return soon; cheap when it is about to anyway.
  func wake() { pipe.wake() }

  /// From the next turn on `readAt` tells when it read.
  func stampReads() {
    if !stampsReads.load(ordering: .relaxed) { stampsReads.store(true, ordering: .relaxed) }
  }

  // MARK: on the loop's thread

  /// Says whose loop this is; before the first turn.
  func adopt() { thread.store(UInt(pthread_self()), ordering: .releasing) }

  /// Waits for something to do and reads what is there.
  func turn(timeoutMilliseconds: Int32) {
    let now = socket.withLock { $0 }
    polled[0] = pollfd(fd: pipe.descriptor, events: Int16(POLLIN), revents: 0)
    polled[1] = pollfd(
      fd: now.isReading ? now.descriptor : -1, events: Int16(POLLIN), revents: 0)
    // What could not be written at once waits until the socket takes more.
    if wantsWrite.load(ordering: .acquiring) { polled[1].events |= Int16(POLLOUT) }
    guard poll(polled, 2, timeoutMilliseconds) > 0 else { return }
    if stampsReads.load(ordering: .relaxed) { readAt = monotonicNanoseconds() }
    if polled[0].revents != 0 { pipe.woken() }
    // A descriptor that was closed meanwhile (POLLNVAL) is replaced before the next turn.
    if Int32(polled[1].revents) & (POLLIN | POLLHUP | POLLERR) != 0, let nc = now.connection {
      natsConnection_ProcessReadEvent(nc.pointer)
    }
  }

  /// Writes what was published since, in one go.
  func flush() {
    guard wantsWrite.load(ordering: .acquiring) else { return }
    let now = socket.withLock { $0 }
    // Not attached: the reconnect will ask again.
    guard let connection = now.connection, now.isReading else { return }
    natsConnection_ProcessWriteEvent(connection.pointer)
  }

  var hasUnwritten: Bool { wantsWrite.load(ordering: .acquiring) }

  // MARK: libnats' side

  /// Gives the connection this loop.
  func install(in options: OpaquePointer) -> natsStatus {
    natsOptions_SetEventLoop(
      options, Unmanaged.passUnretained(self).toOpaque(),
      { userData, loop, connection, descriptor in
        guard let userData, let loop else { return NATS_INVALID_ARG }
        let unmanaged = Unmanaged<NATSLoop>.fromOpaque(loop)
        // The first attach holds the loop until detach; a reconnect attaches again.
        if userData.pointee == nil { userData.pointee = unmanaged.retain().toOpaque() }
        unmanaged.takeUnretainedValue().attach(connection, descriptor)
        return NATS_OK
      },
      { userData, isOn in NATSLoop.from(userData)?.setReading(isOn) ?? NATS_INVALID_ARG },
      { userData, isOn in NATSLoop.from(userData)?.setWriting(isOn) ?? NATS_INVALID_ARG },
      { userData in
        guard let userData else { return NATS_INVALID_ARG }
        let unmanaged = Unmanaged<NATSLoop>.fromOpaque(userData)
        unmanaged.takeUnretainedValue().detach()
        unmanaged.release()
        return NATS_OK
      })
  }

  private static func from(_ userData: UnsafeMutableRawPointer?) -> NATSLoop? {
    userData.map { Unmanaged<NATSLoop>.fromOpaque($0).takeUnretainedValue() }
  }

  private var isOnOwnThread: Bool { thread.load(ordering: .relaxed) == UInt(pthread_self()) }

  private func attach(_ connection: OpaquePointer?, _ descriptor: natsSock) {
    let handle = connection.map(NATSHandle.init(pointer:))
    socket.withLock { $0 = Socket(connection: handle, descriptor: descriptor, isReading: true) }
    wake()
  }

  private func setReading(_ isOn: Bool) -> natsStatus {
    socket.withLock { $0.isReading = isOn }
    if !isOnOwnThread { wake() }
    return NATS_OK
  }

  private func setWriting(_ isOn: Bool) -> natsStatus {
    wantsWrite.store(isOn, ordering: .releasing)
    // On the loop's own thread the turn ends with a write anyway.
    if isOn, !isOnOwnThread { wake() }
    return NATS_OK
  }

  private func detach() {
    socket.withLock { $0 = Socket() }
    wantsWrite.store(false, ordering: .releasing)
    wake()
  }
}
