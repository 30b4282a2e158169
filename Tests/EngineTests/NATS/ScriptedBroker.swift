import TestSupport
import Foundation
import Synchronization
import Testing

@testable import Engine

/// Something that listens as a broker does and says what a test wants; a thread for each connection.
final class ScriptedBroker: Sendable {
  static let greeting = #"INFO {"server_id":"t","version":"2.10.0","max_payload":1048576,"headers":true}"#

  /// One accepted connection.
  struct Peer: Sendable {
    let socket: Int32
    /// 1 for the first connection.
    let number: Int
    /// The broker's.
    let port: UInt16

    func send(_ text: String) {
      let bytes = Array(text.utf8)
      var sent = 0
      while sent < bytes.count {
        let count = bytes[sent...].withUnsafeBytes {
          Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard count > 0 else { return }
        sent += count
      }
    }

    /// What comes within a second at most; empty at the end.
    func receive(_ most: Int = 65_536) -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: most)
      let count = recv(socket, &bytes, most, 0)
      return count > 0 ? Array(bytes[..<count]) : []
    }

    /// All that comes until the text is there, or nothing comes any more.
    @discardableResult
    func receive(until text: String) -> String {
      var all: [UInt8] = []
      while true {
        let more = receive()
        all += more
        let words = String(decoding: all, as: UTF8.self)
        if more.isEmpty || words.contains(text) { return words }
      }
    }

    /// Waits until the client closes the connection; what it sends until then is dropped.
    func waitForEnd() {
      var bytes = [UInt8](repeating: 0, count: 65_536)
      _ = eventually { recv(socket, &bytes, bytes.count, 0) == 0 }
    }

    /// Greets, and agrees to what a client says first.
    func welcome() {
      send(ScriptedBroker.greeting + "\r\n")
      receive(until: "PING\r\n")
      send("PONG\r\n")
      receive(until: "PING\r\n")
      send("PONG\r\n")
    }
  }

  let url: String
  private let listener: Int32
  private let peers = Mutex<[Int32]>([])

  init(_ serve: @escaping @Sendable (Peer) -> Void) throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { address in
      address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        _ = bind(listener, address, size)
        _ = getsockname(listener, address, &size)
      }
    }
    try #require(listen(listener, 8) == 0)
    self.listener = listener
    let port = UInt16(bigEndian: address.sin_port)
    url = "nats://127.0.0.1:\(port)"
    Thread.detachNewThread { [self] in
      var number = 0
      while true {
        let peer = accept(listener, nil, nil)
        guard peer >= 0 else { return }
        number += 1
        var limit = timeval(tv_sec: 1, tv_usec: 0)
        setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        peers.withLock { $0.append(peer) }
        let connection = Peer(socket: peer, number: number, port: port)
        Thread.detachNewThread {
          serve(connection)
          shutdown(connection.socket, Int32(SHUT_RDWR))
        }
      }
    }
  }

  /// How many have connected.
  var connections: Int { peers.withLock { $0.count } }

  func stop() {
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
    peers.withLock { $0.forEach { shutdown($0, Int32(SHUT_RDWR)) } }
  }
}
