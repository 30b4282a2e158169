import TestSupport
import Foundation
import NATS
@testable import Scenario
import Testing

@testable import Lab

/// What a relay is told to do to its connections, with plain TCP behind it.
@Suite struct LinkFaultTests {
  private static func link(to upstream: Upstream) throws -> Link {
    try Link(
      LinkSpec(delayMilliseconds: 0), to: ["nats://127.0.0.1:\(upstream.port)"], probes: 1)
  }

  private static func connect(_ link: Link) throws -> Descriptor {
    try TCPSocket.connected(to: try BrokerAddress(link.urls[0]).port)
  }

  /// Whether what is sent comes back.
  private static func echoes(_ socket: Descriptor, _ text: String) -> Bool {
    guard socket.send(Array(text.utf8)) else { return false }
    var all: [UInt8] = []
    return eventually {
      _ = TCPSocket.ready([socket], milliseconds: 100)
      if case .bytes(let bytes) = socket.read() { all += bytes }
      return all == Array(text.utf8)
    }
  }

  /// Whether what is sent does not come back any more; until the silence has begun, it still does.
  private static func fallsSilent(_ socket: Descriptor) -> Bool {
    eventually {
      guard socket.send(Array("x".utf8)) else { return false }
      if TCPSocket.ready([socket], milliseconds: 300).isEmpty { return true }
      _ = socket.read()
      return false
    }
  }

  /// How the stream ends, and what came before.
  private static func end(of socket: Descriptor) -> (text: String, errno: Int32?) {
    var text = ""
    var code: Int32?
    _ = eventually {
      _ = TCPSocket.ready([socket], milliseconds: 100)
      var bytes = [UInt8](repeating: 0, count: 1000)
      let count = read(socket.raw, &bytes, bytes.count)
      if count > 0 { text += String(decoding: bytes[..<count], as: UTF8.self) }
      if count < 0, errno == EAGAIN { return false }
      if count <= 0 { code = count == 0 ? 0 : errno }
      return count <= 0
    }
    return (text, code)
  }

  /// Sends back what it gets, and counts the connections that are over.
  private static func upstream(counting over: Guarded<Int>) throws -> Upstream {
    try Upstream { socket in
      Upstream.echo(socket)
      over.withLock { $0 += 1 }
    }
  }

  @Test func aResetBreaksAllConnectionsBothWaysAndNewOnesGoOn() throws {
    let over = Guarded(0)
    let upstream = try Self.upstream(counting: over)
    let link = try Self.link(to: upstream)
    defer { link.stop() }
    let sockets = try (0..<3).map { _ in try Self.connect(link) }
    for socket in sockets { #expect(Self.echoes(socket, "before")) }
    link.relay.reset()
    for socket in sockets { #expect(Self.end(of: socket).errno == ECONNRESET) }
    // Beside those three the link's own first look has ended.
    #expect(over.wait(until: .after(.seconds(30))) { $0 > sockets.count ? true : nil } == true)
    #expect(try Self.echoes(Self.connect(link), "after"))
    #expect(link.isRunning)
  }

  @Test func aSilenceSwallowsAllAndItsEndResetsWhoeverLostSomething() throws {
    let upstream = try Upstream { Upstream.echo($0) }
    let link = try Self.link(to: upstream)
    defer { link.stop() }
    let (talking, quiet) = (try Self.connect(link), try Self.connect(link))
    for socket in [talking, quiet] { #expect(Self.echoes(socket, "before")) }
    link.relay.silence(true)
    #expect(Self.fallsSilent(talking))
    // A connection that is made meanwhile is accepted, and hears nothing.
    let new = try Self.connect(link)
    #expect(new.send(Array("hello".utf8)))
    #expect(TCPSocket.ready([talking, new], milliseconds: 200).isEmpty)
    link.relay.silence(false)
    #expect(Self.end(of: talking).errno == ECONNRESET)
    #expect(Self.end(of: new).errno == ECONNRESET)
    #expect(Self.echoes(quiet, "after"))
    #expect(try Self.echoes(Self.connect(link), "after"))
  }

  @Test func anEndInASilenceIsHeardOfWhenItIsOver() throws {
    let over = Guarded(0)
    let upstream = try Self.upstream(counting: over)
    let link = try Self.link(to: upstream)
    defer { link.stop() }
    // The link's own looks are over.
    #expect(eventually { over.withLock { $0 } > 0 })
    let socket = try Self.connect(link)
    #expect(Self.echoes(socket, "before"))
    let before = over.withLock { $0 }
    link.relay.silence(true)
    #expect(Self.fallsSilent(socket))
    shutdown(socket.raw, Int32(SHUT_WR))
    #expect(over.wait(until: .after(.milliseconds(300))) { $0 > before ? true : nil } == nil)
    link.relay.silence(false)
    #expect(over.wait(until: .after(.seconds(30))) { $0 > before ? true : nil } == true)
  }

  @Test func aRelayWithoutCommandsGoesOnAndAWrongCommandIsTold() throws {
    let program = try Executables.own("nylon-link")
    let deaf = try ChildProcess.start(Launch(program, ["--to", "127.0.0.1:1"]))
    #expect(
      try deaf.announcedPorts(["nylon-link forwards "], count: 1, by: "it", until: .after(.seconds(30))).count
        == 1)
    let relay = try Relay(to: ["127.0.0.1:1"])
    #expect(relay.process.tell("cut"))
    #expect(
      relay.process.waitForWords(until: .after(.seconds(30))) {
        $0.contains("'cut' is none of reset,") ? true : nil
      } == true)
    #expect(deaf.isRunning && relay.isRunning)
    deaf.terminate()
    relay.stop()
  }
}
