import Foundation

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
