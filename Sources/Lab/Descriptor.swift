import CLinux
import Foundation
import Glibc

/// An owned file descriptor, closed with its last owner and on exec.
final class Descriptor: Sendable {
  let raw: Int32

  init(_ raw: Int32) { self.raw = raw }

  deinit { close(raw) }

  /// Takes ownership of the result of a system call, or throws when the call failed.
  private convenience init(_ raw: Int32, or failure: String) throws(LabError) {
    guard raw >= 0 else { throw .system(failure, errno: errno) }
    self.init(raw)
  }

  /// An anonymous file in memory with these bytes, positioned at its start.
  static func memory(_ name: String, holding bytes: [UInt8]) throws(LabError) -> Descriptor {
    try Descriptor(clinux_memory_file(name, bytes, bytes.count), or: "No memory file could be created")
  }

  /// A pipe of a megabyte, if the system allows; the reading end is non-blocking.
  static func pipe() throws(LabError) -> (reading: Descriptor, writing: Descriptor) {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else { throw .system("No pipe could be created", errno: errno) }
    _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
    return (Descriptor(ends[0]), Descriptor(ends[1]))
  }

  static func socketPair() throws(LabError) -> (Descriptor, Descriptor) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
      throw .system("No pair of sockets could be created", errno: errno)
    }
    return (Descriptor(ends[0]), Descriptor(ends[1]))
  }

  /// Opens a file for reading.
  static func file(_ path: String) throws(LabError) -> Descriptor {
    try Descriptor(open(path, O_RDONLY | O_CLOEXEC), or: "\(path) cannot be opened")
  }

  enum Reading {
    case bytes([UInt8])
    case nothingYet
    case end
  }

  /// Reads the available bytes, up to 64 KiB.
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

  /// Sends bytes to a socket; false when the peer is gone. Raises no SIGPIPE.
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

/// A file's text. Foundation stops early for files that report size 0, as those of /proc do.
func fileText(_ path: String) -> String? {
  guard let file = try? Descriptor.file(path) else { return nil }
  var bytes: [UInt8] = []
  while case .bytes(let more) = file.read() { bytes += more }
  return String(decoding: bytes, as: UTF8.self)
}

/// A socket address in the system's representation.
typealias SocketAddress = (family: Int32, bytes: [UInt8])

/// Non-blocking TCP sockets that send without delay.
enum TCPSocket {
  /// The reason why a connection failed.
  struct Failure: Error {
    let why: String
    var errno: Int32 = 0
  }

  private static func failure(_ number: Int32) -> Failure {
    switch number {
    case ECONNREFUSED: Failure(why: "the connection is refused, nothing is listening there", errno: number)
    case ETIMEDOUT: Failure(why: "the connection timed out", errno: number)
    default: Failure(why: systemErrorText(number), errno: number)
    }
  }

  private static func opened(_ family: Int32) -> Descriptor {
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    return Descriptor(socket(family, type, 0))
  }

  /// Connects to an address.
  static func connected(to address: SocketAddress, until deadline: Deadline) throws(Failure) -> Descriptor {
    let socket = opened(address.family)
    let outcome = address.bytes.withUnsafeBytes {
      connect(socket.raw, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t($0.count))
    }
    if outcome != 0 {
      guard errno == EINPROGRESS else { throw failure(errno) }
      guard socket.waits(for: Int16(POLLOUT), until: deadline) else { throw failure(ETIMEDOUT) }
      var number: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      getsockopt(socket.raw, SOL_SOCKET, SO_ERROR, &number, &size)
      guard number == 0 else { throw failure(number) }
    }
    return withoutDelay(socket)
  }

  /// Connects to a port of 127.0.0.1.
  static func connected(to port: UInt16) throws(LabError) -> Descriptor {
    do {
      return try connected(to: loopback(port), until: .after(.seconds(20)))
    } catch {
      throw .system("No connection to loopback port \(port)", errno: error.errno)
    }
  }

  /// Listens on a free port of 127.0.0.1.
  static func listening(backlog: Int32 = 16) throws(LabError) -> (Descriptor, port: UInt16) {
    let socket = opened(AF_INET)
    var address = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = loopback(0).bytes.withUnsafeBytes {
      bind(socket.raw, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, size)
    }
    let isListening = status == 0 && listen(socket.raw, backlog) == 0
    let isNamed = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket.raw, $0, &size) == 0 }
    }
    guard isListening, isNamed else { throw .system("No loopback port could be opened", errno: errno) }
    return (socket, UInt16(bigEndian: address.sin_port))
  }

  /// Accepts a pending connection.
  static func accepted(by listener: Descriptor) -> Descriptor? {
    let raw = accept(listener.raw, nil, nil)
    guard raw >= 0 else { return nil }
    _ = fcntl(raw, F_SETFD, FD_CLOEXEC)
    _ = fcntl(raw, F_SETFL, O_NONBLOCK)
    return withoutDelay(Descriptor(raw))
  }

  /// The indices of the readable sockets; empty on timeout.
  static func ready(_ sockets: [Descriptor], milliseconds: Int32) -> [Int] {
    var watched = sockets.map { pollfd(fd: $0.raw, events: Int16(POLLIN), revents: 0) }
    guard poll(&watched, nfds_t(watched.count), milliseconds) > 0 else { return [] }
    return watched.indices.filter { watched[$0].revents != 0 }
  }

  private static func withoutDelay(_ socket: Descriptor) -> Descriptor {
    var on: Int32 = 1
    setsockopt(socket.raw, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    return socket
  }

  /// The address of a port of 127.0.0.1.
  static func loopback(_ port: UInt16) -> SocketAddress {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return (AF_INET, withUnsafeBytes(of: address) { Array($0) })
  }
}
