import TestSupport
import Foundation
import Engine
import Results
import NATS
@testable import Scenario
import Testing

@testable import Lab

/// The relay that stands for a network, with plain TCP behind it.
@Suite struct LinkTests {
  private static func link(
    _ delay: Double = 0, jitter: Double = 0, bandwidth: Double? = nil, to upstream: Upstream, probes: Int = 50
  ) throws -> Link {
    try Link(
      LinkSpec(
        delayMilliseconds: delay, jitterMilliseconds: jitter, bandwidthMegabitPerSecond: bandwidth),
      to: ["nats://127.0.0.1:\(upstream.port)"], probes: probes)
  }

  private static func connect(_ link: Link) throws -> Descriptor {
    try TCPSocket.connected(to: try BrokerAddress(link.urls[0]).port)
  }

  /// Bytes that tell their place, so that a lost, doubled or exchanged one shows.
  private static func numbered(_ count: Int, salt: UInt32 = 0) -> [UInt8] {
    (0..<UInt32(count / 4)).flatMap { place in
      withUnsafeBytes(of: (place &+ salt) &* 2_654_435_761) { Array($0) }
    }
  }

  /// Sends all, ends its own side, and gathers what comes until the other side ends. Nil at the deadline.
  private static func exchange(_ bytes: [UInt8], with link: Link) throws -> [UInt8]? {
    let socket = try connect(link)
    let all = Guarded<[UInt8]?>(nil)
    Thread.detachNewThread {
      let came = gather(socket)
      all.withLock { $0 = came ?? [] }
    }
    #expect(socket.send(bytes, until: .after(.seconds(30))))
    shutdown(socket.raw, Int32(SHUT_WR))
    return all.wait(until: .after(.seconds(30))) { $0 }
  }

  /// All that comes until the end.
  private static func gather(_ socket: Descriptor) -> [UInt8]? {
    var all: [UInt8] = []
    let deadline = Deadline.after(.seconds(30))
    while !deadline.isPast {
      guard !TCPSocket.ready([socket], milliseconds: 100).isEmpty else { continue }
      switch socket.read() {
      case .bytes(let bytes): all += bytes
      case .nothingYet: continue
      case .end: return all
      }
    }
    return nil
  }

  @Test("Megabytes pass unchanged both ways, and end when they have ended", arguments: [0, 1.5])
  func bulk(delay: Double) throws {
    let upstream = try Upstream { Upstream.echo($0) }
    let link = try Self.link(delay, to: upstream)
    let bytes = Self.numbered(12 << 20)
    #expect(try Self.exchange(bytes, with: link) == bytes)
    link.stop()
  }

  @Test("Many connections at once each have their own bytes")
  func many() throws {
    let upstream = try Upstream { Upstream.echo($0) }
    let link = try Self.link(0.5, jitter: 0.4, to: upstream)
    let same = Guarded<[Bool]>([])
    for number in 0..<40 {
      Thread.detachNewThread {
        let bytes = Self.numbered(200_000, salt: UInt32(number) * 1_000_003)
        let came = try? Self.exchange(bytes, with: link)
        same.withLock { $0.append(came == bytes) }
      }
    }
    let all = same.wait(until: .after(.seconds(60))) { $0.count == 40 ? $0 : nil }
    #expect(all?.allSatisfy { $0 } == true)
    link.stop()
  }

  @Test("Jitter delays bytes, and never exchanges them")
  func order() throws {
    let upstream = try Upstream { Upstream.echo($0) }
    let link = try Self.link(2, jitter: 2, to: upstream)
    let socket = try Self.connect(link)
    let bytes = Self.numbered(4000)
    for start in stride(from: 0, to: bytes.count, by: 8) {
      #expect(socket.send(Array(bytes[start..<(start + 8)])))
      // A pace at which each piece is delayed by itself, as a client's messages are.
      usleep(200)
    }
    shutdown(socket.raw, Int32(SHUT_WR))
    #expect(Self.gather(socket) == bytes)
    link.stop()
  }

  @Test("One side may end its stream while the other continues")
  func halfClose() throws {
    // Answers only when it has seen the end.
    let upstream = try Upstream { socket in
      let count = Self.gather(socket)?.count ?? -1
      socket.send(Array("\(count)".utf8))
    }
    let link = try Self.link(1, to: upstream)
    let answer = try Self.exchange(Self.numbered(100_000), with: link)
    #expect(answer.map { String(decoding: $0, as: UTF8.self) } == "100000")
    link.stop()
  }

