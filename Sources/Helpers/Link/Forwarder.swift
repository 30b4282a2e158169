import CEvent
import Glibc

/// One end of a forwarded connection: it passes the bytes that it reads to its partner when they are due.
///
/// The order of bytes is kept, as in TCP: bytes that are due earlier than those before them wait.
/// An end of stream and a reset cross the link like bytes, so they arrive after them.
final class Forwarder {
  /// The most memory in transit in one direction of a connection: the link's window. When it is full,
  /// nothing more is read, so the sender's own window fills and the sender waits.
  private static let windowBytes = 16 << 20
  /// A burst is read and written in one go, so that one wake-up serves it.
  private static let readsPerBurst = 4
  private static let connectSeconds = 10

  private enum Freight { case bytes(Int), end, reset }

  private struct Parcel {
    let freight: Freight
    let due: Int64
  }

  private let relay: Relay
  private let direction: Direction
  /// The other end, until both are closed; set before any byte is read.
  var partner: Forwarder?
  /// -1 when closed.
  private var socket: Int32
  private var onReadable: OpaquePointer?
  private var onWritable: OpaquePointer?
  /// The bytes that the partner has not taken yet: first `dueBytes` that are due, then those of the parcels.
  private var bytes = ByteQueue(bytes: windowBytes)
  private var dueBytes = 0
  private var parcels = Queue<Parcel>()
  private var lastDue: Int64 = 0
  private var isSleeping = false
  private var pollsSince: Int64?
  private var isOpen = false
  private var isReading = false
  /// Whether nothing more can be read from it.
  private var hasEnded = false
  /// Whether its stream has been shut down for writing.
  private var isFinished = false
  private var isBroken = false
  /// Whether its socket accepts no more bytes for now.
  private var isBlocked = false
  /// Whether received bytes, or the end of the stream, were dropped in a silence.
  private(set) var hasHole = false

  private var isClosed: Bool { socket < 0 }
  private var memoryUnderWay: Int { bytes.count + parcels.count * MemoryLayout<Parcel>.stride }

  init(relay: Relay, direction: Direction, socket: Int32) {
    self.relay = relay
    self.direction = direction
    self.socket = socket
    guard socket >= 0 else { return }
    var one: Int32 = 1
    setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    onReadable = relay.loop.event(socket, EV_READ | EV_PERSIST, for: self) { _, _, context in
      EventLoop.object(context, Forwarder.self)?.read()
    }
    onWritable = relay.loop.event(socket, EV_WRITE, for: self) { _, what, context in
      EventLoop.object(context, Forwarder.self)?.becomeWritable(inTime: Int32(what) & EV_TIMEOUT == 0)
    }
  }

  deinit {
    if let onReadable { event_free(onReadable) }
    if let onWritable { event_free(onWritable) }
  }

  // MARK: Connecting

  /// Waits until the connection of the socket is established or has failed.
  func awaitConnection() {
    var most = timeval(tv_sec: Self.connectSeconds, tv_usec: 0)
    event_add(onWritable, &most)
  }

  private func becomeWritable(inTime: Bool) {
    isBlocked = false
    if isOpen {
      partner?.deliver()
      return
    }
    var failure: Int32 = inTime ? 0 : ETIMEDOUT
    var length = socklen_t(MemoryLayout<Int32>.size)
    if inTime { getsockopt(socket, SOL_SOCKET, SO_ERROR, &failure, &length) }
    if failure == 0 {
      partner?.open()
      open()
    } else {
      relay.refuse(partner, SystemError(errno: failure))
    }
  }

  /// Starts forwarding, once both ends are connected.
  private func open() {
    isOpen = true
    setReading(true)
    deliver()
  }

  func setReading(_ reads: Bool) {
    guard reads != isReading, !hasEnded else { return }
    isReading = reads
    _ = reads ? event_add(onReadable, nil) : event_del(onReadable)
  }

  // MARK: Reading

  private func read() {
    var reads = 0
    while !hasEnded, isBroken || isReading && reads < Self.readsPerBurst {
      reads += 1
      let room = bytes.room()
      let count = Glibc.read(socket, room.baseAddress, room.count)
      if count > 0 {
        take(count)
        if count < room.count, !isBroken { break }
      } else if count < 0, errno == EINTR {
        continue
      } else if count < 0, errno == EAGAIN, !isBroken {
        break
      } else {
        end(with: count == 0 && !isBroken ? .end : .reset)
      }
    }
    deliver()
    if isClosed { partner?.deliver() }
  }

