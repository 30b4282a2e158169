import CJemalloc
import Nylon
import Testing

/// Bytes that `body` allocates on this thread.
private func allocatedBytes(_ body: () -> Void) -> UInt64 {
  var before: UInt64 = 0
  var after: UInt64 = 0
  var size = MemoryLayout<UInt64>.size
  mallctl("thread.allocated", &before, &size, nil, 0)
  body()
  mallctl("thread.allocated", &after, &size, nil, 0)
  return after - before
}

@Suite("The generator's hot path")
struct AllocationTests {
  @Test("allocates nothing once it has warmed up, when optimised")
  func nothing() throws {
    let reply = try WorkerMessage(
      requestID: RequestID(high: 1, low: 2), sessionID: 3, action: .next, data: [4], error: "e"
    ).encoded()
    let header = HeaderKeyValueCodec.encode(key: "name", value: "value")
    var ids = UUIDv7(seed: 1)
    var right = 0
    func once() {
      let id = ids.next(timestampMilliseconds: 5)
      if id.high & 0xf000 == 0x7000 { right += 1 }
      reply.withUnsafeBytes { bytes in
        if MessageView(reply: bytes)?.requestID?.words?.low == 2 { right += 1 }
      }
      header.withUnsafeBytes { bytes in
        if HeaderKeyValueCodec.decode(bytes)?.value.count == 5 { right += 1 }
      }
    }
    once()
    let bytes = allocatedBytes { for _ in 0..<1000 { once() } }
    #expect(right == 3003)
    #if DEBUG
      // Unoptimised code has a context of a closure on the heap, once per reply.
      #expect(bytes <= 1000 * 64)
    #else
      #expect(bytes == 0)
    #endif
  }
}