  @Test("An end that breaks also breaks the other side, after its bytes")
  func reset() throws {
    let ends = Guarded<[String]>([])
    let arrived = Guarded("")
    let upstream = try Upstream { socket in
      let end = Self.endOfStream(socket) { text in arrived.withLock { $0 = text } }
      ends.withLock { $0.append(end) }
    }
    let link = try Self.link(1, to: upstream)
    do {
      let socket = try Self.connect(link)
      #expect(socket.send(Array("half a request".utf8)))
      // A reset drops what the relay has not read yet.
      #expect(eventually { arrived.withLock { $0 == "half a request" } })
      Self.resetAtEnd(socket)
    }
    let broken = "half a request, reset"
    let isBroken = ends.wait(until: .after(.seconds(60))) { $0.contains(broken) ? true : nil }
    #expect(isBroken == true, "\(ends.withLock { $0 })")
    #expect(link.isRunning)
    link.stop()
  }

  @Test("Connections that are reset at once are not left open")
  func resetAtOnce() throws {
    let open = Guarded((now: 0, all: 0))
    let upstream = try Upstream { socket in
      open.withLock { ($0.now, $0.all) = ($0.now + 1, $0.all + 1) }
      Upstream.echo(socket)
      open.withLock { $0.now -= 1 }
    }
    let link = try Self.link(0.5, to: upstream, probes: 1)
    for _ in 0..<300 { Self.resetAtEnd(try Self.connect(link)) }
    // One that is orderly still works, and was connected behind all the others.
    let bytes = Self.numbered(1000)
    #expect(try Self.exchange(bytes, with: link) == bytes)
    #expect(eventually { open.withLock { $0.now == 0 } }, "\(open.withLock { $0 })")
    // Input, output, errors, two listeners, and what the event loops hold.
    #expect(try eventually { try Self.descriptors(of: link) < 20 })
    link.stop()
  }

  @Test("A client that disconnects before its upstream is connected closes that connection too")
  func goneEarly() throws {
    let (listener, port) = try TCPSocket.listening()
    let link = try Link(
      LinkSpec(delayMilliseconds: 0.5), to: ["nats://127.0.0.1:\(port)"], probes: 1)
    // With the link's own first look, they fill the listener's queue: the relay's connection waits.
    let fillers = try (0..<16).map { _ in try TCPSocket.connected(to: port) }
    let before = try Self.descriptors(of: link)
    do {
      let socket = try Self.connect(link)
      let isConnecting = eventually { TCPConnection.all(to: port).contains { $0.state == .connecting } }
      #expect(isConnecting, "the queue was not full")
      Self.resetAtEnd(socket)
    }
    // The client's end is closed; the upstream's may still be closing.
    #expect(try eventually { try Self.descriptors(of: link) <= before + 1 })
    for _ in 0...fillers.count { #expect(TCPSocket.accepted(by: listener) != nil) }
    // It comes with the second try of its connection, if it was not given up at once.
    _ = TCPSocket.ready([listener], milliseconds: 3000)
    if let late = TCPSocket.accepted(by: listener) {
      #expect([", reset", ", end"].contains(Self.endOfStream(late)))
    }
    #expect(link.isRunning)
    link.stop()
  }

  /// Lets a connection end with a reset.
  private static func resetAtEnd(_ socket: Descriptor) {
    var atOnce = linger(l_onoff: 1, l_linger: 0)
    setsockopt(socket.raw, SOL_SOCKET, SO_LINGER, &atOnce, socklen_t(MemoryLayout<linger>.size))
  }

  /// How many descriptors the relay has open.
  private static func descriptors(of link: Link) throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/\(link.pid)/fd").count
  }

