import Nylon

/// Where the time of a phase goes; nothing of this runs in a load that is not decomposed.
extension NATSTransport {
  /// Keeps the stamps of a reply until the driver asks for them.
  @inline(never)
  func keepStamps(of reply: ReplyView, slot: Int, _ stamps: UnsafeMutablePointer<WorkerStamps>) {
    stamps[slot] = reply.header(WorkerStamps.header).flatMap(WorkerStamps.init) ?? WorkerStamps()
  }

  /// See `TransportSpec.partNames`. The attempts before the one that was answered are in the first part.
  func split(
    slot: Int, from sent: UInt64, to done: UInt64, into parts: UnsafeMutablePointer<UInt64>
  ) -> PhaseSplit {
    guard let stamps, stamps[slot].packed != 0 else { return .noStamps }
    let stamp = stamps[slot]
    guard sent <= stamp.read, stamp.read <= stamp.begun, stamp.begun <= stamp.ended,
      stamp.ended <= stamp.packed, stamp.packed <= done
    else { return .impossible }
    parts[0] = stamp.read &- sent
    parts[1] = stamp.begun &- stamp.read
    parts[2] = stamp.ended &- stamp.begun
    parts[3] = stamp.packed &- stamp.ended
    parts[4] = done &- stamp.packed
    return .whole
  }
}
