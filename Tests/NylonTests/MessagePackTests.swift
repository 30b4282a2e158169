import CMsgpack
import Nylon
import Testing

@Suite("MessagePack messages")
struct MessagePackTests {
  private let id = RequestID(high: 0x0192_f0c1_2345_7001, low: 0x8000_0000_0000_002a)

  @Test("a request is unchanged by a round trip, in all dialects")
  func requests() throws {
    let requests = [
      WorkerMessage(
        requestID: id, sessionID: 7, phase: .requestFilter, data: [1, 2, 3],
        timestampMilliseconds: 1_761_000_000_000, headers: [KeyValue(key: "entry", value: "authz")]),
      WorkerMessage(
        requestID: .text("0192f0c1"), sessionID: .max, phase: .logging, timestampMilliseconds: 0),
      WorkerMessage(
        requestID: id, sessionID: 1, phase: .zero, method: 209, data: [],
        timestampMilliseconds: 1, headers: [KeyValue(key: "reply", value: "_INBOX.x")]),
    ]
    for request in requests {
      let decoded = try request.encoded().withUnsafeBytes { try WorkerMessage(request: $0) }
      #expect(decoded == request)
    }
  }

  @Test("a response is unchanged by a round trip, in all dialects")
  func responses() throws {
    let responses = [
      WorkerMessage(requestID: id, sessionID: 7, action: .next),
      WorkerMessage(requestID: id, sessionID: 7, action: .end, data: [9]),
      WorkerMessage(requestID: .text("t"), sessionID: 0, action: .error, error: "why"),
      WorkerMessage(requestID: nil, action: .empty, error: "not a map"),
      WorkerMessage(requestID: id, error: "reply-sdk"),
      WorkerMessage(requestID: id, sessionID: 3, method: 100, data: []),
    ]
    for response in responses {
      let decoded = try response.encoded().withUnsafeBytes { try WorkerMessage(reply: $0) }
      #expect(decoded == response)
    }
  }

  @Test("the reply decoder returns the keys that are there, and nil for the others")
  func replyView() throws {
    let reply = WorkerMessage(
      requestID: id, sessionID: 5, action: .error, method: 1, data: [7, 8], error: "boom")
    try reply.encoded().withUnsafeBytes { bytes in
      let view = try #require(MessageView(reply: bytes))
      #expect(view.action == .error)
      #expect(view.requestID?.words?.high == 0x0192_f0c1_2345_7001)
      #expect(view.requestID?.words?.low == 0x8000_0000_0000_002a)
      #expect(view.sessionID == 5)
      #expect(view.method == 1)
      #expect(view.data.map([UInt8].init) == [7, 8])
      #expect(view.error.map { String(decoding: $0, as: UTF8.self) } == "boom")
    }
    try WorkerMessage(requestID: .text("t")).encoded().withUnsafeBytes { bytes in
      let view = try #require(MessageView(reply: bytes))
      #expect(view.action == .missing)
      #expect(view.requestID?.isText == true)
      #expect(view.requestID?.words == nil)
      #expect(view.data == nil && view.error == nil && view.method == nil && view.sessionID == nil)
    }
  }

  @Test("unknown keys are skipped and nil stands for absent")
  func unknownKeys() throws {
    // {"x": [1, {"y": 2.5}], 5: true, "data": nil, "method": nil, "action": "next", "error": nil}
    let bytes: [UInt8] =
      [0x86, 0xa1, 0x78, 0x92, 0x01, 0x81, 0xa1, 0x79, 0xca, 0x40, 0x20, 0, 0, 0x05, 0xc3]
      + [0xa4] + Array("data".utf8) + [0xc0, 0xa6] + Array("method".utf8) + [0xc0, 0xa6]
      + Array("action".utf8) + [0xa4] + Array("next".utf8) + [0xa5] + Array("error".utf8) + [0xc0]
    bytes.withUnsafeBytes { raw in
      let view = MessageView(reply: raw)
      #expect(view?.action == .next)
      #expect(view != nil && view?.data == nil && view?.method == nil && view?.error == nil)
    }
  }

