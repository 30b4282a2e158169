import Foundation
import Nylon
import Scenario

/// Detects the dialect that the workers of a target speak: requests the session's first phase from one of
/// them, in a form that workers of every dialect accept.
package struct DialectProbe {
  let order: LoadOrder
  let spec: NATSSpec

  package init(order: LoadOrder, spec: NATSSpec) {
    self.order = order
    self.spec = spec
  }

  package enum Finding {
    case speaks(Dialect)
    /// No worker answered in time.
    case silence
    /// An answer that matches no dialect, with a description.
    case unknown(String)
  }

  /// The maximum wait for an answer, before a load and after one; the phase's own timeout may be shorter.
  package static let mostNanoseconds: UInt64 = 5_000_000_000
  private static let mostAfterwardsNanoseconds: UInt64 = 1_000_000_000
  /// The time within which the first call must follow what may be an acknowledgement.
  private static let quietNanoseconds: UInt64 = 300_000_000

  /// The dialect of the load: the target's own, or that of a worker's answer; nil when no worker answers.
  ///
  /// - Throws: ``LoadFailure`` when a worker speaks an unknown dialect or another one than the target's, or
  ///   when the target requires something that its dialect does not support.
  func dialect() throws -> Dialect? {
    if let own = spec.dialect, !own.traits.isAskedFirst { return own }
    switch try ask() {
    case .speaks(let spoken):
      if let own = spec.dialect, spoken != own { throw refusal(of: own, spoken) }
      try order.target.check(spoken)
      return spoken
    case .silence: return spec.dialect
    case .unknown(let words):
      if let own = spec.dialect { return own }
      throw LoadFailure(
        kind: .scenario,
        message:
          "target '\(order.target.name)': a worker was asked which dialect it speaks, and \(words). Write "
          + "the dialect that the workers speak as the target's `dialect:`")
    }
  }

  /// The failure for workers that speak another dialect than the target's.
  func refusal(of own: Dialect, _ spoken: Dialect) -> LoadFailure {
    LoadFailure(
      kind: .scenario,
      message: "target '\(order.target.name)': `dialect:` is \(own.rawValue), but this worker speaks "
        + "\(spoken.rawValue). Write `dialect: \(spoken.rawValue)`, or `dialect: detect`")
  }

  /// The dialect that a worker speaks, if it differs from `dialect`; nil when it does not, or cannot be
  /// determined. For diagnosing a failure.
  func other(than dialect: Dialect) -> Dialect? {
    guard case .speaks(let spoken)? = try? ask(within: Self.mostAfterwardsNanoseconds), spoken != dialect
    else {
      return nil
    }
    return spoken
  }

  /// Probes with a 16-byte id and, if that yields no dialect, with a text id.
  package func ask(within most: UInt64 = DialectProbe.mostNanoseconds) throws -> Finding {
    guard let phase = order.target.phases.first else { return .silence }
    let talk = try WorkerTalk(order: order, spec: spec)
    defer { talk.close() }
    var finding = Finding.silence
    for idIsText in [false, true] {
      finding = try answer(to: phase, idIsText: idIsText, over: talk, within: min(patience, most))
      if case .speaks = finding { return finding }
    }
    return finding
  }

  private var patience: UInt64 {
    let policy = order.target.phases.first.flatMap { order.target.policies[$0] }
    return UInt64(policy?.timeoutMilliseconds ?? 1000) * 1_000_000
  }

  /// Sends one request and interprets its answers.
  private func answer(
    to phase: Phase, idIsText: Bool, over talk: WorkerTalk, within patience: UInt64
  ) throws -> Finding {
    let subject = talk.subject.phase(phase)
    let asked = talk.question(phase, .question(idIsText: idIsText), order: order)
    talk.publish(try asked.message.encoded(), to: subject)
    let end = MonotonicClock.nanoseconds + patience
    var reading = Reading(asked: asked.id)
    var quietEnd = end
    while let reply = talk.next(until: min(end, quietEnd)) {
      guard case .payload(let bytes) = reply else { return .silence }
      let isOver = bytes.withUnsafeBytes {
        reading.take($0) { method, map in talk.answer(method, map, on: subject, from: asked.responses) }
      }
      if isOver { break }
      let quiet = MonotonicClock.nanoseconds + Self.quietNanoseconds
      quietEnd = reading.isOnlyAnswer ? min(quietEnd, quiet) : end
    }
    return reading.finding
  }

  /// Interprets the maps that answer a question, one at a time.
  package struct Reading {
    private let asked: (high: UInt64, low: UInt64)
    package private(set) var finding = Finding.silence
    /// Whether the last map may be the only answer; a map of a call may still follow it.
    package private(set) var isOnlyAnswer = false

    package init(asked: (high: UInt64, low: UInt64)) { self.asked = asked }

    /// Interprets one map and calls `answer` for a read; returns whether the phase has ended.
    package mutating func take(
      _ bytes: UnsafeRawBufferPointer, answer: (Nylon.Method, MessageView) -> Void
    ) -> Bool {
      guard let map = MessageView(reply: bytes) else {
        finding = .unknown("its answer is not one MessagePack map with the interface's types")
        return true
      }
      if let method = map.method.map(Nylon.Method.init(rawValue:)) {
        finding = Self.finding { $0.end == .call }
        if method.isRead { answer(method, map) }
        isOnlyAnswer = false
        return method.endsPhase
      }
      if map.action != .missing {
        finding = Self.finding { $0.end == .action }
        return true
      }
      guard let answered = map.requestID, let words = answered.words, words == asked else {
        // The worker may not accept this kind of id, or this is the answer to an earlier question.
        let words = map.error.map { String(decoding: $0.prefix(200), as: UTF8.self) }
        finding = .unknown("its answer has another request id\(words.map { ": \"\($0)\"" } ?? "")")
        return words != nil
      }
      // An error from the handler is the last map in every dialect.
      let isOver = map.error?.isEmpty == false
      if case .speaks = finding { return isOver }
      if map.sessionID != nil {
        // An acknowledgement: only dialects that answer with one map omit the session id.
        finding = Self.finding { $0.end == .call }
        return isOver
      }
      finding = Self.finding { $0.end == .map && $0.idIsText == answered.isText }
      isOnlyAnswer = true
      return false
    }

    private static func finding(_ holds: (DialectTraits) -> Bool) -> Finding {
      Dialect.allCases.first { holds($0.traits) }.map(Finding.speaks) ?? .silence
    }
  }
}

extension Target {
  /// Checks that the target can be loaded in a dialect. Throws ``LoadFailure`` when `verify` requires data
  /// that does not come back, or when its host needs something that the dialect lacks.
  package func check(_ dialect: Dialect) throws {
    if host == .nylon, !dialect.traits.namesReplySubject {
      throw LoadFailure(
        kind: .scenario,
        message:
          "target '\(name)': host: nylon \(Self.nylonHostNeeds), and these speak \(dialect.rawValue). Start "
          + "others, or write `host: lean`")
    }
    guard let why = verify.obstacle(in: dialect) else { return }
    throw LoadFailure(kind: .scenario, message: "target '\(name)': verify: \(why); leave verify: out")
  }
}
