import Nylon
import Scenario

/// The responses of sessions whose handlers change and read them by calls, one for each slot of a load thread.
///
/// Nothing here allocates under load but a body or headers that outgrow all before, and the table of headers for a
/// handler that reads all of the response's.
package final class CalledResponses {
  private struct Session {
    var response: ResponseState
    /// Monotonic nanoseconds.
    var openedAt: UInt64 = 0
  }

  private let sessions: UnsafeMutablePointer<Session>
  private let slotCount: Int
  private let answers: RequestAnswers
  private let upstream: ResponseState
  private let check: ResponseCheck
  private let unixOffset: UInt64

  /// `unixOffset` is Unix time minus monotonic time, nanoseconds.
  init(_ request: RequestSpec, content: RequestContent, verify: Verification, unixOffset: UInt64, slots: Int)
  {
    answers = RequestAnswers(content.request, clientIP: request.clientIP)
    upstream = ResponseState(upstream: content.response)
    check = ResponseCheck(verify, upstreamBody: content.response.body)
    self.unixOffset = unixOffset
    slotCount = slots
    sessions = .allocate(capacity: slots)
    for slot in 0..<slots {
      (sessions + slot).initialize(to: Session(response: ResponseState(copyOf: upstream)))
    }
  }

  /// That of one session, which begins now; nothing of it is verified.
  package convenience init(_ request: RequestSpec, content: RequestContent) {
    let now = MonotonicClock.nanoseconds
    self.init(
      request, content: content, verify: Verification(), unixOffset: MonotonicClock.unixNanoseconds &- now,
      slots: 1)
    open(0, at: now)
  }

  deinit {
    for slot in 0..<slotCount { sessions[slot].response.deallocate() }
    sessions.deinitialize(count: slotCount)
    sessions.deallocate()
  }

  @inline(__always)
  package func open(_ slot: Int, at time: UInt64) {
    sessions[slot].response.reset(to: upstream)
    sessions[slot].openedAt = time
  }

  /// Changes a slot's response as a call says; false for an unknown method or a payload that is none.
  @discardableResult
  package func apply(_ method: Nylon.Method, _ payload: UnsafeRawBufferPointer, slot: Int) -> Bool {
    sessions[slot].response.apply(method, payload)
  }

  /// Leaves what the handler has set and no more: the upstream is not called.
  @inline(never)
  func dropUpstream(_ slot: Int) { sessions[slot].response.dropUpstream() }

  /// Gives `body` the answer to a read; false when there is none.
  package func answer(
    _ method: Nylon.Method, _ payload: UnsafeRawBufferPointer, slot: Int,
    _ body: (UnsafeRawBufferPointer) -> Void
  ) -> Bool {
    let session = sessions + slot
    if let answer = answers.answer(method, payload: payload) {
      body(answer)
    } else if let number = session.pointee.response.number(
      method, openedAt: session.pointee.openedAt, unixOffset: unixOffset)
    {
      withDecimal(number, body)
    } else if method == .readResponseFullBody {
      body(session.pointee.response.body)
    } else if method == .readResponseHeaders {
      HeaderTable.encode(session.pointee.response.pluginHeaders).withUnsafeBytes(body)
    } else {
      return false
    }
    return true
  }

  /// Whether a slot's session may end with its response.
  @inline(__always)
  func isRight(_ slot: Int) -> Bool { check.isEmpty || check.accepts(sessions[slot].response) }

  /// The first difference between a slot's response and what it must look like, in words.
  func difference(_ slot: Int) -> String? { check.difference(sessions[slot].response) }
}
