// Both ends of a request, scripted: what a promise is tried with where no load is needed.
import Engine
import Foundation
import Nylon
import Scenario
import Synchronization

/// What came of one request.
enum Answer: Equatable {
  case reply(WorkerMessage)
  /// A reply that is no response message.
  case unreadable
  /// No worker has subscribed, says the broker.
  case noResponders
  /// Nothing within the timeout.
  case silence

  fileprivate init(_ message: Libnats.Message) {
    let response = message.payload.withUnsafeBytes { try? WorkerMessage(reply: $0) }
    self = response.map { .reply($0) } ?? .unreadable
  }

  /// Whether a worker went on with the session.
  var isGood: Bool {
    guard case .reply(let message) = self else { return false }
    // The real SDK's single reply has no action.
    return [.next, .end, .missing].contains(message.action) && message.error?.isEmpty != false
  }
}

/// Sends requests one by one or all at once. For counting, not for times.
final class RequestClient {
  private let library: Libnats
  private var count: UInt64 = 0

  init(_ url: String) throws { library = try Libnats(url, name: "nylon-bench-promises") }

  /// A phase request as the host would send it, with an id of its own.
  func message(_ target: Target, phase: Phase, request: RequestSpec) throws -> [UInt8] {
    count += 1
    var data: [UInt8]?
    if case .nats(let spec) = target.transport, spec.dialect == .reply {
      data = Self.context(request).encoded()
    }
    return try WorkerMessage(
      requestID: RequestID(high: 0x0190_0000_0000_7000 | count >> 32, low: 1 << 63 | count),
      sessionID: UInt32(truncatingIfNeeded: count), phase: phase, data: data,
      timestampMilliseconds: UInt64(Date().timeIntervalSince1970 * 1000),
      headers: [KeyValue(key: "entry", value: target.handler)]
    ).encoded()
  }

  private static func context(_ request: RequestSpec) -> HTTPContext {
    let parts = request.path.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    return HTTPContext(
      request: HTTPRequest(
        method: request.method, path: String(parts[0]), query: parts.count > 1 ? String(parts[1]) : "",
        params: request.params, headers: request.headers),
      response: HTTPResponse(status: request.responseStatus, headers: request.responseHeaders))
  }

  /// Sends one request and waits for its answer.
  func request(_ subject: String, _ bytes: [UInt8]) -> Answer {
    switch library.request(subject, bytes, timeoutMilliseconds: 2000) {
    case .message(let message): Answer(message)
    case .noResponders: .noResponders
    case .silence: .silence
    }
  }

  /// What has come back for requests that were sent together.
  private final class Gathered: Sendable {
    let answers: Mutex<[[Answer]]>
    let lastAt = Mutex(MonotonicClock.nanoseconds)

    init(count: Int) { answers = Mutex([[Answer]](repeating: [], count: count)) }

    func add(_ message: Libnats.Message) {
      lastAt.withLock { $0 = MonotonicClock.nanoseconds }
      guard let place = message.subject.split(separator: ".").last.flatMap({ Int($0) }) else { return }
      answers.withLock { if $0.indices.contains(place) { $0[place].append(Answer(message)) } }
    }
  }

  /// Sends all requests, and gathers what comes back for each until nothing has come for a while.
  func gather(_ subject: String, _ requests: [[UInt8]]) throws -> [[Answer]] {
    let gathered = Gathered(count: requests.count)
    count += 1
    let inbox = "_INBOX.promises.\(UUID().uuidString).\(count)"
    try library.subscribe("\(inbox).*") { gathered.add($0) }
    for (place, bytes) in requests.enumerated() {
      library.publish(bytes, to: subject, reply: "\(inbox).\(place)")
    }
    try library.flush()
    gathered.lastAt.withLock { $0 = MonotonicClock.nanoseconds }
    while MonotonicClock.nanoseconds < gathered.lastAt.withLock({ $0 }) + 300_000_000 { usleep(10_000) }
    return gathered.answers.withLock { $0 }
  }
}

/// A worker in this process that never answers, or answers after a while, and notes what came.
final class ScriptedWorker: Sendable {
  /// One request that came, an attempt each.
  struct Arrival: Sendable, Equatable {
    var phase: Phase
    var requestID: RequestID
    /// Monotonic time, ns.
    var at: UInt64
  }

  private struct Waiting {
    var subject: String
    var bytes: [UInt8]
    var due: UInt64
  }

  private struct State {
    var arrivals: [Arrival] = []
    var waiting: [Waiting] = []
    var mostWaiting = 0
    var isStopped = false
  }

  private let library: Libnats
  private let answerAfterNanoseconds: UInt64?
  private let state = Mutex(State())

  /// Subscribes to subjects, with or without wildcards.
  /// - Parameters:
  ///   - group: the queue group; nil for a subscriber of its own.
  ///   - answerAfterMilliseconds: when it answers `next`; nil for never.
  init(_ url: String, subjects: [String], group: String?, answerAfterMilliseconds: Int? = nil) throws {
    library = try Libnats(url, name: "scripted-worker")
    answerAfterNanoseconds = answerAfterMilliseconds.map { UInt64($0) * 1_000_000 }
    for subject in subjects {
      try library.subscribe(subject, group: group) { [self] in received($0) }
    }
    try library.flush()
    if answerAfterNanoseconds != nil {
      let thread = Thread { [self] in while answerDue() { usleep(500) } }
      thread.name = "scripted-worker"
      thread.start()
    }
  }

  /// What came until now.
  var arrivals: [Arrival] { state.withLock { $0.arrivals } }
  /// The most requests that waited for their answer at once.
  var mostWaiting: Int { state.withLock { $0.mostWaiting } }

  func stop() {
    state.withLock { $0.isStopped = true }
    library.close()
  }

  /// Sends the answers whose time has come; false when there will be no more.
  private func answerDue() -> Bool {
    let now = MonotonicClock.nanoseconds
    let (due, isStopped) = state.withLock { state in
      let due = state.waiting.filter { $0.due <= now }
      state.waiting.removeAll { $0.due <= now }
      return (due, state.isStopped)
    }
    if isStopped { return false }
    for answer in due { library.publish(answer.bytes, to: answer.subject) }
    return true
  }

  private func received(_ message: Libnats.Message) {
    let now = MonotonicClock.nanoseconds
    guard let request = message.payload.withUnsafeBytes({ try? WorkerMessage(request: $0) }),
      let phase = request.phase, let requestID = request.requestID
    else { return }
    var answer: Waiting?
    if let delay = answerAfterNanoseconds, let reply = message.reply {
      let response = WorkerMessage(
        requestID: requestID, sessionID: request.sessionID, action: .next)
      answer = Waiting(subject: reply, bytes: (try? response.encoded()) ?? [], due: now + delay)
    }
    let arrival = Arrival(phase: phase, requestID: requestID, at: now)
    state.withLock { [answer] state in
      state.arrivals.append(arrival)
      if let answer { state.waiting.append(answer) }
      state.mostWaiting = max(state.mostWaiting, state.waiting.count)
    }
  }
}
