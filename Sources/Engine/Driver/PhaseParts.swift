import Scenario

extension TransportSpec {
  /// The parts that the service time of a phase has on this way, in their order in time.
  ///
  /// FFI: until `event_stream` was called (of the first phase: with `register_session_stream`); inside it,
  /// until it returned or the callback came that ended the phase; from its return until that callback;
  /// from the callback until `event_stream` returned; the host's own queueing and handling.
  /// NATS: until the worker read the request from its socket; until the handler began; the handler; until the reply
  /// was packed; until the host had read it.
  package var partNames: [String] {
    switch self {
    case .ffi: ["before_call", "in_event_stream", "until_callback", "until_return", "host"]
    case .nats: ["to_worker", "worker_wait", "handler", "worker_reply", "to_host"]
    }
  }

  /// Parts of either way, at most.
  static let mostParts = 8
}

/// Whether the time of a phase could be cut up.
package enum PhaseSplit: Sendable {
  /// All parts are known.
  case whole
  /// The worker sent no stamps.
  case noStamps
  /// The stamps do not lie between sent and done.
  case impossible
}

extension SessionTransport {
  /// Nothing is known of the parts.
  package func split(
    slot: Int, from sent: UInt64, to done: UInt64, into parts: UnsafeMutablePointer<UInt64>
  ) -> PhaseSplit { .noStamps }
}

extension LoadDriver {
  /// Records where the time of an answered phase went.
  @inline(never)
  func recordParts(
    _ recorderOfParts: PartRecorder, _ place: Int, _ slot: UnsafeMutablePointer<SessionSlot>, scope: Int,
    done: UInt64
  ) {
    switch transport.split(slot: place, from: slot.pointee.phaseSent, to: done, into: partTimes) {
    case .whole:
      for part in 0..<recorderOfParts.count {
        recorderOfParts.part(part, scope: scope).record(partTimes[part])
      }
    case .noStamps: recorder.add(.withoutStamps, scope: scope)
    case .impossible: recorder.add(.impossibleStamps, scope: scope)
    }
  }
}
