import CLinux
import Foundation
import TestSupport
import Testing

@testable import NATS

/// A connection, and brokers that lie, stop half-way or do not end.
@Suite(.serialized, .thread("nats")) struct LyingBrokerTests {
  /// A connection to a broker, and what both sides do with it.
  private func with(
    limitMilliseconds: UInt64 = 20_000, _ serve: @escaping @Sendable (ScriptedBroker.Peer) -> Void,
    _ body: (WireConnection) throws -> Void
  ) throws {
    let broker = try ScriptedBroker(serve)
    defer { broker.stop() }
    let security = try WireSecurity(auth: NATSAuth(), tls: NATSTLS(), servers: [broker.url])
    let wire = WireConnection(
      to: try BrokerServer.all([broker.url], security: security), subscriptions: "SUB a 1\r\n",
      limitNanoseconds: limitMilliseconds * 1_000_000)
    defer { wire.close() }
    try body(wire)
  }

  /// Why there is no connection.
  private func refusal(_ wire: WireConnection) throws -> BrokerError {
    try #require(throws: BrokerError.self) { try wire.connectFirst() }
  }

  /// The payload of the next message; nil when the connection is over, or no use any more.
  private func next(_ wire: WireConnection) -> String? {
    let end = kernel_now_ns() + 600_000_000_000
    while true {
      if let piece = wire.nextMessage() { return String(decoding: piece.payload, as: UTF8.self) }
      guard !wire.isBroken, wire.waitForSocket(until: end) != nil, wire.fill() >= 0 else { return nil }
    }
  }

  private func capacities(_ wire: WireConnection) -> [Int] {
    [wire.state.pointee.input.capacity, wire.state.pointee.out.capacity]
  }

  @Test(arguments: Lies.greetings) func whatIsNoGreetingIsAnErrorThatSaysSo(greeting: String) throws {
    try with({ peer in
      peer.send(greeting)
      peer.waitForEnd()
    }) { wire in
      let error = try refusal(wire)
      #expect(error.kind == .noBroker)
      #expect(capacities(wire) == [WireConnection.bufferBytes, WireConnection.bufferBytes])
    }
  }

  @Test func aGreetingWithAnImpossiblePayloadIsTakenForTheNearestPossibleOne() throws {
    for (said, taken) in [("-5", 1), ("0", 1), ("9000000000", 256 << 20), ("5", 5)] {
      try with({ peer in
        peer.send("INFO {\"max_payload\":\(said)}\r\n")
        peer.receive(until: "PING\r\n")
        peer.send("PONG\r\n")
        peer.receive(until: "PING\r\n")
        peer.send("PONG\r\n")
        peer.waitForEnd()
      }) { wire in
        try wire.connectFirst()
        #expect(wire.longestPayload == taken)
        #expect(capacities(wire) == [WireConnection.bufferBytes, WireConnection.bufferBytes])
      }
    }
  }

  @Test func bytesThatComeOneAtATimeAreTheSameWords() throws {
    let each: @Sendable (ScriptedBroker.Peer, String) -> Void = { peer, text in
      for byte in text.utf8 { peer.send([byte]) }
    }
    try with({ peer in
      each(peer, ScriptedBroker.greeting + "\r\n")
      peer.receive(until: "PING\r\n")
      each(peer, "PING\r\nPONG\r\n")
      peer.receive(until: "PING\r\n")
      each(peer, "PONG\r\n+OK\r\nMSG a 1 5\r\nhello\r\nHMSG a 1 12 15\r\nNATS/1.0\r\n\r\nyou\r\n")
      peer.waitForEnd()
    }) { wire in
      try wire.connectFirst()
      #expect(next(wire) == "hello")
      #expect(next(wire) == "you")
    }
  }

  @Test func aBrokerThatClosesInTheMiddleOfItsGreetingIsAnError() throws {
    for length in [0, 1, 5, 40, ScriptedBroker.greeting.utf8.count + 1] {
      try with({ $0.send(Array((ScriptedBroker.greeting + "\r\n").utf8.prefix(length))) }) { wire in
        let error = try refusal(wire)
        #expect(error.why == "it closed the connection", "after \(length) bytes")
      }
    }
  }

  @Test func aBrokerThatStopsInTheMiddleOfItsGreetingIsGivenUpInTime() throws {
    for text in ["", "INFO {\"max_pay", ScriptedBroker.greeting + "\r\n+OK\r\n"] {
      try with(
        limitMilliseconds: 100,
        { peer in
          peer.send(text)
          peer.waitForEnd()
        }
      ) { wire in
        let error = try refusal(wire)
        #expect(error.why == "it did not answer in time")
      }
    }
  }

  @Test func aBrokerThatPingsWithoutEndAndNeverAgreesIsGivenUpInTime() throws {
    try with(
      limitMilliseconds: 200,
      { peer in
        peer.send(ScriptedBroker.greeting + "\r\n")
        // Until the client is gone.
        while send(peer.socket, "PING\r\n", 6, Int32(MSG_NOSIGNAL)) > 0 {}
      }
    ) { wire in
      let error = try refusal(wire)
      #expect(error.why == "it did not answer in time")
      #expect(capacities(wire) == [WireConnection.bufferBytes, WireConnection.bufferBytes])
    }
  }

  @Test(arguments: 0..<4) func aComplaintIsARefusalWhereverItComes(place: Int) throws {
    try with({ peer in
      let steps = [ScriptedBroker.greeting + "\r\n", "PONG\r\n", "PONG\r\n"]
      for step in steps.prefix(place) {
        peer.send(step)
        peer.receive(until: "PING\r\n")
      }
      peer.send("-ERR '\u{1b}[2Jno'\r\n")
      // Who is refused hangs up; who is connected already waits for more.
      if place < 3 { peer.waitForEnd() }
    }) { wire in
      guard place < 3 else {
        // Connected by then, it is a complaint among others.
        try wire.connectFirst()
        #expect(next(wire) == nil)
        #expect(wire.complaints.count == 1 && wire.complaints[0].hasSuffix("[2Jno"))
        #expect(!wire.complaints[0].contains("\u{1b}"))
        return
      }
      let error = try refusal(wire)
      #expect(error.kind == .credentials)
      #expect(error.words == "[2Jno" && !error.description.contains("\u{1b}"))
    }
  }

  /// The first bytes of a TLS record of 122 bytes with a ServerHello in it.
  static let handshake = "\u{16}\u{3}\u{3}\u{0}\u{7a}\u{2}\u{0}\u{0}\u{76}\u{3}\u{3}"

  @Test(arguments: [
    ("", false, BrokerError.Kind.silence), ("", true, .tls), (handshake, false, .silence),
    (handshake, true, .tls),
    ("HTTP/1.1 400 Bad Request\r\n\r\n", false, .tls),
    (String(repeating: "\u{16}", count: 40_000), false, .tls),
  ])
  func aHandshakeThatStopsHalfWayIsAnErrorInTime(words: String, closes: Bool, kind: BrokerError.Kind) throws {
    try with(
      limitMilliseconds: kind == .silence ? 200 : 20_000,
      { peer in
        peer.send("INFO {\"tls_required\":true}\r\n")
        // The client's own first record, which begins the handshake.
        _ = peer.receive()
        peer.send(words)
        if !closes { peer.waitForEnd() }
      }
    ) { wire in
      let error = try refusal(wire)
      #expect(error.kind == kind)
    }
  }

  @Test func plainWordsBehindAGreetingThatAsksForTLSAreNotBelieved() throws {
    try with({ peer in
      peer.send("INFO {\"tls_required\":true}\r\nPONG\r\n")
      peer.waitForEnd()
    }) { wire in
      let error = try refusal(wire)
      #expect(error.kind == .noBroker)
    }
  }

  @Test(arguments: Lies.words) func liesToAConnectedClientAreFoundAndCostNoMemory(words: String) throws {
    try with({ peer in
      peer.welcome()
      peer.send("MSG a 1 5\r\nhello\r\n" + words)
      peer.waitForEnd()
    }) { wire in
      try wire.connectFirst()
      #expect(next(wire) == "hello")
      #expect(next(wire) == nil)
      #expect(wire.isBroken && wire.complaints.count == 1)
      #expect(capacities(wire) == [WireConnection.bufferBytes, WireConnection.bufferBytes])
    }
  }

  @Test func aBrokerThatClosesInTheMiddleOfAMessageEndsTheConnection() throws {
    let message = "MSG a 1 5\r\nhello\r\n"
    for length in 1..<message.utf8.count {
      try with({ peer in
        peer.welcome()
        peer.send(message + String(decoding: message.utf8.prefix(length), as: UTF8.self))
      }) { wire in
        try wire.connectFirst()
        #expect(next(wire) == "hello")
        #expect(next(wire) == nil)
        #expect(!wire.isBroken)
      }
    }
  }

  @Test func aMessageOfAllTheBytesThatAreAllowedTakesLittleMoreThanThem() throws {
    let payload = String(repeating: "x", count: 1 << 20)
    try with({ peer in
      peer.welcome()
      peer.send("MSG a 1 \(1 << 20)\r\n\(payload)\r\n")
      peer.waitForEnd()
    }) { wire in
      try wire.connectFirst()
      #expect(next(wire) == payload)
      #expect(capacities(wire)[0] < 2 << 20)
    }
  }

  @Test func pingsWithoutNumberAreCountedAndNotKept() throws {
    let pings = 300_000
    try with({ peer in
      peer.welcome()
      for _ in 0..<300 { peer.send(String(repeating: "PING\r\n", count: pings / 300)) }
      peer.send("MSG a 1 5\r\nhello\r\n")
      var count = 0
      let isComplete = eventually(within: 600) {
        count += peer.receive().count
        return count >= pings * 6
      }
      if isComplete, count == pings * 6 { peer.send("MSG a 1 3\r\nall\r\n") }
      peer.waitForEnd()
    }) { wire in
      try wire.connectFirst()
      #expect(next(wire) == "hello")
      #expect(wire.owesPongs)
      #expect(capacities(wire) == [WireConnection.bufferBytes, WireConnection.bufferBytes])
      // The answers go out as far as there is room, and are not forgotten.
      while wire.owesPongs || wire.unsentBytes > 0 {
        #expect(wire.send() != .broken)
        if wire.unsentBytes > 0 { _ = wire.waitForRoom(milliseconds: 1000) }
      }
      #expect(next(wire) == "all")
      #expect(capacities(wire) == [WireConnection.bufferBytes, WireConnection.bufferBytes])
    }
  }
}
