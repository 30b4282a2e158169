import Engine

/// The speed of bare C on the run's machine, measured before its loads: the lowest time and the highest rate
/// that the machine allows.
package struct BaselineFigures: Codable, Sendable, Equatable {
  /// Request-reply for one phase over a bare socket, with a bare echo worker.
  package struct Bare: Codable, Sendable, Equatable {
    /// Requests in flight.
    package var inFlight: Int
    /// Requests answered per second.
    package var ratePerSecond: Double
    /// The median response time.
    package var p50Microseconds: Double

    package init(inFlight: Int, ratePerSecond: Double, p50Microseconds: Double) {
      self.inFlight = inFlight
      self.ratePerSecond = ratePerSecond
      self.p50Microseconds = p50Microseconds
    }
  }

  /// When the baseline was measured.
  package var measured: UTCSecond
  /// Nanoseconds per phase request of the smallest plugin, called in a bare C loop.
  package var ffiNanoseconds: Double
  /// The bare-socket client, one row per number of requests in flight.
  package var nats: [Bare]

  package init(measured: UTCSecond, ffiNanoseconds: Double, nats: [Bare]) {
    self.measured = measured
    self.ffiNanoseconds = ffiNanoseconds
    self.nats = nats
  }

  /// A figure within this factor of its baseline says more about the machine than about the target.
  package static let nearness = 2.0

  /// The lowest median response time of a lone request, in microseconds, with its phases one after the other;
  /// or the highest request rate at the measurement's concurrency, or at the next higher measured one.
  package func figure(of one: Measurement, phases: Int, isTime: Bool) -> Double? {
    guard phases > 0, ffiNanoseconds > 0 || one.transport != .ffi else { return nil }
    if one.transport == .ffi {
      return isTime ? ffiNanoseconds * Double(phases) / 1000 : 1e9 / ffiNanoseconds / Double(phases)
    }
    return isTime
      ? nats.first { $0.inFlight == 1 }.map { $0.p50Microseconds * Double(phases) }
      : nats.sorted { $0.inFlight < $1.inFlight }.first { $0.inFlight >= one.concurrency }
        .map { $0.ratePerSecond / Double(phases) }
  }
}
