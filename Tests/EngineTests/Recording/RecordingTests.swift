import Foundation
import Testing

@testable import Lab
@testable import Results

@testable import Engine

/// A small seeded generator (SplitMix64).
private struct Random: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

extension RawHistogram {
  /// A copy as a value.
  func snapshot() -> LatencyHistogram {
    var histogram = LatencyHistogram()
    histogram.merge(self)
    return histogram
  }
}

private func zeroed(words: Int) -> UnsafeMutablePointer<UInt64> {
  let memory = UnsafeMutablePointer<UInt64>.allocate(capacity: words)
  memory.initialize(repeating: 0, count: words)
  return memory
}

@Suite("What the hot path records into")
struct RecordingTests {
  @Test("counts as the histogram that is a value", arguments: [1, 2, 3] as [UInt64])
  func agreesWithTheValue(seed: UInt64) {
    let words = zeroed(words: RawHistogram.wordCount)
    defer { words.deallocate() }
    let raw = RawHistogram(words: words)
    var value = LatencyHistogram()
    var random = Random(state: seed)
    for _ in 0..<20_000 {
      // All magnitudes alike, past the greatest of 60 s too.
      let number = UInt64.random(in: 0..<1 << UInt64.random(in: 1...37, using: &random), using: &random)
      raw.record(number)
      value.record(number)
    }
    #expect(raw.snapshot() == value)
    #expect(value.clampedCount > 0)
    #expect(value.count == 20_000)
  }

  @Test("is empty when its memory is zero, and keeps one value exactly")
  func startsEmpty() {
    let words = zeroed(words: RawHistogram.wordCount)
    defer { words.deallocate() }
    let raw = RawHistogram(words: words)
    #expect(raw.snapshot().isEmpty)
    raw.record(0)
    #expect(raw.snapshot().count == 1)
    #expect(raw.snapshot().greatestNanoseconds == 0)
    raw.record(123_456_789)
    #expect(raw.snapshot().greatestNanoseconds == 123_456_789)
    #expect(raw.snapshot().leastNanoseconds == 0)
  }

  @Test("covers every value with exactly one counter, without gaps")
  func geometryHasNoGaps() {
    var expected: UInt64 = 0
    for index in 0..<HistogramGeometry.counterCount {
      let lowest = HistogramGeometry.lowestValue(at: index)
      let highest = HistogramGeometry.highestValue(at: index)
      #expect(lowest == expected)
      #expect(HistogramGeometry.index(of: lowest) == index)
      #expect(HistogramGeometry.index(of: highest) == index)
      // A counter is at most 1/1024 of its value wide: three significant digits.
      #expect((highest - lowest) <= lowest / 1024)
      expected = highest + 1
    }
    #expect(expected > HistogramGeometry.highestNanoseconds)
  }

  @Test(
    "is read without harm, and recognised, whatever lies in its memory", arguments: (0..<8) as Range<UInt64>)
  func hostileMemory(seed: UInt64) {
    let order = SimulatedLoad(load: .open(ratePerSecond: 100, arrivals: .poisson)).order
    let words = zeroed(words: order.layout.byteCount / 8)
    defer { words.deallocate() }
    var random = Random(state: seed)
    for place in 0..<order.layout.byteCount / 8 {
      words[place] = seed == 0 ? .max : seed == 1 ? 1 << 63 : random.next() >> (seed * 4)
    }
    let area = RecordingArea(layout: order.layout, memory: words)
    _ = LoadGlance(area)
    let measurement = LoadResult.measurement(order: order, area: area)
    #expect(measurement.damage(order: order) != nil)
    for percentile in [0.0, 50, 99.9, 100] {
      _ = measurement.request?.response.value(atPercentile: percentile)
    }
  }

  @Test("gives the progress line each window once, when it is over")
  func windowsForProgress() {
    let order = SimulatedLoad(load: .open(ratePerSecond: 100, arrivals: .poisson)).order
    let words = zeroed(words: order.layout.byteCount / 8)
    defer { words.deallocate() }
    let area = RecordingArea(layout: order.layout, memory: words)
    let windows = order.layout.windows
    for window in 0..<windows { area.threadRecorder(0).response(window: window).record(1000) }
    var (response, next) = (LatencyHistogram(), 0)
    func look() -> [Int] {
      LoadGlance(area).merge(into: &response, from: &next)
      return [Int(response.count), next]
    }
    #expect(look() == [0, 0], "the measured time has not begun")
    // Hours, so that the test's own time does not matter.
    let hour = 3_600_000_000_000 as UInt64
    let now = MonotonicClock.nanoseconds
    (area.measureStart, area.measureEnd) = (now, now + hour * UInt64(windows))
    #expect(look() == [0, 0], "the first window is not over")
    let past = min(now, hour) / 2
    (area.measureStart, area.measureEnd) = (now - past, now + past)
    #expect(look() == [windows / 2, windows / 2])
    #expect(look() == [windows / 2, windows / 2], "no window is read twice")
    (area.measureStart, area.measureEnd) = (now - past, now - 1)
    #expect(look() == [windows, windows])
  }

