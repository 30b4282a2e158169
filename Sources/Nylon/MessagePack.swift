// MessagePack reader and writer. The reader interprets only the types that messages use; it checks and skips
// the rest.
import Glibc

/// One value of a message, read in place: valid as long as the bytes.
struct PackedValue {
  enum Kind: UInt8 {
    case null, boolean, unsigned, negative, float, text, binary, array, map, other
  }

  var kind: Kind
  /// The number of `unsigned`, the bits of `negative`, or the number of entries of `map`.
  var number: UInt64 = 0
  /// The content of `text` and `binary`, or the keys and values of `map`.
  var raw = UnsafeRawBufferPointer(start: nil, count: 0)

  /// The bytes of a text; nil for any other type.
  @inline(__always)
  var text: UnsafeRawBufferPointer? { kind == .text ? raw : nil }

  /// The bytes of a text or a binary; nil for any other type. Languages without a binary type send bytes as
  /// text.
  @inline(__always)
  var bytes: UnsafeRawBufferPointer? { kind == .text || kind == .binary ? raw : nil }

  /// The number; nil if it is negative or the value has another type.
  @inline(__always)
  var unsigned: UInt64? { kind == .unsigned ? number : nil }

  /// The type, for error messages; never the content, which may be a secret.
  var kindText: String {
    switch kind {
    case .null: "nil"
    case .boolean: "a boolean"
    case .unsigned: "the integer \(number)"
    case .negative: "the integer \(Int64(bitPattern: number))"
    case .float: "a floating-point number"
    case .text: "a string of \(raw.count) bytes"
    case .array: "an array"
    case .map: "a map"
    case .binary: "\(raw.count) bytes"
    case .other: "an extension type"
    }
  }

  /// Returns the text value of the first entry of a map with a key; nil if it is absent or not a text.
  func text(of name: StaticString) -> UnsafeRawBufferPointer? {
    guard number > 0, var reader = PackedReader(raw) else { return nil }
    for _ in 0..<number {
      guard let key = reader.next(), let value = reader.next() else { return nil }
      if key.text?.equals(name) == true { return value.text }
    }
    return nil
  }

  /// The entries of a map whose key and value are texts.
  var texts: [KeyValue] {
    guard number > 0, var reader = PackedReader(raw) else { return [] }
    return (0..<number).compactMap { _ in
      guard let key = reader.next(), let value = reader.next(), let name = key.text, let text = value.text
      else { return nil }
      return KeyValue(key: name.string, value: text.string)
    }
  }
}

/// Reads one value after another, validating each one completely, including nested containers.
struct PackedReader {
  /// The maximum nesting depth; messages of the interface need two levels.
  private static let depthMost = 16

  private var at: UnsafeRawPointer
  private let end: UnsafeRawPointer
  private var depth = 0

