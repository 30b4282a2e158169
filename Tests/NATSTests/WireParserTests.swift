import Foundation
import Engine
import Lab
import Testing

@testable import NATS

/// The parser of what a broker sends: pure, so it is fed bytes.
@Suite struct WireParserTests {
  private static let longest = 1 << 20

  /// A piece whose parts outlive the bytes.
  private struct Piece: Equatable {
    var kind: WirePiece.Kind
    var byteCount: Int
    var fault: WireFault
    var subject: String
    var sid: Int
    var header: [UInt8]
    var payload: [UInt8]
  }

  /// The first piece of exactly these bytes, read from memory that ends behind them.
  private static func piece(_ bytes: some Collection<UInt8>, longest: Int = longest) -> Piece {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
    defer { copy.deallocate() }
    copy.copyBytes(from: bytes)
    let read = UnsafeRawBufferPointer(start: copy.baseAddress, count: bytes.count)
    let piece = WireParser.piece(read, longestMessage: longest)
    return Piece(
      kind: piece.kind, byteCount: piece.byteCount, fault: piece.fault,
      subject: String(decoding: piece.subject, as: UTF8.self), sid: piece.sid, header: Array(piece.header),
      payload: Array(piece.payload))
  }

  private static func piece(_ text: String) -> Piece { piece(Array(text.utf8)) }

  /// All pieces of the bytes, given to the parser `step` bytes at a time, as a socket might.
  private static func pieces(_ bytes: [UInt8], step: Int) -> [Piece] {
    var pieces: [Piece] = []
    var start = 0
    var end = min(step, bytes.count)
    while start < bytes.count {
      let piece = piece(bytes[start..<end])
      guard piece.kind != .broken else { return pieces + [piece] }
      if piece.kind == .incomplete {
        guard end < bytes.count else { return pieces }
        end = min(end + step, bytes.count)
      } else {
        pieces.append(piece)
        start += piece.byteCount
        end = max(end, min(start + step, bytes.count))
      }
    }
    return pieces
  }

  @Test func messagesAreTakenApart() {
    let plain = Self.piece("MSG a.b 1 5\r\nhello\r\nPING\r\n")
    #expect(plain.kind == .message && plain.subject == "a.b" && plain.sid == 1)
    #expect(plain.payload == Array("hello".utf8) && plain.header.isEmpty && plain.byteCount == 20)
    let withReply = Self.piece("MSG a.b 12 back.to 0\r\n\r\n")
    #expect(withReply.kind == .message && withReply.sid == 12 && withReply.payload.isEmpty)
    let withNumberAsReply = Self.piece("MSG a 1 77 2\r\nhi\r\n")
    #expect(withNumberAsReply.payload == Array("hi".utf8))
    let withHeader = Self.piece("HMSG a 1 r 17 19\r\nNATS/1.0\r\na:b\r\n\r\nhi\r\n")
    #expect(withHeader.header == Array("NATS/1.0\r\na:b\r\n\r\n".utf8))
    #expect(withHeader.payload == Array("hi".utf8) && withHeader.byteCount == 39)
    let lines = Self.piece("MSG a 1 4\r\n\r\n\r\n\r\n")
    #expect(lines.payload == Array("\r\n\r\n".utf8) && lines.byteCount == 17)
  }

  @Test func theOtherWordsAreKnown() {
    #expect(Self.piece("PING\r\nPONG\r\n").kind == .ping)
    #expect(Self.piece("PONG\r\n").kind == .pong)
    #expect(Self.piece("+OK\r\n").kind == .ok)
    #expect(Self.piece("INFO {\"a\":1}\r\n").payload == Array("{\"a\":1}".utf8))
    let error = Self.piece("-ERR 'Authorization Violation'\r\n")
    #expect(error.kind == .error && error.payload == Array("'Authorization Violation'".utf8))
  }

  @Test(arguments: [
    ("HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", true),
    ("HMSG a 1 16 16\r\nNATS/1.0 408\r\n\r\n\r\n", false),
    ("HMSG a 1 16 18\r\nNATS/1.0 503\r\n\r\nhi\r\n", false), ("HMSG a 1 4 4\r\nNATS\r\n", false),
    ("MSG a 1 0\r\n\r\n", false),
  ])
  func onlyStatus503WithoutPayloadMeansNoResponders(text: String, means: Bool) {
    let bytes = Array(text.utf8)
    bytes.withUnsafeBytes { bytes in
      let piece = WireParser.piece(bytes, longestMessage: Self.longest)
      #expect(piece.kind == .message && piece.isNoResponders == means)
    }
  }

