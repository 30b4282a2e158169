import Foundation

/// How a load process ended, and its result.
package struct LoadOutcome: Sendable, Equatable {
  /// The result document; nil when there is none, or it was too long.
  package var document: [UInt8]?
  package var status: ExitStatus
  /// The last lines of its output, without secrets.
  package var lastWords: String
  /// True when it exceeded its deadline and was ended for that.
  package var ranOver: Bool
}

/// A process that generates load: it reads its order from standard input and returns one document.
///
/// It writes the document to descriptor 3 (`documentDescriptor`), and has the shared memory, if any, as
/// descriptor 4 (`sharedMemoryDescriptor`); its environment also holds both numbers. A plugin that crashes
/// ends only this process.
package enum LoadProcess {
  static let documentDescriptor: Int32 = 3
  static let sharedMemoryDescriptor: Int32 = 4
  static let ledgerDescriptor: Int32 = 5
  /// The environment variable with the document's descriptor.
  package static let documentVariable = "NYLON_BENCH_DOCUMENT_FD"
  /// The environment variable with the shared memory's descriptor; not set without shared memory.
  package static let sharedMemoryVariable = "NYLON_BENCH_SHARED_FD"

  /// The environment variable with the ledger's descriptor; not set without a ledger.
  package static let ledgerVariable = "NYLON_BENCH_LEDGER_FD"

  /// Starts a load process: the running program itself unless another one is named. The order may hold
  /// secrets, the arguments may not. `sharedMemory` is the inherited descriptor of the recording, and
  /// `ledger` that of the memory for notes about requests, which needs a recording.
  package static func start(
    order: [UInt8], arguments: [String] = ["__measure"], program: String? = nil,
    sharedMemory: Int32? = nil, ledger: Int32? = nil, environment: [String: String] = [:],
    secrets: [String] = []
  ) throws(LabError) -> ChildProcess {
    var variables = environment
    variables[documentVariable] = "\(documentDescriptor)"
    if sharedMemory != nil { variables[sharedMemoryVariable] = "\(sharedMemoryDescriptor)" }
    if ledger != nil { variables[ledgerVariable] = "\(ledgerDescriptor)" }
    return try ChildProcess.start(
      Launch(
        program: program ?? Executables.ownPath, arguments: arguments, environment: variables, input: order,
        descriptors: [sharedMemory, ledger].compactMap { $0 }, collectsDocument: true, secrets: secrets))
  }
}

extension ChildProcess {
  /// Waits for a load process to end. Meanwhile calls `onPoll`, for example to draw progress; false asks the
  /// process to end (Ctrl-C). The process is also ended at the limit.
  ///
  /// - Parameter wake: The latest time of the next `onPoll`, in addition to `interval`; nil for no such time.
  package func wait(
    limit: Duration, every interval: Duration = .milliseconds(250), wake: () -> Deadline? = { nil },
    onPoll: () -> Bool = { true }
  ) -> LoadOutcome {
    let deadline = Deadline.after(limit)
    var goesOn = true
    while goesOn && !deadline.isPast && isRunning {
      let slice = min(Deadline.after(interval), wake() ?? deadline, deadline)
      if wait(timeout: .seconds(slice.remainingSeconds)) == nil { goesOn = onPoll() }
    }
    let ranOver = goesOn && isRunning
    let status = exitStatus ?? terminate(grace: .seconds(5)) ?? .lost
    return LoadOutcome(
      document: document.flatMap { $0.isEmpty ? nil : $0 }, status: status, lastWords: lastWords,
      ranOver: ranOver)
  }
}
