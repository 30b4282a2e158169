import Testing

@testable import Nylon

@Suite("A worker's stamps")
struct WorkerStampsTests {
  @Test("are read back from a packed reply, with the last one overwritten")
  func roundTrip() throws {
    let encoder = ReplyEncoder()
    let stamps = WorkerStamps(read: 1, begun: 22, ended: UInt64.max, packed: 7)
    for data in [nil, [1, 2, 3]] as [[UInt8]?] {
      let bytes = (data ?? []).withUnsafeBytes { data in
        encoder.encode(
          requestID: nil, sessionID: 1, action: .next, data: data.isEmpty ? nil : data, stamps: stamps)
      }
      encoder.stampPacked(12_345)
      let view = try #require(MessageView(reply: bytes))
      let text = try #require(view.header(WorkerStamps.header))
      #expect(text.count == WorkerStamps.byteCount)
      var wanted = stamps
      wanted.packed = 12_345
      #expect(WorkerStamps(text) == wanted)
      #expect(view.data.map([UInt8].init) == data)
    }
  }

  @Test("are not in a reply unless requested, and leave it unchanged byte for byte")
  func without() throws {
    let encoder = ReplyEncoder()
    let plain = [UInt8](encoder.encode(requestID: nil, sessionID: 1, action: .next))
    _ = encoder.encode(requestID: nil, sessionID: 1, action: .next, stamps: WorkerStamps())
    let again = encoder.encode(requestID: nil, sessionID: 1, action: .next)
    encoder.stampPacked(5)
    #expect([UInt8](again) == plain)
    #expect(try WorkerMessage(requestID: nil, sessionID: 1, action: .next).encoded() == plain)
  }

  @Test(
    "are four decimal numbers with commas between, and nothing else",
    arguments: [
      ("1,2,3,4", WorkerStamps(read: 1, begun: 2, ended: 3, packed: 4)),
      ("0001,02,3,18446744073709551615", WorkerStamps(read: 1, begun: 2, ended: 3, packed: .max)),
      ("", nil), ("1,2,3", nil), ("1,2,3,", nil), (",1,2,3", nil), ("1,2,3,4,", nil), ("1,2,3,4,5", nil),
      ("1,2,3,18446744073709551616", nil), ("1,2,3,4 ", nil), ("x,2,3,4", nil), ("1,-2,3,4", nil),
    ] as [(String, WorkerStamps?)])
  func parsing(text: String, stamps: WorkerStamps?) {
    #expect(Array(text.utf8).withUnsafeBytes { WorkerStamps($0) } == stamps)
  }
}
