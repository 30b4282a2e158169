import Engine
import Foundation
import Lab

/// What runs in a load process: an order comes in on standard input, a measurement goes out as one document.
///
/// A plugin that crashes takes only this process down.
package enum MeasureProcess {
  package static func main() throws {
    let reply: LoadReply
    do {
      reply = try load()
    } catch {
      reply = LoadReply(failure: LoadFailure(error))
    }
    try send(reply)
    // A plugin's own threads and exit handlers are not waited for: all is measured and sent.
    _exit(0)
  }

  private static func load() throws -> LoadReply {
    let input = FileHandle.standardInput.readDataToEndOfFile()
    let order: LoadOrder
    do {
      order = try JSONDecoder().decode(LoadOrder.self, from: input)
    } catch {
      // The order may hold secrets: what does not fit is not shown.
      throw LoadFailure(
        kind: .failed, message: "__measure wants a load order on standard input; use: nylon-bench run")
    }
    guard let descriptor = number(LoadProcess.sharedMemoryVariable) else {
      throw LoadFailure(kind: .failed, message: "__measure has no shared memory; use: nylon-bench run")
    }
    let shared = try SharedRecording(layout: order.layout, descriptor: descriptor)
    let sampler = ResourceSampler(order)
    let runner = LoadRunner(order: order, area: shared.area) {
      sampler.sample()
    } between: {
      sampler.sampleBetween()
    }
    return LoadReply(measurement: try runner.measure())
  }

  private static func send(_ reply: LoadReply) throws {
    let descriptor = number(LoadProcess.documentVariable) ?? STDOUT_FILENO
    let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: false)
    try file.write(contentsOf: try JSONEncoder().encode(reply))
    if descriptor != STDOUT_FILENO { try file.close() }
  }

  private static func number(_ variable: String) -> Int32? {
    ProcessInfo.processInfo.environment[variable].flatMap(Int32.init)
  }
}

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

  /// What was spent until now. Reading takes CPU time itself: at the beginning this process's own CPU time comes
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

  /// CPU times until now, and this process's memory: what can be read with a few calls, since it is in the measured
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

/// The memory that a load process records into, seen from here.
///
/// A nameless file in memory: it is gone when the last process that has it is gone.
final class SharedRecording {
  /// What the load process is given.
  let descriptor: Int32
  /// The view on it.
  let area: RecordingArea
  private let memory: UnsafeMutableRawPointer
  private let byteCount: Int

  /// New, zeroed memory.
  init(layout: RecordingLayout) throws {
    byteCount = layout.byteCount
    descriptor = try SharedMemory.create(byteCount: byteCount)
    memory = try SharedRecording.map(descriptor, byteCount: byteCount)
    area = RecordingArea(layout: layout, memory: memory)
  }

  /// The memory behind a descriptor that somebody else made.
  init(layout: RecordingLayout, descriptor: Int32) throws {
    byteCount = layout.byteCount
    self.descriptor = descriptor
    memory = try SharedRecording.map(descriptor, byteCount: byteCount)
    area = RecordingArea(layout: layout, memory: memory)
  }

  deinit {
    munmap(memory, byteCount)
    close(descriptor)
  }

  private static func map(_ descriptor: Int32, byteCount: Int) throws -> UnsafeMutableRawPointer {
    // Populated now, so that recording never waits for a page.
    guard
      let memory = mmap(
        nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | Int32(MAP_POPULATE), descriptor, 0),
      memory != MAP_FAILED
    else {
      throw LabError.system("The memory for \(byteCount) bytes of results cannot be mapped", errno: errno)
    }
    return memory
  }
}
