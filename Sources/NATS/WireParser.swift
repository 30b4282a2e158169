import Glibc

/// Parses the broker's protocol messages in place. The parser is pure and keeps no state. Whatever the input,
/// it never reads past the buffer and never asks for more bytes than `longestMessage` needs.
package enum WireParser {
  /// The maximum length of a line in bytes, including CR LF; a large cluster's `INFO` line is the longest.
  @inlinable package static var longestLine: Int { 64 << 10 }

  /// Parses the first protocol message. `longestMessage` limits the bytes of headers and payload together.
  @inlinable @inline(__always)
  package static func piece(_ bytes: UnsafeRawBufferPointer, longestMessage: Int) -> WirePiece {
    guard let start = bytes.baseAddress, bytes.count > 0 else { return .incomplete(needs: 1) }
    guard let end = memchr(start, newline, min(bytes.count, longestLine)) else {
      return unfinishedLine(start, count: bytes.count)
    }
    let length = UnsafeRawPointer(end) - start
    guard length > 0, start.byte(length - 1) == carriageReturn else { return .broken(.lineEnd) }
    var line = WireLine(at: start, end: start + (length - 1))
    if line.takes(asciiMessage) {
      return message(&line, of: bytes, body: length + 1, withHeader: false, longestMessage)
    }
    return other(&line, of: bytes, lineLength: length + 1, longestMessage)
  }

  /// Handles a buffer without a line end: waits for more bytes, unless no protocol message starts like this.
  @usableFromInline @inline(never)
  static func unfinishedLine(_ start: UnsafeRawPointer, count: Int) -> WirePiece {
    guard count < longestLine else { return .broken(.lineTooLong) }
    let isKnown = "MHPI+-".utf8.contains(start.byte(0))
    return isKnown ? .incomplete(needs: count + 1) : .broken(.unknownWord)
  }

  /// Parses `subject sid [reply] [header bytes] bytes`, followed by the payload and CR LF.
  @inlinable @inline(__always)
  static func message(
    _ line: inout WireLine, of bytes: UnsafeRawBufferPointer, body: Int, withHeader: Bool,
    _ longestMessage: Int
  ) -> WirePiece {
    guard let subject = line.word(), let sid = line.number() else { return .broken(.messageLine) }
    let mark = line.at
    var reply = UnsafeRawBufferPointer(start: nil, count: 0)
    var sizes = sizes(&line, withHeader: withHeader)
    if sizes == nil {
      line.at = mark
      guard let word = line.word() else { return .broken(.messageLine) }
      reply = word
      sizes = self.sizes(&line, withHeader: withHeader)
    }
    guard let (header, total) = sizes, header <= total else { return .broken(.messageLine) }
    guard total <= longestMessage else { return .broken(.messageTooLong) }
    let whole = body + total + 2
    guard bytes.count >= whole, let start = bytes.baseAddress else { return .incomplete(needs: whole) }
    guard start.byte(whole - 2) == carriageReturn, start.byte(whole - 1) == UInt8(newline) else {
      return .broken(.messageEnd)
    }
    var piece = WirePiece(kind: .message, byteCount: whole)
    piece.subject = subject
    piece.sid = sid
    piece.reply = reply
    piece.header = UnsafeRawBufferPointer(start: start + body, count: header)
    piece.payload = UnsafeRawBufferPointer(start: start + body + header, count: total - header)
    return piece
  }

  /// Parses the sizes at the end of a message's line; nil when another word comes first.
  @inlinable @inline(__always)
  static func sizes(_ line: inout WireLine, withHeader: Bool) -> (header: Int, total: Int)? {
    guard let first = line.number() else { return nil }
    guard withHeader else { return line.isAtEnd ? (0, first) : nil }
    guard let second = line.number(), line.isAtEnd else { return nil }
    return (first, second)
  }

  @usableFromInline @inline(never)
  static func other(
    _ line: inout WireLine, of bytes: UnsafeRawBufferPointer, lineLength: Int, _ longestMessage: Int
  ) -> WirePiece {
    if line.takes(asciiHeaderMessage) {
      return message(&line, of: bytes, body: lineLength, withHeader: true, longestMessage)
    }
    let text = line.rest
    if text.elementsEqual("PING".utf8) { return WirePiece(kind: .ping, byteCount: lineLength) }
    if text.elementsEqual("PONG".utf8) { return WirePiece(kind: .pong, byteCount: lineLength) }
    if text.elementsEqual("+OK".utf8) { return WirePiece(kind: .ok, byteCount: lineLength) }
    for (word, kind) in [("INFO ", WirePiece.Kind.info), ("-ERR ", .error)]
    where text.starts(with: word.utf8) {
      var piece = WirePiece(kind: kind, byteCount: lineLength)
      piece.payload = UnsafeRawBufferPointer(rebasing: text.dropFirst(5))
      return piece
    }
    return .broken(.unknownWord)
  }
}

