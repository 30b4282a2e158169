import Glibc
import Nylon

/// What replies looked like that were read in full: one for each phase.
///
/// A worker's replies to one phase usually differ only in their ids. A reply that is, byte for byte,
/// the last one but for its request's id and its session's id ends the phase as that one did; it is
/// compared instead of parsed. Any other reply is read in full.
final class ReplyPatterns {
  /// Bytes of a reply that is remembered, at most.
  private static let mostBytes = 2048
  /// Replies that are remembered as they come; of those that follow only one in so many.
  private static let firstMisses: UInt32 = 32
  private static let lookAgain: UInt32 = 1024
  private static let idBytes = 16
  private static let sessionKey: StaticString = "session_id"

  private struct Pattern {
    /// 0 when there is none yet.
    var count = 0
    var idOffset = 0
    /// Where the session's id is and how many bytes it has; none when the reply does not name it.
    var sessionOffset = 0
    var sessionBytes = 0
    /// The context that the session must be in, and the one that the reply leads to.
    var contextBefore: Int32 = 0
    var contextAfter: Int32 = 0
    var end = PhaseEnd.next
    var misses: UInt32 = 0
  }

  private let patterns: UnsafeMutablePointer<Pattern>
  private let bytes: UnsafeMutableRawPointer

  init(phases: Int) {
    patterns = .allocate(capacity: phases)
    patterns.initialize(repeating: Pattern(), count: phases)
    bytes = .allocate(byteCount: phases * Self.mostBytes, alignment: 64)
  }

  deinit {
    patterns.deallocate()
    bytes.deallocate()
  }

  /// How the reply ends the phase that a slot waits for, and moves the slot's context on; nil when it
  /// must be read in full.
  @inline(__always)
  func end(of reply: UnsafeRawBufferPointer, _ state: UnsafeMutablePointer<NATSSlot>) -> PhaseEnd? {
    let phaseIndex = Int(state.pointee.phaseIndex)
    let pattern = patterns + phaseIndex
    let count = pattern.pointee.count
    guard reply.count == count, count > 0, let start = reply.baseAddress, state.pointee.isWaiting,
      state.pointee.context == pattern.pointee.contextBefore
    else { return nil }
    let id = start + pattern.pointee.idOffset
    guard UInt64(bigEndian: id.loadUnaligned(as: UInt64.self)) == state.pointee.requestID.high,
      UInt64(bigEndian: (id + 8).loadUnaligned(as: UInt64.self)) == state.pointee.requestID.low
    else { return nil }
    let known = UnsafeRawPointer(bytes + phaseIndex &* Self.mostBytes)
    let session = pattern.pointee.sessionBytes
    let isRight =
      session == 0
      ? same(start, known, from: 0, to: pattern.pointee.idOffset)
        && same(start, known, from: pattern.pointee.idOffset &+ Self.idBytes, to: count)
      : isSame(start, known, pattern, sid: state.pointee.lastSID)
    guard isRight else { return nil }
    state.pointee.context = pattern.pointee.contextAfter
    return pattern.pointee.end
  }

  @inline(__always)
  private func isSame(
    _ reply: UnsafeRawPointer, _ known: UnsafeRawPointer, _ pattern: UnsafeMutablePointer<Pattern>,
    sid: UInt32
  ) -> Bool {
    let (id, session) = (pattern.pointee.idOffset, pattern.pointee.sessionOffset)
    let bytes = pattern.pointee.sessionBytes
    guard Self.number(reply + session, bytes) == sid else { return false }
    let (first, second) = id < session ? (id, session) : (session, id)
    let (firstBytes, secondBytes) = id < session ? (Self.idBytes, bytes) : (bytes, Self.idBytes)
    return same(reply, known, from: 0, to: first)
      && same(reply, known, from: first &+ firstBytes, to: second)
      && same(reply, known, from: second &+ secondBytes, to: pattern.pointee.count)
  }

  @inline(__always)
  private func same(_ left: UnsafeRawPointer, _ right: UnsafeRawPointer, from: Int, to: Int) -> Bool {
    memcmp(left + from, right + from, to &- from) == 0
  }

  /// A big-endian number of 1, 2 or 4 bytes.
  @inline(__always)
  private static func number(_ place: UnsafeRawPointer, _ bytes: Int) -> UInt32 {
    switch bytes {
    case 1: UInt32(place.load(as: UInt8.self))
    case 2: UInt32(UInt16(bigEndian: place.loadUnaligned(as: UInt16.self)))
    default: UInt32(bigEndian: place.loadUnaligned(as: UInt32.self))
    }
  }

