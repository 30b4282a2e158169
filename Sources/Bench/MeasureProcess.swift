import CLinux
import Engine
import Foundation
import Lab

/// The entry point of a load process: it reads an order from standard input and writes one document, the
/// measurement. A plugin that crashes takes down only this process.
enum MeasureProcess {
  static func main() throws {
    let descriptor = number(LoadProcess.documentVariable) ?? STDOUT_FILENO
    // Programs that the plugin starts must not inherit the descriptor.
    if descriptor > STDERR_FILENO { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    let document = FileHandle(fileDescriptor: descriptor)
    func tell(_ reply: LoadReply) throws { try document.write(contentsOf: try JSONEncoder().encode(reply)) }
    do {
      try load { try tell(.measurement($0)) }
    } catch {
      try tell(.failure(LoadFailure(error)))
    }
    // Do not wait for the plugin's threads and exit handlers: the measurement has been sent.
    _exit(0)
  }

  private static func load(keep: (Engine.Measurement) throws -> Void) throws {
    let input = FileHandle.standardInput.readDataToEndOfFile()
    // The plugin must not be able to read the order either.
    let nothing = open("/dev/null", O_RDONLY)
    dup2(nothing, STDIN_FILENO)
    close(nothing)
    let order: LoadOrder
    do {
      order = try JSONDecoder().decode(LoadOrder.self, from: input)
    } catch {
      // The order may contain secrets, so the decoding error is not shown.
      throw LoadFailure(
        kind: .failed, message: "__measure expects a load order on standard input; use: nylon-bench run")
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

  /// The file descriptor number in an environment variable.
  static func number(_ variable: String) -> Int32? {
    ProcessInfo.processInfo.environment[variable].flatMap(Int32.init)
  }
}

/// Samples the kernel's resource accounting of the processes involved, at both ends of the measured time and
/// in between. It runs in the load process; the orchestrator polls the broker's monitoring (`BrokerWatch`).
final class ResourceSampler {
  private let order: LoadOrder
  private var isFirst = true
  /// The workers and all processes of their sessions, such as a worker started through a shell. Looked up
  /// once, before the load, because that scans all processes of the machine.
  private let workerProcesses: [Int32]

  init(_ order: LoadOrder) {
    self.order = order
    workerProcesses = Set(order.workerPIDs.flatMap { [$0] + ProcessClock.members(ofSession: $0) }).sorted()
  }

  /// Reads the resources used so far. Sampling itself takes CPU time, so this process's own CPU time is read
  /// last in the first sample and first in the second, which excludes that cost.
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

  /// Reads only the CPU times so far and this process's memory, which takes few system calls, because it runs
  /// within the measured time.
  func sampleBetween() -> ResourceSample {
    var sample = ResourceSample()
    sample.generatorNanoseconds = ProcessClock.cpuNanoseconds(pid: getpid())
    sample.brokerNanoseconds = sum(order.brokerPIDs.map(ProcessClock.cpuNanoseconds(pid:)))
    sample.workersNanoseconds = sum(workerProcesses.map(ProcessClock.cpuNanoseconds(pid:)))
    sample.generator = (ProcessClock.residentBytes(pid: getpid()), nil)
    return sample
  }

  /// The sum of CPU times; nil without processes or when one cannot be read, since a part would mislead.
  private func sum(_ times: [UInt64?]) -> UInt64? {
    times.isEmpty || times.contains(nil) ? nil : times.reduce(0) { $0 + ($1 ?? 0) }
  }
}

/// Anonymous memory shared by a load process and the orchestrator, freed when the last of them releases it.
final class SharedMapping {
  /// The descriptor to pass to a child process; -1 in the process that inherited the memory.
  let descriptor: Int32
  let memory: UnsafeMutableRawPointer
  private let byteCount: Int

  /// Maps new, zeroed memory, or what another process created. Its length is sealed: if another process could
  /// shorten it, a read would raise SIGBUS. Closes an inherited descriptor, to keep it from the plugin.
  init(byteCount: Int, inherited: Int32? = nil) throws(LabError) {
    let file = inherited ?? clinux_fixed_memory("nylon-bench-results", byteCount)
    guard inherited != nil || file >= 0 else {
      throw .system("No memory file of \(byteCount) bytes could be created", errno: errno)
    }
    // Populate the pages now, so that recording never causes a page fault.
    let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | Int32(MAP_POPULATE), file, 0)
    let failure = memory == MAP_FAILED ? errno : 0
    if inherited != nil || failure != 0 { close(file) }
    guard let memory, failure == 0 else {
      throw .system("The memory for \(byteCount) bytes of results cannot be mapped", errno: failure)
    }
    (descriptor, self.memory, self.byteCount) = (inherited == nil ? file : -1, memory, byteCount)
  }

  deinit {
    munmap(memory, byteCount)
    if descriptor >= 0 { close(descriptor) }
  }
}

/// The memory that a load process records into.
///
/// A plugin can overwrite it, so readers trust no value: sums wrap around, and
/// ``Engine/Measurement/damage(order:)`` reports impossible values.
final class SharedRecording {
  let area: RecordingArea
  private let mapping: SharedMapping
  /// The descriptor to pass to a child process; -1 in the process that inherited the memory.
  var descriptor: Int32 { mapping.descriptor }

  /// Maps new, zeroed memory, or what another process created.
  init(layout: RecordingLayout, inherited: Int32? = nil) throws(LabError) {
    mapping = try SharedMapping(byteCount: layout.byteCount, inherited: inherited)
    area = RecordingArea(layout: layout, memory: mapping.memory)
  }
}