  /// Returns nil if there are no bytes.
  @inline(__always)
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return nil }
    at = start
    end = start + bytes.count
  }

  var isAtEnd: Bool { at >= end }

  /// Enters the map that comes next. Returns the number of its entries, or nil if the value is not a map.
  @inline(__always)
  mutating func enterMap() -> Int? {
    guard let type = number(1).map({ UInt8(truncatingIfNeeded: $0) }), Self.isMap(type) else { return nil }
    return entries(type)
  }

  /// Reads the next value; returns nil if the bytes are malformed.
  @inline(__always)
  mutating func next() -> PackedValue? {
    guard at < end else { return nil }
    let type = at.load(as: UInt8.self)
    at += 1
    // Short texts and small numbers are the most frequent values.
    if type & 0xe0 == 0xa0 { return content(.text, Int(type & 0x1f)) }
    if type < 0x80 { return PackedValue(kind: .unsigned, number: UInt64(type)) }
    return nextOther(type)
  }

  private mutating func nextOther(_ type: UInt8) -> PackedValue? {
    switch type {
    case 0x80...0x9f, 0xdc...0xdf: container(type)
    case 0xc0: PackedValue(kind: .null)
    case 0xc2, 0xc3: PackedValue(kind: .boolean)
    case 0xc4, 0xc5, 0xc6: sized(.binary, lengthBytes: 1 << Int(type - 0xc4))
    // An extension has its own type byte between length and content.
    case 0xc7, 0xc8, 0xc9: sized(.other, lengthBytes: 1 << Int(type - 0xc7), more: 1)
    case 0xd4...0xd8: content(.other, 1 + 1 << Int(type - 0xd4))
    case 0xca, 0xcb: content(.float, type == 0xca ? 4 : 8)
    case 0xcc...0xcf: number(1 << Int(type - 0xcc)).map { PackedValue(kind: .unsigned, number: $0) }
    case 0xd0...0xd3: signed(1 << Int(type - 0xd0))
    case 0xd9, 0xda, 0xdb: sized(.text, lengthBytes: 1 << Int(type - 0xd9))
    case 0xe0...0xff:
      PackedValue(kind: .negative, number: UInt64(bitPattern: Int64(Int8(bitPattern: type))))
    default: nil
    }
  }

  private mutating func container(_ type: UInt8) -> PackedValue? {
    guard let count = entries(type), count == 0 || depth < Self.depthMost else { return nil }
    let start = at
    let isMap = Self.isMap(type)
    depth += 1
    for _ in 0..<(isMap ? 2 * count : count) {
      guard next() != nil else { return nil }
    }
    depth -= 1
    return PackedValue(
      kind: isMap ? .map : .array, number: UInt64(count),
      raw: UnsafeRawBufferPointer(start: start, count: at - start))
  }

  private static func isMap(_ type: UInt8) -> Bool { type & 0xf0 == 0x80 || type == 0xde || type == 0xdf }

  /// Reads the number of entries of a map or elements of an array. Each takes at least one byte, which bounds
  /// the cost of a hostile count.
  @inline(__always)
  private mutating func entries(_ type: UInt8) -> Int? {
    let count = type < 0xa0 ? Int(type & 0x0f) : number(type & 1 == 0 ? 2 : 4).map { Int($0) }
    guard let count, Self.isMap(type) ? 2 * count <= end - at : count <= end - at else { return nil }
    return count
  }

  @inline(__always)
  private mutating func content(_ kind: PackedValue.Kind, _ count: Int) -> PackedValue? {
    guard count <= end - at else { return nil }
    defer { at += count }
    return PackedValue(kind: kind, raw: UnsafeRawBufferPointer(start: at, count: count))
  }

  /// Reads the length and as many bytes of content.
  private mutating func sized(
    _ kind: PackedValue.Kind, lengthBytes: Int, more: Int = 0
  ) -> PackedValue? {
    number(lengthBytes).flatMap { content(kind, Int($0) + more) }
  }

  /// Reads a big-endian number of `width` bytes.
  @inline(__always)
  private mutating func number(_ width: Int) -> UInt64? {
    guard width <= end - at else { return nil }
    defer { at += width }
    return switch width {
    case 1: UInt64(at.load(as: UInt8.self))
    case 2: UInt64(UInt16(bigEndian: at.loadUnaligned(as: UInt16.self)))
    case 4: UInt64(UInt32(bigEndian: at.loadUnaligned(as: UInt32.self)))
    default: UInt64(bigEndian: at.loadUnaligned(as: UInt64.self))
    }
  }

  private mutating func signed(_ width: Int) -> PackedValue? {
    guard let bits = number(width) else { return nil }
    let shift = 64 - 8 * width
    let number = Int64(bitPattern: bits << shift) >> shift
    return PackedValue(kind: number < 0 ? .negative : .unsigned, number: UInt64(bitPattern: number))
  }
}

extension UnsafeRawBufferPointer {
  /// Whether the bytes equal a text, compared without creating a String.
  @inline(__always)
  func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    guard let baseAddress, count > 0 else { return true }
    return memcmp(baseAddress, text.utf8Start, count) == 0
  }

  var string: String { String(decoding: self, as: UTF8.self) }
}

/// Packs MessagePack into a buffer that is reused for each message.
///
/// It replaces msgpack-c, whose function calls for each piece of each value took a fifth of a worker's time.
/// The tests read its output with msgpack-c.
final class MessagePackWriter {
  /// The start of the buffer.
  private(set) var memory: UnsafeMutableRawPointer
  private var capacity = 512
  private(set) var byteCount = 0

  init() { memory = .allocate(byteCount: capacity, alignment: 16) }

  deinit { memory.deallocate() }

  /// The bytes packed so far, valid until the next call.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: byteCount) }

  /// A copy of the packed bytes, which may outlive the writer.
  var copy: [UInt8] { withExtendedLifetime(self) { [UInt8](bytes) } }

  // MARK: Messages

  /// Begins a message: a map of at most 15 entries.
  @inline(__always)
  func beginMessage() {
    byteCount = 0
    map(0)
  }

  /// Adds an entry to the message's map unless the value is nil.
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

  func null() { byte(0xc0) }

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

  /// Writes a type and a length of 1 (if the type exists), 2 or 4 bytes.
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

  /// Writes a type and a number of fixed width.
  @inline(__always)
  func word<Word: FixedWidthInteger>(_ type: UInt8, _ number: Word) {
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
