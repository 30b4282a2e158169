import Foundation
import Scenario

/// The intended times of the requests of an open load or a ramp: a pure sequence.
///
/// When several threads share a rate, each has its own schedule at its share of the rate. The Poisson
/// arrivals of all threads together are Poisson again; uniform arrivals interleave.
package struct ArrivalSchedule: Sendable {
  private let meanGapNanoseconds: Double
  private let arrivals: Arrivals
  private var random: SplitMix64
  private var exactNanoseconds: Double
  /// nil when the rate is constant.
  private var ramp: RampClock?

  /// Creates a schedule that starts at 0.
  ///
  /// - Parameters:
  ///   - ratePerSecond: the total rate of all threads, in requests per second.
  ///   - thread: the index of this schedule's thread, from 0.
  ///   - threads: the number of threads that share the rate.
  package init(
    ratePerSecond: Double, arrivals: Arrivals, seed: UInt64, thread: Int = 0, threads: Int = 1
  ) {
    let gap = 1e9 / ratePerSecond
    meanGapNanoseconds = gap * Double(threads)
    self.arrivals = arrivals
    random = SplitMix64(seed: seed &+ UInt64(thread) &* 0x9E37_79B9)
    // next() adds a gap before it returns, so a uniform schedule starts one gap early.
    exactNanoseconds = arrivals == .uniform ? gap * Double(thread) - meanGapNanoseconds : 0
  }

  /// Creates the schedule of a load with a warm-up; nil for a closed load, which has no schedule.
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
      // A rounding error may put the first uniform arrival below 0.
      return UInt64(exactNanoseconds)
    }
    // Rounded, so that a time at the end of the ramp does not fall before it.
    return UInt64(ramp.time(exactNanoseconds).rounded())
  }
}

/// A queue of the schedule's next times, drawn in batches: single draws, each waiting for a clock read, would
/// take three times as long. Most draws happen while no request is due, so that they delay none.
struct DrawnArrivals {
  private var schedule: ArrivalSchedule
  /// The origin of the schedule's times.
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

  /// Draws a few times in advance, if there is room.
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

/// Maps a time at the ramp's initial rate to the time at which the ramp has sent the same number of requests.
///
/// This change of time turns arrivals at a constant rate, uniform or Poisson, into those of the ramp: it is
/// the inverse of the cumulative rate, a parabola (Çinlar, Introduction to Stochastic Processes, 4.7).
struct RampClock: Sendable {
  /// When the rate begins to rise, nanoseconds.
  private let start: Double
  private let length: Double
  /// The rise per nanosecond, as a share of the initial rate.
  private let growth: Double
  private let lastOverFirst: Double
  /// The time that the initial rate would take for all requests of the ramp.
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
    // past = t + growth t² / 2, in a form that keeps precision when the rate hardly rises.
    return start + 2 * past / (1 + (1 + 2 * growth * past).squareRoot())
  }
}

/// A small, fast, seeded generator, the same everywhere (SplitMix64; Steele, Lea, Flood 2014;
/// https://prng.di.unimi.it/splitmix64.c).
package struct SplitMix64: RandomNumberGenerator, Sendable {
  var state: UInt64

  /// Creates a generator; equal seeds give equal numbers.
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
