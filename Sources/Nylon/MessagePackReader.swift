// Reads MessagePack in place: only what our messages have is looked at, the rest is checked and skipped.
import Glibc

/// One value of a message, in place: valid as long as the bytes.
struct PackedValue {
  /// What it is.
  enum Kind: UInt8 {
    case null, boolean, unsigned, negative, float, text, binary, array, map, other
  }

  var kind: Kind
  /// The number of `unsigned`, the bits of `negative`, the entries of `map`.
  var number: UInt64 = 0
  /// The content of `text` and `binary`, the entries of `map`.
  var raw = UnsafeRawBufferPointer(start: nil, count: 0)

  var isNil: Bool { kind == .null }

  /// The bytes of a text, nil for any other type.
  @inline(__always)
  var text: UnsafeRawBufferPointer? { kind == .text ? raw : nil }

  /// The bytes of a text or of a binary, nil for any other type. Languages without a
  /// binary type send bytes as text.
  @inline(__always)
  var bytes: UnsafeRawBufferPointer? { kind == .text || kind == .binary ? raw : nil }

  /// The number that is not negative, nil for any other type.
  @inline(__always)
  var unsigned: UInt64? { kind == .unsigned ? number : nil }

  /// The entries of a map, nil for any other type.
  var map: PackedMap? { kind == .map ? PackedMap(raw: raw, count: Int(number)) : nil }

  /// What it is, for error messages; never the value, which may be a secret.
  var kindText: String {
    switch kind {
    case .null: "nil"
    case .boolean: "a boolean"
    case .unsigned: "the integer \(number)"
    case .negative: "the integer \(Int64(bitPattern: number))"
    case .float: "a floating-point number"
    case .text: "a text of \(raw.count) bytes"
    case .array: "an array"
    case .map: "a map"
    case .binary: "\(raw.count) bytes"
    case .other: "an extension type"
    }
  }
}

/// The entries of a map that was checked, in place.
struct PackedMap {
  var raw = UnsafeRawBufferPointer(start: nil, count: 0)
  var count = 0

  /// The value of the first entry whose key is that text and whose value is a text.
  func text(_ name: StaticString) -> UnsafeRawBufferPointer? {
    guard count > 0, var reader = PackedReader(raw) else { return nil }
    for _ in 0..<count {
      guard let key = reader.next(), let value = reader.next() else { return nil }
      if key.text?.equals(name) == true { return value.text }
    }
    return nil
  }

  /// All entries whose key and value are texts.
  var texts: [KeyValue] {
    guard count > 0, var reader = PackedReader(raw) else { return [] }
    return (0..<count).compactMap { _ in
      guard let key = reader.next(), let value = reader.next(), let name = key.text, let text = value.text
      else { return nil }
      return KeyValue(key: name.string, value: text.string)
    }
  }
}

/// Reads values one after the other, each checked as a whole, containers and all that is in them.
struct PackedReader {
  private var at: UnsafeRawPointer
  private let end: UnsafeRawPointer

