import Foundation
import Glibc
import Nylon
import Scenario

/// The response of one session as the plugin has changed it so far.
///
/// Headers lie in one buffer, each as two lengths, the name and the value; the body is the
/// upstream's until it is set. Buffers grow once and are kept for the next session of the slot.
struct ResponseState {
  private(set) var status: UInt16 = 200
  private(set) var body = UnsafeRawBufferPointer(start: nil, count: 0)
  /// Whether anything was changed since `reset`.
  private(set) var isChanged = false
  private var headers: UnsafeMutableRawPointer
  private var headersCapacity: Int
  private var headersUsed = 0
  private var ownBody: UnsafeMutableRawPointer?
  private var ownBodyCapacity = 0
  private var ownBodyUsed = 0

  private static let lengthBytes = 8

  init(upstream: UpstreamResponse) {
    headersCapacity = max(1024, 2 * upstream.headers.count)
    headers = .allocate(byteCount: headersCapacity, alignment: 8)
    isChanged = true
    reset(to: upstream)
  }

  func deallocate() {
    headers.deallocate()
    ownBody?.deallocate()
  }

  /// Back to what the upstream sent, for the next session.
  @inline(__always)
  mutating func reset(to upstream: UpstreamResponse) {
    guard isChanged else { return }
    restore(upstream)
  }

  private mutating func restore(_ upstream: UpstreamResponse) {
    status = upstream.status
    headersUsed = upstream.headers.count
    if let bytes = upstream.headers.baseAddress {
      headers.copyMemory(from: bytes, byteCount: headersUsed)
    }
    body = upstream.body
    ownBodyUsed = 0
    isChanged = false
  }

  mutating func setStatus(_ code: UInt16) {
    status = code
    isChanged = true
  }

  mutating func setBody(_ bytes: UnsafeRawBufferPointer) {
    ownBodyUsed = 0
    appendBody(bytes)
  }

  /// Adds stream data to the body; the first call replaces the upstream's.
  mutating func appendBody(_ bytes: UnsafeRawBufferPointer) {
    isChanged = true
    if ownBodyUsed + bytes.count > ownBodyCapacity { growBody(by: bytes.count) }
    if let from = bytes.baseAddress, let own = ownBody {
      (own + ownBodyUsed).copyMemory(from: from, byteCount: bytes.count)
    }
    ownBodyUsed += bytes.count
    body = UnsafeRawBufferPointer(start: ownBody, count: ownBodyUsed)
  }

  private mutating func growBody(by count: Int) {
    ownBodyCapacity = max(2 * ownBodyCapacity, ownBodyUsed + count)
    let larger = UnsafeMutableRawPointer.allocate(byteCount: ownBodyCapacity, alignment: 8)
    if let own = ownBody {
      larger.copyMemory(from: own, byteCount: ownBodyUsed)
      own.deallocate()
    }
    ownBody = larger
  }

  mutating func setHeader(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
    removeHeader(name: name)
    let size = Self.entryBytes(name.count, value.count)
    if headersUsed + size > headersCapacity { growHeaders(by: size) }
    Self.write(name, value, at: headers + headersUsed)
    headersUsed += size
    isChanged = true
  }

  private mutating func growHeaders(by size: Int) {
    headersCapacity = max(2 * headersCapacity, headersUsed + size)
    let larger = UnsafeMutableRawPointer.allocate(byteCount: headersCapacity, alignment: 8)
    larger.copyMemory(from: headers, byteCount: headersUsed)
    headers.deallocate()
    headers = larger
  }

  mutating func removeHeader(name: UnsafeRawBufferPointer) {
    var place = 0
    while place < headersUsed {
      let (entryName, _, size) = entry(at: place)
      if HeaderName.equal(entryName, name) {
        memmove(headers + place, headers + place + size, headersUsed - place - size)
        headersUsed -= size
        isChanged = true
      } else {
        place += size
      }
    }
  }

  /// The value of the first header of that name.
  func header(_ name: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    var place = 0
    while place < headersUsed {
      let (entryName, value, size) = entry(at: place)
      if HeaderName.equal(entryName, name) { return value }
      place += size
    }
    return nil
  }

  /// All headers, for a plugin that reads them. Allocates.
  func allHeaders() -> [KeyValue] {
    var all: [KeyValue] = []
    var place = 0
    while place < headersUsed {
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
    let nameCount = Int(headers.load(fromByteOffset: place, as: UInt32.self))
    let valueCount = Int(headers.load(fromByteOffset: place + 4, as: UInt32.self))
    let start = headers + place + Self.lengthBytes
    return (
      UnsafeRawBufferPointer(start: start, count: nameCount),
      UnsafeRawBufferPointer(start: start + nameCount, count: valueCount),
      Self.entryBytes(nameCount, valueCount)
    )
  }

  /// Bytes of one header in the buffer; a multiple of 8, so that lengths stay aligned.
  static func entryBytes(_ name: Int, _ value: Int) -> Int { (lengthBytes + name + value + 7) & ~7 }

  static func write(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, at place: UnsafeMutableRawPointer
  ) {
    place.storeBytes(of: UInt32(name.count), as: UInt32.self)
    place.storeBytes(of: UInt32(value.count), toByteOffset: 4, as: UInt32.self)
    let start = place + lengthBytes
    if let from = name.baseAddress { start.copyMemory(from: from, byteCount: name.count) }
    if let from = value.baseAddress {
      (start + name.count).copyMemory(from: from, byteCount: value.count)
    }
  }
}

/// What the upstream answers before a plugin changed it: the same for every session.
final class UpstreamResponse {
  let status: UInt16
  /// Headers as `ResponseState` keeps them.
  let headers: UnsafeRawBufferPointer
  let body: UnsafeRawBufferPointer

