import Nylon

/// Random numbers that every run repeats.
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }
}

/// Calls `body` with every way in which `bytes` are spoiled: cut off, one byte changed, noise.
func spoiled(_ bytes: [UInt8], seed: UInt64, _ body: (UnsafeRawBufferPointer) -> Void) {
  for count in 0..<bytes.count { Array(bytes[..<count]).withUnsafeBytes(body) }
  var random = Seeded(state: seed)
  for index in bytes.indices {
    for _ in 0..<16 {
      var changed = bytes
      changed[index] = UInt8.random(in: 0...255, using: &random)
      changed.withUnsafeBytes(body)
    }
  }
  for _ in 0..<20_000 {
    let count = Int.random(in: 0...64, using: &random)
    var noise = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    // Half of them begin as a map does.
    if count > 0, Bool.random(using: &random) { noise[0] = UInt8.random(in: 0x80...0x8f, using: &random) }
    noise.withUnsafeBytes(body)
  }
}

let sampleContext = HTTPContext(
  request: HTTPRequest(
    method: "POST", path: "/api/users", query: "page=2", params: [KeyValue(key: "id", value: "7")],
    headers: [KeyValue(key: "Host", value: "example.test"), KeyValue(key: "x-é", value: "ü")],
    body: [0, 1, 2, 255]),
  response: HTTPResponse(
    status: 201, headers: [KeyValue(key: "Content-Type", value: "text/plain")], body: [65, 66]))

extension HTTPContext {
  /// The context in a table that says every field.
  init(decoding bytes: UnsafeRawBufferPointer) throws(MessageError) {
    self = HTTPContext().applying(try HTTPContextChange(decoding: bytes))
  }
}
