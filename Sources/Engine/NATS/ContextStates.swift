import Glibc
import Nylon
import Scenario

/// The HTTP contexts that sessions pass through, each with its packed requests.
///
/// In a dialect that sends the context, a request carries it, and a reply carries what the handler changed. A
/// handler usually makes the same changes in every session, so sessions share few contexts: each is encoded
/// once, and a reply whose bytes were seen before leads to the same context, found by a comparison. Replies
/// that are always new cost one decoding each, and each slot has its own context for them.
final class ContextStates {
  /// The maximum number of contexts that sessions share.
  static let mostShared = 256
  /// The maximum number of replies remembered for each context and phase.
  private static let mostTransitions = 4

  private struct State {
    var context: HTTPContext
    /// The packed request of each phase.
    var requests: UnsafeMutablePointer<PackedRequest>?
    /// Whether the context's response is the expected one.
    var isRight = false
    var transitions: [[(bytes: [UInt8], isEnd: Bool, state: Int)]] = []
  }

  /// The shared states, then one for each slot. In raw memory: the hot path avoids reference counting.
  private let states: UnsafeMutablePointer<State>
  private let stateCount: Int
  private var sharedCount = 1
  private var byContext: [HTTPContext: Int]
  private let phases: [Phase]
  private let entry: String
  private let dialect: DialectTraits
  /// A reply subject, with the length that all have.
  private let sampleReply: String
  /// Message headers in addition to `entry`.
  private let headers: [KeyValue]
  /// The expected response at the end of a session.
  private let verify: Verification
  private let upstream: HTTPResponse

  /// Creates the contexts of `slots` sessions that begin with `base`.
  init(
    base: HTTPContext, phases: [Phase], entry: String, dialect: DialectTraits, headers: [KeyValue] = [],
    slots: Int, verify: Verification = Verification(), sampleReply: String = PoolConnection.sampleReply
  ) throws(MessageError) {
    self.phases = phases
    self.entry = entry
    self.dialect = dialect
    self.sampleReply = sampleReply
    self.headers = headers
    self.verify = verify
    upstream = base.response ?? HTTPResponse()
    byContext = [base: 0]
    stateCount = Self.mostShared + slots
    states = .allocate(capacity: stateCount)
    states.initialize(repeating: State(context: base), count: stateCount)
    try make(base, at: 0)
  }

  deinit {
    for place in 0..<stateCount { forget(place) }
    states.deinitialize(count: stateCount)
    states.deallocate()
  }

  /// Creates the state of a context; replaces the state at its place.
  private func make(_ context: HTTPContext, at place: Int) throws(MessageError) {
    let data = dialect.sendsContext ? context.encoded() : nil
    var templates: [RequestTemplate] = []
    for phase in phases {
      templates.append(
        try RequestTemplate(
          dialect, phase: phase, entry: entry, context: data, reply: sampleReply,
          headers: headers))
    }
    forget(place)
    let requests = UnsafeMutablePointer<PackedRequest>.allocate(capacity: phases.count)
    for (index, template) in templates.enumerated() {
      (requests + index).initialize(to: PackedRequest(template))
    }
    states[place] = State(
      context: context, requests: requests, isRight: difference(context) == nil,
      transitions: Array(repeating: [], count: phases.count))
  }

  private func forget(_ place: Int) {
    guard let requests = states[place].requests else { return }
    for index in phases.indices { requests[index].deallocate() }
    requests.deallocate()
  }

  /// The size of the longest request of the initial context, in bytes.
  var longestRequest: Int { phases.indices.map { request(0, phaseIndex: $0).payloadCount }.max() ?? 0 }

  private func difference(_ context: HTTPContext) -> String? {
    verify.difference(from: context.response, upstreamBody: upstream.body)
  }

  /// Describes the first difference between a session's response and the expected one, if there is any.
  func difference(_ state: Int) -> String? { difference(states[state].context) }

  /// The packed request of a context and phase, ready to be patched.
  @inline(__always)
  func request(_ state: Int, phaseIndex: Int) -> PackedRequest {
    states[state].requests.unsafelyUnwrapped[phaseIndex]
  }

  /// Whether the context's response is the expected one.
  @inline(__always)
  func isRight(_ state: Int) -> Bool { states[state].isRight }

  /// The context after a reply's `data` with NEXT or END; nil when the bytes are not a valid context.
  @inline(__always)
  func state(
    after state: Int, phaseIndex: Int, data: UnsafeRawBufferPointer, isEnd: Bool, slot: Int
  ) -> Int? {
    for transition in states[state].transitions[phaseIndex]
    where transition.isEnd == isEnd && data.equals(transition.bytes) { return transition.state }
    return newState(after: state, phaseIndex: phaseIndex, data: data, isEnd: isEnd, slot: slot)
  }

