import CNylonABI

/// When the call that started a slot's phase was made, and what came of it; nanoseconds.
struct CallStamps {
  /// `event_stream` was called.
  var called: UInt64 = 0
  /// It returned.
  var returned: UInt64 = 0
  /// The callback came that ended the phase.
  var callback: UInt64 = 0
}

/// The callback of decomposed loads: stamps each call as it comes.
let stampingHostCallback: NylonCallback = { hostReceived($0, isStamping: true) }

/// Where the time of a phase goes; nothing of this runs in a load that is not decomposed.
extension FFITransport {
  /// Calls the plugin and stamps both ends of the call.
  @inline(never)
  func startStamped(_ event: inout NylonFfiBuffer, slot: Int, _ stamps: UnsafeMutablePointer<CallStamps>) {
    stamps[slot].called = MonotonicClock.nanoseconds
    plugin.eventStream(&event)
    stamps[slot].returned = MonotonicClock.nanoseconds
    handleLocal()
  }

  /// Stamps the end of a phase; when it is complete. Queued, it is complete now; inline, it was
  /// within the callback.
  @inline(never)
  func stampEnd(
    _ slot: Int, calledAt: UInt64, _ stamps: UnsafeMutablePointer<CallStamps>
  ) -> UInt64 {
    let now = MonotonicClock.nanoseconds
    stamps[slot].callback = calledAt != 0 ? calledAt : now
    return isInline ? stamps[slot].callback : now
  }

  /// See `TransportSpec.partNames`. A callback may come inside `event_stream`, or after it, from
  /// another thread: one of the two times between is 0 then.
  package func split(
    slot: Int, from sent: UInt64, to done: UInt64, into parts: UnsafeMutablePointer<UInt64>
  ) -> PhaseSplit {
    guard let stamps else { return .noStamps }
    let stamp = stamps[slot]
    guard sent <= stamp.called, stamp.called <= stamp.callback, stamp.called <= stamp.returned,
      stamp.callback <= done
    else { return .impossible }
    let first = min(stamp.callback, stamp.returned)
    // Inline, the phase is complete before `event_stream` returns.
    let last = min(max(stamp.callback, stamp.returned), done)
    parts[0] = stamp.called &- sent
    parts[1] = first &- stamp.called
    parts[2] = stamp.callback &- first
    parts[3] = last &- stamp.callback
    parts[4] = done &- last
    return .whole
  }
}
