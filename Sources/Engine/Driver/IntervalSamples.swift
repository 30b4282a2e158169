/// What the machine spent until each boundary of a measurement's intervals.
struct IntervalSamples {
  private let start: UInt64
  private let length: UInt64
  /// One more than there are intervals; nil where none was taken in time.
  private var samples: [ResourceSample?]

  /// No samples yet.
  init(window: LoadWindow, intervals: Int) {
    start = window.measureStart
    length = (window.measureEnd - window.measureStart) / UInt64(max(1, intervals))
    samples = Array(repeating: nil, count: intervals + 1)
  }

  /// When an interval begins and the one before it ends.
  func boundary(_ place: Int) -> UInt64 { start + length * UInt64(place) }

  /// Keeps the sample of a boundary. One that came late, or before it (a load that was ended early), is
  /// dropped: it holds what belongs to another interval.
  mutating func add(_ sample: ResourceSample, at place: Int, taken: UInt64) {
    let due = boundary(place)
    // At most 5 % of the interval's costs are then its neighbour's.
    guard taken >= due, taken - due <= length / 20 else { return }
    samples[place] = sample
  }

  /// Gives each interval, as far as the load came, what was spent between its two ends; what is not known of
  /// both stays nil.
  func addCosts(to windows: inout [MeasurementWindow]) {
    for place in windows.indices where place + 1 < samples.count {
      guard let end = samples[place + 1] else { continue }
      func spent(_ time: (ResourceSample) -> UInt64?) -> UInt64? {
        guard let first = samples[place].flatMap(time), let last = time(end), last >= first else {
          return nil
        }
        return last - first
      }
      windows[place].cpuGeneratorNanoseconds = spent(\.generatorNanoseconds)
      windows[place].cpuBrokerNanoseconds = spent(\.brokerNanoseconds)
      windows[place].cpuWorkersNanoseconds = spent(\.workersNanoseconds)
      windows[place].residentGeneratorBytes = end.generator?.residentBytes
    }
  }
}
