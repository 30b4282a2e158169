/// Levels of nesting that are let through; our messages have two.
private let depthMost = 16

/// Bytes of so many values one after the other, containers with all that is in them; nil when there are not
/// so many whole ones.
///
/// A container must have at least one byte per element left, so that hostile counts cost nothing, and
/// nesting is bounded.
func packedSize(ofElements elements: Int, at start: UnsafeRawPointer, left count: Int) -> Int? {
  guard elements <= count else { return nil }
  // `open[d]`: elements that level d still waits for. A tuple would be slower to index.
  return withUnsafeTemporaryAllocation(of: Int.self, capacity: depthMost) { open in
    var depth = 0
    var offset = 0
    open[0] = elements
    while true {
      while open[depth] == 0 {
        if depth == 0 { return offset }
        depth -= 1
      }
      open[depth] -= 1
      guard offset < count else { return nil }
      let head = PackedHead(at: start + offset, left: count - offset)
      guard head.byteCount > 0, head.byteCount <= count - offset else { return nil }
      offset += head.byteCount
      if head.elementCount > 0 {
        guard head.elementCount <= count - offset, depth + 1 < depthMost else { return nil }
        depth += 1
        open[depth] = head.elementCount
      }
    }
  }
}

/// The size of one object without its elements, and how many elements follow it.
struct PackedHead {
  /// Bytes of type, length and content; 0 when the type does not exist or the length is cut off.
  var byteCount: Int
  /// Elements of an array; twice the entries of a map; else 0.
  var elementCount = 0

  @inline(__always)
  init(at start: UnsafeRawPointer, left: Int) {
    let type = start.load(as: UInt8.self)
    switch type {
    case 0x00...0x7f, 0xe0...0xff, 0xc0, 0xc2, 0xc3: byteCount = 1
    case 0x80...0x8f:
      byteCount = 1
      elementCount = Int(type & 0x0f) * 2
    case 0x90...0x9f:
      byteCount = 1
      elementCount = Int(type & 0x0f)
    case 0xa0...0xbf: byteCount = 1 + Int(type & 0x1f)
    case 0xc4, 0xd9: byteCount = PackedHead.sized(start, left, lengthBytes: 1)
    case 0xc5, 0xda: byteCount = PackedHead.sized(start, left, lengthBytes: 2)
    case 0xc6, 0xdb: byteCount = PackedHead.sized(start, left, lengthBytes: 4)
    case 0xc7, 0xc8, 0xc9:
      // An extension has its own type byte between length and content.
      byteCount = PackedHead.sized(start, left, lengthBytes: 1 << Int(type - 0xc7))
      byteCount += byteCount > 0 ? 1 : 0
    case 0xcc, 0xd0: byteCount = 2
    case 0xcd, 0xd1: byteCount = 3
    case 0xca, 0xce, 0xd2: byteCount = 5
    case 0xcb, 0xcf, 0xd3: byteCount = 9
    case 0xd4...0xd8: byteCount = 2 + (1 << Int(type - 0xd4))
    case 0xdc, 0xdd, 0xde, 0xdf:
      let lengthBytes = type & 1 == 0 ? 2 : 4
      byteCount = lengthBytes < left ? 1 + lengthBytes : 0
      guard byteCount > 0 else { return }
      elementCount = PackedHead.length(start, lengthBytes) * (type >= 0xde ? 2 : 1)
    default: byteCount = 0
    }
  }

  @inline(__always)
  private static func sized(_ start: UnsafeRawPointer, _ left: Int, lengthBytes: Int) -> Int {
    lengthBytes < left ? 1 + lengthBytes + length(start, lengthBytes) : 0
  }

  @inline(__always)
  private static func length(_ start: UnsafeRawPointer, _ lengthBytes: Int) -> Int {
    switch lengthBytes {
    case 1: Int((start + 1).load(as: UInt8.self))
    case 2: Int(UInt16(bigEndian: (start + 1).loadUnaligned(as: UInt16.self)))
    default: Int(UInt32(bigEndian: (start + 1).loadUnaligned(as: UInt32.self)))
    }
  }
}
