import TestSupport
import Foundation
@testable import Engine
@testable import Lab
@testable import Results
import Report
import Testing

/// How a command ended, and what it said.
struct Finished {
  /// The exit code; nil when a signal ended it.
  let code: Int32?
  let out: String
  let err: String
}

/// A folder of its own for one test, and a mark that every process started from it carries in its
/// environment, so that none can be left behind unseen.
final class Sandbox {
  let folder: String
  private let mark = "NYLON_BENCH_TEST_MARK=\(UUID().uuidString)"
  private var count = 0

  init() throws {
    folder = NSTemporaryDirectory() + "/nylon-bench-test-\(UUID().uuidString)"
    for name in ["", "/tmp", "/results"] {
      try FileManager.default.createDirectory(atPath: folder + name, withIntermediateDirectories: true)
    }
  }

  deinit {
    for pid in processes() { kill(pid, SIGKILL) }
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// Where runs go.
  var results: String { folder + "/results" }
  /// What the commands have as their temporary folder.
  var temporary: String { folder + "/tmp" }

  /// Writes a file; its path.
  @discardableResult
  func write(_ text: String, as name: String) throws -> String {
    let path = "\(folder)/\(name)"
    // One round is enough to see that something works.
    let isOpen = text.contains("targets:") && !text.contains("replicates:") && !text.contains("rounds:")
    let text = isOpen ? text + "\nrounds: 1\n" : text
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  /// Starts `nylon-bench`.
  func start(_ arguments: [String], environment: [String: String] = [:]) throws -> RunningCommand {
    try start(program: Self.command("nylon-bench"), arguments, environment: environment)
  }

  /// Starts a program with the sandbox's mark.
  func start(
    program: String, _ arguments: [String], environment: [String: String] = [:]
  ) throws -> RunningCommand {
    count += 1
    let words = mark.split(separator: "=").map(String.init)
    return try RunningCommand(
      program, arguments, says: "\(folder)/said-\(count)",
      environment: ["TMPDIR": temporary, words[0]: words[1]].merging(environment) { $1 })
  }

  /// Runs `nylon-bench` to its end.
  func bench(_ arguments: String..., environment: [String: String] = [:]) throws -> Finished {
    try start(arguments, environment: environment).finish()
  }

  /// Runs a scenario with `run` to its end, results in the sandbox.
  func run(_ scenario: String, _ more: String...) throws -> Finished {
    try start(run: scenario, more).finish()
  }

  /// Starts `run` with a scenario, results in the sandbox.
  func start(run scenario: String, _ more: [String] = []) throws -> RunningCommand {
    try start(["run", try write(scenario, as: "scenario.yaml"), "--out", results] + more)
  }

  /// The newest run.
  func latest() throws -> RunDocument { try RunFolder.open(path: "\(results)/latest").document }

  /// The rows of the newest run's summary.csv, by column; none of our test texts needs quotes.
  func summary() throws -> [[String: String]] {
    let text = try String(contentsOfFile: "\(results)/latest/summary.csv", encoding: .utf8)
    let lines = text.components(separatedBy: "\r\n").filter { !$0.isEmpty }
      .map { $0.components(separatedBy: ",") }
    return lines.dropFirst().map { Dictionary(zip(lines[0], $0)) { first, _ in first } }
  }

  /// Whether a process runs this program: a keeper has its program's words in its command line, too.
  static func isCommand(_ pid: Int32, _ name: String) -> Bool {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/exe"))?.hasSuffix("/\(name)")
      ?? false
  }

  /// Processes that descend from this sandbox and are not zombies; those whose command line has a
  /// word that ends so, when one is given.
  func processes(_ ending: String? = nil) -> [Int32] {
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return entries.compactMap(Int32.init).filter { pid in
      guard let environment = FileManager.default.contents(atPath: "/proc/\(pid)/environ"),
        environment.split(separator: 0).contains(where: { $0.elementsEqual(mark.utf8) })
      else { return false }
      guard let ending else { return true }
      return Self.commandLine(pid).contains { $0.hasSuffix(ending) }
    }
  }

  /// Waits for the run's load process, and if it measures, for a number of answers; returns its process id.
  @discardableResult
  func waitForLoad(_ state: LoadState = .measuring, answers: UInt64 = 1) throws -> Int32 {
    var found: Int32?
    let isThere = eventually {
      found = processes("__measure").first { pid in
        guard Self.isCommand(pid, "nylon-bench"), let load = LoadUnderWay(of: processes("/nylon-bench"))
        else {
          return false
        }
        return load.state == state && (state != .measuring || load.answered >= answers)
      }
      return found != nil
    }
    #expect(isThere, "no load process came to \(state) with \(answers) answers")
    return try #require(found)
  }

  /// The words of a process's command line.
  static func commandLine(_ pid: Int32) -> [String] {
    let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
    return line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
  }

  /// A built command: of `NYLON_BENCH_BIN_DIR` (a release build, see scripts/test), else of this build.
  static func command(_ name: String) throws -> String {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let beside = (own as NSString).deletingLastPathComponent
    return "\(ProcessInfo.processInfo.environment["NYLON_BENCH_BIN_DIR"] ?? beside)/\(name)"
  }

  /// The package.
  static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path
}

/// A command under way. What it says goes into files, so nothing that it leaves behind can block us.
final class RunningCommand {
  private let process = Process()
  private let said: String

  fileprivate init(
    _ program: String, _ arguments: [String], says said: String, environment: [String: String]
  ) throws {
    self.said = said
    for name in [".out", ".err"] { try Data().write(to: URL(fileURLWithPath: said + name)) }
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(forWritingAtPath: said + ".out")
    process.standardError = FileHandle(forWritingAtPath: said + ".err")
    try process.runAlone()
  }

  /// Its process id.
  var pid: Int32 { process.processIdentifier }
  /// False once it has ended.
  var isRunning: Bool { process.isRunning }
  /// What it has said on standard output.
  var out: String { (try? String(contentsOfFile: said + ".out", encoding: .utf8)) ?? "" }
  /// What it has said on standard error.
  var err: String { (try? String(contentsOfFile: said + ".err", encoding: .utf8)) ?? "" }

  /// Waits for its end; kills it and records an issue when that takes too long.
  func finish(within seconds: Double = 90) -> Finished {
    if !eventually(within: seconds, { !process.isRunning }) {
      Issue.record("did not end: \(process.arguments ?? [])")
      kill(pid, SIGKILL)
      process.waitUntilExit()
    }
    return Finished(
      code: process.terminationReason == .exit ? process.terminationStatus : nil,
      out: out, err: err)
  }
}

/// What a load process has recorded so far, read from the memory that the command shares with it.
struct LoadUnderWay {
  let state: LoadState
  /// Requests of its first thread that were answered in the measured time.
  let answered: UInt64

  /// Nil when none of the processes is the command, or it has no such memory yet.
  init?(of pids: [Int32]) {
    let files = pids.flatMap { pid in
      ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd")) ?? []).map {
        "/proc/\(pid)/fd/\($0)"
      }
    }
    let shared = files.first {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: $0))?.hasPrefix(
        "/memfd:nylon-bench-results")
        == true
    }
    guard let shared else { return nil }
    let file = open(shared, O_RDONLY | O_NONBLOCK)
    guard file >= 0 else { return nil }
    defer { close(file) }
    // Whatever the layout of the load is: the header and the request's counters stand first.
    let layout = RecordingLayout(threads: 1, scopes: ["request"], windows: 0)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: layout.byteCount, alignment: 8)
    defer { memory.deallocate() }
    guard pread(file, memory, layout.byteCount, 0) == layout.byteCount else { return nil }
    let area = RecordingArea(layout: layout, memory: memory)
    state = area.state
    answered = area.threadRecorder(0).value(.okInWindow, scope: 0)
  }
}