  @Test("an unknown action is distinguished from none and from an empty one")
  func actions() throws {
    for (text, action) in [("", ReplyAction.empty), ("stop", .unknown), ("next", .next)] {
      let bytes = [0x81, 0xa6] + Array("action".utf8) + [0xa0 | UInt8(text.utf8.count)] + Array(text.utf8)
      #expect(bytes.withUnsafeBytes { MessageView(reply: $0)?.action } == action)
    }
    #expect([UInt8(0x80)].withUnsafeBytes { MessageView(reply: $0)?.action } == .missing)
  }

  @Test("wrong types, trailing bytes and values that are not a map are refused")
  func malformed() throws {
    let valid = try WorkerMessage(requestID: id, sessionID: 1, action: .next).encoded()
    let key = { (name: String) in [0x81, 0xa0 | UInt8(name.utf8.count)] + Array(name.utf8) }
    let refused: [[UInt8]] = [
      [], [0xc0], [0x90], [0x01], valid + [0xc0], key("action") + [0x01], key("method") + [0xff],
      key("session_id") + [0xcf, 0, 0, 0, 1, 0, 0, 0, 0], key("data") + [0x90],
      key("error") + [0x2a], key("request_id") + [0x2a], key("headers") + [0x2a], [0xc1],
    ]
    for bytes in refused {
      #expect(bytes.withUnsafeBytes { MessageView(reply: $0) == nil }, "\(bytes)")
    }
    #expect(valid.withUnsafeBytes { MessageView(reply: $0) != nil })
  }

  @Test("a container that claims more than the message holds is refused before it is allocated")
  func bombs() {
    let bombs: [[UInt8]] = [
      [0xdf, 0xff, 0xff, 0xff, 0xff], [0xde, 0xff, 0xff, 0x00],
      [0x81, 0xa1, 0x78, 0xdd, 0xff, 0xff, 0xff, 0xff], [0x81, 0xa1, 0x78, 0xc6, 0xff, 0xff, 0xff, 0xff],
      [0x81, 0xa1, 0x78, 0xdb, 0xff, 0xff, 0xff, 0xff], [0x81, 0xa1, 0x78, 0xc9, 0xff, 0xff, 0xff, 0xff],
      [0x81, 0xa1, 0x78] + [UInt8](repeating: 0x91, count: 100_000) + [0xc0],
      [UInt8](repeating: 0x81, count: 100_000),
    ]
    for bomb in bombs {
      #expect(bomb.withUnsafeBytes { MessageView(reply: $0) == nil })
      #expect(throws: MessageError.self) { try bomb.withUnsafeBytes { try WorkerMessage(request: $0) } }
    }
  }

  @Test("spoiled bytes are refused or read, and never crash")
  func hostile() throws {
    let response = WorkerMessage(requestID: id, sessionID: 300, action: .next, data: [1, 2], error: "e")
    spoiled(try response.encoded(), seed: 4) { raw in
      if let view = MessageView(reply: raw) {
        _ = view.data.map([UInt8].init)
        _ = view.error.map([UInt8].init)
        _ = view.requestID?.words
      }
    }
    let request = WorkerMessage(
      requestID: id, sessionID: 70_000, phase: .logging, method: 0, data: [1],
      timestampMilliseconds: .max, headers: [KeyValue(key: "entry", value: "noop")])
    spoiled(try request.encoded(), seed: 5) { raw in _ = try? WorkerMessage(request: raw) }
  }

