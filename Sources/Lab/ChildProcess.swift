import CLinux
import Foundation
import Glibc
import Scenario

/// A process under a keeper. It ends, with all its descendants, when this process ends for any reason (even
/// SIGKILL), and when this object is deinitialised.
///
/// All calls are thread-safe; those that wait block the calling thread.
package final class ChildProcess: Sendable {
  private let lifeline: Descriptor
  /// This side of its standard input; nil unless it takes commands there.
  private let commands: Descriptor?
  private let state = Guarded(KeptState())
  private let secrets: Secrets

  private init(_ launch: Launch) throws(LabError) {
    secrets = Secrets(launch.secrets)
    (lifeline, commands) = try Self.startKeeper(launch, state)
  }

  /// Starts a program, and returns when it is executing.
  package static func start(_ launch: Launch) throws(LabError) -> ChildProcess {
    let child = try ChildProcess(launch)
    let begun = child.state.wait(until: .after(.seconds(20))) {
      $0.pid != nil || $0.startErrno != nil || $0.isFinished ? $0 : nil
    }
    if begun?.pid != nil { return child }
    guard begun?.startErrno == ENOENT else {
      let why = begun?.startErrno.map(systemErrorText) ?? "its keeper did not report"
      throw .cannotStart(program: launch.program, why: why)
    }
    throw .missing(
      "The program \(launch.program) (or the interpreter that it names)",
      remedy: "Give the path of a program, or the name of one in PATH.")
  }

  /// Starts the keeper and the thread that listens to it; returns this side of the lifeline and of the
  /// commands. On return, only the keeper holds the other ends of all descriptors.
  private static func startKeeper(
    _ launch: Launch, _ state: Guarded<KeptState>
  ) throws(LabError) -> (lifeline: Descriptor, commands: Descriptor?) {
    let keeper = try Executables.own("nylon-keeper")
    let (lifeline, keeperLifeline) = try Descriptor.socketPair()
    let status = try Descriptor.pipe()
    let output = try Descriptor.pipe()
    let errors = try Descriptor.pipe()
    let commands = try launch.takesCommands ? Descriptor.socketPair() : nil
    let input =
      if let commands { commands.1 } else if let bytes = launch.input {
        try Descriptor.memory("input", holding: bytes)
      } else {
        try Descriptor.file("/dev/null")
      }
    var sources = [
      Source(descriptor: status.reading) { $0.note($1) },
      Source(descriptor: output.reading, isText: true) { $0.output.append($1) },
      Source(descriptor: errors.reading, isText: true) { $0.errors.append($1) },
    ]
    var passed = [input, output.writing, errors.writing]
    if launch.collectsDocument {
      let document = try Descriptor.pipe()
      let limit = launch.documentLimit
      sources.append(
        Source(descriptor: document.reading) {
          if ($0.document?.count ?? limit) + $1.count > limit {
            $0.document = nil
          } else {
            $0.document? += $1
          }
        })
      passed.append(document.writing)
    }
    let numbers = passed.map(\.raw) + launch.descriptors
    let options = ["--lifeline", "\(numbers.count)", "--status", "\(numbers.count + 1)", "--"]
    let pid = try withExtendedLifetime((passed, keeperLifeline, status)) { () throws(LabError) in
      try spawn(
        [keeper] + options + [launch.program] + launch.arguments, environment: launch.environment,
        passing: numbers + [keeperLifeline.raw, status.writing.raw])
    }
    startThread("lab-pump") { [sources] in pump(sources, of: pid, into: state) }
    return (lifeline, commands?.0)
  }

  /// The process id. Do not signal it: once the process has ended, another one may have it.
  package var pid: Int32 { state.withLock { $0.pid ?? 0 } }

  /// True until the process and all its descendants have ended.
  package var isRunning: Bool { !state.withLock { $0.isFinished } }

  /// How the process ended; nil while it runs.
  package var exitStatus: ExitStatus? { state.withLock { $0.isFinished ? $0.status : nil } }

  /// The bytes received through the document pipe so far; nil when they exceeded the limit.
  package var document: [UInt8]? { state.withLock { $0.document } }

  /// The last lines of standard error, or of standard output when there are none, without secrets.
  package var lastWords: String {
    let (errors, output) = state.withLock { ($0.errors, $0.output) }
    let words = errors.text(without: secrets)
    return words.isEmpty ? output.text(without: secrets) : words
  }

  /// The last lines of standard output, without secrets.
  var outputText: String { state.withLock { $0.output }.text(without: secrets) }

  /// Waits until the process and all its descendants have ended; nil on timeout.
  package func wait(timeout: Duration) -> ExitStatus? {
    state.wait(until: .after(timeout)) { $0.isFinished ? $0.status : nil }
  }

  /// Waits until `find` succeeds on the process's output (standard error, then standard output, secrets
  /// included). Nil at the deadline, or when the process ends first.
  func waitForWords<Found>(until deadline: Deadline, find: (String) -> Found?) -> Found? {
    state.wait(until: deadline) { state -> Found?? in
      if let found = find(state.errors.raw) ?? find(state.output.raw) { return found }
      return state.isFinished ? .some(nil) : nil
    } ?? nil
  }

  /// Waits until it has announced, in whole lines, `count` ports of 127.0.0.1, each after one of these words.
  /// Ends it when it does not.
  func announcedPorts(
    _ announcements: [String], count: Int, by name: String, until deadline: Deadline
  ) throws(LabError) -> [UInt16] {
    let found = waitForWords(until: deadline) { words -> [UInt16]? in
      let ports = announcements.flatMap { announcement in
        words.components(separatedBy: announcement + "127.0.0.1:").dropFirst()
          .filter { $0.contains(where: \.isNewline) }.compactMap { UInt16($0.prefix(while: \.isNumber)) }
      }
      return ports.count == count ? ports : nil
    }
    guard let found else { throw endedSilent(name) }
    return found
  }

  /// Ends a process that did not announce its ports, and returns the error for that.
  func endedSilent(_ name: String) -> LabError {
    let why = exitStatus.map { "it \($0)" } ?? "it did not report its port in time"
    terminate()
    return .notReady(name, why: why, lastWords: lastWords)
  }

  /// Asks the process and its group to end (SIGTERM), and kills them after the grace period. Returns when
  /// they have been reaped; nil only for a process that hangs in the kernel.
  @discardableResult
  package func terminate(grace: Duration = .seconds(2)) -> ExitStatus? {
    askToEnd()
    return wait(timeout: grace) ?? kill()
  }

  /// Sends SIGTERM to the process and its group, and returns at once.
  func askToEnd() { order(.terminate) }

  /// Kills the process and all its descendants, and waits until they have ended.
  @discardableResult
  package func kill() -> ExitStatus? {
    order(.kill)
    return wait(timeout: .seconds(10))
  }

  /// The keeper's actions on the process and its group.
  enum Order: String {
    case terminate = "T"
    case kill = "K"
    case halt = "S"
    case goOn = "C"
    /// SIGUSR1 and SIGUSR2.
    case firstSignal = "1"
    case secondSignal = "2"
  }

  /// Sends the keeper an order, and returns at once.
  func order(_ order: Order) { lifeline.send(Array(order.rawValue.utf8)) }

  /// Stops the process and its group (SIGSTOP) until `goOn`. It can be terminated while stopped.
  package func halt() { order(.halt) }

  /// Resumes a stopped process (SIGCONT).
  package func goOn() { order(.goOn) }

  /// Writes a line to its standard input, if it takes commands there; false when the reader is gone.
  @discardableResult
  func tell(_ command: String) -> Bool { commands?.send(Array("\(command)\n".utf8)) ?? false }
}