  /// What came on a socket, and how it ended; `onText` sees what came so far.
  private static func endOfStream(_ socket: Descriptor, onText: (String) -> Void = { _ in }) -> String {
    var text = ""
    var bytes = [UInt8](repeating: 0, count: 100)
    for _ in 0..<100 {
      _ = TCPSocket.ready([socket], milliseconds: 100)
      let count = read(socket.raw, &bytes, bytes.count)
      if count > 0 {
        text += String(decoding: bytes[..<count], as: UTF8.self)
        onText(text)
      }
      if count == 0 { return text + ", end" }
      if count < 0, errno != EAGAIN { return text + (errno == ECONNRESET ? ", reset" : ", error \(errno)") }
    }
    return text + ", open"
  }

  @Test("A side that does not read makes the other wait; nothing is lost, and memory stays bounded")
  func backPressure() throws {
    let mayRead = Guarded(false)
    let upstream = try Upstream { socket in
      _ = mayRead.wait(until: .after(.seconds(30))) { $0 ? true : nil }
      let count = Self.gather(socket)?.count ?? -1
      socket.send(Array("\(count)".utf8))
    }
    let link = try Self.link(0.2, to: upstream)
    let socket = try Self.connect(link)
    let chunk = [UInt8](repeating: 7, count: 1 << 20)
    var sent = 0
    while sent < 512 << 20, socket.send(chunk, until: .after(.seconds(1))) { sent += chunk.count }
    #expect(sent < 256 << 20, "nothing ever waited")
    #expect((ProcessClock.residentBytes(pid: link.pid) ?? .max) < 128 << 20)
    mayRead.withLock { $0 = true }
    shutdown(socket.raw, Int32(SHUT_WR))
    let answer = Self.gather(socket).map { String(decoding: $0, as: UTF8.self) }
    // The chunk that waited in vain went through in part.
    let count = try #require(answer.flatMap { Int($0) })
    #expect((sent..<(sent + chunk.count)).contains(count))
    link.stop()
  }

  @Test("At least the requested delay is added, one way and for a round trip")
  func delay() throws {
    let upstream = try Upstream { Upstream.echo($0) }
    for (delay, bandwidth) in [(0.0, nil), (3.0, nil), (1.0, 1.0)] as [(Double, Double?)] {
      let link = try Self.link(delay, bandwidth: bandwidth, to: upstream, probes: 200)
      let found = link.accuracy
      // 24 bytes at 1 Mbit/s take 192 us.
      #expect(found.askedOneWayMicroseconds == delay * 1000 + (bandwidth == nil ? 0 : 192))
      #expect(found.oneWay.count == 400 && found.roundTrip.count == 200)
      #expect(try #require(found.oneWay.leastMicroseconds) >= found.askedOneWayMicroseconds)
      #expect(try #require(found.roundTrip.leastMicroseconds) >= 2 * found.askedOneWayMicroseconds)
      #expect(found.directRoundTrip.count == 200 && found.roundTrip.p99Microseconds == nil)
      link.stop()
    }
  }

  @Test("A bandwidth is shared by the connections, and never exceeded")
  func bandwidth() throws {
    let upstream = try Upstream { Upstream.echo($0) }
    let link = try Self.link(bandwidth: 80, to: upstream)
    let begun = MonotonicClock.nanoseconds
    let done = Guarded(0)
    for _ in 0..<2 {
      Thread.detachNewThread {
        _ = try? Self.exchange([UInt8](repeating: 1, count: 1_000_000), with: link)
        done.withLock { $0 += 1 }
      }
    }
    #expect(done.wait(until: .after(.seconds(30))) { $0 == 2 ? true : nil } == true)
    // 2 MB at 10 MB/s.
    #expect(MonotonicClock.nanoseconds - begun >= 200_000_000)
    link.stop()
  }

