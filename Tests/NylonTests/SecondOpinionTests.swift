import CMsgpack
import Testing

@testable import Nylon

/// What msgpack-c makes of exactly these bytes; the body gets nil when it does not take all of them as one value.
private func withForeign<Result>(
  _ bytes: UnsafeRawBufferPointer, _ body: (msgpack_object?) -> Result
) -> Result {
  var unpacked = msgpack_unpacked()
  msgpack_unpacked_init(&unpacked)
  defer { msgpack_unpacked_destroy(&unpacked) }
  var offset = 0
  let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
  let result = msgpack_unpack_next(&unpacked, start, bytes.count, &offset)
  return body(result == MSGPACK_UNPACK_SUCCESS && offset == bytes.count ? unpacked.data : nil)
}

/// Whether both read the same.
private func isSame(_ ours: PackedValue, _ theirs: msgpack_object) -> Bool {
  func bytes(_ start: UnsafePointer<CChar>?, _ count: UInt32) -> Bool {
    ours.raw.elementsEqual(UnsafeRawBufferPointer(start: start, count: Int(count)))
  }
  switch theirs.type {
  case MSGPACK_OBJECT_NIL: return ours.kind == .null
  case MSGPACK_OBJECT_BOOLEAN: return ours.kind == .boolean
  case MSGPACK_OBJECT_POSITIVE_INTEGER: return ours.kind == .unsigned && ours.number == theirs.via.u64
  case MSGPACK_OBJECT_NEGATIVE_INTEGER:
    return ours.kind == .negative && Int64(bitPattern: ours.number) == theirs.via.i64
  case MSGPACK_OBJECT_FLOAT32, MSGPACK_OBJECT_FLOAT64: return ours.kind == .float
  case MSGPACK_OBJECT_STR: return ours.kind == .text && bytes(theirs.via.str.ptr, theirs.via.str.size)
  case MSGPACK_OBJECT_BIN: return ours.kind == .binary && bytes(theirs.via.bin.ptr, theirs.via.bin.size)
  case MSGPACK_OBJECT_ARRAY: return ours.kind == .array && Int(ours.number) == Int(theirs.via.array.size)
  case MSGPACK_OBJECT_MAP:
    guard ours.kind == .map, ours.number == theirs.via.map.size else { return false }
    var reader = PackedReader(ours.raw)
    return UnsafeBufferPointer(start: theirs.via.map.ptr, count: Int(theirs.via.map.size)).allSatisfy {
      entry in
      guard let key = reader?.next(), let value = reader?.next() else { return false }
      return isSame(key, entry.key) && isSame(value, entry.val)
    }
  default: return ours.kind == .other
  }
}

/// The bytes as one value of this test; nil when they are not exactly one.
private func ours(_ bytes: UnsafeRawBufferPointer) -> PackedValue? {
  guard var reader = PackedReader(bytes), let value = reader.next(), reader.isAtEnd else { return nil }
  return value
}

@Suite("MessagePack in the eyes of msgpack-c")
struct SecondOpinionTests {
  @Test(
    "Whatever we take as a message, msgpack-c takes too, and reads the same",
    arguments: [1, 2, 3] as [UInt64])
  func accepted(seed: UInt64) throws {
    let messages = [
      try WorkerMessage(
        requestID: RequestID(high: 1, low: 2), sessionID: 70_000, phase: .logging, method: 0,
        data: [UInt8](repeating: 1, count: 300), timestampMilliseconds: .max,
        headers: [KeyValue(key: "entry", value: "noop"), KeyValue(key: "reply", value: "_INBOX.x")]
      ).encoded(),
      try WorkerMessage(
        requestID: .text("id"), sessionID: 300, action: .next, data: [1, 2], error: "e"
      ).encoded(),
    ]
    var taken = 0
    for message in messages {
      spoiled(message, seed: seed) { bytes in
        guard let value = ours(bytes) else { return }
        taken += 1
        #expect(withForeign(bytes) { $0.map { isSame(value, $0) } == true }, "\([UInt8](bytes))")
      }
    }
    #expect(taken > 1000)
  }

  @Test("What msgpack-c writes of every type, we read")
  func foreignWriter() {
    var buffer = msgpack_sbuffer()
    msgpack_sbuffer_init(&buffer)
    defer { msgpack_sbuffer_destroy(&buffer) }
    var packer = msgpack_packer()
    withUnsafeMutablePointer(to: &buffer) { msgpack_packer_init(&packer, $0, msgpack_sbuffer_write) }
    let numbers: [Int64] = [
      0, 1, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, 4_294_967_296, .max, -1, -32, -33, -128, -129,
      -32_768, -32_769, -2_147_483_648, -2_147_483_649, .min,
    ]
    let sizes = [0, 1, 31, 32, 255, 256, 65_535, 65_536]
    let bytes = [CChar](repeating: 65, count: 70_000)
    msgpack_pack_map(&packer, numbers.count + 2 * sizes.count + 6)
    for number in numbers {
      msgpack_pack_nil(&packer)
      msgpack_pack_int64(&packer, number)
    }
    for size in sizes {
      msgpack_pack_true(&packer)
      msgpack_pack_str(&packer, size)
      msgpack_pack_str_body(&packer, bytes, size)
      msgpack_pack_false(&packer)
      msgpack_pack_bin(&packer, size)
      msgpack_pack_bin_body(&packer, bytes, size)
    }
    for size in [0, 15, 16] {
      msgpack_pack_float(&packer, 1.5)
      msgpack_pack_array(&packer, size)
      for _ in 0..<size { msgpack_pack_double(&packer, 2.5) }
      msgpack_pack_ext(&packer, size, 7)
      msgpack_pack_ext_body(&packer, bytes, size)
      msgpack_pack_map(&packer, size)
      for place in 0..<size {
        msgpack_pack_uint64(&packer, UInt64(place))
        msgpack_pack_map(&packer, 0)
      }
    }
    let all = UnsafeRawBufferPointer(start: buffer.data, count: buffer.size)
    let value = ours(all)
    #expect(value != nil)
    #expect(
      withForeign(all) { theirs in value.flatMap { value in theirs.map { isSame(value, $0) } } } == true)
  }

  @Test("What we write of every size, msgpack-c reads")
  func ourWriter() {
    let numbers: [UInt64] = [0, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, 4_294_967_296, .max]
    let sizes = [0, 31, 32, 255, 256, 65_535, 65_536]
    for entries in [0, 15, 16, 65_535, 65_536] {
      let writer = MessagePackWriter()
      writer.map(entries)
      for place in 0..<entries {
        let bytes = [UInt8](repeating: 66, count: entries < 20 ? sizes[place % sizes.count] : place % 3)
        bytes.withUnsafeBytes { place % 2 == 0 ? writer.text($0) : writer.binary($0) }
        switch place % 3 {
        case 0: writer.unsigned(numbers[place / 3 % numbers.count])
        case 1: writer.word(0xce, UInt32(truncatingIfNeeded: place))
        default: writer.word(0xcf, UInt64(place))
        }
      }
      let value = ours(writer.bytes)
      #expect(value?.number == UInt64(entries))
      #expect(
        withForeign(writer.bytes) { theirs in value.flatMap { value in theirs.map { isSame(value, $0) } } }
          == true)
    }
  }
}
