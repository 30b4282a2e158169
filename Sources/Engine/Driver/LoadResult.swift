import Scenario

/// Builds a measurement from the load threads' records.
package enum LoadResult {
  /// Builds the measurement from shared memory, for a load that ended, was interrupted, or died.
  ///
  /// Requests without an end (when the load process died) count as lost, so that the counts add up.
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
      target: order.target.name, transport: order.target.transport.kind,
      handler: order.target.handler, load: order.load.label, concurrency: order.placeCount,
      payloadBytes: order.request.bodyBytes, replicate: order.replicate, durationSeconds: seconds,
      scopes: scopes,
      windows: windows(order, layout: area.layout, recorders: recorders, seconds: seconds, start: start))
    switch order.load {
    case .closed: break
    case .open(let rate, _): measurement.offeredRatePerSecond = rate
    case .ramp(let ramp):
      // For a ramp that was ended early, the average of the part that ran.
      measurement.offeredRatePerSecond = ramp.ratePerSecond(at: seconds / 2)
      measurement.ramp = ramp
    }
    measurement.stall = stall(of: recorders, measureStart: start)
    if let pool = order.target.nats {
      measurement.workers = pool.workers?.count
      measurement.connections = order.connections
    }
    return measurement
  }

  /// The stall that all load threads saw: a target that answers any of them is not stalled.
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
    // A session of one phase is recorded once, as the request, because its phase has the same times. The
    // phase's own histograms only hold answers with wrong content.
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
    _ order: LoadOrder, layout: RecordingLayout, recorders: [ThreadRecorder], seconds: Double, start: UInt64
  ) -> [MeasurementWindow] {
    let length = order.measureSeconds / Double(layout.windows)
    var windows = (0..<layout.windows).compactMap { place -> MeasurementWindow? in
      let start = Double(place) * length
      guard start + length * 0.999 <= seconds else { return nil }
      var histogram = LatencyHistogram()
      for recorder in recorders { histogram.merge(recorder.response(window: place)) }
      let records = recorders.map { $0.record(window: place) }
      return MeasurementWindow(
        startSeconds: start, durationSeconds: length, completed: histogram.count,
        p50Nanoseconds: histogram.printableValue(atPercentile: 50),
        p99Nanoseconds: histogram.printableValue(atPercentile: 99),
        maxNanoseconds: histogram.isEmpty ? nil : histogram.greatestNanoseconds,
        failed: records.reduce(0) { $0 &+ $1.failed },
        timeouts: records.reduce(0) { $0 &+ $1.value(.timeouts) })
    }
    if order.hasFaults { addWhatHappened(to: &windows, layout: layout, recorders: recorders, start: start) }
    return windows
  }

  /// Adds the records of a load with faults to each window; the last window includes what ended in the drain.
  private static func addWhatHappened(
    to windows: inout [MeasurementWindow], layout: RecordingLayout, recorders: [ThreadRecorder],
    start: UInt64
  ) {
    let gaps = recorders.dropFirst().reduce(Self.gaps(of: recorders[0])) { shared, recorder in
      let others = Self.gaps(of: recorder)
      return shared.flatMap { gap in others.compactMap(gap.intersection) }
    }
    // Good answers are counted only in the histograms; those in no window arrived during the drain.
    var answersLeft = recorders.reduce(0) { $0 &+ $1.value(.ok, scope: 0) }
    for place in windows.indices {
      let places = place + 1 == layout.windows ? [place, layout.windows] : [place]
      let records = places.flatMap { place in recorders.map { $0.record(window: place) } }
      var counts = OutcomeCounts()
      for record in records {
        for counter in Counter.outcomes { counts[counter] &+= record.value(counter) }
      }
      let answers = windows[place].answers ?? windows[place].completed
      counts[.ok] = min(answersLeft, places.count > 1 ? .max : answers)
      answersLeft -= counts[.ok]
      counts[.sent] = counts.ended
      windows[place].counts = counts
      windows[place].firstTroubleSeconds = records.map(\.firstTrouble).filter { $0 > start }.min().map {
        Double($0 - start) / 1e9
      }
      let own = gaps.filter { recorders[0].window(at: $0.end - 1) == place }.map(\.nanoseconds)
      windows[place].longestGapNanoseconds = own.max()
    }
  }

  /// The longest gap without an answer in each window of a load thread; windows without a gap are left out.
  private static func gaps(of recorder: ThreadRecorder) -> [Stall] {
    (0..<recorder.windows).map { recorder.record(window: $0).gap }.filter { $0.nanoseconds > 0 }
  }
}

