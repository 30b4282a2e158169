import Foundation
import Nylon
import Scenario

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
