import Glibc
import Nylon
import Scenario

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
