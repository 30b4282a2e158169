/// The last bytes of what a process said.
struct OutputTail: Sendable {
  private var bytes: [UInt8] = []
  private var isCut = false
  private let capacity: Int

  init(capacity: Int = 65536) {
    self.capacity = capacity
  }

  mutating func append(_ more: [UInt8]) {
    bytes += more
    guard bytes.count > 2 * capacity else { return }
    bytes.removeFirst(bytes.count - capacity)
    isCut = true
  }

  /// Everything kept, secrets included: only for finding something in it.
  var raw: String { String(decoding: bytes, as: UTF8.self) }

  /// The last whole lines, without secrets. A cut may go through a secret, so what stands before
  /// the first line end is dropped, or, where there is none, as much as the longest secret.
  func text(without secrets: Secrets) -> String {
    var kept = bytes[...]
    if isCut {
      kept =
        kept.firstIndex(of: 10).map { kept[($0 + 1)...] } ?? kept.dropFirst(secrets.longest)
    }
    let scrubbed = secrets.scrub(String(decoding: kept, as: UTF8.self))
    return String(scrubbed.suffix(capacity)).trimmingTrailingWhitespace()
  }
}

extension String {
  func trimmingTrailingWhitespace() -> String {
    var view = self[...]
    while let last = view.last, last.isWhitespace { view.removeLast() }
    return String(view)
  }
}