  init(status: UInt16, headers: [KeyValue], body: [UInt8]) {
    self.status = status
    let size = headers.reduce(0) { $0 + ResponseState.entryBytes($1.key.utf8.count, $1.value.utf8.count) }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 8)
    var place = 0
    for header in headers {
      Array(header.key.utf8).withUnsafeBytes { name in
        Array(header.value.utf8).withUnsafeBytes { value in
          if let base = memory.baseAddress { ResponseState.write(name, value, at: base + place) }
        }
      }
      place += ResponseState.entryBytes(header.key.utf8.count, header.value.utf8.count)
    }
    self.headers = UnsafeRawBufferPointer(memory)
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: body.count, alignment: 8)
    copy.copyBytes(from: body)
    self.body = UnsafeRawBufferPointer(copy)
  }

  deinit {
    headers.deallocate()
    body.deallocate()
  }
}

/// What a session's response must look like at its end, as bytes to compare.
final class ResponseCheck {
  private let status: UInt16?
  private let headers: [(name: [UInt8], value: [UInt8])]
  private let body: [UInt8]?
  let isEmpty: Bool
  private let verify: Verification
  private let upstreamBody: [UInt8]

  init(_ verify: Verification, upstreamBody: [UInt8]) {
    self.verify = verify
    self.upstreamBody = upstreamBody
    status = verify.status
    headers = verify.responseHeaders.map { (Array($0.key.utf8), Array($0.value.utf8)) }
    body = verify.bodyUnchanged ? upstreamBody : verify.body.map { Array($0.utf8) }
    isEmpty = verify.isEmpty
  }

  func accepts(_ response: ResponseState) -> Bool {
    if let status, status != response.status { return false }
    if let body, !equal(body, response.body) { return false }
    for header in headers {
      guard let found = header.name.withUnsafeBytes({ response.header($0) }) else { return false }
      if !header.value.isEmpty, !equal(header.value, found) { return false }
    }
    return true
  }

  /// The first difference between a response and what is asked for, in words.
  func difference(_ response: ResponseState) -> String? {
    verify.difference(
      from: HTTPResponse(
        status: response.status, headers: response.allHeaders(), body: [UInt8](response.body)),
      upstreamBody: upstreamBody)
  }

  private func equal(_ wanted: [UInt8], _ found: UnsafeRawBufferPointer) -> Bool {
    guard wanted.count == found.count else { return false }
    guard let base = found.baseAddress, !wanted.isEmpty else { return wanted.isEmpty }
    return memcmp(wanted, base, wanted.count) == 0
  }
}

/// What the host answers to reads of the request: the same for every session, made once.
final class RequestAnswers {
  let body: UnsafeRawBufferPointer
  let headerTable: UnsafeRawBufferPointer
  let url: UnsafeRawBufferPointer
  let path: UnsafeRawBufferPointer
  let query: UnsafeRawBufferPointer
  let params: UnsafeRawBufferPointer
  let host: UnsafeRawBufferPointer
  let clientIP: UnsafeRawBufferPointer
  let method: UnsafeRawBufferPointer
  let byteCount: UnsafeRawBufferPointer
  let payload: UnsafeRawBufferPointer
  private let headers: [(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)]
  private static var nothing: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

  init(_ request: HTTPRequest, clientIP: String) {
    let host = request.headers.first { $0.key.lowercased() == "host" }?.value ?? ""
    let target = request.query.isEmpty ? request.path : request.path + "?" + request.query
    body = Self.keep(request.body)
    headerTable = Self.keep(HeaderTable.encode(request.headers))
    url = Self.keep(Array((host.isEmpty ? target : "http://\(host)\(target)").utf8))
    path = Self.keep(Array(request.path.utf8))
    query = Self.keep(Array(request.query.utf8))
    params = Self.keep(Self.json(request.params))
    self.host = Self.keep(Array(host.utf8))
    self.clientIP = Self.keep(Array(clientIP.utf8))
    method = Self.keep(Array(request.method.utf8))
    byteCount = Self.keep(Array(String(request.body.count).utf8))
    payload = Self.keep(Array("{}".utf8))
    headers = request.headers.map { (Self.keep(Array($0.key.utf8)), Self.keep(Array($0.value.utf8))) }
  }

  deinit {
    for bytes in [body, headerTable, url, path, query, params, host, clientIP, method, byteCount, payload] {
      bytes.deallocate()
    }
    for header in headers {
      header.name.deallocate()
      header.value.deallocate()
    }
  }

  /// The value of a request header, empty when absent.
  func header(_ name: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    for header in headers where HeaderName.equal(header.name, name) { return header.value }
    return Self.nothing
  }

  /// The answer to a read that every session answers alike; nil for any other method.
  func answer(_ method: Nylon.Method, payload: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    switch method {
    case .getPayload: self.payload
    case .readRequestFullBody: body
    case .readRequestHeader: header(payload)
    case .readRequestHeaders: headerTable
    case .readRequestURL: url
    case .readRequestPath: path
    case .readRequestQuery: query
    case .readRequestParams: params
    case .readRequestHost: host
    case .readRequestClientIP: clientIP
    case .readRequestMethod: self.method
    case .readRequestBytes: byteCount
    case .readResponseError: Self.nothing
    default: nil
    }
  }

  private static func keep(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
    memory.copyBytes(from: bytes)
    return UnsafeRawBufferPointer(memory)
  }

  private static func json(_ params: [KeyValue]) -> [UInt8] {
    let object = Dictionary(params.map { ($0.key, $0.value) }) { _, last in last }
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    // Strings always encode; an empty object is what a route without parameters has.
    return (try? Array(encoder.encode(object))) ?? Array("{}".utf8)
  }
}
