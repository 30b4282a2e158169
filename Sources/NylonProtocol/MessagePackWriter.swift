import CMsgpack

/// Packs through msgpack-c into one buffer that is kept from message to message.
final class MessagePackWriter {
  private let buffer: UnsafeMutablePointer<msgpack_sbuffer>
  private let packer: UnsafeMutablePointer<msgpack_packer>

  init() {
    buffer = .allocate(capacity: 1)
    packer = .allocate(capacity: 1)
    msgpack_sbuffer_init(buffer)
    msgpack_packer_init(packer, buffer, msgpack_sbuffer_write)
  }

  deinit {
    msgpack_sbuffer_destroy(buffer)
    packer.deallocate()
    buffer.deallocate()
  }

  /// What was packed since the last `clear`; valid until the next call.
  var bytes: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: buffer.pointee.data, count: buffer.pointee.size)
  }

  /// Where the bytes begin, to write over some; nil when there are none.
  var start: UnsafeMutableRawPointer? { buffer.pointee.data.map { UnsafeMutableRawPointer($0) } }

  var byteCount: Int { buffer.pointee.size }

  func clear() { buffer.pointee.size = 0 }

  func map(_ count: Int) { msgpack_pack_map(packer, count) }
  func unsigned(_ number: UInt64) { msgpack_pack_uint64(packer, number) }
  /// Five bytes whatever the number, so that it can be written over.
  func fixed32(_ number: UInt32) { msgpack_pack_fix_uint32(packer, number) }
  /// Nine bytes whatever the number, so that it can be written over.
  func fixed64(_ number: UInt64) { msgpack_pack_fix_uint64(packer, number) }

  func key(_ name: StaticString) {
    msgpack_pack_str(packer, name.utf8CodeUnitCount)
    msgpack_pack_str_body(packer, name.utf8Start, name.utf8CodeUnitCount)
  }

  func text(_ text: String) {
    var text = text
    text.withUTF8 { self.text(UnsafeRawBufferPointer($0)) }
  }

  func text(_ bytes: UnsafeRawBufferPointer) {
    msgpack_pack_str(packer, bytes.count)
    if !bytes.isEmpty { msgpack_pack_str_body(packer, bytes.baseAddress, bytes.count) }
  }

  func binary(_ bytes: UnsafeRawBufferPointer) {
    msgpack_pack_bin(packer, bytes.count)
    if !bytes.isEmpty { msgpack_pack_bin_body(packer, bytes.baseAddress, bytes.count) }
  }

  func headers(_ headers: [KeyValue]) {
    map(headers.count)
    for header in headers {
      text(header.key)
      text(header.value)
    }
  }
}
