import Results
import CNats
import Foundation
import Nylon
import Synchronization

/// A worker in this process that never answers, or answers after a while, and notes what came.
final class ScriptedWorker: @unchecked Sendable {
  // @unchecked: the two libnats pointers are set once; all that changes is in `state`'s lock.

  /// One request that came, an attempt each.
  struct Arrival: Sendable, Equatable {
    var phase: Phase
    var requestID: RequestID
    /// Monotonic time, ns.
    var at: UInt64
  }

  private struct Waiting: Sendable {
    var subject: String
    var bytes: [UInt8]
    var due: UInt64
  }

  private struct State: Sendable {
    var arrivals: [Arrival] = []
    var waiting: [Waiting] = []
    var mostWaiting = 0
    var isStopped = false
  }

  private let connection: OpaquePointer
  private var subscriptions: [OpaquePointer] = []
  private let answerAfterNanoseconds: UInt64?
  private let state = Mutex(State())

  /// Subscribes to subjects.
  /// - Parameters:
  ///   - url: the broker's.
  ///   - subjects: with or without wildcards.
  ///   - group: the queue group; nil for a subscriber of its own.
  ///   - answerAfterMilliseconds: when it answers `next`; nil for never.
  init(_ url: String, subjects: [String], group: String?, answerAfterMilliseconds: Int? = nil) throws {
    connection = try NATSOpening.connect(url, name: "scripted-worker")
    answerAfterNanoseconds = answerAfterMilliseconds.map { UInt64($0) * 1_000_000 }
    // Kept for ever, a few bytes: libnats may deliver while it is being closed.
    let closure = Unmanaged.passRetained(self).toOpaque()
    for subject in subjects {
      var made: OpaquePointer?
      let status =
        group.map { natsConnection_QueueSubscribe(&made, connection, subject, $0, scriptedReceived, closure) }
        ?? natsConnection_Subscribe(&made, connection, subject, scriptedReceived, closure)
      guard status == NATS_OK, let made else { throw NATSOpening.failure("a subscription", status) }
      subscriptions.append(made)
    }
    let status = natsConnection_FlushTimeout(connection, 5000)
    guard status == NATS_OK else { throw NATSOpening.failure("a flush", status) }
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
    guard
      !state.withLock({ state in
        defer { state.isStopped = true }
        return state.isStopped
      })
    else { return }
    subscriptions.forEach { natsSubscription_Destroy($0) }
    natsConnection_Close(connection)
  }

  /// Sends the answers whose time has come; false when there will be no more.
  private func answerDue() -> Bool {
    let now = monotonicNanoseconds()
    let (due, isStopped) = state.withLock { state in
      let due = state.waiting.filter { $0.due <= now }
      state.waiting.removeAll { $0.due <= now }
      return (due, state.isStopped)
    }
    if isStopped { return false }
    for answer in due {
      natsConnection_Publish(connection, answer.subject, answer.bytes, Int32(answer.bytes.count))
    }
    return true
  }

  fileprivate func received(_ message: OpaquePointer) {
    let now = monotonicNanoseconds()
    let bytes = UnsafeRawBufferPointer(
      start: natsMsg_GetData(message), count: Int(natsMsg_GetDataLength(message)))
    guard let request = try? RequestMessage(decoding: bytes) else { return }
    var answer: Waiting?
    if let delay = answerAfterNanoseconds, let reply = natsMsg_GetReply(message) {
      let response = ResponseMessage(
        requestID: request.requestID, sessionID: request.sessionID, action: .next)
      answer = Waiting(
        subject: String(cString: reply), bytes: (try? response.encoded()) ?? [], due: now + delay)
    }
    let arrival = Arrival(phase: request.phase, requestID: request.requestID, at: now)
    state.withLock { [answer] state in
      state.arrivals.append(arrival)
      if let answer { state.waiting.append(answer) }
      state.mostWaiting = max(state.mostWaiting, state.waiting.count)
    }
  }
}

private func scriptedReceived(
  connection: OpaquePointer?, subscription: OpaquePointer?, message: OpaquePointer?,
  closure: UnsafeMutableRawPointer?
) {
  guard let message else { return }
  defer { natsMsg_Destroy(message) }
  guard let closure else { return }
  Unmanaged<ScriptedWorker>.fromOpaque(closure).takeUnretainedValue().received(message)
}

/// The monotonic clock, ns.
func monotonicNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