  /// Queues bytes that have been read, or drops them in a silence.
  private func take(_ count: Int) {
    if relay.isSilent {
      hasHole = true
      return
    }
    bytes.append(count)
    send(.bytes(count), bytes: count)
    if memoryUnderWay >= Self.windowBytes { setReading(false) }
  }

  private func end(with freight: Freight) {
    setReading(false)
    hasEnded = true
    if relay.isSilent { hasHole = true } else { send(freight, bytes: 0) }
    if case .reset = freight { close() } else if isFinished { close() }
  }

  private func send(_ freight: Freight, bytes: Int) {
    lastDue = max(lastDue, direction.due(bytes: bytes))
    parcels.append(Parcel(freight: freight, due: lastDue))
  }

  // MARK: Forwarding

  /// Delivers the due bytes; called by the loop at the requested time.
  func wake() {
    isSleeping = false
    if let since = pollsSince { relay.hasPolled(since: since) }
    pollsSince = nil
    deliver()
  }

  /// Writes all due bytes to the partner, and schedules a wake-up for the rest.
  private func deliver() {
    guard let partner, isOpen else { return }
    var now = monotonicNanoseconds()
    while partner.takes {
      while let parcel = parcels.first, parcel.due <= now, case .bytes(let count) = parcel.freight {
        parcels.removeFirst()
        dueBytes += count
      }
      if dueBytes > 0 {
        let written = partner.write(bytes.first(dueBytes))
        bytes.removeFirst(written)
        dueBytes -= written
        if dueBytes > 0 { continue }
      }
      guard let parcel = parcels.first else { break }
      if parcel.due > now {
        now = monotonicNanoseconds()
        if parcel.due > now { break }
        continue
      }
      parcels.removeFirst()
      if case .end = parcel.freight { partner.finish() } else { partner.abort() }
    }
    if memoryUnderWay < Self.windowBytes / 2 { setReading(true) }
    if partner.takes { wakeInTime(now: now) }
  }

  private func wakeInTime(now: Int64) {
    guard !isSleeping, pollsSince == nil, let parcel = parcels.first else { return }
    let wakesAt = relay.wakingTime(for: parcel.due, now: now)
    if wakesAt <= now {
      pollsSince = now
      relay.loop.poll(self)
    } else {
      isSleeping = true
      relay.loop.sleep(self, until: wakesAt)
    }
  }

  /// Gives up a connection whose upstream could not be reached. In a silence the client does not learn of it.
  func refuse() {
    partner?.close()
    if relay.isSilent { hasHole = true } else { abort() }
  }

  /// Resets both ends at once; bytes in transit are lost.
  func cut() {
    let partner = partner
    abort()
    partner?.abort()
  }

  // MARK: Writing, called by the partner

  /// Whether it accepts bytes; an end that is closed or broken accepts and drops everything.
  private var takes: Bool { !isBlocked || isClosed || isBroken }

  /// Writes as many bytes as fit, and returns their count.
  private func write(_ bytes: UnsafeRawBufferPointer) -> Int {
    if isClosed || isBroken { return bytes.count }
    let count = Glibc.write(socket, bytes.baseAddress, bytes.count)
    if count == bytes.count { return count }
    if count < 0, errno != EAGAIN, errno != EINTR {
      // Bytes that it sent before it broke may still be readable.
      isBroken = true
      event_active(onReadable, EV_READ, 0)
      return bytes.count
    }
    isBlocked = true
    event_add(onWritable, nil)
    return max(0, count)
  }

  /// Ends the stream after the bytes written so far.
  private func finish() {
    guard !isClosed else { return }
    isFinished = true
    shutdown(socket, Int32(SHUT_WR))
    if hasEnded { close() }
  }

  /// Closes at once, with a reset.
  private func abort() {
    guard !isClosed else { return }
    var atOnce = linger(l_onoff: 1, l_linger: 0)
    setsockopt(socket, SOL_SOCKET, SO_LINGER, &atOnce, socklen_t(MemoryLayout<linger>.size))
    close()
  }

  private func close() {
    guard !isClosed else { return }
    setReading(false)
    hasEnded = true
    event_del(onReadable)
    event_del(onWritable)
    Glibc.close(socket)
    socket = -1
    guard let partner, partner.isClosed else { return }
    // The two ends retain each other until both are closed.
    relay.forget(self, partner)
    partner.partner = nil
    self.partner = nil
  }
}
