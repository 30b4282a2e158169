import Foundation
import NATS
import Nylon
import Scenario

/// A byte buffer that only grows.
struct GrowingBytes {
  private(set) var start: UnsafeMutableRawPointer
  private var capacity: Int
  var count = 0

  init(capacity: Int) {
    self.capacity = capacity
    start = .allocate(byteCount: capacity, alignment: 16)
  }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

  /// Extends the buffer and returns the address of the new bytes, which the caller fills.
  @inline(__always)
  mutating func extend(by more: Int) -> UnsafeMutableRawPointer {
    if count + more > capacity { grow(by: more) }
    defer { count &+= more }
    return start + count
  }

  /// Frees the memory; most buffers live as long as the process.
  func deallocate() { start.deallocate() }

  mutating func append(_ more: UnsafeRawBufferPointer) {
    UnsafeMutableRawBufferPointer(start: extend(by: more.count), count: more.count).copyMemory(from: more)
  }

  @inline(never)
  private mutating func grow(by more: Int) {
    capacity = max(2 * capacity, count + more)
    let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    larger.copyMemory(from: start, byteCount: count)
    start.deallocate()
    start = larger
  }
}

extension UnsafeRawBufferPointer {
  @inline(__always)
  func equals(_ bytes: [UInt8]) -> Bool {
    count == bytes.count && (baseAddress.map { memcmp(bytes, $0, count) == 0 } ?? true)
  }
}

/// The state of a body while the response body filter runs once for each of its chunks.
private struct BodyChunks {
  /// The body that is cut into chunks, and the memory that holds it when the plugin had set it.
  var whole = UnsafeRawBufferPointer(start: nil, count: 0)
  var source = GrowingBytes(capacity: 0)
  var wasOwn = false
  /// The byte range of the current chunk.
  var range = 0..<0
  /// The filtered chunks so far, once the filter has changed one.
  var filtered = GrowingBytes(capacity: 0)
  var isFiltered = false
}

/// The response of one session as the plugin has changed it so far.
///
/// Each header is stored in one buffer as two lengths, the name and the value; the body is the upstream's
/// until the plugin sets it. Buffers grow once and are kept for the slot's next session.
struct ResponseState {
  private(set) var status: UInt16
  private(set) var body: UnsafeRawBufferPointer
  /// Whether anything has changed since `reset`.
  private var isChanged = false
  private var isStatusOwn = false
  private var isBodyOwn = false
  private var headers = GrowingBytes(capacity: 1024)
  /// The size of the upstream's headers at the front of `headers`; the plugin's headers follow them.
  private var upstreamHeaderBytes = 0
  private var ownBody = GrowingBytes(capacity: 0)
  private var chunks = BodyChunks()

  private static let lengthBytes = 8
  /// The maximum size of a streamed body in bytes: a handler may send chunks without end.
  private static let mostStreamedBytes = 256 << 20

  /// Creates the upstream's response, before a plugin changes it.
  init(upstream: HTTPResponse) {
    status = upstream.status
    body = RequestAnswers.keep(upstream.body)
    for header in upstream.headers {
      Array(header.key.utf8).withUnsafeBytes { name in
        Array(header.value.utf8).withUnsafeBytes { appendHeader(name: name, value: $0) }
      }
    }
    upstreamHeaderBytes = headers.count
  }

  /// Creates a slot's response with its own memory.
  init(copyOf upstream: ResponseState) {
    status = upstream.status
    body = upstream.body
    headers.append(upstream.headers.bytes)
    upstreamHeaderBytes = headers.count
  }

  /// Frees the response's own memory.
  func deallocate() {
    for bytes in [headers, ownBody, chunks.source, chunks.filtered] { bytes.deallocate() }
  }

  /// Restores the upstream's response for the next session.
  @inline(__always)
  mutating func reset(to upstream: ResponseState) {
    if isChanged { restore(upstream) }
  }

  private mutating func restore(_ upstream: ResponseState) {
    status = upstream.status
    body = upstream.body
    headers.count = 0
    headers.append(upstream.headers.bytes)
    upstreamHeaderBytes = headers.count
    ownBody.count = 0
    isChanged = false
    isStatusOwn = false
    isBodyOwn = false
  }

