// Trials as they are told, and what they say of a rule.
import Engine
import Foundation
import Lab
import Nylon
import Scenario

/// What a trial's process told until its end.
struct Trial: Sendable {
  struct Record: Sendable, Equatable {
    var step: TrialStep
    /// nil as long as the step is not over.
    var result: Bool?
    var calls: [PluginCall] = []
  }

  enum End: Sendable, Equatable {
    case whole
    /// A call into the plugin did not return.
    case hung
    /// How the process ended, and the last line that it said.
    case died(String, lastWords: String = "")
  }

  var records: [Record] = []
  /// Why the plugin could not be loaded.
  var error: PluginError?
  private(set) var end = End.whole

  /// Reads notes, a line each; the last one may be torn. `end` is how a process ended that did not come to the end of
  /// its trial.
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
    // A plugin's own thread may have ended the process behind the end of the step.
    if !records.isEmpty { records[records.count - 1].result = nil }
  }

  /// Runs trials beside each other, each in a process of its own.
  static func run(_ orders: [TrialOrder], program: String?) throws -> [Trial] {
    let running = try orders.map { try RunningTrial($0, program: program) }
    // All are looked at each time: one that is silent for too long is ended.
    while running.count(where: { !$0.isOver() }) > 0 { usleep(2000) }
    return running.map(\.trial)
  }
}

private final class RunningTrial {
  private let process: ChildProcess
  /// How long it may be silent: a phase is given up by the process itself, so then a call did not return.
  private let limit: UInt64
  /// When even one that calls without end is over.
  private let lastEnd: UInt64
  private var (told, toldAt) = (0, MonotonicClock.nanoseconds)
  private var isHung = false

  init(_ order: TrialOrder, program: String?) throws {
    limit = UInt64((order.limitSeconds + 1) * 1e9)
    lastEnd = MonotonicClock.nanoseconds + UInt64(order.steps.count) * limit
    // jemalloc, which this program has for malloc, does not notice that bytes are freed twice; the system's does.
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
    // Not asked first: a process that has stopped itself does not hear.
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

  /// Why the trial did not come to its end; nil when it did.
  private var interruption: RuleFinding? {
    let words = records.last?.step.words ?? TrialStep.load.words
    return switch end {
    case .whole: error.map { .deviates("\($0)") }
    case .hung: .hangs("\(words) did not return")
    case .died(let how, let lastWords):
      .deviates("\(words): the process \(how)\(lastWords.isEmpty ? "" : ": \(lastWords)")")
    }
  }

  /// What ended the process, in its own words where it had some; nil when the trial came to its end.
  var lastWords: String? {
    if case .died(_, let words) = end, !words.isEmpty { return words }
    return interruption?.seen
  }

  /// What the judge finds in a trial that came to its end.
  func finding(_ judge: (Trial) -> RuleFinding) -> RuleFinding { interruption ?? judge(self) }

  /// What the judge finds when a step was done, whatever came behind it.
  func finding(after step: TrialStep, _ judge: (Record, Bool) -> RuleFinding) -> RuleFinding {
    guard let record = reached(step), let result = record.result else {
      return finding { _ in .hangs("\(step.words) was not begun") }
    }
    return judge(record, result)
  }

  /// Whether a phase was ended, and once.
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

  /// Whether all phases that were started came to their end.
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
      ?? .ok("of \(calls.count) calls each has its session's")
  }

  var payloads: RuleFinding {
    let faults = calls.compactMap(\.fault).uniqued()
    return faults.isEmpty ? .ok(calls.map(\.name).uniqued().listed()) : .deviates(faults.listed("; "))
  }

  /// Which threads called: a fact, and no fault.
  var threads: RuleFinding {
    let threads = Set(calls.map(\.thread))
    let own = threads.subtracting([0]).count
    let places = [
      threads.contains(0) ? "inside event_stream" : nil, own > 0 ? "from \(own) of its own" : nil,
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
    return .ok("nothing behind the end of a phase")
  }

  var wrongEntry: RuleFinding {
    let entry = Examination.unknownEntry
    return isDone(.open(entry))
      ? .deviates("'\(entry)' is accepted", "register_session_stream returns false for an unknown name.")
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

  var unknownPhase: RuleFinding {
    phasesEnd(isDone(.event(9)) ? "answered" : "not answered")
  }
}
