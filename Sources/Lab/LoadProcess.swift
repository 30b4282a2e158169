import CLinux
import Foundation

/// How a load process ended, and what it brought.
package struct LoadOutcome: Sendable, Equatable {
  /// The result document; nil when there is none, or it was too long.
  package var document: [UInt8]?
  /// How the process ended.
  package var status: ExitStatus
  /// What it said last, without secrets.
  package var lastWords: String
  /// What it used; nil when it was killed with its keeper.
  package var use: ResourceUse?
  /// True when it ran into its deadline and was ended for that.
  package var ranOver: Bool
}

/// A process that loads: it gets its order on standard input and brings its result as one document.
///
/// It writes the document to descriptor 3 (`documentDescriptor`), and has the shared memory, when
/// there is some, as descriptor 4 (`sharedMemoryDescriptor`); both numbers also stand in its
/// environment. A plugin that crashes takes only this process down.
package final class LoadProcess: Sendable {
  /// Where the process writes its document.
  static let documentDescriptor: Int32 = 3
  /// Where the process has the shared memory.
  static let sharedMemoryDescriptor: Int32 = 4
  /// Name of the environment variable that holds the first number.
  package static let documentVariable = "NYLON_BENCH_DOCUMENT_FD"
  /// Name of the environment variable that holds the second number; not set without shared memory.
  package static let sharedMemoryVariable = "NYLON_BENCH_SHARED_FD"

  private let process: ChildProcess

  private init(_ process: ChildProcess) {
    self.process = process
  }

  /// Starts a load process.
  /// - Parameters:
  ///   - order: what it reads from standard input; may hold secrets.
  ///   - arguments: its arguments, without secrets.
  ///   - program: the running program itself when nil.
  ///   - sharedMemory: the descriptor of the recording, which it inherits.
  ///   - environment: on top of our own.
  ///   - secrets: what must not be seen in its last words.
  package static func start(
    order: [UInt8], arguments: [String] = ["__measure"], program: String? = nil,
    sharedMemory: Int32? = nil, environment: [String: String] = [:], secrets: [String] = []
  ) throws(LabError) -> LoadProcess {
    var variables = environment
    variables[documentVariable] = "\(documentDescriptor)"
    if sharedMemory != nil { variables[sharedMemoryVariable] = "\(sharedMemoryDescriptor)" }
    return LoadProcess(
      try ChildProcess.start(
        Launch(
          program ?? Executables.ownPath, arguments, environment: variables, input: order,
          descriptors: sharedMemory.map { [$0] } ?? [], collectsDocument: true, secrets: secrets)))
  }

  package var pid: Int32 { process.pid }

  /// False once it has ended.
  package var isRunning: Bool { process.isRunning }

  /// Asks it to end (SIGTERM) and returns at once; it may still bring what it has measured.
  func askToEnd() { process.askToEnd() }

  /// Ends it, and waits until it is gone.
  package func terminate(grace: Duration = .seconds(3)) { process.terminate(grace: grace) }

  /// Waits for its end, and looks after something else meanwhile.
  /// - Parameters:
  ///   - limit: how long it may run; then it is ended.
  ///   - interval: how often `onPoll` is called.
  ///   - grace: how long it may take to end when it is asked to.
  ///   - onPoll: draws progress, say; false asks the process to end (Ctrl-C).
  package func wait(
    limit: Duration, every interval: Duration = .milliseconds(250), grace: Duration = .seconds(5),
    onPoll: () -> Bool = { true }
  ) -> LoadOutcome {
    let deadline = Deadline.after(limit)
    var goesOn = true
    while goesOn && !deadline.isPast && process.isRunning {
      let slice = Deadline.earlier(.after(interval), deadline)
      if process.wait(timeout: .seconds(slice.remainingSeconds)) == nil { goesOn = onPoll() }
    }
    let ranOver = goesOn && process.isRunning
    let status = process.exitStatus ?? process.terminate(grace: grace) ?? .lost
    return LoadOutcome(
      document: process.document.flatMap { $0.isEmpty ? nil : $0 }, status: status,
      lastWords: process.lastWords, use: process.resourceUse, ranOver: ranOver)
  }
}

/// Nameless memory that processes share by handing on a descriptor; gone with its last holder.
package enum SharedMemory {
  /// So many zero bytes; the descriptor is the caller's to close, and closed on exec.
  package static func create(byteCount: Int) throws(LabError) -> Int32 {
    let descriptor = clinux_memory_file("nylon-bench-results", nil, 0)
    guard descriptor >= 0 else { throw .system("No memory file could be made", errno: errno) }
    guard ftruncate(descriptor, off_t(byteCount)) == 0 else {
      let number = errno
      close(descriptor)
      throw .system("The memory file cannot hold \(byteCount) bytes", errno: number)
    }
    return descriptor
  }
}