  /// Keeps only what the plugin has set, because the upstream is not called.
  mutating func dropUpstream() {
    isChanged = true
    if !isStatusOwn { status = Self.statusOfPlugin }
    if !isBodyOwn { body = UnsafeRawBufferPointer(start: nil, count: 0) }
    memmove(headers.start, headers.start + upstreamHeaderBytes, headers.count - upstreamHeaderBytes)
    headers.count -= upstreamHeaderBytes
    upstreamHeaderBytes = 0
  }

  /// The default status of a plugin's own response.
  private static let statusOfPlugin: UInt16 = 200

  private mutating func setStatus(_ code: UInt16) {
    status = code
    isChanged = true
    isStatusOwn = true
  }

  private mutating func setBody(_ bytes: UnsafeRawBufferPointer) {
    ownBody.count = 0
    appendBody(bytes)
  }

  /// Appends stream data to the body; the first call replaces the upstream's body.
  private mutating func appendBody(_ bytes: UnsafeRawBufferPointer) {
    isChanged = true
    isBodyOwn = true
    ownBody.append(bytes)
    body = ownBody.bytes
  }

  /// Makes one chunk the current body for reads and writes, until `endChunk`.
  mutating func beginChunk(_ chunk: Int, of count: Int) {
    isChanged = true
    if chunk == 0 {
      // The body may be in `ownBody`, which the replacement of a chunk would overwrite.
      swap(&ownBody, &chunks.source)
      chunks.whole = body
      chunks.wasOwn = isBodyOwn
      chunks.filtered.count = 0
      chunks.isFiltered = false
    }
    let length = chunks.whole.count
    chunks.range = chunk * length / count..<(chunk + 1) * length / count
    ownBody.count = 0
    isBodyOwn = false
    body = UnsafeRawBufferPointer(rebasing: chunks.whole[chunks.range])
  }

  /// Keeps the filtered chunk; after the last chunk, the body is all of them.
  mutating func endChunk(isLast: Bool) {
    if isBodyOwn, !chunks.isFiltered {
      chunks.isFiltered = true
      chunks.filtered.append(UnsafeRawBufferPointer(rebasing: chunks.whole[..<chunks.range.lowerBound]))
    }
    if chunks.isFiltered { chunks.filtered.append(body) }
    guard isLast else { return }
    if chunks.isFiltered {
      swap(&ownBody, &chunks.filtered)
      body = ownBody.bytes
    } else {
      swap(&ownBody, &chunks.source)
      body = chunks.whole
    }
    isBodyOwn = chunks.isFiltered || chunks.wasOwn
  }

  private mutating func setHeader(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
    removeHeader(name: name)
    appendHeader(name: name, value: value)
    isChanged = true
  }

  private mutating func appendHeader(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
    let place = headers.extend(by: Self.entryBytes(name.count, value.count))
    place.storeBytes(of: UInt32(name.count), as: UInt32.self)
    place.storeBytes(of: UInt32(value.count), toByteOffset: 4, as: UInt32.self)
    let start = place + Self.lengthBytes
    if let from = name.baseAddress { start.copyMemory(from: from, byteCount: name.count) }
    if let from = value.baseAddress { (start + name.count).copyMemory(from: from, byteCount: value.count) }
  }

  private mutating func removeHeader(name: UnsafeRawBufferPointer) {
    var place = 0
    while place < headers.count {
      let (entryName, _, size) = entry(at: place)
      if HeaderName.equal(entryName, name) {
        if place < upstreamHeaderBytes { upstreamHeaderBytes -= size }
        let start = headers.start + place
        memmove(start, start + size, headers.count - place - size)
        headers.count -= size
        isChanged = true
      } else {
        place += size
      }
    }
  }

  /// Whether a header of that name has a value that satisfies `isWanted`.
  func hasHeader(_ name: UnsafeRawBufferPointer, where isWanted: (UnsafeRawBufferPointer) -> Bool) -> Bool {
    var place = 0
    while place < headers.count {
      let (entryName, value, size) = entry(at: place)
      if HeaderName.equal(entryName, name), isWanted(value) { return true }
      place += size
    }
    return false
  }

  /// The headers that plugins have set, which are those that a read returns. Allocates.
  var pluginHeaders: [KeyValue] { headers(from: upstreamHeaderBytes) }

  /// The current response. Allocates.
  var message: HTTPResponse { HTTPResponse(status: status, headers: headers(from: 0), body: [UInt8](body)) }