  @Test func whereverBytesAreCutThePiecesAreTheSame() {
    let text =
      "INFO {\"max_payload\":5}\r\nPONG\r\nMSG _INBOX.a.00000001 1 7\r\nab\r\nMSG\r\nPING\r\n"
      + "HMSG _INBOX.a.00000002 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n-ERR 'Stale Connection'\r\n+OK\r\n"
      + "MSG x 9 y 0\r\n\r\nHMSG x 1 5 9\r\n12345abcd\r\n"
    let bytes = Array(text.utf8)
    let whole = Self.pieces(bytes, step: bytes.count)
    #expect(
      whole.map(\.kind) == [.info, .pong, .message, .ping, .message, .error, .ok, .message, .message])
    for step in 1...bytes.count { #expect(Self.pieces(bytes, step: step) == whole, "\(step) at a time") }
    // Every prefix asks for more bytes, and for no more than follow.
    for end in 0..<bytes.count {
      var start = 0
      for piece in whole {
        guard start + piece.byteCount <= end else { break }
        start += piece.byteCount
      }
      let rest = Self.piece(bytes[start..<end])
      #expect(rest.kind == .incomplete, "\(end) bytes")
      #expect(rest.byteCount > end - start && rest.byteCount <= bytes.count - start, "\(end) bytes")
    }
  }

  @Test(arguments: [
    ("MSG a 1 5\r\nhello", WireFault.none), ("MSG a 1 5\r\nhello!\r\n", .messageEnd),
    ("MSG a 1 5\r\nhell\r\n\r\n", .messageEnd), ("MSG a 1 1048577\r\n", .messageTooLong),
    ("MSG a 1 999999999\r\n", .messageTooLong), ("MSG a 1 9999999999\r\n", .messageLine),
    ("MSG a 1 99999999999999999999999999\r\n", .messageLine), ("MSG a 1 -5\r\n", .messageLine),
    ("MSG a 1 0x5\r\n", .messageLine), ("MSG a 1\r\n", .messageLine), ("MSG a\r\n", .messageLine),
    ("MSG \r\n", .unknownWord), ("MSG  1 5\r\n", .messageLine), ("MSG a x 5\r\n", .messageLine),
    ("MSG a 1 r s 5\r\n", .messageLine), ("MSG a 1 5 \n", .lineEnd), ("HMSG a 1 6 5\r\n", .messageLine),
    ("HMSG a 1 5\r\n", .messageLine), ("HMSG a 1 r 5\r\n", .messageLine), ("HELLO\r\n", .unknownWord),
    ("\r\n", .unknownWord), ("\n", .lineEnd), ("GET / HTTP/1.1\r\n", .unknownWord),
    ("PINGPONG\r\n", .unknownWord),
    ("msg a 1 5\r\n", .unknownWord), ("\u{0}", .unknownWord), ("INFO\r\n", .unknownWord),
  ])
  func liesAndGarbageAreFaults(text: String, fault: WireFault) {
    let piece = Self.piece(text)
    #expect(piece.fault == fault)
    #expect(piece.kind == (fault == .none ? .incomplete : .broken))
  }

  @Test func aLineWithoutAnEndIsAFaultAtLast() {
    let short = Self.piece(Array(repeating: UInt8(ascii: "I"), count: WireParser.longestLine - 1))
    #expect(short.kind == .incomplete)
    let long = Self.piece(Array(repeating: UInt8(ascii: "I"), count: WireParser.longestLine))
    #expect(long.fault == .lineTooLong)
  }

  @Test(arguments: 0..<20) func anyBytesAreReadToTheirEnd(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let words = [
      "MSG ", "HMSG ", "PING", "PONG", "+OK", "-ERR ", "INFO ", "\r\n", "\r", "\n", " ", "a.b", "1", "5",
      "16",
      "1048576", "999999999", "NATS/1.0 503", "\u{0}", "_INBOX.",
    ].map { Array($0.utf8) }
    var kinds: Set<WirePiece.Kind> = []
    for _ in 0..<2000 {
      var bytes: [UInt8] = []
      for _ in 0..<Int.random(in: 1...12, using: &random) {
        if Int.random(in: 0..<8, using: &random) == 0 {
          bytes += (0..<Int.random(in: 1...9, using: &random)).map { _ in
            UInt8.random(in: 0...255, using: &random)
          }
        } else {
          bytes += words.randomElement(using: &random) ?? []
        }
      }
      // Every turn takes something away, or ends: it cannot go on for ever.
      while !bytes.isEmpty {
        let piece = Self.piece(bytes)
        kinds.insert(piece.kind)
        if piece.kind == .incomplete { #expect(piece.byteCount > bytes.count) }
        guard piece.kind != .incomplete, piece.kind != .broken else { break }
        #expect(piece.byteCount > 0 && piece.byteCount <= bytes.count)
        bytes.removeFirst(min(bytes.count, max(1, piece.byteCount)))
      }
    }
    #expect(kinds.count >= 6)
  }
}
