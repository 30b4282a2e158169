// One trial as it is told, and what it says of a rule.
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
    case died(String)
  }

  var records: [Record] = []
  var error: PluginError?
  var end = End.whole

  init(records: [Record], end: End = .whole) { (self.records, self.end) = (records, end) }

  /// Reads notes, a line each; the last one may be torn.
  init(notes: [UInt8]) {
    for line in notes.split(separator: 10) {
      switch try? JSONDecoder().decode(TrialNote.self, from: Data(line)) {
      case .begin(let step): records.append(Record(step: step))
      case .call(let call) where !records.isEmpty: records[records.count - 1].calls.append(call)
      case .end(let result) where !records.isEmpty: records[records.count - 1].result = result
      case .failure(let error): self.error = error
      default: break
      }
    }
  }

  /// Runs one in a process of its own.
  static func run(_ order: TrialOrder) throws -> Trial {
    let process = try LoadProcess.start(
      order: Array(try JSONEncoder().encode(order)), arguments: [TrialCommand.name],
      environment: Workbench.quietCrashes)
    // A step tells when it is over, and a phase is given up by the process itself: silence means that a call
    // did not return.
    let limit = UInt64((order.limitSeconds + 1) * 1e9)
    var (told, since, isHung) = (0, MonotonicClock.nanoseconds, false)
    let outcome = process.wait(limit: .seconds(3600), every: .milliseconds(50)) {
      let count = process.document?.count ?? 0
      if count != told { (told, since) = (count, MonotonicClock.nanoseconds) }
      isHung = MonotonicClock.nanoseconds - since > limit
      return !isHung
    }
    var trial = Trial(notes: outcome.document ?? [])
    let isWhole = trial.records.count == order.steps.count && trial.records.last?.result != nil
    if isHung {
      trial.end = .hung
    } else if outcome.status != .exited(0) || trial.error == nil && !isWhole {
      trial.end = .died("\(outcome.status)")
    }
    return trial
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
    case .died(let how): .deviates("\(words): the process \(how)")
    }
  }

  /// What the judge finds in a trial that came to its end.
  func finding(_ judge: (Trial) -> RuleFinding) -> RuleFinding { interruption ?? judge(self) }

  /// Whether a phase was ended, and once.
  func phase(_ number: UInt8) -> RuleFinding {
    guard let record = reached(.phase(number)), record.result != nil else {
      return finding { _ in .hangs("no start") }
    }
    let ends = record.calls.filter { $0.ends(number) }
    guard let first = ends.first else {
      let other = record.calls.first(where: \.isEnd)
      return other.map { .deviates("its \($0.name) names phase \($0.phase)") }
        ?? .hangs("no next, end or set_response_stream_end")
    }
    if ends.count > 1 { return .deviates("ended \(ends.count) times: \(ends.map(\.name).listed())") }
    return .ok("\(first.name), of \(record.calls.count) call\(record.calls.count == 1 ? "" : "s")")
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
    return .ok(places.compactMap { $0 }.listed(" and "))
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

  var afterClose: RuleFinding {
    if let call = reached(.close)?.calls.first { return .deviates("\(call.name) after close_session_stream") }
    let isAnswered = records.last?.calls.isEmpty == false
    return .ok("no calls; a later event is \(isAnswered ? "still" : "not") answered")
  }

  var closedRead: RuleFinding {
    isDone(.untilRead) ? phasesEnd("the next session is answered") : .ok("the handler reads nothing")
  }

  var emptyReads: RuleFinding {
    let reads = calls.count(where: \.isRead)
    return phasesEnd(reads == 0 ? "the handler reads nothing" : "every phase ends; reads: \(reads)")
  }

  var unknownPhase: RuleFinding {
    let event = records.first { if case .event = $0.step { true } else { false } }
    return phasesEnd(event?.result == true ? "answered" : "not answered")
  }
}
