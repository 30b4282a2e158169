@testable import Nylon
import Testing

/// Every number that has a meaning, in order.
private let allMethods = Method.names.keys.sorted().map(Method.init(rawValue:))

@Suite("Methods, subjects and ids")
struct MethodTests {
  @Test("every number of the interface has a name, and no other has")
  func names() {
    let numbers =
      Array(UInt32(1)...3) + Array(100...112) + Array(200...211) + Array(300...303)
      + Array(310...313) + Array(350...354)
    #expect(allMethods.map(\.rawValue) == numbers)
    #expect(Set(allMethods.map(\.description)).count == numbers.count)
    for number in UInt32(0)...400 {
      let isKnown = Method(rawValue: number).description != "method \(number)"
      #expect(isKnown == numbers.contains(number))
    }
    #expect(Method(rawValue: 77).description == "method 77")
  }

  @Test("reads are what the host answers")
  func reads() {
    let reads = allMethods.filter(\.isRead).map(\.rawValue)
    #expect(reads == [3] + Array(107...112) + Array(200...211))
    #expect(allMethods.filter(\.isRead).allSatisfy { $0 == .getPayload || $0.description.hasPrefix("read_") })
    #expect(allMethods.filter(\.endsPhase) == [.next, .end, .setResponseStreamEnd])
  }

  @Test("subjects are prefix, plugin and phase")
  func subjects() throws {
    let subject = try Subject(plugin: "my-plugin")
    #expect(subject.phase(.requestFilter) == "nylon.plugin.my-plugin.request_filter")
    #expect(subject.phase(.responseBodyFilter) == "nylon.plugin.my-plugin.response_body_filter")
    #expect(subject.lifecycle == "nylon.plugin.my-plugin.lifecycle")
    #expect(try Subject(prefix: "x", plugin: "y").phase(.logging) == "x.y.logging")
  }

  @Test(
    "a token that would change the subject's meaning is refused",
    arguments: ["", "a b", "a.b", "*", ">", "a\n", "\u{0}", String(repeating: "x", count: 256)])
  func badPlugin(_ name: String) {
    #expect(throws: MessageError.self) { try Subject(plugin: name) }
  }

  @Test(
    "a prefix with an empty part, a wildcard or a space is refused",
    arguments: ["", "a..b", ".a", "a.", "a.*", "a b"])
  func badPrefix(_ prefix: String) {
    #expect(throws: MessageError.self) { try Subject(prefix: prefix, plugin: "p") }
  }

  @Test("a refused name is shown without its control characters")
  func shownName() {
    let error = #expect(throws: MessageError.self) { try Subject(plugin: "a\u{1b}[31m") }
    #expect(error?.description.contains("\u{1b}") == false)
  }

  @Test("request ids are UUIDs of version 7 that rise and never repeat")
  func uuids() {
    var maker = UUIDv7(seed: 42)
    var seen = Set<RequestID>()
    var previous: (high: UInt64, low: UInt64) = (0, 0)
    for _ in 0..<10_000 {
      let id = maker.next(timestampMilliseconds: 0x0192_f0c1_2345)
      #expect(id.high >> 16 == 0x0192_f0c1_2345)
      #expect(id.high & 0xf000 == 0x7000)
      #expect(id.low >> 62 == 0b10)
      #expect((id.high, id.low) > previous)
      previous = id
      seen.insert(RequestID(high: id.high, low: id.low))
    }
    #expect(seen.count == 10_000)
  }

  @Test("two makers of different seeds give different ids")
  func seeds() {
    var left = UUIDv7(seed: 1)
    var right = UUIDv7(seed: 2)
    #expect(left.next(timestampMilliseconds: 1).low != right.next(timestampMilliseconds: 1).low)
  }

  @Test("a generator of ids recognizes only its own ids, by number")
  func ownIDs() {
    var maker = UUIDv7(seed: 7)
    var other = UUIDv7(seed: 8)
    for number in 0..<3000 as Range<UInt32> {
      #expect(maker.nextNumber == number)
      let id = maker.next(timestampMilliseconds: 1_700_000_000_000 + UInt64(number))
      let foreign = other.next(timestampMilliseconds: 1_700_000_000_000)
      #expect(maker.number(high: id.high, low: id.low) == number)
      #expect(maker.number(high: foreign.high, low: foreign.low) == nil)
      #expect(maker.number(high: id.high, low: id.low ^ 1) == nil)
      #expect(maker.number(high: id.high & ~0xf000, low: id.low) == nil)
    }
    let unborn = maker
    var ahead = maker
    let later = ahead.next(timestampMilliseconds: 1_700_000_000_000)
    #expect(unborn.number(high: later.high, low: later.low) == nil)
  }
}