  @Test("a refused request says which key, what it is and what it must be")
  func requestErrors() throws {
    // {"phase": 9}
    let bytes: [UInt8] = [0x81, 0xa5] + Array("phase".utf8) + [0x09]
    let error = #expect(throws: MessageError.self) {
      try bytes.withUnsafeBytes { try WorkerMessage(request: $0) }
    }
    #expect(error?.description == "request: 'phase' is the integer 9; it must be 0 to 4")
    #expect(throws: MessageError.missingKey(what: "request", key: "request_id")) {
      try [UInt8(0x80)].withUnsafeBytes { try WorkerMessage(request: $0) }
    }
  }

  @Test("a patched template is the request that a full encoding gives", arguments: Dialect.allCases)
  func template(dialect: Dialect) throws {
    let (high, low): (UInt64, UInt64) = (0x0192_f0c1_2345_7001, 0x8000_0000_0000_002a)
    let (sample, own) = ("_INBOX.sample", "_INBOX.theirs")
    let template = try RequestTemplate(
      dialect.traits, phase: .responseFilter, entry: "authz", context: [5, 6], reply: sample)
    for (sessionID, timestamp) in [(UInt32(0), UInt64(0)), (1, 2), (.max, .max), (77, 1_761_000_000_123)] {
      var bytes = template.bytes
      bytes.withUnsafeMutableBytes { bytes in
        if template.idIsText {
          bytes.baseAddress.map { UUIDText.write((high, low), to: $0 + template.requestIDOffset) }
        } else {
          bytes.storeBytes(of: high.bigEndian, toByteOffset: template.requestIDOffset, as: UInt64.self)
          bytes.storeBytes(of: low.bigEndian, toByteOffset: template.requestIDOffset + 8, as: UInt64.self)
        }
        bytes.storeBytes(of: sessionID.bigEndian, toByteOffset: template.sessionIDOffset, as: UInt32.self)
        bytes.storeBytes(of: timestamp.bigEndian, toByteOffset: template.timestampOffset, as: UInt64.self)
        if let offset = template.replyOffset {
          UnsafeMutableRawBufferPointer(rebasing: bytes[offset...]).copyBytes(from: own.utf8)
        }
      }
      let decoded = try bytes.withUnsafeBytes { try WorkerMessage(request: $0) }
      #expect(
        decoded
          == WorkerMessage(
            dialect.traits, id: (high, low), sessionID: sessionID, phase: .responseFilter, entry: "authz",
            context: [5, 6], reply: own, timestampMilliseconds: timestamp))
      let full = try decoded.encoded()
      #expect(try full.withUnsafeBytes { try WorkerMessage(request: $0) } == decoded)
      #expect(decoded.method == dialect.traits.startMethod)
      #expect((decoded.data != nil) == dialect.traits.sendsContext)
    }
  }

  @Test("a UUID's text is parsed as its id, and other text is not")
  func uuidText() throws {
    let text = "0192f0c1-2345-7001-8000-00000000002a"
    let read = { (text: String) in Array(text.utf8).withUnsafeBytes { UUIDText.id($0) } }
    let id = try #require(read(text))
    #expect(id.high == 0x0192_f0c1_2345_7001 && id.low == 0x8000_0000_0000_002a)
    var written = [UInt8](repeating: 0, count: UUIDText.byteCount)
    written.withUnsafeMutableBytes { bytes in bytes.baseAddress.map { UUIDText.write(id, to: $0) } }
    #expect(String(decoding: written, as: UTF8.self) == text)
    for wrong in ["", text.uppercased(), text + "0", String(text.map { $0 == "-" ? "0" : $0 })] {
      #expect(read(wrong) == nil)
    }
  }

  @Test("msgpack-c itself reads what we write")
  func foreignReader() throws {
    let template = try RequestTemplate(phase: .requestFilter, entry: "noop")
    var unpacked = msgpack_unpacked()
    msgpack_unpacked_init(&unpacked)
    defer { msgpack_unpacked_destroy(&unpacked) }
    var offset = 0
    let result = template.bytes.withUnsafeBytes {
      msgpack_unpack_next(
        &unpacked, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count, &offset)
    }
    #expect(result == MSGPACK_UNPACK_SUCCESS)
    #expect(offset == template.bytes.count)
    #expect(unpacked.data.type == MSGPACK_OBJECT_MAP)
    #expect(unpacked.data.via.map.size == 6)
  }
}
