import CEvent
import Glibc

/// A failure, in the system's words.
struct SystemError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
  init(errno code: Int32) { description = "\(String(cString: strerror(code))) (errno: \(code))" }
}

/// One `--to`: listens on a free loopback port, and forwards each connection to its upstream.
final class Route {
  let name: String
  private let relay: Relay
  /// The upstream's socket address.
  private let address: [UInt8]
  private(set) var port: UInt16 = 0

  /// Resolves the upstream, once, and listens.
  init(relay: Relay, host: String, port: Int, name: String) throws {
    self.relay = relay
    self.name = name
    var found: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host, String(port), nil, &found)
    guard status == 0, let first = found?.pointee else {
      throw SystemError("\(String(cString: gai_strerror(status))) (error \(status))")
    }
    address = Array(UnsafeRawBufferPointer(start: first.ai_addr, count: Int(first.ai_addrlen)))
    freeaddrinfo(found)
    try listen()
  }

  private func listen() throws {
    var here = sockaddr_in()
    here.sin_family = sa_family_t(AF_INET)
    here.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = newSocket(AF_INET)
    let isBound = withUnsafeMutableBytes(of: &here) { bytes in
      let address = bytes.assumingMemoryBound(to: sockaddr.self).baseAddress
      return bind(descriptor, address!, length) == 0 && getsockname(descriptor, address!, &length) == 0
    }
    // The route has to outlive its listener, which is never ended.
    let context = Unmanaged.passRetained(self).toOpaque()
    let listener = evconnlistener_new(
      relay.loop.base,
      { _, client, _, _, context in EventLoop.object(context, Route.self)?.accept(client) },
      context, UInt32(LEV_OPT_CLOSE_ON_EXEC), 1024, descriptor)
    guard isBound, let listener else { throw SystemError(errno: errno) }
    evconnlistener_set_error_cb(listener) { listener, _ in Route.pause(listener) }
    port = UInt16(bigEndian: here.sin_port)
  }

  /// Pauses accepting for a second: when descriptors have run out, retrying would use all of the CPU.
  private static func pause(_ listener: OpaquePointer?) {
    evconnlistener_disable(listener)
    var pause = timeval(tv_sec: 1, tv_usec: 0)
    event_base_once(
      evconnlistener_get_base(listener), -1, Int16(EV_TIMEOUT),
      { _, _, listener in evconnlistener_enable(OpaquePointer(listener)) },
      UnsafeMutableRawPointer(listener), &pause)
  }

  private func accept(_ client: Int32) { relay.forward(client, along: self) }

  /// Starts connecting to the upstream, and returns the socket.
  func connect() throws -> Int32 {
    let descriptor = newSocket(address.withUnsafeBytes { Int32($0.load(as: sa_family_t.self)) })
    let status = address.withUnsafeBytes { bytes in
      Glibc.connect(
        descriptor, bytes.assumingMemoryBound(to: sockaddr.self).baseAddress!, socklen_t(bytes.count))
    }
    if status == 0 || errno == EINPROGRESS { return descriptor }
    let error = SystemError(errno: errno)
    if descriptor >= 0 { close(descriptor) }
    throw error
  }

  private func newSocket(_ family: Int32) -> Int32 {
    socket(family, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
  }
}
