import Glibc

/// Packs MessagePack into one buffer that is kept from message to message.
///
/// Ours and not msgpack-c's, which calls a function for each piece of each value: that took a fifth of a
/// worker's time. In the tests msgpack-c reads what this writes.
final class MessagePackWriter {
  private var memory: UnsafeMutableRawPointer
  private var capacity = 512
  private(set) var byteCount = 0

  init() { memory = .allocate(byteCount: capacity, alignment: 16) }

  deinit { memory.deallocate() }

  /// What was packed since the last `clear`; valid until the next call.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: byteCount) }

  /// A copy of what was packed; the writer may be gone when it is used.
  var copy: [UInt8] { withExtendedLifetime(self) { [UInt8](bytes) } }

  /// Where the bytes begin, to write over some.
  var start: UnsafeMutableRawPointer { memory }

  func clear() { byteCount = 0 }

  // MARK: Messages

  /// Begins the map of a message, of at most 15 entries.
  @inline(__always)
  func beginMessage() {
    clear()
    map(0)
  }

  /// One more entry of the message's map; none where there is no value.
  @inline(__always)
  func entry<Value>(_ name: StaticString, _ value: Value?, _ pack: (Value) -> Void) {
    guard let value else { return }
    memory.storeBytes(of: memory.load(as: UInt8.self) &+ 1, as: UInt8.self)
    key(name)
    pack(value)
  }

  func requestID(_ id: RequestIDView) {
    if id.isText { text(id.raw) } else { binary(id.raw) }
  }

  // MARK: Values

  @inline(__always)
  func map(_ count: Int) {
    if count < 16 {
      byte(0x80 | UInt8(truncatingIfNeeded: count))
    } else {
      head(count, nil, 0xde, 0xdf)
    }
  }

  @inline(__always)
  func unsigned(_ number: UInt64) {
    switch number {
    case 0..<0x80: byte(UInt8(truncatingIfNeeded: number))
    case 0..<0x100: word(0xcc, UInt8(truncatingIfNeeded: number))
    case 0..<0x1_0000: word(0xcd, UInt16(truncatingIfNeeded: number))
    case 0..<0x1_0000_0000: word(0xce, UInt32(truncatingIfNeeded: number))
    default: word(0xcf, number)
    }
  }

  /// Five bytes whatever the number, so that it can be written over.
  func fixed32(_ number: UInt32) { word(0xce, number) }
  /// Nine bytes whatever the number, so that it can be written over.
  func fixed64(_ number: UInt64) { word(0xcf, number) }

  @inline(__always)
  func key(_ name: StaticString) {
    text(UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
  }

  func text(_ text: String) {
    var text = text
    text.withUTF8 { self.text(UnsafeRawBufferPointer($0)) }
  }

  @inline(__always)
  func text(_ bytes: UnsafeRawBufferPointer) {
    if bytes.count < 32 {
      byte(0xa0 | UInt8(truncatingIfNeeded: bytes.count))
    } else {
      head(bytes.count, 0xd9, 0xda, 0xdb)
    }
    raw(bytes)
  }

  @inline(__always)
  func binary(_ bytes: UnsafeRawBufferPointer) {
    head(bytes.count, 0xc4, 0xc5, 0xc6)
    raw(bytes)
  }

  func headers(_ headers: [KeyValue]) {
    map(headers.count)
    for header in headers {
      text(header.key)
      text(header.value)
    }
  }

  // MARK: Bytes

  /// A type with the length behind it in 1 (where there is such a type), 2 or 4 bytes.
  private func head(_ count: Int, _ one: UInt8?, _ two: UInt8, _ four: UInt8) {
    if let one, count < 0x100 {
      word(one, UInt8(truncatingIfNeeded: count))
    } else if count < 0x1_0000 {
      word(two, UInt16(truncatingIfNeeded: count))
    } else {
      word(four, UInt32(truncatingIfNeeded: count))
    }
  }

  @inline(__always)
  private func byte(_ byte: UInt8) {
    room(1).storeBytes(of: byte, as: UInt8.self)
    byteCount &+= 1
  }

  @inline(__always)
  private func word<Word: FixedWidthInteger>(_ type: UInt8, _ number: Word) {
    let size = 1 &+ MemoryLayout<Word>.size
    let place = room(size)
    place.storeBytes(of: type, as: UInt8.self)
    (place + 1).storeBytes(of: number.bigEndian, as: Word.self)
    byteCount &+= size
  }

  @inline(__always)
  private func raw(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    memcpy(room(bytes.count), start, bytes.count)
    byteCount &+= bytes.count
  }

  @inline(__always)
  private func room(_ count: Int) -> UnsafeMutableRawPointer {
    if byteCount &+ count > capacity { grow(by: count) }
    return memory + byteCount
  }

  @inline(never)
  private func grow(by count: Int) {
    capacity = max(2 * capacity, byteCount + count)
    let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    memcpy(larger, memory, byteCount)
    memory.deallocate()
    memory = larger
  }
}