  @Test("is what its counters tell where a record was cut off in the middle")
  func tornRecord() throws {
    let words = zeroed(words: RawHistogram.wordCount)
    defer { words.deallocate() }
    let raw = RawHistogram(words: words)
    for value in [1000, 2000, 3000] as [UInt64] { raw.record(value) }
    let whole = raw.snapshot()
    // Sum, least and greatest of one more value are there, and its count is not.
    words[0] += 50_000_000_000
    (words[1], words[2]) = (~10, 50_000_000_000)
    let torn = raw.snapshot()
    #expect(torn.count == 3 && torn.counters == whole.counters)
    #expect(torn.leastNanoseconds == 1000 && torn.greatestNanoseconds < 3004)
    let stored = try JSONEncoder().encode(torn)
    #expect(try JSONDecoder().decode(LatencyHistogram.self, from: stored) == torn)
  }

  @Test("treats a future moment, read from another core's clock, as now")
  func momentAhead() {
    #expect(MonotonicClock.nanoseconds(since: .max) == 0)
    #expect(MonotonicClock.nanoseconds(since: MonotonicClock.nanoseconds + 3_600_000_000_000) == 0)
    #expect(MonotonicClock.nanoseconds(since: 1) > 0)
  }

  @Test("has a word for each counter that nothing else uses")
  func countersFit() {
    // The last words of a block hold the window clock, the current call and the longest stall.
    #expect(Counter.allCases.count <= RecordingLayout.counterWords - 6)
  }

  @Test("has a block of its own for each counter and histogram", arguments: [1, 2, 5])
  func blocksDoNotOverlap(threads: Int) {
    let layout = RecordingLayout(threads: threads, scopes: ["request", "a", "b"], windows: 3)
    let words = zeroed(words: layout.byteCount / 8)
    defer { words.deallocate() }
    let area = RecordingArea(layout: layout, memory: words)
    area.measureStart = 11
    area.measureEnd = 12
    area.state = .draining
    area.stopRequested = true
    var next: UInt64 = 1
    for thread in 0..<threads {
      let recorder = area.threadRecorder(thread)
      for scope in 0..<3 {
        for counter in Counter.allCases {
          recorder.add(counter, scope: scope, next)
          next += 1
        }
      }
      for (place, histogram) in histograms(of: recorder).enumerated() {
        for _ in 0...place { histogram.record(UInt64(1000 * (thread + 1) + place)) }
      }
    }
    check(area, threads: threads)
    #expect(area.measureStart == 11)
    #expect(area.measureEnd == 12)
    #expect(area.state == .draining)
    #expect(area.stopRequested)
    // The last word of the memory belongs to the last histogram: nothing lies behind it.
    let last = area.threadRecorder(threads - 1).lag(scope: 2).words + RawHistogram.wordCount
    #expect(last == words + layout.byteCount / 8)
  }

  private func histograms(of recorder: ThreadRecorder) -> [RawHistogram] {
    (0...3).map { recorder.response(window: $0) } + [recorder.service(scope: 0), recorder.lag(scope: 0)]
      + (1...2).flatMap {
        [recorder.response(scope: $0), recorder.service(scope: $0), recorder.lag(scope: $0)]
      }
  }

  private func check(_ area: RecordingArea, threads: Int) {
    var next: UInt64 = 1
    for thread in 0..<threads {
      let recorder = area.threadRecorder(thread)
      for scope in 0..<3 {
        for counter in Counter.allCases {
          #expect(recorder.value(counter, scope: scope) == next)
          next += 1
        }
      }
      for (place, histogram) in histograms(of: recorder).enumerated() {
        let copy = histogram.snapshot()
        #expect(copy.count == UInt64(place + 1))
        #expect(copy.leastNanoseconds == UInt64(1000 * (thread + 1) + place))
        #expect(copy.greatestNanoseconds == UInt64(1000 * (thread + 1) + place))
      }
    }
  }
}
