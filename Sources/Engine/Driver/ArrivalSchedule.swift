import Foundation
import Scenario

/// When the requests of an open load or a ramp are wanted: a pure sequence of times.
///
/// Several threads share a rate: each has its own schedule at its part of the rate. Poisson
/// arrivals of all threads together are Poisson again; uniform ones interleave.
package struct ArrivalSchedule: Sendable {
  private let meanGapNanoseconds: Double
  private let arrivals: Arrivals
  private var random: SplitMix64
  private var exactNanoseconds: Double
  /// Nil where the rate stays as it is.
  private var ramp: RampClock?

  /// A schedule that starts at 0.
  ///
  /// - Parameters:
  ///   - ratePerSecond: requests a second of all threads together.
  ///   - thread: which thread's part, from 0.
  ///   - threads: how many share the rate.
  package init(
    ratePerSecond: Double, arrivals: Arrivals, seed: UInt64, thread: Int = 0, threads: Int = 1
  ) {
    let gap = 1e9 / ratePerSecond
    meanGapNanoseconds = gap * Double(threads)
    self.arrivals = arrivals
    random = SplitMix64(seed: seed &+ UInt64(thread) &* 0x9E37_79B9)
    // next() adds a gap before it answers, so uniform starts one gap early.
    exactNanoseconds = arrivals == .uniform ? gap * Double(thread) - meanGapNanoseconds : 0
  }

  /// The schedule of a load whose warm-up takes so many seconds; nil for a closed one, which has none.
  package init?(
    _ load: LoadShape, warmupSeconds: Double, seed: UInt64, thread: Int = 0, threads: Int = 1
  ) {
    switch load {
    case .closed: return nil
    case .open(let rate, let arrivals):
      self.init(ratePerSecond: rate, arrivals: arrivals, seed: seed, thread: thread, threads: threads)
    case .ramp(let shape):
      self.init(
        ratePerSecond: shape.fromPerSecond, arrivals: shape.arrivals, seed: seed, thread: thread,
        threads: threads)
      ramp = RampClock(shape, startNanoseconds: warmupSeconds * 1e9)
    }
  }

  /// The next request's time, nanoseconds after the start.
  @inline(__always)
  package mutating func next() -> UInt64 {
    switch arrivals {
    case .uniform: exactNanoseconds += meanGapNanoseconds
    case .poisson:
      // 53 random bits in (0, 1]: the logarithm is finite.
      exactNanoseconds -= log(Double((random.next() >> 11) + 1) * 0x1p-53) * meanGapNanoseconds
    }
    guard let ramp else {
      // The first uniform one may lie a rounding error below 0.
      return UInt64(exactNanoseconds)
    }
    // Rounded, since a time that is to be the end of the ramp must not come before it.
    return UInt64(ramp.time(exactNanoseconds).rounded())
  }
}

/// The next times of a schedule, drawn many at a time: one after the other, each draw would wait for the clock reads
/// between them, and take three times as long. Most are drawn while no request is due, so that they delay none.
struct DrawnArrivals {
  private var schedule: ArrivalSchedule
  /// What the schedule's times count from.
  private let start: UInt64
  private let places: UnsafeMutablePointer<UInt64>
  private var drawnCount = 0
  private var takenCount = 0

  private static let capacity = 1024
  private static let atOnce = 32
  private static let ahead = 8
  /// Longer than the draws of one `drawAhead` take.
  static let aheadNanoseconds: UInt64 = 250

  init(_ schedule: ArrivalSchedule, start: UInt64) {
    self.schedule = schedule
    self.start = start
    places = .allocate(capacity: Self.capacity)
    places.initialize(repeating: 0, count: Self.capacity)
  }

  func deallocate() { places.deallocate() }

  @inline(__always)
  mutating func next() -> UInt64 {
    if takenCount == drawnCount { draw(Self.atOnce) }
    defer { takenCount &+= 1 }
    return places[takenCount & (Self.capacity - 1)]
  }

  /// Draws some for later, where there is room for them.
  @inline(__always)
  mutating func drawAhead() {
    if drawnCount &- takenCount <= Self.capacity - Self.ahead { draw(Self.ahead) }
  }

  @inline(never)
  private mutating func draw(_ count: Int) {
    for _ in 0..<count {
      places[drawnCount & (Self.capacity - 1)] = start &+ schedule.next()
      drawnCount &+= 1
    }
  }
}

/// The time at which a rising rate has brought as many requests as its first rate would have brought until another time.
///
/// This change of time makes the arrivals of an even rate those of the ramp, uniform and Poisson ones alike: the
/// cumulative rate is a parabola, of which this is the inverse (Çinlar, Introduction to Stochastic Processes, 4.7).
struct RampClock: Sendable {
  /// When the rate begins to rise, nanoseconds.
  private let start: Double
  private let length: Double
  /// By which share of the first rate it rises in a nanosecond.
  private let growth: Double
  private let lastOverFirst: Double
  /// How long the first rate would take for the requests of the whole ramp.
  private let evenLength: Double

  init(_ ramp: Ramp, startNanoseconds: Double) {
    start = startNanoseconds
    length = ramp.overSeconds * 1e9
    lastOverFirst = ramp.toPerSecond / ramp.fromPerSecond
    growth = (lastOverFirst - 1) / length
    evenLength = length * (1 + lastOverFirst) / 2
  }

  @inline(__always)
  func time(_ even: Double) -> Double {
    let past = even - start
    guard past > 0 else { return even }
    guard past < evenLength else { return start + length + (past - evenLength) / lastOverFirst }
    // past = t + growth t² / 2, in the form that does not lose digits where the rate hardly rises.
    return start + 2 * past / (1 + (1 + 2 * growth * past).squareRoot())
  }
}

/// A small, fast, seeded generator, the same everywhere (SplitMix64; Steele, Lea, Flood 2014;
/// https://prng.di.unimi.it/splitmix64.c).
package struct SplitMix64: RandomNumberGenerator, Sendable {
  var state: UInt64

  /// A generator; equal seeds give equal numbers.
  package init(seed: UInt64) { state = seed }

  /// The next 64 bits.
  @inline(__always)
  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