  private func headers(from start: Int) -> [KeyValue] {
    var all: [KeyValue] = []
    var place = start
    while place < headers.count {
      let (name, value, size) = entry(at: place)
      all.append(
        KeyValue(key: String(decoding: name, as: UTF8.self), value: String(decoding: value, as: UTF8.self)))
      place += size
    }
    return all
  }

  private func entry(
    at place: Int
  ) -> (name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, size: Int) {
    let start = headers.start + place
    let nameCount = Int(start.load(as: UInt32.self))
    let valueCount = Int(start.load(fromByteOffset: 4, as: UInt32.self))
    let name = start + Self.lengthBytes
    return (
      UnsafeRawBufferPointer(start: name, count: nameCount),
      UnsafeRawBufferPointer(start: name + nameCount, count: valueCount),
      Self.entryBytes(nameCount, valueCount)
    )
  }

  /// The size of one header in the buffer, a multiple of 8 so that lengths stay aligned.
  private static func entryBytes(_ name: Int, _ value: Int) -> Int { (lengthBytes + name + value + 7) & ~7 }
}

/// The effects of a handler's calls on the response, in process and over NATS.
extension ResponseState {
  /// Applies a call to the response; false for an unknown method or an invalid payload.
  mutating func apply(_ method: Nylon.Method, _ payload: UnsafeRawBufferPointer) -> Bool {
    switch method {
    case .setResponseHeader:
      guard let header = HeaderKeyValueCodec.decode(payload) else { return false }
      setHeader(name: header.key, value: header.value)
    case .removeResponseHeader: removeHeader(name: payload)
    case .setResponseStatus:
      guard payload.count == 2 else { return false }
      setStatus(UInt16(payload[0]) << 8 | UInt16(payload[1]))
    case .setResponseFullBody: setBody(payload)
    case .setResponseStreamData:
      guard ownBody.count + payload.count <= Self.mostStreamedBytes else { return false }
      appendBody(payload)
    case .setResponseStreamHeader: break
    default: return false
    }
    return true
  }

  /// Answers a read of a number; nil for other reads. `unixOffset` is Unix time minus monotonic time; all
  /// times are in nanoseconds.
  func number(_ method: Nylon.Method, openedAt: UInt64, unixOffset: UInt64) -> UInt64? {
    switch method {
    // The host answers with what plugins have set, never with the upstream's values.
    case .readResponseStatus: UInt64(isStatusOwn ? status : Self.statusOfPlugin)
    case .readResponseBytes: UInt64(body.count)
    case .readResponseDuration: MonotonicClock.nanoseconds(since: openedAt) / 1_000_000
    case .readRequestTimestamp: (openedAt &+ unixOffset) / 1_000_000
    default: nil
    }
  }
}

/// Calls `body` with the decimal text of a number.
func withDecimal(_ value: UInt64, _ body: (UnsafeRawBufferPointer) -> Void) {
  withUnsafeTemporaryAllocation(byteCount: WirePublication.mostDigits, alignment: 1) { digits in
    guard let start = digits.baseAddress else { return }
    body(UnsafeRawBufferPointer(start: start, count: WirePublication.decimal(value, at: start) - start))
  }
}

/// The expected response at the end of a session, as bytes to compare.
final class ResponseCheck {
  let isEmpty: Bool
  private let headers: [(name: [UInt8], value: [UInt8])]
  private let body: [UInt8]?
  private let verify: Verification
  private let upstreamBody: [UInt8]

  init(_ verify: Verification, upstreamBody: [UInt8]) {
    self.verify = verify
    self.upstreamBody = upstreamBody
    headers = verify.responseHeaders.map { (Array($0.key.utf8), Array($0.value.utf8)) }
    isEmpty = verify.isEmpty
    body = verify.bodyUnchanged ? upstreamBody : verify.body.map { Array($0.utf8) }
  }

  func accepts(_ response: ResponseState) -> Bool {
    if let status = verify.status, status != response.status { return false }
    if let body, !response.body.equals(body) { return false }
    return headers.allSatisfy { header in
      header.name.withUnsafeBytes { name in
        response.hasHeader(name) { header.value.isEmpty || $0.equals(header.value) }
      }
    }
  }

  /// Describes the first difference between a response and the expected one; nil when there is none.
  func difference(_ response: ResponseState) -> String? {
    verify.difference(from: response.message, upstreamBody: upstreamBody)
  }
}

