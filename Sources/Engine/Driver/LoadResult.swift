import Scenario

/// Makes a measurement from what the load threads recorded.
package enum LoadResult {
  /// The measurement in shared memory: of a load that ended, was interrupted, or died.
  ///
  /// Requests without an end (a load process that died) are counted as lost, so that counts close.
  package static func measurement(order: LoadOrder, area: RecordingArea) -> Measurement {
    let recorders = (0..<area.layout.threads).map(area.threadRecorder)
    let start = area.measureStart
    let end = area.measureEnd
    let seconds = start > 0 && end > start ? Double(end - start) / 1e9 : 0
    let scopes = area.layout.scopes.indices.map { place in
      var scope = scope(
        place, layout: area.layout, recorders: recorders, isOpen: order.load.isOpen,
        isOnePhase: PhaseStep.steps(of: order).count == 1)
      let (sent, ended) = (scope.counts.sent, scope.counts.ended)
      if sent > ended { scope.counts.lost &+= sent - ended }
      return scope
    }
    var measurement = Measurement(
      target: order.target.name, transport: order.target.transport.name,
      handler: order.target.handler, load: order.load.label, concurrency: order.placeCount,
      payloadBytes: order.request.bodyBytes, replicate: order.replicate, durationSeconds: seconds,
      scopes: scopes,
      windows: windows(
        layout: area.layout, recorders: recorders, seconds: seconds,
        plannedSeconds: order.measureSeconds))
    switch order.load {
    case .closed: break
    case .open(let rate, _): measurement.offeredRatePerSecond = rate
    case .ramp(let ramp):
      // Of one that was ended early, of the part that there is.
      measurement.offeredRatePerSecond = ramp.ratePerSecond(at: seconds / 2)
      measurement.ramp = ramp
    }
    measurement.stall = stall(of: recorders, measureStart: start)
    if case .nats(let pool) = order.target.transport {
      measurement.workers = pool.workers?.count
      measurement.connections = order.connections
    }
    return measurement
  }

  /// The stall that all load threads saw: a target that answers one of them does not stand still.
  private static func stall(of recorders: [ThreadRecorder], measureStart: UInt64) -> MeasuredStall? {
    let first = recorders[0].stall.pointee
    guard first.nanoseconds > 0 else { return nil }
    let shared = recorders.dropFirst().reduce(Optional(first)) { $0?.intersection($1.stall.pointee) }
    return shared.map {
      MeasuredStall(
        startSeconds: Double($0.start - min($0.start, measureStart)) / 1e9,
        seconds: Double($0.nanoseconds) / 1e9,
        slowestBeforeNanoseconds: $0.slowestBefore)
    }
  }

  fileprivate static func scope(
    _ place: Int, layout: RecordingLayout, recorders: [ThreadRecorder], isOpen: Bool, isOnePhase: Bool = false
  ) -> ScopeMeasurement {
    var counts = OutcomeCounts()
    var okInWindow: UInt64 = 0
    var response = LatencyHistogram()
    var service = LatencyHistogram()
    var lag = LatencyHistogram()
    // A session of one phase is recorded once, as the request: its phase has the same times,
    // and those of answers whose content was wrong besides.
    let sources = place > 0 && isOnePhase ? [0, place] : [place]
    for recorder in recorders {
      counts.add(recorder.counts(scope: place))
      okInWindow &+= recorder.value(.okInWindow, scope: place)
      for scope in sources {
        if scope == 0 {
          for window in 0..<layout.windows { response.merge(recorder.response(window: window)) }
        }
        response.merge(recorder.response(scope: scope))
        service.merge(recorder.service(scope: scope))
        lag.merge(recorder.lag(scope: scope))
      }
    }
    return ScopeMeasurement(
      scope: layout.scopes[place], counts: counts, okInWindow: okInWindow, response: response,
      service: isOpen ? service : response, sendLag: lag,
      decomposition: decomposition(place, layout: layout, recorders: recorders))
  }

  /// The parts of a phase's time; nil for the request, and when the load is not decomposed.
  private static func decomposition(
    _ place: Int, layout: RecordingLayout, recorders: [ThreadRecorder]
  ) -> Decomposition? {
    guard place > 0, !layout.parts.isEmpty else { return nil }
    return Decomposition(
      parts: layout.parts.enumerated().map { number, name in
        var time = LatencyHistogram()
        for recorder in recorders { time.merge(recorder.part(number, scope: place)) }
        return PhasePart(name: name, time: time)
      },
      withoutStamps: recorders.reduce(0) { $0 &+ $1.value(.withoutStamps, scope: place) },
      impossibleStamps: recorders.reduce(0) { $0 &+ $1.value(.impossibleStamps, scope: place) })
  }

  private static func windows(
    layout: RecordingLayout, recorders: [ThreadRecorder], seconds: Double, plannedSeconds: Double
  ) -> [MeasurementWindow] {
    let length = plannedSeconds / Double(layout.windows)
    return (0..<layout.windows).compactMap { place in
      let start = Double(place) * length
      guard start + length * 0.999 <= seconds else { return nil }
      var histogram = LatencyHistogram()
      for recorder in recorders { histogram.merge(recorder.response(window: place)) }
      let failures = recorders.map { $0.failures(window: place) }
      let timeouts = failures.reduce(0) { $0 &+ $1.timeouts }
      return MeasurementWindow(
        startSeconds: start, durationSeconds: length, completed: histogram.count,
        p50Nanoseconds: histogram.printableValue(atPercentile: 50),
        p99Nanoseconds: histogram.printableValue(atPercentile: 99),
        maxNanoseconds: histogram.isEmpty ? nil : histogram.greatestNanoseconds,
        failed: failures.reduce(timeouts) { $0 &+ $1.others }, timeouts: timeouts)
    }
  }
}

/// A glance at a load under way, for the progress line.
package struct LoadGlance: Sendable {
  package var state: LoadState
  /// Requests that were answered within the measured time so far.
  package var answered: UInt64
  /// Response time of measured requests so far, nanoseconds; nil when there is none.
  package var p50Nanoseconds, p99Nanoseconds: UInt64?
  package var errors: UInt64

  package init(_ area: RecordingArea) {
    let recorders = (0..<area.layout.threads).map(area.threadRecorder)
    let request = LoadResult.scope(0, layout: area.layout, recorders: recorders, isOpen: true)
    state = area.state
    answered = request.okInWindow
    p50Nanoseconds = request.response.value(atPercentile: 50)
    p99Nanoseconds = request.response.value(atPercentile: 99)
    errors = request.counts.ended - min(request.counts.ended, request.counts.ok)
  }
}
