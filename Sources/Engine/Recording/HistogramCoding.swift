import CZlib
import Foundation

/// The reason why text is not an encoded histogram of this suite.
struct HistogramCodingError: Error, CustomStringConvertible {
  /// The problem, including the offending value.
  var problem: String

  init(_ problem: String) { self.problem = problem }

  var description: String {
    "not a histogram of 3 significant digits from 1 ns to 60 s in HdrHistogram's V2 compressed "
      + "encoding: \(problem); the file was damaged or made by another tool, so measure again"
  }
}

private enum Layout {
  static let plainCookie: UInt32 = 0x1c84_9303 | 0x10
  static let compressedCookie: UInt32 = 0x1c84_9304 | 0x10
  static let headerBytes = 40
  static let bytesPerCounter = 9
  static let greatestPlainBytes = headerBytes + HistogramGeometry.counterCount * bytesPerCounter
  /// More than zlib can produce from the largest plain form.
  static let greatestEncodedBytes = 2 * greatestPlainBytes
}

extension LatencyHistogram {
  /// The counters in HdrHistogram's V2 compressed encoding, base64.
  ///
  /// Contains only the counts: the format has no exact sum, least or greatest value.
  package func hdrBase64() -> String {
    let plain = plainEncoding()
    var length = compressBound(uLong(plain.count))
    var packed = [UInt8](repeating: 0, count: Int(length))
    // `compress2` into `compressBound` bytes fails only when memory runs out.
    let status = compress2(&packed, &length, plain, uLong(plain.count), Z_DEFAULT_COMPRESSION)
    precondition(status == Z_OK, "zlib could not compress \(plain.count) bytes: status \(status)")
    let head = bigEndian(Layout.compressedCookie) + bigEndian(UInt32(length))
    return Data(head + packed[0..<Int(length)]).base64EncodedString()
  }

  /// Reads counters from HdrHistogram's V2 compressed encoding, base64.
  ///
  /// Sum, least and greatest value are derived from the counters, so they are exact to 3 digits only. Throws
  /// `HistogramCodingError`; no input makes it crash or use more than some hundred kilobytes.
  package init(hdrBase64 text: String) throws {
    guard text.utf8.count <= Layout.greatestEncodedBytes * 2 else {
      throw HistogramCodingError("it is \(text.utf8.count) characters long")
    }
    guard let data = Data(base64Encoded: text) else { throw HistogramCodingError("it is not base64") }
    var reader = ByteReader(bytes: [UInt8](data))
    let cookie = try reader.read(UInt32.self)
    guard cookie == Layout.compressedCookie else {
      throw HistogramCodingError("its cookie is 0x\(String(cookie, radix: 16))")
    }
    let length = try reader.read(UInt32.self)
    guard Int(length) == reader.remaining.count else {
      throw HistogramCodingError("it promises \(length) bytes and has \(reader.remaining.count)")
    }
    var plain = [UInt8](repeating: 0, count: Layout.greatestPlainBytes)
    var plainLength = uLong(plain.count)
    let status = uncompress(&plain, &plainLength, Array(reader.remaining), uLong(length))
    guard status == Z_OK else { throw HistogramCodingError("its zlib stream is damaged (status \(status))") }
    try self.init(plain: Array(plain[0..<Int(plainLength)]))
  }

  private func plainEncoding() -> [UInt8] {
    let payload = counterPayload()
    let words = [Layout.plainCookie, UInt32(payload.count), 0, UInt32(HistogramGeometry.significantDigits)]
    let range = [HistogramGeometry.lowestNanoseconds, HistogramGeometry.highestNanoseconds]
    return words.flatMap(bigEndian) + (range + [(1.0).bitPattern]).flatMap(bigEndian) + payload
  }

  private func counterPayload() -> [UInt8] {
    let end = filled.upperBound
    var bytes: [UInt8] = []
    var index = 0
    while index < end {
      guard counters[index] == 0 else {
        bytes.appendZigZag(Int64(clamping: counters[index]))
        index += 1
        continue
      }
      let start = index
      while counters[index] == 0 { index += 1 }
      // A single zero is encoded as 0; a run of zeros as its negative length.
      bytes.appendZigZag(index - start == 1 ? 0 : -Int64(index - start))
    }
    return bytes
  }

  /// Parses the decompressed form that `init(hdrBase64:)` produces.
  package init(plain: [UInt8]) throws {
    var reader = ByteReader(bytes: plain)
    let cookie = try reader.read(UInt32.self)
    let payloadLength = try reader.read(UInt32.self)
    let offset = try reader.read(UInt32.self)
    let digits = try reader.read(UInt32.self)
    let lowest = try reader.read(UInt64.self)
    let highest = try reader.read(UInt64.self)
    _ = try reader.read(UInt64.self)
    guard cookie == Layout.plainCookie else {
      throw HistogramCodingError("its inner cookie is 0x\(String(cookie, radix: 16))")
    }
    guard offset == 0, digits == HistogramGeometry.significantDigits,
      lowest == HistogramGeometry.lowestNanoseconds, highest == HistogramGeometry.highestNanoseconds
    else {
      throw HistogramCodingError(
        "it has offset \(offset), \(digits) digits and the range \(lowest) to \(highest)")
    }
    guard Int(payloadLength) == reader.remaining.count else {
      throw HistogramCodingError(
        "its payload promises \(payloadLength) bytes and has \(reader.remaining.count)")
    }
    self.init()
    var index = 0
    while !reader.remaining.isEmpty {
      let number = try reader.readZigZag()
      let step = number < 0 ? number.magnitude : 1
      guard step <= UInt64(HistogramGeometry.counterCount - index) else {
        throw HistogramCodingError("it has over \(HistogramGeometry.counterCount) counters")
      }
      if number > 0 {
        guard UInt64(number) <= UInt64(Int64.max) - count else {
          throw HistogramCodingError("its counters overflow")
        }
        let value = min(HistogramGeometry.highestValue(at: index), HistogramGeometry.highestNanoseconds)
        guard HistogramGeometry.index(of: value) == index else {
          throw HistogramCodingError("it counts values over 60 s")
        }
        record(value, times: UInt64(number))
      }
      index += Int(step)
    }
  }
}

