import CLinux
import Glibc

/// An open descriptor, closed with its last owner and when a program is executed.
final class Descriptor: Sendable {
  let raw: Int32

  /// Takes over an open descriptor.
  init(_ raw: Int32) {
    self.raw = raw
  }

  deinit {
    close(raw)
  }

  /// A nameless file in memory that holds these bytes, to be read from its start.
  static func memory(_ name: String, holding bytes: [UInt8]) throws(LabError) -> Descriptor {
    let raw = clinux_memory_file(name, bytes, bytes.count)
    guard raw >= 0 else { throw .system("No memory file could be made", errno: errno) }
    return Descriptor(raw)
  }

  /// A pipe of a megabyte, if the system lets us; our own reading end does not block.
  static func pipe() throws(LabError) -> (reading: Descriptor, writing: Descriptor) {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else { throw .system("No pipe could be made", errno: errno) }
    _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
    clinux_widen_pipe(ends[0])
    return (Descriptor(ends[0]), Descriptor(ends[1]))
  }

  /// Two connected sockets.
  static func socketPair() throws(LabError) -> (Descriptor, Descriptor) {
    var ends: [Int32] = [-1, -1]
    guard clinux_socket_pair(&ends) == 0 else {
      throw .system("No pair of sockets could be made", errno: errno)
    }
    return (Descriptor(ends[0]), Descriptor(ends[1]))
  }

  /// `/dev/null`.
  static func null() throws(LabError) -> Descriptor {
    let raw = open("/dev/null", O_RDWR | O_CLOEXEC)
    guard raw >= 0 else { throw .system("/dev/null cannot be opened", errno: errno) }
    return Descriptor(raw)
  }

  /// What a read found.
  enum Reading {
    case bytes([UInt8])
    case nothingYet
    case end
  }

  /// Reads what is there, up to 64 KiB.
  func read() -> Reading {
    while true {
      var count = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: 65536) { buffer, initialized in
        count = Glibc.read(raw, buffer.baseAddress, buffer.count)
        initialized = max(count, 0)
      }
      if count > 0 { return .bytes(bytes) }
      if count == 0 { return .end }
      if errno == EINTR { continue }
      return errno == EAGAIN ? .nothingYet : .end
    }
  }

  /// Sends into a socket; false when nobody is there any more. Raises no SIGPIPE.
  @discardableResult
  func send(_ bytes: [UInt8], until deadline: Deadline = .after(.seconds(5))) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(raw, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count > 0 {
        sent += count
      } else if errno == EAGAIN {
        if !waits(for: Int16(POLLOUT), until: deadline) { return false }
      } else if errno != EINTR {
        return false
      }
    }
    return true
  }

  /// Waits until the descriptor can be read (POLLIN) or written (POLLOUT); false at the deadline.
  func waits(for events: Int16, until deadline: Deadline) -> Bool {
    while true {
      var watched = pollfd(fd: raw, events: events, revents: 0)
      let count = poll(&watched, 1, deadline.remainingMilliseconds)
      if count > 0 { return true }
      if count == 0 && deadline.isPast { return false }
    }
  }
}