/// The exit code says what the run says of itself, and only the machine spoiled measurements: it took CPU time.
///
/// - Parameter loads: what the labels of the loads that are looked at begin with; the others may be late or
///   saturated by design.
func expectHonest(_ finished: Finished, _ document: RunDocument, loads: String = "") {
  let spoiled: Set<InvalidReason.Code> = [.unoptimisedBuild, .steal]
  let reasons = document.measurements.filter { $0.load.hasPrefix(loads) }.flatMap(\.invalidReasons)
  #expect(reasons.allSatisfy { spoiled.contains($0.code) }, "\(reasons)")
  #expect(finished.code == (document.isValid ? 0 : 81), "\(finished.err)")
}

/// The newest run keeps the committed schema, as far as others' validator is there: `SchemaTests` is skipped without.
func expectSchema(_ sandbox: Sandbox) throws {
  guard ForeignReaders.areThere else { return }
  let faults = try ForeignReaders.faults(
    of: ["\(sandbox.results)/latest/run.json"], bySchema: Sandbox.package + "/docs/run.schema.json")
  #expect(faults == [[]])
}

/// Every measurement counted something, and its counts close.
func expectCounts(_ document: RunDocument) {
  for measurement in document.measurements {
    #expect((measurement.request?.counts.ok ?? 0) > 0)
    for scope in measurement.scopes { #expect(scope.counts.closes) }
  }
}
