import Glibc

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
