import Nylon
import Scenario
import Testing

@testable import Engine

@Suite struct ContentTests {
  private let response = HTTPResponse(
    status: 200, headers: [KeyValue(key: "X-User", value: "ann")], body: Array("hello".utf8))

  private func difference(_ verify: Verification) -> String? {
    verify.difference(from: response, upstreamBody: Array("hello".utf8))
  }

  @Test func theFirstDifferenceIsToldInWords() {
    #expect(difference(Verification(status: 201)) == "status is 200, wanted 201")
    #expect(
      difference(Verification(responseHeaders: [KeyValue(key: "x-user", value: "bob")]))
        == "header 'x-user' is 'ann', wanted 'bob'")
    #expect(
      difference(Verification(responseHeaders: [KeyValue(key: "x-trace", value: "")]))
        == "header 'x-trace' is missing")
    #expect(difference(Verification(body: "bye")) == "the body is 'hello', wanted 'bye'")
  }

  @Test func whatIsAsWantedHasNoDifference() {
    let verify = Verification(
      status: 200, responseHeaders: [KeyValue(key: "x-user", value: "")], bodyUnchanged: true, body: "hello")
    #expect(difference(verify) == nil)
    #expect(Verification().difference(from: nil, upstreamBody: []) == nil)
  }

  @Test func loadsOneAfterTheOtherHaveNoSessionIDInCommon() {
    // A load that begins when another has run for a second begins behind a quarter of a million ids.
    let start: UInt64 = 1_796_000_000_000_000_000
    for seconds in stride(from: UInt64(0), to: 10_000, by: 100) {
      let first = SessionNumbering.lastID(atUnixNanoseconds: start + seconds * second)
      let next = SessionNumbering.lastID(atUnixNanoseconds: start + (seconds + 1) * second)
      #expect(next > first ? next - first > 250_000 : first > 3_000_000_000)
      // Enough are left for any load.
      #expect(UInt32.max - first >= 1 << 30)
    }
  }
}
