import CLinux
import Foundation

/// A process under a keeper: whatever happens to us, even SIGKILL, it ends, and so does all that
/// descends from it. It also ends when this object does.
///
/// All calls may be made from any thread; those that wait block theirs.
package final class ChildProcess: Sendable {
  /// The program, for messages.
  package let program: String
  private let lifeline: Descriptor
  private let state: Guarded<KeptState>
  private let secrets: Secrets

  private init(program: String, lifeline: Descriptor, state: Guarded<KeptState>, secrets: Secrets) {
    self.program = program
    self.lifeline = lifeline
    self.state = state
    self.secrets = secrets
  }

  /// Starts a program, and returns when it is executing.
  package static func start(_ launch: Launch) throws(LabError) -> ChildProcess {
    let state = Guarded(KeptState())
    let (keeper, lifeline, sources) = try startKeeper(launch)
    Pump(keeper: keeper, sources: sources, documentLimit: launch.documentLimit, state: state).start()
    let child = ChildProcess(
      program: launch.program, lifeline: lifeline, state: state, secrets: Secrets(launch.secrets))
    try child.awaitStart()
    return child
  }

  /// Starts the keeper. When this returns, the other ends of all descriptors are the keeper's alone.
  private static func startKeeper(
    _ launch: Launch
  ) throws(LabError) -> (pid: Int32, lifeline: Descriptor, sources: [Pump.Source]) {
    let keeper = try Executables.own("nylon-keeper")
    let (lifeline, keeperLifeline) = try Descriptor.socketPair()
    let status = try Descriptor.pipe()
    let output = try Descriptor.pipe()
    let errors = try Descriptor.pipe()
    let input: Descriptor
    if let bytes = launch.input {
      input = try Descriptor.memory("input", holding: bytes)
    } else {
      input = try Descriptor.null()
    }
    var sources: [Pump.Source] = [
      (.status, status.reading), (.output, output.reading), (.errors, errors.reading),
    ]
    var passed = [input, output.writing, errors.writing]
    if launch.collectsDocument {
      let document = try Descriptor.pipe()
      sources.append((.document, document.reading))
      passed.append(document.writing)
    }
    let numbers = passed.map(\.raw) + launch.descriptors
    let options = ["--lifeline", "\(numbers.count)", "--status", "\(numbers.count + 1)", "--"]
    let pid = try withExtendedLifetime((passed, keeperLifeline, status)) { () throws(LabError) in
      try spawn(
        [keeper] + options + [launch.program] + launch.arguments, environment: launch.environment,
        passing: numbers + [keeperLifeline.raw, status.writing.raw])
    }
    return (pid, lifeline, sources)
  }

  private func awaitStart() throws(LabError) {
    let begun = state.wait(until: .after(.seconds(20))) { state -> KeptState? in
      state.pid != nil || state.startErrno != nil || state.isFinished ? state : nil
    }
    if begun?.pid != nil { return }
    switch begun?.startErrno {
    case ENOENT:
      throw .missing(
        "The program \(program) (or the interpreter that it names)",
        remedy: "Give the path of a program, or the name of one in PATH.")
    case .some(let number):
      throw .cannotStart(program: program, why: systemErrorText(number))
    case nil:
      throw .cannotStart(program: program, why: "its keeper did not report")
    }
  }

  /// The process id; not to be signalled, since it may be another's once the process has ended.
  package var pid: Int32 { state.withLock { $0.pid ?? 0 } }

  /// True until the process and all that descends from it have ended.
  package var isRunning: Bool { !state.withLock { $0.isFinished } }

  /// How the process ended; nil while it runs.
  package var exitStatus: ExitStatus? { state.withLock { $0.isFinished ? $0.status : nil } }

  /// What the process has used up to its end; nil while it runs, or when it was killed with its keeper.
  package var resourceUse: ResourceUse? { state.withLock { $0.isFinished ? $0.use : nil } }

  /// What came through the document pipe until now; nil when it was longer than allowed.
  package var document: [UInt8]? { state.withLock { $0.documentIsCut ? nil : $0.document } }

  /// The last lines of standard error, or of standard output when there are none; no secrets.
  package var lastWords: String {
    let (errors, output) = state.withLock { ($0.errors, $0.output) }
    let words = errors.text(without: secrets)
    return words.isEmpty ? output.text(without: secrets) : words
  }

  /// The last lines of standard output, without secrets.
  package var outputText: String { state.withLock { $0.output }.text(without: secrets) }

  /// Waits until the process and all that descends from it have ended; nil at the timeout.
  package func wait(timeout: Duration) -> ExitStatus? {
    state.wait(until: .after(timeout)) { $0.isFinished ? $0.status : nil }
  }

  /// Waits until `find` finds what it looks for in what the process has said (standard error, then
  /// standard output, unscrubbed). Nil at the deadline, or when the process ends before.
  func waitForWords<Found>(until deadline: Deadline, find: (String) -> Found?) -> Found? {
    let result: Found?? = state.wait(until: deadline) { state in
      if let found = find(state.errors.raw) ?? find(state.output.raw) { return .some(found) }
      return state.isFinished ? .some(nil) : nil
    }
    return result ?? nil
  }

  /// Asks the process and its group to end (SIGTERM), and kills them when the grace is over.
  /// Returns when they are gone and reaped; nil only for a process that hangs in the kernel.
  @discardableResult
  package func terminate(grace: Duration = .seconds(2)) -> ExitStatus? {
    askToEnd()
    return wait(timeout: grace) ?? kill()
  }

  /// Sends SIGTERM to the process and its group, and returns at once.
  package func askToEnd() { lifeline.send(Array("T".utf8)) }

  /// Kills the process and all that descends from it, and waits until they are gone.
  @discardableResult
  package func kill() -> ExitStatus? {
    lifeline.send(Array("K".utf8))
    return wait(timeout: .seconds(10))
  }

  /// Stops the process and its group where they are, as if their machine hung.
  package func pause() { lifeline.send(Array("S".utf8)) }

  /// Lets a paused process go on.
  package func resume() { lifeline.send(Array("C".utf8)) }
}

/// Starts a program with exactly these descriptors, as 0, 1, 2, …
private func spawn(
  _ words: [String], environment: [String: String], passing descriptors: [Int32]
) throws(LabError) -> Int32 {
  let merged = ProcessInfo.processInfo.environment.merging(environment) { $1 }
  let pairs = merged.map { "\($0.key)=\($0.value)" }
  guard !(words + pairs).contains(where: { $0.utf8.contains(0) }) else {
    throw .invalid(
      "An argument or an environment value of a program to start holds a NUL byte",
      remedy: "Take it out; a program cannot be given one.")
  }
  var arguments = words.map { strdup($0) } + [nil]
  var variables = pairs.map { strdup($0) } + [nil]
  defer { (arguments + variables).forEach { free($0) } }
  var pid: Int32 = 0
  guard clinux_spawn(words[0], &arguments, &variables, descriptors, descriptors.count, &pid) == 0 else {
    throw .cannotStart(program: words[0], why: systemErrorText(errno))
  }
  return pid
}
