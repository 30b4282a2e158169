import Nylon
import Scenario

/// The responses that handlers change and read by calls, one for each slot of a load thread.
///
/// Nothing here allocates under load except a body or headers larger than any before, and the header table
/// for a handler that reads all response headers.
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

  /// Creates the response of one session, which begins now; its content is not verified.
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

  /// Applies a call to a slot's response; false for an unknown method or an invalid payload.
  @discardableResult
  package func apply(_ method: Nylon.Method, _ payload: UnsafeRawBufferPointer, slot: Int) -> Bool {
    sessions[slot].response.apply(method, payload)
  }

  /// Keeps only what the handler has set, because the upstream is not called.
  @inline(never)
  func dropUpstream(_ slot: Int) { sessions[slot].response.dropUpstream() }

  /// Calls `body` with the answer to a read; false when there is none.
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

  /// Whether a slot's response is the expected one.
  @inline(__always)
  func isRight(_ slot: Int) -> Bool { check.isEmpty || check.accepts(sessions[slot].response) }

  /// Describes the first difference between a slot's response and the expected one; nil when there is none.
  func difference(_ slot: Int) -> String? { check.difference(sessions[slot].response) }
}
