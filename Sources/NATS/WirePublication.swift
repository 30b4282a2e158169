import Glibc

/// A publication in wire format: `PUB subject 312`, CR LF, the payload, CR LF.
package enum WirePublication {
  /// The maximum number of digits of a 64-bit number.
  package static let mostDigits = 20

  /// The maximum size in bytes.
  @inlinable @inline(__always)
  package static func byteCount(subject: Int, payload: Int) -> Int {
    4 + subject + 1 + mostDigits + 2 + payload + 2
  }

  /// Writes the publication and returns its size in bytes.
  @inlinable @inline(__always)
  package static func write(
    _ payload: UnsafeRawBufferPointer, to subject: UnsafeRawBufferPointer, at place: UnsafeMutableRawPointer
  ) -> Int {
    place.storeBytes(of: UInt32(bigEndian: 0x5055_4220), as: UInt32.self)  // "PUB "
    var end = place + 4
    if let start = subject.baseAddress { memcpy(end, start, subject.count) }
    end += subject.count
    end.storeBytes(of: 0x20, as: UInt8.self)
    end = decimal(UInt64(payload.count), at: end + 1)
    end.storeBytes(of: UInt16(bigEndian: 0x0D0A), as: UInt16.self)
    end += 2
    if let start = payload.baseAddress { memcpy(end, start, payload.count) }
    end += payload.count
    end.storeBytes(of: UInt16(bigEndian: 0x0D0A), as: UInt16.self)
    return end + 2 - place
  }

  /// Writes a number in decimal and returns the address after it.
  @inlinable @inline(__always)
  package static func decimal(_ number: UInt64, at place: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer
  {
    var digits = 1
    var rest = number / 10
    while rest > 0 {
      digits += 1
      rest /= 10
    }
    rest = number
    var digit = digits
    while digit > 0 {
      digit -= 1
      place.storeBytes(of: UInt8(truncatingIfNeeded: 48 + rest % 10), toByteOffset: digit, as: UInt8.self)
      rest /= 10
    }
    return place + digits
  }
}
