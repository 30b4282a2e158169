import Dispatch
import Lab
import Results
import TestSupport
import Testing

@testable import Engine

@Suite struct IntervalTests {
  /// Samples that were taken, each with its own number in all that it says.
  private final class Sampler {
    private(set) var ends = 0
    private(set) var between = 0
    var onBetween: (Int) -> Void = { _ in }

    func end() -> ResourceSample {
      ends += 1
      return Self.sample(ends == 1 ? 0 : 10)
    }

    func middle() -> ResourceSample {
      between += 1
      onBetween(between)
      return Self.sample(between)
    }

    /// At boundary n the generator has spent n * n, so that each interval costs otherwise.
    static func sample(_ number: Int) -> ResourceSample {
      let number = UInt64(number)
      var sample = ResourceSample()
      sample.generatorNanoseconds = number * number
      sample.brokerNanoseconds = 10 * number
      sample.generator = (residentBytes: 1000 + number, switches: nil)
      return sample
    }
  }

  /// Runs a load in real time. The simulated transport has done with it in no time, and the runner watches
  /// on until the measured time is over.
  private func run(seconds: Double, _ prepare: (Sampler, RecordingArea) -> Void = { _, _ in })
    -> (sampler: Sampler, measurement: Engine.Measurement)
  {
    var load = SimulatedLoad(load: .closed(concurrency: 1))
    load.measure = UInt64(seconds * 1e9)
    let order = load.order
    let memory = LoadRecording(order.layout)
    let sampler = Sampler()
    prepare(sampler, memory.area)
    let runner = LoadRunner(order: order, area: memory.area) {
      sampler.end()
    } between: {
      sampler.middle()
    }
    let transport = Simulation(slots: order.placeCount, start: DispatchTime.now().uptimeNanoseconds)
    return (sampler, runner.run(transports: [transport]))
  }

  @Test func aLoadOfTwoSecondsIsSampledAtTheEndOfEachInterval() {
    let (sampler, measurement) = run(seconds: 2)
    #expect(sampler.ends == 2 && sampler.between == 10)
    #expect(measurement.windows.count == 10)
    #expect(measurement.cpuGeneratorNanoseconds == 100)
    // A sample that a busy machine took too late is dropped.
    for (place, window) in measurement.windows.enumerated() {
      let number = UInt64(place)
      #expect([nil, 2 * number + 1].contains(window.cpuGeneratorNanoseconds))
      #expect((window.cpuBrokerNanoseconds == nil) == (window.cpuGeneratorNanoseconds == nil))
      #expect([nil, 10].contains(window.cpuBrokerNanoseconds))
      #expect(window.cpuWorkersNanoseconds == nil)
      #expect([nil, 1001 + number].contains(window.residentGeneratorBytes))
    }
    #expect(measurement.windows.contains { $0.cpuGeneratorNanoseconds != nil })
  }

  @Test func aShorterLoadIsSampledAtItsEndsAlone() {
    let (sampler, measurement) = run(seconds: 0.5)
    #expect(sampler.ends == 2 && sampler.between == 0)
    #expect(measurement.windows.count == 10)
    #expect(measurement.cpuGeneratorNanoseconds == 100)
    #expect(
      measurement.windows.allSatisfy {
        $0.cpuGeneratorNanoseconds == nil && $0.residentGeneratorBytes == nil
      })
  }

  @Test func aLoadThatIsEndedEarlyIsNotSampledAfterItsEnd() {
    let (sampler, measurement) = run(seconds: 20) { sampler, area in
      sampler.onBetween = { if $0 == 1 { area.stopRequested = true } }
    }
    #expect(sampler.ends == 2 && sampler.between == 1)
    #expect(measurement.durationSeconds < 20 && measurement.windows.count < 10)
  }

  // MARK: What samples say

  private let window = LoadWindow(
    start: 0, measureStart: 1000, measureEnd: 1000 + 4 * 200, drainNanoseconds: 0)

  private func windows(_ count: Int, _ samples: IntervalSamples) -> [MeasurementWindow] {
    var windows = (0..<count).map {
      MeasurementWindow(
        startSeconds: Double($0), durationSeconds: 1, completed: 1, p50Nanoseconds: nil, p99Nanoseconds: nil,
        maxNanoseconds: nil)
    }
    samples.addCosts(to: &windows)
    return windows
  }

  @Test func anIntervalHasTheCostsBetweenItsEndsAndTheMemoryOfItsEnd() {
    var samples = IntervalSamples(window: window, intervals: 4)
    for place in 0...4 {
      samples.add(Sampler.sample(place), at: place, taken: samples.boundary(place) + 10)
    }
    let all = windows(4, samples)
    #expect(all.map(\.cpuGeneratorNanoseconds) == [1, 3, 5, 7])
    #expect(all.map(\.residentGeneratorBytes) == [1001, 1002, 1003, 1004])
    // Of a load that was ended early there are fewer.
    #expect(windows(2, samples).map(\.cpuGeneratorNanoseconds) == [1, 3])
  }

  @Test(arguments: [(11, true), (-1, true), (10, false)] as [(Int, Bool)])
  func aSampleThatCameLateOrEarlyLeavesBothItsIntervalsWithoutCosts(by time: Int, isDropped: Bool) {
    var samples = IntervalSamples(window: window, intervals: 4)
    for place in 0...4 {
      let late = place == 2 ? time : 0
      samples.add(Sampler.sample(place), at: place, taken: UInt64(Int(samples.boundary(place)) + late))
    }
    let all = windows(4, samples)
    #expect(all.map(\.cpuGeneratorNanoseconds) == (isDropped ? [1, nil, nil, 7] : [1, 3, 5, 7]))
    #expect(all[1].residentGeneratorBytes == (isDropped ? nil : 1002))
  }

  @Test func aClockThatFallsIsNoCost() {
    var samples = IntervalSamples(window: window, intervals: 4)
    for (place, number) in [0, 3, 1, 2, 4].enumerated() {
      samples.add(Sampler.sample(number), at: place, taken: samples.boundary(place))
    }
    #expect(windows(4, samples).map(\.cpuGeneratorNanoseconds) == [9, nil, 3, 12])
  }
}
