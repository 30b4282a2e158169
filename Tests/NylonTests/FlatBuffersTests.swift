import Testing

@testable import Nylon

@Suite("FlatBuffers tables")
struct FlatBuffersTests {
  @Test("a context is unchanged by a round trip")
  func context() throws {
    let decoded = try sampleContext.encoded().withUnsafeBytes { try HTTPContext(decoding: $0) }
    #expect(decoded == sampleContext)
  }

  @Test("a part that does not travel stays absent")
  func absentParts() throws {
    for context in [
      HTTPContext(), HTTPContext(request: sampleContext.request),
      HTTPContext(response: sampleContext.response),
    ] {
      #expect(try context.encoded().withUnsafeBytes { try HTTPContext(decoding: $0) } == context)
    }
  }

  @Test("a change carries only what is set, and an empty body is not an absent one")
  func change() throws {
    let changes = [
      HTTPContextChange(), HTTPContextChange(response: HTTPResponseChange(status: 403)),
      HTTPContextChange(response: HTTPResponseChange(headers: [])),
      HTTPContextChange(response: HTTPResponseChange(body: [])),
      HTTPContextChange(
        request: HTTPRequestChange(path: "/other", params: [], body: [1]),
        response: HTTPResponseChange(headers: [KeyValue(key: "a", value: "")])),
    ]
    for change in changes {
      let decoded = try change.encoded().withUnsafeBytes { try HTTPContextChange(decoding: $0) }
      #expect(decoded == change)
    }
    #expect(changes.map(\.isEmpty) == [true, false, false, false, false])
  }

  @Test("applying a change replaces what is present and leaves the rest")
  func applying() {
    let change = HTTPContextChange(
      request: HTTPRequestChange(path: "/new"),
      response: HTTPResponseChange(status: 403, body: []))
    let changed = sampleContext.applying(change)
    #expect(changed.request?.path == "/new")
    #expect(changed.request?.method == "POST")
    #expect(changed.response?.status == 403)
    #expect(changed.response?.body == [])
    #expect(changed.response?.headers == sampleContext.response?.headers)
    #expect(sampleContext.applying(HTTPContextChange()) == sampleContext)
    let made = HTTPContext().applying(change)
    #expect(made.response == HTTPResponse(status: 403))
  }

  @Test("headers keep their order, including duplicates")
  func headers() throws {
    let headers = [("a", "1"), ("b", ""), ("a", "2")].map { KeyValue(key: $0.0, value: $0.1) }
    for list in [headers, []] {
      #expect(try HeaderTable.encode(list).withUnsafeBytes { try HeaderTable.decode($0) } == list)
    }
  }

  @Test("a header is read in place")
  func header() {
    let bytes = HeaderKeyValueCodec.encode(key: "X-Plugin-Transport", value: "FFI")
    bytes.withUnsafeBytes { raw in
      let view = HeaderKeyValueCodec.decode(raw)
      #expect(view.map { String(decoding: $0.key, as: UTF8.self) } == "X-Plugin-Transport")
      #expect(view.map { String(decoding: $0.value, as: UTF8.self) } == "FFI")
    }
  }

  @Test("tables are read at any alignment, as MessagePack puts them")
  func unaligned() throws {
    let bytes = sampleContext.encoded()
    for shift in 1...8 {
      let shifted = [UInt8](repeating: 0, count: shift) + bytes
      try shifted.withUnsafeBytes { raw in
        let context = try HTTPContext(decoding: UnsafeRawBufferPointer(rebasing: raw[shift...]))
        #expect(context == sampleContext)
      }
    }
  }

  @Test("spoiled bytes are refused or read, and never crash")
  func hostile() {
    spoiled(sampleContext.encoded(), seed: 1) { raw in
      _ = try? HTTPContext(decoding: raw)
      _ = try? HTTPContextChange(decoding: raw)
    }
    spoiled(HeaderKeyValueCodec.encode(key: "name", value: "value"), seed: 2) { raw in
      if let view = HeaderKeyValueCodec.decode(raw) {
        // Touches every byte that it claims to have.
        _ = [UInt8](view.key) + [UInt8](view.value)
      }
    }
    spoiled(HeaderTable.encode([KeyValue(key: "a", value: "b")]), seed: 3) { raw in
      _ = try? HeaderTable.decode(raw)
    }
  }

  @Test("no bytes are no table")
  func empty() {
    let none = UnsafeRawBufferPointer(start: nil, count: 0)
    #expect(throws: MessageError.self) { try HTTPContext(decoding: none) }
    #expect(throws: MessageError.self) { try HeaderTable.decode(none) }
    #expect(HeaderKeyValueCodec.decode(none) == nil)
  }

  @Test("a small table that unfolds to a large one is refused")
  func unfolding() throws {
    // A valid table of 2000 headers, then every entry of its vector points at the longest one.
    let long = String(repeating: "x", count: 4000)
    var headers = (0..<2000).map { KeyValue(key: "h\($0)", value: "") }
    headers.append(KeyValue(key: "long", value: long))
    var bytes = HeaderTable.encode(headers)
    let vector = try #require(vectorStart(of: bytes, count: headers.count))
    let last = vector + 4 * 2000
    let target = last + Int(load(bytes, last))
    for index in 0..<2000 {
      let slot = vector + 4 * index
      withUnsafeBytes(of: UInt32(target - slot).littleEndian) { offset in
        bytes.replaceSubrange(slot..<(slot + 4), with: offset)
      }
    }
    #expect(throws: MessageError.self) { try bytes.withUnsafeBytes { try HeaderTable.decode($0) } }
  }

  private func load(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
    bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
  }

  private func vectorStart(of bytes: [UInt8], count: Int) -> Int? {
    stride(from: 0, to: bytes.count - 4, by: 4).first { load(bytes, $0) == UInt32(count) }.map { $0 + 4 }
  }
}