extension LoadResult {
  /// Counts requests as lost after a load process was killed: those in flight when it died, and those that it
  /// would still have sent, each in the window of its intended time. Records the time without an answer.
  package static func loseTheRest(of order: LoadOrder, in area: RecordingArea, died time: UInt64) {
    let isOnePhase = PhaseStep.steps(of: order).count == 1
    // Use the order's times, because a plugin may have overwritten those in the record.
    let (warmup, measured) = (UInt64(order.warmupSeconds * 1e9), UInt64(order.measureSeconds * 1e9))
    for thread in 0..<area.layout.threads where area.measureStart > 0 {
      let recorder = area.threadRecorder(thread)
      let counts = recorder.counts(scope: 0)
      let inFlight = counts[.sent] - min(counts[.sent], counts.ended)
      recorder.add(.lost, scope: 0, inFlight)
      if let place = recorder.window(at: time) {
        recorder.record(window: place).words[Counter.lost.rawValue] &+= inFlight
      }
      recorder.noteTrouble(at: time)
      var silentFrom = inFlight > 0 ? time : nil
      defer {
        if let start = silentFrom {
          recorder.noteGap(Stall(start: start, end: area.measureStart &+ measured, slowestBefore: 0))
        }
      }
      guard var schedule = order.schedule(thread: thread) else { continue }
      var sent = counts[.sent]
      while case let wanted = schedule.next(), wanted < warmup + measured {
        guard wanted >= warmup else { continue }
        if sent > 0 {
          sent -= 1
          continue
        }
        for scope in 0..<(isOnePhase ? 2 : 1) {
          recorder.add(.sent, scope: scope)
          recorder.add(.lost, scope: scope)
        }
        let intended = area.measureStart &+ (wanted - warmup)
        silentFrom = silentFrom ?? max(time, intended)
        if let place = recorder.window(at: intended) { recorder.record(window: place).add(.lost) }
      }
    }
  }
}

/// A snapshot of a running load, for the progress line.
///
/// A snapshot reads only the counters: on a machine with few cores, the time that it takes is taken from the
/// load and shows in the load's p99.
package struct LoadGlance: Sendable {
  package var state: LoadState
  /// Requests answered within the measured time so far.
  package var answered: UInt64
  package var errors: UInt64
  private let area: RecordingArea

  package init(_ area: RecordingArea) {
    var counts = OutcomeCounts()
    answered = 0
    for recorder in (0..<area.layout.threads).map(area.threadRecorder) {
      counts.add(recorder.counts(scope: 0))
      answered &+= recorder.value(.okInWindow, scope: 0)
    }
    (state, errors) = (area.state, counts.ended - min(counts.ended, counts.ok))
    self.area = area
  }

  /// Adds the response times of requests that ended in windows which are over.
  ///
  /// - Parameter next: The first window to read; afterwards, the first that is not over.
  package func merge(into response: inout LatencyHistogram, from next: inout Int) {
    let (start, end, now) = (area.measureStart, area.measureEnd, MonotonicClock.nanoseconds)
    guard start > 0, end > start, now > start else { return }
    let windows = area.layout.windows
    let over = min(Double(windows), Double(now - start) / Double(end - start) * Double(windows))
    while next < Int(over) {
      for thread in 0..<area.layout.threads {
        response.merge(area.threadRecorder(thread).response(window: next))
      }
      next += 1
    }
  }
}