private struct ByteReader {
  private let bytes: [UInt8]
  private var place = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  var remaining: ArraySlice<UInt8> { bytes[place...] }

  mutating func read<Word: FixedWidthInteger>(_: Word.Type) throws -> Word {
    try (0..<Word.bitWidth / 8).reduce(Word(0)) { word, _ in (word << 8) | Word(try readByte()) }
  }

  private mutating func readByte() throws -> UInt8 {
    guard place < bytes.count else { throw HistogramCodingError("it ends too early") }
    defer { place += 1 }
    return bytes[place]
  }

  /// Reads a zigzag LEB128 number; the ninth byte, if there is one, holds 8 bits.
  mutating func readZigZag() throws -> Int64 {
    var bits: UInt64 = 0
    for place in 0..<Layout.bytesPerCounter {
      let byte = try readByte()
      let isLast = place == Layout.bytesPerCounter - 1
      bits |= UInt64(isLast ? byte : byte & 0x7f) << UInt64(7 * place)
      if isLast || byte & 0x80 == 0 { break }
    }
    return Int64(bitPattern: (bits >> 1) ^ (0 &- (bits & 1)))
  }
}

private func bigEndian(_ word: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: word.bigEndian) { Array($0) }
}

extension [UInt8] {
  fileprivate mutating func appendZigZag(_ number: Int64) {
    var bits = UInt64(bitPattern: (number << 1) ^ (number >> 63))
    for _ in 0..<(Layout.bytesPerCounter - 1) {
      guard bits > 0x7f else { break }
      append(UInt8(bits & 0x7f) | 0x80)
      bits >>= 7
    }
    append(UInt8(truncatingIfNeeded: bits))
  }
}

extension LatencyHistogram: Codable {
  /// The stored form of a histogram of times.
  private struct Stored: Codable {
    /// The counters in HdrHistogram's V2 compressed encoding, base64; their values are nanoseconds.
    let hdr: String
    /// Values in the histogram.
    let count: UInt64
    /// The exact sum of the values, and the exact least and greatest value, 0 without values.
    let sum_ns, least_ns, greatest_ns: UInt64
    /// Values over 60 s, which are counted as 60 s.
    let clamped: UInt64
  }

  /// Throws `DecodingError.dataCorrupted` when the counters contradict the other figures.
  package init(from decoder: any Decoder) throws {
    let stored = try Stored(from: decoder)
    func fail(_ problem: String) -> DecodingError {
      .dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: problem))
    }
    do {
      try self.init(hdrBase64: stored.hdr)
    } catch let error as HistogramCodingError {
      throw fail(error.description)
    }
    guard stored.count == count else {
      throw fail("a histogram says that it has \(stored.count) values, and its counters have \(count)")
    }
    let places = filled
    sumNanoseconds = stored.sum_ns
    leastNanoseconds = stored.least_ns
    greatestNanoseconds = stored.greatest_ns
    clampedCount = stored.clamped
    if let problem = disagreement(with: places) { throw fail(problem) }
  }

  package func encode(to encoder: any Encoder) throws {
    try Stored(
      hdr: hdrBase64(), count: count, sum_ns: sumNanoseconds, least_ns: leastNanoseconds,
      greatest_ns: greatestNanoseconds, clamped: clampedCount
    ).encode(to: encoder)
  }

  /// Describes how the other figures contradict the counters; nil when they agree.
  ///
  /// - Parameter places: the range from the first non-zero counter to the last.
  private func disagreement(with places: Range<Int>) -> String? {
    guard let first = places.first, let last = places.last else {
      return sumNanoseconds | leastNanoseconds | greatestNanoseconds | clampedCount == 0
        ? nil : "a histogram without values has a sum, a least or a greatest value"
    }
    func place(_ value: UInt64) -> Int {
      HistogramGeometry.index(of: min(value, HistogramGeometry.highestNanoseconds))
    }
    guard place(leastNanoseconds) == first, place(greatestNanoseconds) == last,
      leastNanoseconds <= greatestNanoseconds
    else {
      return "a histogram's least (\(leastNanoseconds) ns) or greatest value "
        + "(\(greatestNanoseconds) ns) is not where its counters begin and end"
    }
    guard clampedCount <= counters[last],
      clampedCount == 0 || greatestNanoseconds > HistogramGeometry.highestNanoseconds
    else { return "a histogram says that \(clampedCount) values are over 60 s, and its counters do not" }
    // The sum wraps at 64 bits, so a product that overflows proves nothing.
    let (atLeast, leastOverflows) = leastNanoseconds.multipliedReportingOverflow(by: count)
    let (atMost, greatestOverflows) = greatestNanoseconds.multipliedReportingOverflow(by: count)
    if !leastOverflows, !greatestOverflows, !(atLeast...atMost).contains(sumNanoseconds) {
      return "a histogram's sum of \(sumNanoseconds) ns is not one that its \(count) values can have"
    }
    return nil
  }
}
