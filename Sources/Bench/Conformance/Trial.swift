// Trials as reported by their processes, and the findings of each rule.
import Engine
import Foundation
import Lab
import Nylon
import Scenario

/// The notes of a trial's process, up to its exit.
struct Trial: Sendable {
  struct Record: Sendable, Equatable {
    var step: TrialStep
    /// The result of the step; nil when it has not finished.
    var result: Bool?
    var calls: [PluginCall] = []
  }

  enum End: Sendable, Equatable {
    case whole
    /// A call into the plugin did not return.
    case hung
    /// The process ended early: how, and the last line that it printed.
    case died(String, lastWords: String = "")
  }

  var records: [Record] = []
  /// Why the plugin could not be loaded.
  var error: PluginError?
  private(set) var end = End.whole

  /// Parses notes, one per line; the last one may be incomplete. `end` applies only to a process that did not
  /// complete its trial.
  init(notes: [UInt8], end: End) {
    var isOver = false
    for line in notes.split(separator: 10) {
      switch try? JSONDecoder().decode(TrialNote.self, from: Data(line)) {
      case .begin(let step): records.append(Record(step: step))
      case .call(let call) where !records.isEmpty: records[records.count - 1].calls.append(call)
      case .end(let result) where !records.isEmpty: records[records.count - 1].result = result
      case .over(let error): (self.error, isOver) = (error, true)
      default: break
      }
    }
    guard !isOver else { return }
    self.end = end
    // A thread of the plugin may have ended the process just after the step, so do not trust its result.
    if !records.isEmpty { records[records.count - 1].result = nil }
  }

  /// Runs trials concurrently, each in its own process.
  static func run(_ orders: [TrialOrder], program: String?) throws -> [Trial] {
    let running = try orders.map { try RunningTrial($0, program: program) }
    // Check all of them each time, because the check also kills a process that is silent for too long.
    while running.count(where: { !$0.isOver() }) > 0 { usleep(2000) }
    return running.map(\.trial)
  }
}

private final class RunningTrial {
  private let process: ChildProcess
  /// The longest silence, nanoseconds. The process itself abandons slow phases, so a longer silence means
  /// that a call did not return.
  private let limit: UInt64
  /// The deadline of the whole trial, for a plugin that calls endlessly; monotonic nanoseconds.
  private let lastEnd: UInt64
  private var (told, toldAt) = (0, MonotonicClock.nanoseconds)
  private var isHung = false

  init(_ order: TrialOrder, program: String?) throws {
    limit = UInt64((order.limitSeconds + 1) * 1e9)
    lastEnd = MonotonicClock.nanoseconds + UInt64(order.steps.count) * limit
    // This program uses jemalloc, which does not detect double frees; the system's malloc does.
    let malloc = order.payloads == nil ? [:] : ["LD_PRELOAD": "libc.so.6 libstdc++.so.6"]
    process = try LoadProcess.start(
      order: Array(try JSONEncoder().encode(order)), arguments: [TrialCommand.name], program: program,
      environment: Workbench.quietCrashes.merging(malloc) { $1 })
  }

  func isOver() -> Bool {
    guard process.isRunning else { return true }
    let (count, now) = (process.document?.count ?? 0, MonotonicClock.nanoseconds)
    if count != told { (told, toldAt) = (count, now) }
    isHung = now > min(toldAt + limit, lastEnd)
    // Kill it without SIGTERM first: a process that has stopped itself would not handle that.
    if isHung { process.kill() }
    return isHung
  }

  var trial: Trial {
    let lastLine = process.lastWords.split(separator: "\n").last ?? ""
    return Trial(
      notes: process.document ?? [],
      end: isHung
        ? .hung : .died("\(process.exitStatus ?? .lost)", lastWords: String(lastLine.prefix(200))))
  }
}

extension Trial {
  func reached(_ step: TrialStep) -> Record? { records.last { $0.step == step } }
  func isDone(_ step: TrialStep) -> Bool { reached(step)?.result == true }
  var calls: [PluginCall] { records.flatMap(\.calls) }

  /// The reason why the trial was not completed; nil when it was.
  private var interruption: RuleFinding? {
    let words = records.last?.step.words ?? TrialStep.load.words
    return switch end {
    case .whole: error.map { .deviates("\($0)") }
    case .hung: .hangs("\(words) did not return")
    case .died(let how, let lastWords):
      .deviates("\(words): the process \(how)\(lastWords.isEmpty ? "" : ": \(lastWords)")")
    }
  }