@inlinable var newline: Int32 { 10 }
@inlinable var carriageReturn: UInt8 { 13 }
@inlinable var space: UInt8 { 32 }
@inlinable var asciiMessage: StaticString { "MSG " }
@inlinable var asciiHeaderMessage: StaticString { "HMSG " }

/// One protocol message from the broker. Its fields point into the buffer it was parsed from.
package struct WirePiece {
  package enum Kind: UInt8, Sendable {
    /// More bytes are needed; `byteCount` is the total required.
    case incomplete
    case message, ping, pong, ok
    /// `payload` is JSON.
    case info
    /// `payload` is the broker's error text.
    case error
    /// The bytes violate the protocol.
    case broken
  }

  package var kind: Kind
  /// The size of the message in bytes; for `incomplete`, the number of bytes needed.
  package var byteCount: Int
  package var fault = WireFault.none
  /// The subject that the message was published to.
  package var subject = UnsafeRawBufferPointer(start: nil, count: 0)
  /// The id of the subscription that the message was delivered to.
  package var sid = 0
  /// The reply subject; empty when no reply is expected.
  package var reply = UnsafeRawBufferPointer(start: nil, count: 0)
  /// Empty for a message without headers.
  package var header = UnsafeRawBufferPointer(start: nil, count: 0)
  /// The message payload, or the content that `kind` documents.
  package var payload = UnsafeRawBufferPointer(start: nil, count: 0)

  @inlinable
  package init(kind: Kind, byteCount: Int, fault: WireFault = .none) {
    self.kind = kind
    self.byteCount = byteCount
    self.fault = fault
  }

  @inlinable
  static func incomplete(needs count: Int) -> WirePiece { WirePiece(kind: .incomplete, byteCount: count) }

  @inlinable
  static func broken(_ fault: WireFault) -> WirePiece {
    WirePiece(kind: .broken, byteCount: 0, fault: fault)
  }

  /// Whether the broker reported "no responders": status 503 without a payload.
  package var isNoResponders: Bool {
    payload.isEmpty && header.count >= 12 && header.prefix(12).elementsEqual("NATS/1.0 503".utf8)
  }
}

/// The ways in which input can violate the protocol.
package enum WireFault: String, Sendable {
  case none
  case lineEnd = "a line does not end with CR LF"
  case lineTooLong = "a line is too long"
  case unknownWord = "a line begins with no word of the protocol"
  case messageLine = "a message's line cannot be read"
  case messageTooLong = "a message is announced that is longer than the broker allows"
  case messageEnd = "a message does not end where its length says"
}

/// A cursor over the words of one line.
@usableFromInline
struct WireLine {
  @usableFromInline var at: UnsafeRawPointer
  @usableFromInline let end: UnsafeRawPointer

  @inlinable
  init(at: UnsafeRawPointer, end: UnsafeRawPointer) {
    self.at = at
    self.end = end
  }

  @inlinable var isAtEnd: Bool { at >= end }

  var rest: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: at, count: end - at) }

  /// Skips `text` if the line continues with it.
  @inlinable @inline(__always)
  mutating func takes(_ text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard end - at > count, memcmp(at, text.utf8Start, count) == 0 else { return false }
    at += count
    return true
  }

  /// Reads a word and the space after it; nil when there is none.
  @inlinable @inline(__always)
  mutating func word() -> UnsafeRawBufferPointer? {
    guard let stop = memchr(at, Int32(space), end - at) else { return nil }
    let count = UnsafeRawPointer(stop) - at
    guard count > 0 else { return nil }
    defer { at += count + 1 }
    return UnsafeRawBufferPointer(start: at, count: count)
  }

  /// Reads a number followed by a space or the end of the line; nil when there is none.
  @inlinable @inline(__always)
  mutating func number() -> Int? {
    var value = 0
    var digits = 0
    while at < end, digits <= WireLine.mostDigits {
      let character = at.byte(0)
      if character == space { break }
      guard character >= 48, character <= 57 else { return nil }
      value = value &* 10 &+ Int(character &- 48)
      digits &+= 1
      at += 1
    }
    guard digits > 0, digits <= WireLine.mostDigits else { return nil }
    if at < end { at += 1 }
    return value
  }

  @inlinable static var mostDigits: Int { 9 }
}

extension UnsafeRawPointer {
  @inlinable @inline(__always)
  func byte(_ offset: Int) -> UInt8 { load(fromByteOffset: offset, as: UInt8.self) }
}
