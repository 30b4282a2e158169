/// A worker's own monotonic timestamps of one request in nanoseconds, which show where its time was spent.
///
/// An extension of this package: a request with the message header `nylon-bench-stamps` asks for them. The
/// reply has a header of the same name with the four timestamps in this order, as decimal numbers separated
/// by commas. They can be compared only if host and worker share a clock, that is, run on one machine.
package struct WorkerStamps: Sendable, Equatable {
  /// When the request was read from the worker's socket.
  package var read: UInt64 = 0
  package var begun: UInt64 = 0
  /// When the handler ended.
  package var ended: UInt64 = 0
  /// When the reply was encoded.
  package var packed: UInt64 = 0

  package static let header: StaticString = "nylon-bench-stamps"
  /// The request header that asks for the timestamps.
  package static let question = KeyValue(key: "nylon-bench-stamps", value: "1")
  /// The fixed number of digits of each timestamp, so that the last one can be overwritten.
  static let digits = 20
  /// The size of the header's value, as this package writes it.
  static let byteCount = 4 * digits + 3
}

extension WorkerStamps {
  package init(read: UInt64) { self.init(read: read, begun: 0) }

  /// Parses a header's value; returns nil if it does not consist of exactly four numbers.
  package init?(_ text: UnsafeRawBufferPointer) {
    self.init()
    var place = 0
    guard let read = Self.number(text, &place), let begun = Self.number(text, &place),
      let ended = Self.number(text, &place), let packed = Self.number(text, &place), place > text.count
    else { return nil }
    (self.read, self.begun, self.ended, self.packed) = (read, begun, ended, packed)
  }

  /// Parses the number at `place` and advances `place` past the following comma or past the end.
  @inline(__always)
  private static func number(_ text: UnsafeRawBufferPointer, _ place: inout Int) -> UInt64? {
    let start = place
    var number: UInt64 = 0
    while place < text.count, text[place] != 44 {
      let digit = text[place] &- 48
      let (product, isTooLarge) = number.multipliedReportingOverflow(by: 10)
      let (sum, isTooLargeNow) = product.addingReportingOverflow(UInt64(digit))
      guard digit < 10, !isTooLarge, !isTooLargeNow else { return nil }
      number = sum
      place += 1
    }
    defer { place += 1 }
    return place > start ? number : nil
  }

  /// Writes the header's value, `byteCount` bytes.
  func write(to place: UnsafeMutableRawPointer) {
    for (index, number) in [read, begun, ended, packed].enumerated() {
      let start = place + index * (Self.digits + 1)
      if index > 0 { (start - 1).storeBytes(of: 44, as: UInt8.self) }
      start.writeDecimal(number, digits: Self.digits, endsAt: Self.digits)
    }
  }
}

extension UnsafeMutableRawPointer {
  /// Writes the last `digits` digits of a number, ending before offset `end`.
  @inlinable
  package func writeDecimal<Number: FixedWidthInteger>(_ number: Number, digits: Int, endsAt end: Int) {
    var rest = number
    for offset in stride(from: end - 1, through: end - digits, by: -1) {
      storeBytes(of: UInt8(truncatingIfNeeded: 48 + rest % 10), toByteOffset: offset, as: UInt8.self)
      rest /= 10
    }
  }
}

/// Encodes the answers and calls of workers, and the host's answers to these, in a reused buffer: the hot
/// path of both sides. Each thread has its own encoder.
package final class ReplyEncoder {
  private let writer = MessagePackWriter()
  private var stampsEnd: Int?
  /// Whether absent `data` is written as nil; otherwise it is omitted.
  private let writesNilData: Bool

  package init(writesNilData: Bool = false) { self.writesNilData = writesNilData }

  /// Encodes a message, valid until the next call. Values that are nil and a missing action are omitted; call
  /// `stampPacked` to set the last of the `stamps`.
  package func encode(
    requestID: RequestIDView?, sessionID: UInt32?, phase: Phase? = nil, action: ReplyAction = .missing,
    method: UInt32? = nil, data: UnsafeRawBufferPointer? = nil, error: String? = nil,
    stamps: WorkerStamps? = nil
  ) -> UnsafeRawBufferPointer {
    writer.beginMessage()
    writer.entry("version", 1) { writer.unsigned($0) }
    writer.entry("request_id", requestID) { writer.requestID($0) }
    writer.entry("session_id", sessionID) { writer.unsigned(UInt64($0)) }
    writer.entry("phase", phase) { writer.unsigned(UInt64($0.rawValue)) }
    writer.entry("action", action.text) { writer.key($0) }
    writer.entry("method", method) { writer.unsigned(UInt64($0)) }
    writer.entry("data", data) { writer.binary($0) }
    if data == nil, writesNilData { writer.entry("data", ()) { writer.null() } }
    writer.entry("error", error) { writer.text($0) }
    stampsEnd = nil
    writer.entry("headers", stamps) { stamps in
      writer.map(1)
      writer.key(WorkerStamps.header)
      withUnsafeTemporaryAllocation(byteCount: WorkerStamps.byteCount, alignment: 1) { text in
        text.baseAddress.map(stamps.write)
        writer.text(UnsafeRawBufferPointer(text))
      }
      stampsEnd = writer.byteCount
    }
    return writer.bytes
  }

  /// Writes the time of encoding, in nanoseconds, into the answer of the last `encode`.
  package func stampPacked(_ nanoseconds: UInt64) {
    guard let stampsEnd else { return }
    writer.memory.writeDecimal(nanoseconds, digits: WorkerStamps.digits, endsAt: stampsEnd)
  }
}