  @Test("A broker is reached through it, and its URL keeps the credentials, which no command line shows")
  func broker() throws {
    let auth = NATSAuth(token: "t0ken-\(UInt32.random(in: 0 ... .max))")
    let broker = try Broker.start(auth: auth)
    defer { broker.stop() }
    let token = try #require(auth.token)
    let link = try Link(
      LinkSpec(delayMilliseconds: 0.1), to: ["nats://\(token)@127.0.0.1:\(broker.port)"], probes: 10)
    #expect(
      link.urls[0].hasPrefix("nats://\(token)@127.0.0.1:") && !link.urls[0].hasSuffix(":\(broker.port)"))
    try Broker.probe(url: link.urls[0])
    let line = FileManager.default.contents(atPath: "/proc/\(link.pid)/cmdline") ?? Data()
    #expect(!line.isEmpty && !String(decoding: line, as: UTF8.self).contains(token))
    #expect(link.lastWords.contains("nylon-link forwards") && !link.lastWords.contains(token))
    link.stop()
    #expect(!isAlive(link.pid))
  }

  @Test("Each of several brokers has a port of its own, and URLs keep their schemes")
  func several() throws {
    let (one, two) = (try Upstream { Upstream.echo($0) }, try Upstream { _ in })
    let link = try Link(
      LinkSpec(delayMilliseconds: 0), to: ["127.0.0.1:\(one.port)", "tls://u:p@127.0.0.1:\(two.port)"],
      probes: 1)
    #expect(link.urls[0].hasPrefix("nats://127.0.0.1:") && link.urls[1].hasPrefix("tls://u:p@127.0.0.1:"))
    let bytes = Self.numbered(1000)
    #expect(try Self.exchange(bytes, with: link) == bytes)
    let other = try TCPSocket.connected(to: try BrokerAddress(link.urls[1]).port)
    #expect(Self.gather(other) == [])
    link.stop()
  }

  @Test("A missing broker is named; the relay reports one that goes away later")
  func gone() throws {
    let (listener, port) = try TCPSocket.listening()
    let link = try withExtendedLifetime(listener) {
      try Link(LinkSpec(delayMilliseconds: 0.5), to: ["nats://me:word@127.0.0.1:\(port)"], probes: 1)
    }
    shutdown(listener.raw, Int32(SHUT_RDWR))
    let linkPort = try BrokerAddress(link.urls[0]).port
    do {
      let socket = try TCPSocket.connected(to: linkPort)
      #expect(Self.gather(socket) == [])
    } catch {
      // The relay may end the connection before this side has seen it made.
      #expect("\(error)".contains(String(cString: strerror(ECONNRESET))))
    }
    #expect(eventually { link.lastWords.contains("127.0.0.1:\(port) takes no connection") })
    #expect(link.isRunning)
    link.stop()
    let error = #expect(throws: LabError.self) {
      try Link(LinkSpec(delayMilliseconds: 0.5), to: ["nats://me:word@127.0.0.1:\(port)"])
    }
    let text = error.map { "\($0)" } ?? ""
    #expect(text.contains("127.0.0.1:\(port)") && text.contains("refused") && !text.contains("word"))
  }

  @Test("Wrong arguments of the relay are reported, and end with 64")
  func usage() throws {
    for arguments in [
      [], ["--to", "nowhere"], ["--to", "127.0.0.1:1", "--delay-us", "-1"],
      ["--to", "127.0.0.1:1", "--delay-us", "1", "--jitter-us", "2"],
      ["--to", "127.0.0.1:1", "--bits-per-second", "0"],
    ] {
      let relay = try ChildProcess.start(Launch(try Executables.own("nylon-link"), arguments))
      #expect(relay.wait(timeout: .seconds(60)) == .exited(64))
      #expect(relay.lastWords.contains("--"))
    }
  }
}

/// A TCP server on a free loopback port: each connection is served on a thread of its own, and closed
/// behind that.
final class Upstream: Sendable {
  let port: UInt16
  private let listener: Descriptor

  init(_ serve: @escaping @Sendable (Descriptor) -> Void) throws {
    // Where more connections wait to be accepted than there is room for, the kernel loses resets.
    let (listener, port) = try TCPSocket.listening(backlog: 1024)
    self.listener = listener
    self.port = port
    Thread.detachNewThread {
      while true {
        guard !TCPSocket.ready([listener], milliseconds: 1000).isEmpty else { continue }
        guard let client = TCPSocket.accepted(by: listener) else { return }
        Thread.detachNewThread { serve(client) }
      }
    }
  }

  deinit { shutdown(listener.raw, Int32(SHUT_RDWR)) }

  /// Sends back all that comes, until the other side ends.
  static func echo(_ socket: Descriptor) {
    while true {
      _ = TCPSocket.ready([socket], milliseconds: 1000)
      switch socket.read() {
      case .bytes(let bytes):
        guard socket.send(bytes, until: .after(.seconds(30))) else { return }
      case .nothingYet: continue
      case .end: return
      }
    }
  }
}