  /// Remembers a reply that was read in full and ended its phase.
  @inline(never)
  func learn(
    _ reply: UnsafeRawBufferPointer, _ view: MessageView, phaseIndex: Int, from before: Int32,
    to after: Int32,
    end: PhaseEnd
  ) {
    let pattern = patterns + phaseIndex
    pattern.pointee.misses &+= 1
    let misses = pattern.pointee.misses
    guard misses <= Self.firstMisses || misses % Self.lookAgain == 0, reply.count <= Self.mostBytes,
      end == .next || end == .end, let start = reply.baseAddress,
      let id = view.requestID, id.words != nil, let idStart = id.raw.baseAddress
    else { return }
    var made = Pattern(count: reply.count, idOffset: idStart - start, misses: misses)
    if let sid = view.sessionID {
      guard let (offset, bytes) = Self.session(in: reply, sid: sid) else { return }
      made.sessionOffset = offset
      made.sessionBytes = bytes
    }
    made.contextBefore = before
    made.contextAfter = after
    made.end = end
    memcpy(bytes + phaseIndex * Self.mostBytes, start, reply.count)
    pattern.pointee = made
  }

  /// Where the number behind `session_id` is, when it has bytes of its own; nil when it is part of its
  /// type's byte, or not to be found.
  private static func session(in reply: UnsafeRawBufferPointer, sid: UInt32) -> (offset: Int, bytes: Int)? {
    let key = sessionKey.utf8CodeUnitCount
    guard let start = reply.baseAddress, reply.count > key,
      let found = (0..<reply.count - key).first(where: {
        memcmp(start + $0, sessionKey.utf8Start, key) == 0
      })
    else { return nil }
    let type = found + key
    guard type < reply.count else { return nil }
    let bytes: Int
    switch reply[type] {
    case 0xcc: bytes = 1
    case 0xcd: bytes = 2
    case 0xce: bytes = 4
    default: return nil
    }
    guard type + 1 + bytes <= reply.count, number(start + type + 1, bytes) == sid else { return nil }
    return (type + 1, bytes)
  }
}

/// The reply subjects of one load thread: one inbox for each connection, and in the last part
/// the place of the session. Patched in place.
final class ReplySubject {
  private static let digits = 8
  private let texts: [UnsafeMutablePointer<CChar>]
  private let prefixCount: Int

  /// Subjects that no other thread, connection or run has; at most 65,535 connections.
  init(seed: UInt64, connections: Int) {
    let root = "_INBOX." + Self.hex(seed) + Self.hex(UInt64.random(in: .min ... .max))
    texts = (0..<connections).map {
      strdup("\(root).\(Self.hex(UInt64($0)).suffix(4))." + String(repeating: "0", count: Self.digits))
    }
    prefixCount = root.utf8.count + 6
  }

  deinit { texts.forEach { free($0) } }

  private static func hex(_ number: UInt64) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }

  /// What the connection with that place subscribes to.
  func pattern(connection place: Int) -> String {
    String(decoding: prefix(connection: place), as: UTF8.self) + "*"
  }

  /// The 8 digits of a token, as they lie in memory.
  static func text(of token: UInt32) -> UInt64 {
    let digits = hex(UInt64(token)).utf8.suffix(Self.digits)
    return digits.reversed().reduce(0) { $0 << 8 | UInt64($1) }.littleEndian
  }

  /// What the reply subjects of a connection have before their token.
  func prefix(connection place: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: texts[place], count: prefixCount)
  }

  /// The token of a reply's subject; nil when it is not one of the connection's.
  @inline(__always)
  func token(in subject: UnsafeRawBufferPointer, connection place: Int) -> UInt32? {
    guard subject.count == prefixCount + Self.digits, let start = subject.baseAddress,
      memcmp(start, texts[place], prefixCount) == 0
    else { return nil }
    return Self.token((start + prefixCount).assumingMemoryBound(to: CChar.self))
  }

  /// The token in 8 digits.
  @inline(__always)
  static func token(_ text: UnsafePointer<CChar>) -> UInt32? {
    var token: UInt32 = 0
    for position in 0..<Self.digits {
      let character = text[position]
      let digit: UInt32
      switch character {
      case 48...57: digit = UInt32(character - 48)
      case 97...102: digit = UInt32(character - 87)
      default: return nil
      }
      token = token << 4 | digit
    }
    return token
  }
}