  @inline(never)
  private func newState(
    after state: Int, phaseIndex: Int, data: UnsafeRawBufferPointer, isEnd: Bool, slot: Int
  ) -> Int? {
    var change = HTTPContextChange()
    if !data.isEmpty {
      guard let decoded = try? HTTPContextChange(decoding: data) else { return nil }
      change = decoded
    }
    let old = states[state].context
    let context =
      isEnd && phases[phaseIndex] == .requestFilter ? ended(old, change) : old.applying(change)
    if let known = byContext[context] {
      remember(data, isEnd: isEnd, from: state, phaseIndex: phaseIndex, leadsTo: known)
      return known
    }
    let isShared = sharedCount < Self.mostShared
    let place = isShared ? sharedCount : Self.mostShared + slot
    guard (try? make(context, at: place)) != nil else { return nil }
    if isShared {
      sharedCount += 1
      byContext[context] = place
      remember(data, isEnd: isEnd, from: state, phaseIndex: phaseIndex, leadsTo: place)
    }
    return place
  }

  /// The context after END in the request filter: without an upstream call, the response is the handler's.
  private func ended(_ context: HTTPContext, _ change: HTTPContextChange) -> HTTPContext {
    var context = context.applying(change)
    let own = change.response
    let headers = own.headers?.filter { !upstream.headers.contains($0) }
    context.response = HTTPResponse(status: own.status ?? 200, headers: headers ?? [], body: own.body ?? [])
    return context
  }

  private func remember(
    _ data: UnsafeRawBufferPointer, isEnd: Bool, from state: Int, phaseIndex: Int, leadsTo: Int
  ) {
    guard state < Self.mostShared, states[state].transitions[phaseIndex].count < Self.mostTransitions else {
      return
    }
    states[state].transitions[phaseIndex].append((Array(data), isEnd, leadsTo))
  }
}

/// A request in wire format after its reply subject: ` 312`, CR LF, the packed map, CR LF.
///
/// A view of memory that its creator frees; the hot path copies it without reference counting.
struct PackedRequest {
  let bytes: UnsafeMutableRawPointer
  let byteCount: Int
  /// The size of the map alone, in bytes.
  let payloadCount: Int
  private let requestIDOffset: Int
  private let sessionIDOffset: Int
  private let timestampOffset: Int
  /// 0 when the map has no reply subject.
  private let replyOffset: Int
  private let idIsText: Bool

  init(_ template: RequestTemplate) {
    payloadCount = template.bytes.count
    let size = Array(" \(payloadCount)\r\n".utf8)
    byteCount = size.count + payloadCount + 2
    bytes = .allocate(byteCount: byteCount, alignment: 16)
    let payload = bytes + size.count
    bytes.copyMemory(from: size, byteCount: size.count)
    payload.copyMemory(from: template.bytes, byteCount: payloadCount)
    (payload + payloadCount).copyMemory(from: [13, 10] as [UInt8], byteCount: 2)
    requestIDOffset = size.count + template.requestIDOffset
    sessionIDOffset = size.count + template.sessionIDOffset
    timestampOffset = size.count + template.timestampOffset
    replyOffset = template.replyOffset.map { size.count + $0 } ?? 0
    idIsText = template.idIsText
  }

  func deallocate() { bytes.deallocate() }

  /// Writes the id, session and time into the bytes at `place`: this request, or a copy of it.
  @inline(__always)
  func patch(
    _ place: UnsafeMutableRawPointer, requestID: (high: UInt64, low: UInt64), sessionID: UInt32,
    timestampMilliseconds: UInt64
  ) {
    if idIsText {
      UUIDText.write(requestID, to: place + requestIDOffset)
    } else {
      (place + requestIDOffset).storeBytes(of: requestID.high.bigEndian, as: UInt64.self)
      (place + requestIDOffset + 8).storeBytes(of: requestID.low.bigEndian, as: UInt64.self)
    }
    (place + sessionIDOffset).storeBytes(of: sessionID.bigEndian, as: UInt32.self)
    (place + timestampOffset).storeBytes(of: timestampMilliseconds.bigEndian, as: UInt64.self)
  }

  /// Writes a reply subject (inbox and token) into the bytes at `place`, if the dialect has it there.
  @inline(__always)
  func patchReply(_ place: UnsafeMutableRawPointer, inbox: UnsafeRawBufferPointer, token: UInt64) {
    guard replyOffset > 0, let start = inbox.baseAddress else { return }
    memcpy(place + replyOffset, start, inbox.count)
    (place + replyOffset + inbox.count).storeBytes(of: token, as: UInt64.self)
  }

  /// Writes a whole reply subject, if the dialect has it in the map.
  func patchReply(_ place: UnsafeMutableRawPointer, subject: UnsafeRawBufferPointer) {
    guard replyOffset > 0, let start = subject.baseAddress else { return }
    memcpy(place + replyOffset, start, subject.count)
  }
}
