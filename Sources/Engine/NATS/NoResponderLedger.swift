/// Finds out which requests the broker refused for want of a worker.
///
/// libnats' synchronous subscription says "no responders" without saying for which request. The
/// broker handles one connection's messages in order, so a message to ourselves, a fence, comes
/// back behind all refusals of requests that were sent before it. When the fence is back, the
/// number of refusals among the requests before it is known; those that were not refused
/// are answered, or time out; and as soon as as many are left as were refused, they are those.
struct NoResponderLedger {
  /// Refusals that belong to no fence yet.
  private(set) var openRefusals = 0
  /// The last sequence number before the fence; nil when none is under way.
  private(set) var fence: UInt64?
  /// Tells the fences apart: one that a lost connection held up must not be taken for the next.
  private(set) var fenceNumber: UInt64 = 0
  private var fenceIsBack = false
  private var refusedBeforeFence = 0

  /// The broker refused some request. True when a fence is to be sent now, behind `lastSent`.
  mutating func refused(lastSent: UInt64) -> Bool {
    if fence != nil, !fenceIsBack {
      refusedBeforeFence += 1
      return false
    }
    openRefusals += 1
    return startFence(lastSent: lastSent)
  }

  /// A fence has come back.
  mutating func fenceReturned(number: UInt64) {
    if fence != nil, number == fenceNumber { fenceIsBack = true }
  }

  /// The connection was lost, and with it perhaps the fence and refusals: those time out.
  mutating func forget() {
    fence = nil
    fenceIsBack = false
    refusedBeforeFence = 0
    openRefusals = 0
  }

  /// Whether, with so many requests before the fence without an answer, all of them were refused.
  func allRefused(outstandingBeforeFence: Int) -> Bool {
    fence != nil && fenceIsBack && outstandingBeforeFence <= refusedBeforeFence
  }

  /// The refused requests of this fence are dealt with. True when the next fence is to be sent.
  mutating func settle(lastSent: UInt64) -> Bool {
    fence = nil
    fenceIsBack = false
    refusedBeforeFence = 0
    return openRefusals > 0 && startFence(lastSent: lastSent)
  }

  private mutating func startFence(lastSent: UInt64) -> Bool {
    guard fence == nil else { return false }
    fence = lastSent
    fenceNumber = (fenceNumber + 1) & 0xFFFF
    refusedBeforeFence = openRefusals
    openRefusals = 0
    return true
  }
}
