import Nylon
import Testing

@testable import Engine

/// Replies that are compared with one that was read in full.
@Suite struct ReplyPatternTests {
  private static let id: (high: UInt64, low: UInt64) = (0x0192_F0C1_1122_7344, 0x8055_6677_8899_AABB)

  private static func bytes(sid: UInt32?, id: (high: UInt64, low: UInt64) = id) throws -> [UInt8] {
    guard let sid else {
      // As a worker of the real SDK: the id and nothing of the session.
      return try WorkerMessage(requestID: RequestID(high: id.high, low: id.low)).encoded()
    }
    return try WorkerMessage(
      requestID: RequestID(high: id.high, low: id.low), sessionID: sid, action: .next, data: [9, 8, 7]
    ).encoded()
  }

  private static func slot(sid: UInt32, id: (high: UInt64, low: UInt64) = id) -> NATSSlot {
    var slot = NATSSlot(lastSID: sid, tokenText: ReplySubject.text(of: 0))
    slot.requestID = id
    slot.isWaiting = true
    slot.context = 3
    return slot
  }

  private static func end(_ patterns: ReplyPatterns, _ bytes: [UInt8], _ slot: inout NATSSlot) -> PhaseEnd? {
    bytes.withUnsafeBytes { bytes in withUnsafeMutablePointer(to: &slot) { patterns.end(of: bytes, $0) } }
  }

  private static func taught(_ bytes: [UInt8]) throws -> ReplyPatterns {
    let patterns = ReplyPatterns(phases: 1)
    try bytes.withUnsafeBytes { bytes in
      let view = try #require(MessageView(reply: bytes))
      patterns.learn(bytes, view, phaseIndex: 0, from: 3, to: 5, end: .next)
    }
    return patterns
  }

  @Test(arguments: [200, 60_000, 3_000_000_000, nil] as [UInt32?])
  func aReplyThatDiffersInItsIdsOnlyEndsThePhaseAlike(sid: UInt32?) throws {
    let patterns = try Self.taught(try Self.bytes(sid: sid))
    let other: (high: UInt64, low: UInt64) = (1, 2)
    let next = sid.map { $0 + 1 }
    var slot = Self.slot(sid: next ?? 7, id: other)
    #expect(Self.end(patterns, try Self.bytes(sid: next, id: other), &slot) == .next)
    #expect(slot.context == 5)
  }

  @Test(arguments: [200, 60_000, 3_000_000_000, nil] as [UInt32?])
  func aReplyWithAnyOtherByteIsReadInFull(sid: UInt32?) throws {
    let bytes = try Self.bytes(sid: sid)
    let patterns = try Self.taught(bytes)
    for place in bytes.indices {
      for bit in 0..<8 {
        var changed = bytes
        changed[place] ^= 1 << UInt8(bit)
        var slot = Self.slot(sid: sid ?? 7)
        #expect(Self.end(patterns, changed, &slot) == nil, "byte \(place), bit \(bit)")
        #expect(slot.context == 3)
      }
    }
    var slot = Self.slot(sid: sid ?? 7)
    #expect(Self.end(patterns, Array(bytes.dropLast()), &slot) == nil)
    #expect(Self.end(patterns, bytes + [0], &slot) == nil)
    slot.isWaiting = false
    #expect(Self.end(patterns, bytes, &slot) == nil)
    slot.isWaiting = true
    slot.context = 4
    #expect(Self.end(patterns, bytes, &slot) == nil)
    slot.context = 3
    #expect(Self.end(patterns, bytes, &slot) == .next)
  }
}
