import Engine
import Foundation
import Lab

/// What runs in a load process: an order comes in on standard input, a measurement goes out as one document. A plugin
/// that crashes takes only this process down.
enum MeasureProcess {
  static func main() throws {
    let descriptor = number(LoadProcess.documentVariable) ?? STDOUT_FILENO
    // A program that the plugin starts does not inherit it.
    if descriptor > STDERR_FILENO { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    let document = FileHandle(fileDescriptor: descriptor)
    func tell(_ reply: LoadReply) throws { try document.write(contentsOf: try JSONEncoder().encode(reply)) }
    do {
      try load { try tell(.measurement($0)) }
    } catch {
      try tell(.failure(LoadFailure(error)))
    }
    // A plugin's own threads and exit handlers are not waited for: all is measured and sent.
    _exit(0)
  }

  private static func load(keep: (Engine.Measurement) throws -> Void) throws {
    let input = FileHandle.standardInput.readDataToEndOfFile()
    // The plugin does not get the order, either.
    let nothing = open("/dev/null", O_RDONLY)
    dup2(nothing, STDIN_FILENO)
    close(nothing)
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
    let shared = try SharedRecording(layout: order.layout, inherited: descriptor)
    let ledger = try ledger(of: order)
    let sampler = ResourceSampler(order)
    let runner = LoadRunner(
      order: order, area: shared.area, ledger: ledger?.area, sample: sampler.sample,
      between: sampler.sampleBetween)
    try withExtendedLifetime((shared, ledger)) {
      try runner.measure { measurement in
        var measurement = measurement
        runner.nameDialect(in: &measurement)
        try keep(measurement)
      }
    }
  }

  private static func ledger(of order: LoadOrder) throws -> (area: LedgerArea, mapping: SharedMapping)? {
    guard let layout = order.ledger, let descriptor = number(LoadProcess.ledgerVariable) else { return nil }
    let mapping = try SharedMapping(byteCount: layout.byteCount, inherited: descriptor)
    return (LedgerArea(layout: layout, memory: mapping.memory), mapping)
  }

  /// The descriptor that a variable of the environment names.
  static func number(_ variable: String) -> Int32? {
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
    sample.workersNanoseconds = sum(order.workerPIDs.map(ProcessClock.cpuNanoseconds(session:)))
    sample.brokerNanoseconds = sum(order.brokerPIDs.map(ProcessClock.cpuNanoseconds(pid:)))
    sample.generator = ProcessClock.ownReading()
    sample.broker = ProcessClock.reading(sessions: order.brokerPIDs)
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
    sample.brokerNanoseconds = sum(order.brokerPIDs.map(ProcessClock.cpuNanoseconds(pid:)))
    sample.workersNanoseconds = sum(workerProcesses.map(ProcessClock.cpuNanoseconds(pid:)))
    sample.generator = (ProcessClock.residentBytes(pid: getpid()), nil)
    return sample
  }

  /// Nil without processes, and where one's time cannot be read: a pool is not half measured.
  private func sum(_ times: [UInt64?]) -> UInt64? {
    times.isEmpty || times.contains(nil) ? nil : times.reduce(0) { $0 + ($1 ?? 0) }
  }
}

/// Nameless memory that a load process and the orchestrator share, gone with the last process that has it.
final class SharedMapping {
  /// To be handed on; -1 in the process that inherited it.
  let descriptor: Int32
  let memory: UnsafeMutableRawPointer
  private let byteCount: Int

  /// New, zeroed memory.
  init(byteCount: Int) throws(LabError) {
    descriptor = try SharedMemory.create(byteCount: byteCount)
    do {
      memory = try Self.map(descriptor, byteCount)
    } catch {
      close(descriptor)
      throw error
    }
    self.byteCount = byteCount
  }

  /// The memory that another process made. The descriptor is closed: a plugin does not get it.
  init(byteCount: Int, inherited made: Int32) throws(LabError) {
    defer { close(made) }
    descriptor = -1
    memory = try Self.map(made, byteCount)
    self.byteCount = byteCount
  }

  private static func map(_ descriptor: Int32, _ byteCount: Int) throws(LabError) -> UnsafeMutableRawPointer {
    // Populated now, so that recording never waits for a page.
    let memory = mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | Int32(MAP_POPULATE), descriptor, 0)
    guard let memory, memory != MAP_FAILED else {
      throw .system("The memory for \(byteCount) bytes of results cannot be mapped", errno: errno)
    }
    return memory
  }

  deinit {
    munmap(memory, byteCount)
    if descriptor >= 0 { close(descriptor) }
  }
}

/// The memory that a load process records into.
///
/// A plugin can write anything there, so readers trust no value: sums wrap around, and
/// ``Engine/Measurement/damage(order:)`` says what cannot be true.
final class SharedRecording {
  let area: RecordingArea
  private let mapping: SharedMapping
  /// To be handed on; -1 in the process that inherited it.
  var descriptor: Int32 { mapping.descriptor }

  /// New, zeroed memory.
  convenience init(layout: RecordingLayout) throws {
    self.init(layout, try SharedMapping(byteCount: layout.byteCount))
  }

  /// The memory that another process made.
  convenience init(layout: RecordingLayout, inherited made: Int32) throws {
    self.init(layout, try SharedMapping(byteCount: layout.byteCount, inherited: made))
  }

  private init(_ layout: RecordingLayout, _ mapping: SharedMapping) {
    self.mapping = mapping
    area = RecordingArea(layout: layout, memory: mapping.memory)
  }
}
