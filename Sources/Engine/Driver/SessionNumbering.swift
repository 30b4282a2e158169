/// Numbers sessions so that whoever has only the number finds the slot without a lock.
///
/// The low bits are the slot's place among all threads' slots, the rest counts the sessions that
/// the slot has had. No id comes twice in a load: a plugin may keep what it knows of an old one.
package struct SessionNumbering: Sendable {
  let slotBits: UInt32
  /// The bits of a session's id that are its slot.
  let slotMask: UInt32

  /// Numbers for so many slots of all threads together.
  package init(slots: Int) {
    var bits: UInt32 = 0
    while 1 << bits < slots { bits += 1 }
    slotBits = bits
    slotMask = (1 << bits) &- 1
  }

  /// Session ids that pass with each second: more than a load over NATS opens in that time.
  private static let idsPerSecond: UInt64 = 1 << 18
  /// Ids that a load has at least, before the numbers are used up.
  private static let leastIDs: UInt64 = 1 << 30

  /// What the ids of a load that begins at a time start after, so that loads one after the other have no id
  /// in common. Ids have 32 bits, so they come again after three hours.
  package static func lastID(atUnixNanoseconds time: UInt64) -> UInt32 {
    let steps = time / 1_000_000 * idsPerSecond / 1000
    return UInt32(steps % (UInt64(UInt32.max) - leastIDs))
  }

  /// The slot of a session.
  @inline(__always)
  package func slot(of sid: UInt32) -> Int { Int(sid & slotMask) }

  /// What a slot's numbers start after.
  @inline(__always)
  package func first(ofSlot slot: Int) -> UInt32 { UInt32(truncatingIfNeeded: slot) }

  /// What a slot's numbers start after so that all are greater than `sid`.
  package func first(ofSlot slot: Int, after sid: UInt32) -> UInt32 {
    (sid >> slotBits) << slotBits | UInt32(truncatingIfNeeded: slot)
  }

  /// The id after `sid` in the same slot; nil when the numbers are used up.
  @inline(__always)
  package func next(after sid: UInt32) -> UInt32? {
    let (next, overflow) = sid.addingReportingOverflow(1 << slotBits)
    return overflow ? nil : next
  }
}
