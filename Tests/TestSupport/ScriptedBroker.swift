import Foundation
import Synchronization
import Testing

/// Something that listens as a broker does and says what a test wants; a thread for each connection.
package final class ScriptedBroker: Sendable {
  package static let greeting =
    #"INFO {"server_id":"t","version":"2.10.0","max_payload":1048576,"headers":true}"#

  /// One accepted connection.
  package struct Peer: Sendable {
    package let socket: Int32
    /// 1 for the first connection.
    package let number: Int
    /// The broker's.
    package let port: UInt16

    package func send(_ text: String) { send(Array(text.utf8)) }

    package func send(_ bytes: [UInt8]) {
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
    package func receive(_ most: Int = 65_536) -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: most)
      let count = recv(socket, &bytes, most, 0)
      return count > 0 ? Array(bytes[..<count]) : []
    }

    /// All that comes until the text is there, or nothing comes any more.
    @discardableResult
    package func receive(until text: String) -> String {
      var all: [UInt8] = []
      while true {
        let more = receive()
        all += more
        let words = String(decoding: all, as: UTF8.self)
        if more.isEmpty || words.contains(text) { return words }
      }
    }

    /// Waits until the client closes the connection; what it sends until then is dropped.
    package func waitForEnd() {
      var bytes = [UInt8](repeating: 0, count: 65_536)
      _ = eventually { recv(socket, &bytes, bytes.count, 0) == 0 }
    }

    /// Waits until the client closes the connection, and takes nothing of what it sends.
    package func waitForEndWithoutReading() {
      // POLLRDHUP, which Swift's Glibc does not have.
      var watched = pollfd(fd: socket, events: 0x2000, revents: 0)
      _ = eventually { poll(&watched, 1, 0) > 0 }
    }

    /// Greets, and agrees to what a client says first.
    package func welcome() {
      greet()
      send("PONG\r\n")
    }

    /// Greets, and reads a client's subscriptions without agreeing to them.
    package func greet() {
      send(ScriptedBroker.greeting + "\r\n")
      receive(until: "PING\r\n")
      send("PONG\r\n")
      receive(until: "PING\r\n")
    }
  }

  package let url: String
  private let listener: Int32
  private let peers = Mutex<(open: Set<Int32>, count: Int)>(([], 0))

  package init(_ serve: @escaping @Sendable (Peer) -> Void) throws {
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
        peers.withLock {
          $0.open.insert(peer)
          $0.count += 1
        }
        let connection = Peer(socket: peer, number: number, port: port)
        Thread.detachNewThread { [self] in
          serve(connection)
          // With the lock held: `stop` must not meet another's socket of this number.
          peers.withLock {
            $0.open.remove(connection.socket)
            close(connection.socket)
          }
        }
      }
    }
  }

  /// How many have connected.
  package var connections: Int { peers.withLock { $0.count } }

  package func stop() {
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
    peers.withLock { for peer in $0.open { shutdown(peer, Int32(SHUT_RDWR)) } }
  }
}

/// What no broker says: lies, and bytes of other protocols.
package enum Lies {
  /// Instead of a greeting, or right behind it.
  package static let greetings =
    [
      "SSH-2.0-OpenSSH_9.2\r\n", "\u{0}\u{1}\u{2}\u{3}", "INFO nonsense\r\n", "MSG a 1 0\r\n\r\n",
      "HTTP/1.1 400 Bad\r\n", "PONG\r\n", "INFO {}\r\nPONG\r\nMSG a 1 999999999\r\n",
      String(repeating: "I", count: 70_000), "INFO {}\n", "\r\n",
    ]
    + [
      "[]", "7", "null", "{", "{\"max_payload\":\"big\"}", "{\"max_payload\":1e400}", "{\"max_payload\":1.5}",
      "{\"tls_required\":\"yes\"}", "{\"nonce\":5}", "{\"headers\":{}}",
      String(repeating: "[", count: 30_000),
    ].map { "INFO \($0)\r\n" }

  /// To a client that is connected and was told that a payload has a megabyte at most.
  package static let words = [
    "MSG x 1 999999999\r\n", "MSG x 1 99999999999999999999\r\n", "MSG x 1 1200000\r\n", "MSG x 1 -5\r\n",
    "MSG x 1 1e3\r\n", "MSG x 1\r\n", "MSG x one 5\r\n", "MSG x 1 3\r\nhello\r\n", "MSG x 1 3\nabc\n",
    "HMSG x 1 9 2\r\n", "HMSG x 1 5 -1\r\n", "GARBAGE\r\n", "\r\n\r\n", "\u{0}",
    String(repeating: "M", count: 70_000),
  ]
}