  /// The last output of a process that died, or else why the trial was not completed; nil when it was.
  var lastWords: String? {
    if case .died(_, let words) = end, !words.isEmpty { return words }
    return interruption?.seen
  }

  /// Returns the interruption of the trial, or else the finding of `judge`.
  func finding(_ judge: (Trial) -> RuleFinding) -> RuleFinding { interruption ?? judge(self) }

  /// Returns the finding of `judge` for a finished step, whatever happened after it.
  func finding(after step: TrialStep, _ judge: (Record, Bool) -> RuleFinding) -> RuleFinding {
    guard let record = reached(step), let result = record.result else {
      return finding { _ in .hangs("\(step.words) was not started") }
    }
    return judge(record, result)
  }

  /// Checks that a phase was ended exactly once.
  func phase(_ number: UInt8) -> RuleFinding {
    finding(after: .phase(number)) { record, _ in
      let ends = record.calls.filter { $0.ends(number) }
      guard let first = ends.first else {
        let other = record.calls.first(where: \.isEnd)
        return other.map { .deviates("its \($0.name) names phase \($0.phase)") }
          ?? .hangs("no next, end or set_response_stream_end")
      }
      if ends.count > 1 { return .deviates("ended \(ends.count) times: \(ends.map(\.name).listed())") }
      return .ok("\(first.name), of \(record.calls.count) call\(record.calls.count == 1 ? "" : "s")")
    }
  }

  /// Checks that all started phases ended.
  private func phasesEnd(_ otherwise: String) -> RuleFinding {
    for record in records {
      if case .phase = record.step, record.result != true {
        return .hangs("\(record.step.words) did not end")
      }
    }
    return .ok(otherwise)
  }

  var sessionIDs: RuleFinding {
    let stray = calls.first { $0.sid != $0.session }
    return stray.map { .deviates("\($0.name) for session \($0.sid) in session \($0.session)") }
      ?? .ok("each of \(calls.count) calls has its session's id")
  }

  var payloads: RuleFinding {
    let faults = calls.compactMap(\.fault).uniqued()
    return faults.isEmpty ? .ok(calls.map(\.name).uniqued().listed()) : .deviates(faults.listed("; "))
  }

  /// The threads that made calls. This is informational: any thread may call.
  var threads: RuleFinding {
    let threads = Set(calls.map(\.thread))
    let own = threads.subtracting([0]).count
    let places = [
      threads.contains(0) ? "inside event_stream" : nil, own > 0 ? "from \(own) of its threads" : nil,
    ]
    return .ok(calls.isEmpty ? "no calls" : places.compactMap { $0 }.listed(" and "))
  }

  var order: RuleFinding {
    for record in records {
      guard case .phase(let number) = record.step,
        let end = record.calls.firstIndex(where: { $0.ends(number) }),
        let late = record.calls[end...].first(where: { !$0.isEnd && $0.sid == $0.session })
      else { continue }
      return .deviates("\(late.name) after \(record.calls[end].name) in \(record.step.words)")
    }
    return .ok("nothing after the end of a phase")
  }

  var wrongEntry: RuleFinding {
    let entry = Examination.unknownEntry
    return isDone(.open(entry))
      ? .deviates("'\(entry)' is accepted", "return false from register_session_stream for an unknown name.")
      : .ok("refused")
  }

  var afterClose: RuleFinding {
    if let call = reached(.close)?.calls.first { return .deviates("\(call.name) after close_session_stream") }
    let isAnswered = records.last?.calls.isEmpty == false
    return .ok("no calls; a later event is \(isAnswered ? "still" : "not") answered")
  }

  var closedRead: RuleFinding {
    let hasRead = records.contains { if case .untilRead = $0.step { $0.result == true } else { false } }
    return hasRead ? phasesEnd("the next session is answered") : .ok("the handler reads nothing")
  }

  var emptyReads: RuleFinding {
    let reads = calls.count(where: \.isRead)
    return phasesEnd(reads == 0 ? "the handler reads nothing" : "every phase ends; reads: \(reads)")
  }

  var unknownPhase: RuleFinding { phasesEnd(isDone(.event(9)) ? "answered" : "not answered") }
}