  /// nil when there are no bytes.
  @inline(__always)
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return nil }
    at = start
    end = start + bytes.count
  }

  var isAtEnd: Bool { at >= end }

  /// Steps into the map that comes next; its entries, nil when it is none.
  @inline(__always)
  mutating func enterMap() -> Int? {
    guard at < end else { return nil }
    let type = at.load(as: UInt8.self)
    guard type & 0xf0 == 0x80 || type == 0xde || type == 0xdf else { return nil }
    let head = PackedHead(at: at, left: end - at)
    guard head.byteCount > 0, head.elementCount <= end - at - head.byteCount else { return nil }
    at += head.byteCount
    return head.elementCount / 2
  }

  /// The next value; nil when the bytes are not one.
  @inline(__always)
  mutating func next() -> PackedValue? {
    let left = end - at
    guard left > 0 else { return nil }
    let start = at
    let type = start.load(as: UInt8.self)
    // Short texts and small numbers are nearly all there is.
    if type & 0xe0 == 0xa0 {
      let count = Int(type & 0x1f)
      guard count < left else { return nil }
      at += 1 + count
      return PackedValue(kind: .text, raw: UnsafeRawBufferPointer(start: start + 1, count: count))
    }
    if type < 0x80 {
      at += 1
      return PackedValue(kind: .unsigned, number: UInt64(type))
    }
    return nextOther(start, type, left: left)
  }

  private mutating func nextOther(_ start: UnsafeRawPointer, _ type: UInt8, left: Int) -> PackedValue? {
    let head = PackedHead(at: start, left: left)
    guard head.byteCount > 0, head.byteCount <= left else { return nil }
    at += head.byteCount
    func content(_ lengthBytes: Int) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(start: start + 1 + lengthBytes, count: head.byteCount - 1 - lengthBytes)
    }
    switch type {
    case 0xc4, 0xc5, 0xc6: return PackedValue(kind: .binary, raw: content(1 << Int(type - 0xc4)))
    case 0xd9, 0xda, 0xdb: return PackedValue(kind: .text, raw: content(1 << Int(type - 0xd9)))
    case 0xcc: return PackedValue(kind: .unsigned, number: UInt64((start + 1).load(as: UInt8.self)))
    case 0xcd: return PackedValue(kind: .unsigned, number: UInt64(Self.word(start, UInt16.self)))
    case 0xce: return PackedValue(kind: .unsigned, number: UInt64(Self.word(start, UInt32.self)))
    case 0xcf: return PackedValue(kind: .unsigned, number: Self.word(start, UInt64.self))
    case 0xd0, 0xd1, 0xd2, 0xd3, 0xe0...0xff: return Self.signed(start, type)
    case 0xc0: return PackedValue(kind: .null)
    case 0xc2, 0xc3: return PackedValue(kind: .boolean)
    case 0xca, 0xcb: return PackedValue(kind: .float)
    case 0x80...0x9f, 0xdc...0xdf: return container(type, head)
    default: return PackedValue(kind: .other)
    }
  }

  private mutating func container(_ type: UInt8, _ head: PackedHead) -> PackedValue? {
    let entries = at
    guard let size = packedSize(ofElements: head.elementCount, at: at, left: end - at) else { return nil }
    at += size
    let isMap = type & 0xf0 == 0x80 || type >= 0xde
    return PackedValue(
      kind: isMap ? .map : .array, number: UInt64(isMap ? head.elementCount / 2 : head.elementCount),
      raw: UnsafeRawBufferPointer(start: entries, count: size))
  }

  @inline(__always)
  private static func word<Word: FixedWidthInteger>(_ start: UnsafeRawPointer, _ type: Word.Type) -> Word {
    Word(bigEndian: (start + 1).loadUnaligned(as: Word.self))
  }

  private static func signed(_ start: UnsafeRawPointer, _ type: UInt8) -> PackedValue {
    let number: Int64
    switch type {
    case 0xd0: number = Int64((start + 1).load(as: Int8.self))
    case 0xd1: number = Int64(word(start, Int16.self))
    case 0xd2: number = Int64(word(start, Int32.self))
    case 0xd3: number = word(start, Int64.self)
    default: number = Int64(Int8(bitPattern: type))
    }
    return PackedValue(kind: number < 0 ? .negative : .unsigned, number: UInt64(bitPattern: number))
  }
}

extension UnsafeRawBufferPointer {
  /// Whether the bytes are this text, without making a String.
  @inline(__always)
  func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    guard let baseAddress, count > 0 else { return true }
    return memcmp(baseAddress, text.utf8Start, count) == 0
  }

  var string: String { String(decoding: self, as: UTF8.self) }
}

/// The keys of requests and responses.
enum MessageKey {
  case version, requestID, sessionID, phase, action, method, data, timestamp, error, headers

  /// The key of that name, nil for one to skip.
  @inline(__always)
  init?(_ value: PackedValue) {
    guard let name = value.text else { return nil }
    // By length first: two comparisons at most.
    switch name.count {
    case 4 where name.equals("data"): self = .data
    case 5 where name.equals("phase"): self = .phase
    case 5 where name.equals("error"): self = .error
    case 6 where name.equals("action"): self = .action
    case 6 where name.equals("method"): self = .method
    case 7 where name.equals("version"): self = .version
    case 7 where name.equals("headers"): self = .headers
    case 9 where name.equals("timestamp"): self = .timestamp
    case 10 where name.equals("request_id"): self = .requestID
    case 10 where name.equals("session_id"): self = .sessionID
    default: return nil
    }
  }
}