extension Verification {
  /// Describes the first difference between a response and the expected one; nil when there is none.
  ///
  /// - Parameter upstreamBody: the body that the upstream sent, for `body_unchanged`.
  func difference(from response: HTTPResponse?, upstreamBody: [UInt8]) -> String? {
    guard !isEmpty else { return nil }
    guard let response else { return "the answer carries no response" }
    if let status, status != response.status { return "status is \(response.status), wanted \(status)" }
    for wanted in responseHeaders {
      if let words = Self.difference(of: wanted, in: response.headers) { return words }
    }
    if bodyUnchanged, response.body != upstreamBody {
      return "the body is \(Self.shown(response.body)), wanted the upstream's \(Self.shown(upstreamBody))"
    }
    if let body, response.body != Array(body.utf8) {
      return "the body is \(Self.shown(response.body)), wanted \(Self.shown(Array(body.utf8)))"
    }
    return nil
  }

  /// Compares one header; an empty expected value matches any value.
  private static func difference(of wanted: KeyValue, in headers: [KeyValue]) -> String? {
    let found = headers.filter { HeaderName.equal($0.key, wanted.key) }
    if wanted.value.isEmpty ? !found.isEmpty : found.contains(where: { $0.value == wanted.value }) {
      return nil
    }
    guard let first = found.first else { return "header '\(wanted.key)' is missing" }
    return "header '\(wanted.key)' is '\(first.value)', wanted '\(wanted.value)'"
  }

  private static let mostShownBytes = 40

  /// The beginning of a body, with its length when it is cut.
  private static func shown(_ body: [UInt8]) -> String {
    let text = String(decoding: body.prefix(mostShownBytes), as: UTF8.self)
    return body.count > mostShownBytes ? "'\(text)…' (\(body.count) bytes)" : "'\(text)'"
  }
}

/// The host's answers to reads of the request. They are the same for every session, built once and kept as
/// long as the process.
final class RequestAnswers {
  /// The answers by method number; nil where the answer depends on the session.
  private let answers: UnsafeMutablePointer<UnsafeRawBufferPointer?>
  private let headers: [(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)]
  private static let answerCount = Int(Nylon.Method.readRequestTimestamp.rawValue)

  init(_ request: HTTPRequest, clientIP: String) {
    let host = request.headers.first { $0.key.lowercased() == "host" }?.value ?? ""
    let target = request.query.isEmpty ? request.path : request.path + "?" + request.query
    answers = .allocate(capacity: Self.answerCount)
    answers.initialize(repeating: nil, count: Self.answerCount)
    let texts: [(Nylon.Method, String)] = [
      (.getPayload, "{}"), (.readRequestURL, host.isEmpty ? target : "http://\(host)\(target)"),
      (.readRequestPath, request.path), (.readRequestQuery, request.query), (.readRequestHost, host),
      (.readRequestClientIP, clientIP), (.readRequestMethod, request.method),
      (.readRequestBytes, String(request.body.count)), (.readResponseError, ""),
    ]
    for (method, text) in texts { answers[Int(method.rawValue)] = Self.keep(text.utf8) }
    answers[Int(Nylon.Method.readRequestFullBody.rawValue)] = Self.keep(request.body)
    answers[Int(Nylon.Method.readRequestHeaders.rawValue)] = Self.keep(HeaderTable.encode(request.headers))
    answers[Int(Nylon.Method.readRequestParams.rawValue)] = Self.keep(Self.json(request.params))
    headers = request.headers.map { (Self.keep($0.key.utf8), Self.keep($0.value.utf8)) }
  }

  /// The answer to a read that is the same for every session; nil for any other method.
  func answer(_ method: Nylon.Method, payload: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    if method == .readRequestHeader {
      // Empty when absent.
      for header in headers where HeaderName.equal(header.name, payload) { return header.value }
      return UnsafeRawBufferPointer(start: nil, count: 0)
    }
    return method.rawValue < UInt32(Self.answerCount) ? answers[Int(method.rawValue)] : nil
  }

  /// Copies bytes into memory that is never moved.
  static func keep(_ bytes: some Collection<UInt8>) -> UnsafeRawBufferPointer {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
    memory.copyBytes(from: bytes)
    return UnsafeRawBufferPointer(memory)
  }

  private static func json(_ params: [KeyValue]) -> [UInt8] {
    let object = Dictionary(params.map { ($0.key, $0.value) }) { _, last in last }
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    // Encoding strings cannot fail; a route without parameters has an empty object.
    return (try? Array(encoder.encode(object))) ?? Array("{}".utf8)
  }
}
