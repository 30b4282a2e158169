import Foundation
import Lab
import Engine
import Results

/// Reads in the load process, at both ends of the measured time and in between, what the kernel accounts to
/// the processes that take part. The broker's monitoring is not asked here but by the orchestrator: see `BrokerWatch`.
final class ResourceSampler {
  private let order: LoadOrder
  private var isFirst = true
  /// The workers with all that belongs to them, such as the one behind a shell. Looked up once, before the
  /// load: it reads what all processes of the machine are.
  private let workerProcesses: [Int32]

  init(_ order: LoadOrder) {
    self.order = order
    workerProcesses = Set(order.workerPIDs.flatMap { [$0] + ProcessClock.members(ofSession: $0) }).sorted()
  }

  /// What was spent until now. Reading takes CPU time itself: at the beginning our own CPU time comes
  /// last, at the end first, so that it is not in it.
  func sample() -> ResourceSample {
    var sample = ResourceSample()
    if !isFirst { sample.generatorNanoseconds = ProcessClock.cpuNanoseconds(pid: getpid()) }
    sample.steal = SystemTimes.now().map { ($0.stolen, $0.total) }
    // Workers whose time cannot be read all are not half measured.
    let workers = order.workerPIDs.map(ProcessClock.cpuNanoseconds(session:))
    sample.workersNanoseconds =
      workers.isEmpty || workers.contains(where: { $0 == nil })
      ? nil : workers.compactMap { $0 }.reduce(0, +)
    sample.brokerNanoseconds = order.brokerPID.flatMap(ProcessClock.cpuNanoseconds(pid:))
    sample.generator = ProcessClock.ownReading()
    sample.broker = order.brokerPID.flatMap(ProcessClock.reading(pid:))
    sample.workers = ProcessClock.reading(sessions: order.workerPIDs)
    if isFirst { sample.generatorNanoseconds = ProcessClock.cpuNanoseconds(pid: getpid()) }
    isFirst = false
    return sample
  }

  /// CPU times until now, and our own memory: what can be read with a few calls, since it is in the measured
  /// time itself.
  func sampleBetween() -> ResourceSample {
    var sample = ResourceSample()
    sample.generatorNanoseconds = ProcessClock.cpuNanoseconds(pid: getpid())
    sample.brokerNanoseconds = order.brokerPID.flatMap(ProcessClock.cpuNanoseconds(pid:))
    let workers = workerProcesses.map(ProcessClock.cpuNanoseconds(pid:))
    sample.workersNanoseconds =
      workers.isEmpty || workers.contains(where: { $0 == nil })
      ? nil : workers.compactMap { $0 }.reduce(0, +)
    sample.generator = ProcessReading(
      residentBytes: ProcessClock.residentBytes(pid: getpid()), switches: nil)
    return sample
  }
}
