import CLinux
import Foundation
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
    return (Descriptor(ends[0]), Descriptor(ends[1]))
  }

  /// Two connected sockets.
  static func socketPair() throws(LabError) -> (Descriptor, Descriptor) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
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

/// TCP sockets of 127.0.0.1 that do not block.
enum LoopbackSocket {
  private static let type =
    Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)

  /// A socket that listens on a free port.
  static func listening() throws(LabError) -> (Descriptor, port: UInt16) {
    let socket = Descriptor(Glibc.socket(AF_INET, type, 0))
    var address = address(port: 0)
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        guard bind(socket.raw, raw, size) == 0, listen(socket.raw, 16) == 0 else { return Int32(-1) }
        return getsockname(socket.raw, raw, &size)
      }
    }
    guard status == 0 else { throw .system("No loopback port could be opened", errno: errno) }
    return (socket, UInt16(bigEndian: address.sin_port))
  }

  /// A connection that waits at a listening socket.
  static func accepted(by listener: Descriptor) -> Descriptor? {
    let raw = accept(listener.raw, nil, nil)
    guard raw >= 0 else { return nil }
    _ = fcntl(raw, F_SETFD, FD_CLOEXEC)
    _ = fcntl(raw, F_SETFL, O_NONBLOCK)
    return withoutDelay(Descriptor(raw))
  }

  /// A connection to a port; a listening one takes it at once.
  static func connected(to port: UInt16) throws(LabError) -> Descriptor {
    let socket = Descriptor(Glibc.socket(AF_INET, type & ~Int32(SOCK_NONBLOCK.rawValue), 0))
    var address = address(port: port)
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(socket.raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard status == 0 else { throw .system("No connection to loopback port \(port)", errno: errno) }
    _ = fcntl(socket.raw, F_SETFL, O_NONBLOCK)
    return withoutDelay(socket)
  }

  /// The places of those sockets that can be read; empty at the timeout.
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

  private static func address(port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return address
  }
}

/// A TCP connection whose every step is bounded by one deadline.
struct Connection {
  /// Why a connection did not come about or broke.
  struct Failure: Error {
    let why: String
  }

  private let socket: Descriptor
  private let deadline: Deadline
  private var pending: [UInt8] = []

  /// Connects to the first of the host's addresses that takes us.
  init(host: String, port: UInt16, until deadline: Deadline) throws(Failure) {
    var why = "its name has no address"
    for address in try Connection.resolve(host, port, until: deadline) {
      do {
        self.socket = try Connection.connect(address, until: deadline)
        self.deadline = deadline
        return
      } catch {
        why = error.why
      }
    }
    throw Failure(why: why)
  }

  /// A socket address in bytes, with its family.
  private struct Address: Sendable {
    let family: Int32
    let bytes: [UInt8]
  }

  /// Looks a name up, on a thread of its own, since the system's resolver knows no deadline.
  private static func resolve(
    _ host: String, _ port: UInt16, until deadline: Deadline
  ) throws(Failure) -> [Address] {
    let numeric = lookUp(host, port, flags: AI_NUMERICHOST)
    if !numeric.isEmpty { return numeric }
    let found = Guarded<[Address]?>(nil)
    Thread.detachNewThread {
      let addresses = lookUp(host, port, flags: 0)
      found.withLock { $0 = addresses }
    }
    guard let addresses = found.wait(until: deadline, for: { $0 }) else {
      throw Failure(why: "its name could not be looked up in time")
    }
    return addresses
  }

  private static func lookUp(_ host: String, _ port: UInt16, flags: Int32) -> [Address] {
    var hints = addrinfo()
    hints.ai_flags = flags
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, "\(port)", &hints, &list) == 0 else { return [] }
    defer { freeaddrinfo(list) }
    var addresses: [Address] = []
    var next = list
    while let entry = next?.pointee {
      let bytes = UnsafeRawBufferPointer(start: entry.ai_addr, count: Int(entry.ai_addrlen))
      addresses.append(Address(family: entry.ai_family, bytes: Array(bytes)))
      next = entry.ai_next
    }
    return addresses
  }

  private static func connect(_ address: Address, until deadline: Deadline) throws(Failure) -> Descriptor {
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    let raw = Glibc.socket(address.family, type, 0)
    guard raw >= 0 else { throw Failure(why: systemErrorText(errno)) }
    let socket = Descriptor(raw)
    let outcome = address.bytes.withUnsafeBytes {
      Glibc.connect(raw, $0.assumingMemoryBound(to: sockaddr.self).baseAddress, socklen_t($0.count))
    }
    if outcome == 0 { return socket }
    guard errno == EINPROGRESS else { throw Failure(why: refusal(errno)) }
    guard socket.waits(for: Int16(POLLOUT), until: deadline) else {
      throw Failure(why: "no connection within the time given")
    }
    var number: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    getsockopt(raw, SOL_SOCKET, SO_ERROR, &number, &size)
    guard number == 0 else { throw Failure(why: refusal(number)) }
    return socket
  }

  private static func refusal(_ number: Int32) -> String {
    number == ECONNREFUSED ? "the connection is refused, nothing listens there" : systemErrorText(number)
  }

  /// Sends all of a text.
  func send(_ text: String) throws(Failure) {
    guard socket.send(Array(text.utf8), until: deadline) else {
      throw Failure(why: "the connection was closed")
    }
  }

  /// The next line, without its end.
  mutating func line(limit: Int = 65536) throws(Failure) -> String {
    while true {
      if let end = pending.firstIndex(of: 10) {
        let line = String(decoding: pending[..<end], as: UTF8.self)
        pending.removeFirst(end + 1)
        return line.trimmingTrailingWhitespace()
      }
      guard pending.count <= limit else { throw Failure(why: "it sends a line that is too long") }
      guard try receive() else { throw Failure(why: "it closed the connection") }
    }
  }

  /// All that comes until the other side closes.
  mutating func rest(limit: Int = 64 << 20) throws(Failure) -> [UInt8] {
    while try receive() {
      guard pending.count <= limit else { throw Failure(why: "it sends more than \(limit) bytes") }
    }
    return pending
  }

  private mutating func receive() throws(Failure) -> Bool {
    while true {
      switch socket.read() {
      case .bytes(let bytes):
        pending += bytes
        return true
      case .end: return false
      case .nothingYet:
        guard !deadline.isPast, socket.waits(for: Int16(POLLIN), until: deadline) else {
          throw Failure(why: "it said nothing within the time given")
        }
      }
    }
  }
}
