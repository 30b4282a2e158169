import CMsgpack

/// Takes messages apart with msgpack-c and one reused zone: no allocation in steady state.
///
/// What it gives is valid until its next `read`, and as long as the bytes.
final class MessagePackReader {
  private let zone: UnsafeMutablePointer<msgpack_zone>

  init() {
    guard let zone = msgpack_zone_new(8192) else { preconditionFailure("out of memory: msgpack zone") }
    self.zone = zone
  }

  deinit { msgpack_zone_free(zone) }

  /// The entries of the map, or nil when the bytes are not exactly one map.
  func read(_ bytes: UnsafeRawBufferPointer) -> UnsafeBufferPointer<msgpack_object_kv>? {
    guard isOneMap(bytes) else { return nil }
    msgpack_zone_clear(zone)
    var root = msgpack_object()
    var offset = 0
    let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
    let result = msgpack_unpack(start, bytes.count, &offset, zone, &root)
    guard result == MSGPACK_UNPACK_SUCCESS, offset == bytes.count else { return nil }
    return root.map
  }
}

extension msgpack_object {
  var isNil: Bool { type == MSGPACK_OBJECT_NIL }

  /// The bytes of a text, nil for any other type.
  var text: UnsafeRawBufferPointer? {
    guard type == MSGPACK_OBJECT_STR else { return nil }
    return UnsafeRawBufferPointer(start: via.str.ptr, count: Int(via.str.size))
  }

  /// The bytes of a text or of a binary, nil for any other type. Languages without a
  /// binary type send bytes as text.
  var bytes: UnsafeRawBufferPointer? {
    if type == MSGPACK_OBJECT_BIN {
      return UnsafeRawBufferPointer(start: via.bin.ptr, count: Int(via.bin.size))
    }
    return text
  }

  /// The number that is not negative, nil for any other type.
  var unsigned: UInt64? { type == MSGPACK_OBJECT_POSITIVE_INTEGER ? via.u64 : nil }

  /// The entries of a map, nil for any other type.
  var map: UnsafeBufferPointer<msgpack_object_kv>? {
    guard type == MSGPACK_OBJECT_MAP else { return nil }
    return UnsafeBufferPointer(start: via.map.ptr, count: Int(via.map.size))
  }

  /// What it is, for error messages; never the value, which may be a secret.
  var kind: String {
    switch type {
    case MSGPACK_OBJECT_NIL: "nil"
    case MSGPACK_OBJECT_BOOLEAN: "a boolean"
    case MSGPACK_OBJECT_POSITIVE_INTEGER: "the integer \(via.u64)"
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: "the integer \(via.i64)"
    case MSGPACK_OBJECT_FLOAT32, MSGPACK_OBJECT_FLOAT64: "a floating-point number"
    case MSGPACK_OBJECT_STR: "a text of \(via.str.size) bytes"
    case MSGPACK_OBJECT_ARRAY: "an array"
    case MSGPACK_OBJECT_MAP: "a map"
    case MSGPACK_OBJECT_BIN: "\(via.bin.size) bytes"
    default: "an extension type"
    }
  }
}

extension UnsafeRawBufferPointer {
  /// Whether the bytes are this text, without making a String.
  @inline(__always)
  func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    guard let baseAddress, count > 0 else { return true }
    return msgpackKeyCompare(baseAddress, text.utf8Start, count)
  }

  var string: String { String(decoding: self, as: UTF8.self) }
}

@inline(__always)
private func msgpackKeyCompare(
  _ left: UnsafeRawPointer, _ right: UnsafePointer<UInt8>, _ count: Int
) -> Bool {
  for index in 0..<count where left.load(fromByteOffset: index, as: UInt8.self) != right[index] {
    return false
  }
  return true
}

/// The keys of requests and responses.
enum MessageKey {
  case version, requestID, sessionID, phase, action, method, data, timestamp, error, headers

  /// The key of that name, nil for one that is to be skipped.
  @inline(__always)
  init?(_ object: msgpack_object) {
    guard let name = object.text else { return nil }
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