/// An object that represents a process and forwards the process's properties.
@dynamicMemberLookup
package protocol ProcessHolder: Sendable {
  var process: ChildProcess { get }
}

extension ProcessHolder {
  package subscript<Value>(dynamicMember member: KeyPath<ChildProcess, Value>) -> Value {
    process[keyPath: member]
  }

  /// Ends it and waits until it has ended.
  @discardableResult
  package func stop(grace: Duration = .seconds(3)) -> ExitStatus? { process.terminate(grace: grace) }

  /// Kills it immediately, as a fault that tests how clients react.
  @discardableResult
  package func kill() -> ExitStatus? { process.kill() }
}

/// Starts a program with exactly these descriptors, numbered 0, 1, 2, …
private func spawn(
  _ words: [String], environment: [String: String], passing descriptors: [Int32]
) throws(LabError) -> Int32 {
  let merged = ProcessInfo.processInfo.environment.merging(environment) { $1 }
  let pairs = merged.map { "\($0.key)=\($0.value)" }
  guard !(words + pairs).contains(where: { $0.utf8.contains(0) }) else {
    throw .invalid(
      "An argument or an environment value of a program to start contains a NUL byte",
      remedy: "Remove it; a program cannot be given one.")
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

/// A program to start, its arguments and its environment.
package struct Launch: Sendable {
  /// A path, or a name to be found in PATH.
  package var program: String
  /// The arguments without the program's name. They are publicly visible: no secrets.
  package var arguments: [String] = []
  /// Added to this process's environment.
  package var environment: [String: String] = [:]
  /// The content of standard input; nil is `/dev/null`.
  var input: [UInt8]?
  /// Whether standard input is a connection on which `tell` writes; `input` is then ignored.
  var takesCommands = false
  /// Open descriptors of this process that it inherits as 3, 4, … (as 4, 5, … with `collectsDocument`).
  var descriptors: [Int32] = []
  /// Whether it gets a pipe as descriptor 3, whose content is kept as the document.
  var collectsDocument = false
  /// The size limit of a document in bytes.
  var documentLimit = 256 << 20
  /// Secrets to remove from its last words.
  var secrets: [String] = []
}

extension Launch {
  package init(_ program: String, _ arguments: [String] = [], environment: [String: String] = [:]) {
    self.init(program: program, arguments: arguments, environment: environment)
  }
}

package enum ExitStatus: Sendable, Equatable, Codable {
  /// The process exited by itself with this code.
  case exited(Int32)
  case signaled(Int32)
  /// Unknown: its keeper was killed, and the kernel then killed the process.
  case lost
}

extension ExitStatus: CustomStringConvertible {
  /// Text to follow a name: `exited with code 3`.
  package var description: String {
    switch self {
    case .exited(let code): return "exited with code \(code)"
    case .lost: return "was killed together with its keeper"
    case .signaled(let number):
      let name = Self.signalNames[number].map { "\($0) (signal \(number))" }
      return "was ended by \(name ?? "signal \(number)")"
    }
  }

  private static let signalNames: [Int32: String] = [
    SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGFPE: "SIGFPE", SIGHUP: "SIGHUP", SIGILL: "SIGILL",
    SIGINT: "SIGINT", SIGKILL: "SIGKILL", SIGPIPE: "SIGPIPE", SIGSEGV: "SIGSEGV", SIGTERM: "SIGTERM",
    SIGTRAP: "SIGTRAP", SIGXCPU: "SIGXCPU",
  ]
}

/// The known state of a process under a keeper.
struct KeptState: Sendable {
  /// The process id; nil until it runs.
  var pid: Int32?
  /// Why it could not be executed.
  var startErrno: Int32?
  /// The exit status that the keeper reported.
  var status: ExitStatus?
  /// True when the process and all its descendants have ended and the keeper has been reaped.
  var isFinished = false
  var output = OutputTail()
  var errors = OutputTail()
  /// The bytes received through the document pipe; nil when they exceeded the limit.
  var document: [UInt8]? = []
  /// The last, still incomplete line of the keeper's report.
  private var report: [UInt8] = []

  /// Parses a part of the keeper's report.
  mutating func note(_ bytes: [UInt8]) {
    var lines = (report + bytes).split(separator: 10, omittingEmptySubsequences: false)
    report = Array(lines.removeLast())
    for line in lines {
      let words = String(decoding: line, as: UTF8.self).split(separator: " ")
      guard words.count >= 2, let number = Int32(words[1]) else { continue }
      switch words[0] {
      case "started": pid = number
      case "failed": startErrno = number
      case "exited": status = .exited(number)
      case "signaled": status = .signaled(number)
      default: break
      }
    }
  }
}

/// The last bytes of a process's output.
struct OutputTail: Sendable {
  private var bytes: [UInt8] = []
  private var isCut = false
  private let capacity = 65536

  mutating func append(_ more: [UInt8]) {
    bytes += more
    guard bytes.count > 2 * capacity else { return }
    bytes.removeFirst(bytes.count - capacity)
    isCut = true
  }

  /// All kept output, secrets included: use it only to search.
  var raw: String { String(decoding: bytes, as: UTF8.self) }

  /// The last whole lines, without secrets. The cut may split a secret, so everything before the first line
  /// end is dropped, or without a line end, the length of the longest secret.
  func text(without secrets: Secrets) -> String {
    var kept = bytes[...]
    if isCut { kept = kept.firstIndex(of: 10).map { kept[($0 + 1)...] } ?? kept.dropFirst(secrets.longest) }
    let scrubbed = secrets.scrub(String(decoding: kept, as: UTF8.self))
    var last = scrubbed.suffix(capacity)
    while last.last?.isWhitespace == true { last.removeLast() }
    return String(last)
  }
}

/// A pipe from a process or its keeper, and the destination of its data.
private struct Source: Sendable {
  let descriptor: Descriptor
  var isText = false
  let keep: @Sendable (inout KeptState, [UInt8]) -> Void

  /// Reads once.
  func take(into state: Guarded<KeptState>) -> Descriptor.Reading {
    let reading = descriptor.read()
    if case .bytes(let bytes) = reading { state.withLock { keep(&$0, bytes) } }
    return reading
  }
}

/// Reads the output of a process and its keeper (the keeper first) on a separate thread, so that the process
/// never blocks on it; then reaps the keeper.
private func pump(_ sources: [Source], of keeper: Int32, into state: Guarded<KeptState>) {
  var open = sources
  while open.first?.descriptor === sources[0].descriptor {
    let ready = TCPSocket.ready(open.map(\.descriptor), milliseconds: -1)
    // A worker may write a line for each request. Its pipe holds a megabyte, so reading a hundred times a
    // second is enough, and uses little of the CPU that is being measured.
    if ready.contains(where: { open[$0].isText }) { usleep(10_000) }
    for place in ready.reversed() { if case .end = open[place].take(into: state) { open.remove(at: place) } }
  }
  // The keeper and all its descendants have ended, so the remaining output is in the pipes.
  for source in open { while case .bytes = source.take(into: state) {} }
  var ignored: Int32 = 0
  while waitpid(keeper, &ignored, 0) < 0 && errno == EINTR {}
  state.withLock { state in
    if state.status == nil { state.status = .lost }
    state.isFinished = true
  }
}
