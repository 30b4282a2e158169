/// Pending bytes in a ring buffer: a burst is read and written with few system calls, and never moved.
struct ByteQueue: ~Copyable {
  /// The maximum size of one read.
  private static let chunkBytes = 64 << 10
  /// The memory that an empty queue keeps.
  private static let keptBytes = 256 << 10

  private let mostBytes: Int
  private var storage = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  private var head = 0
  private(set) var count = 0

  /// A queue for `bytes` bytes, and those of one more read.
  init(bytes: Int) { mostBytes = bytes + Self.chunkBytes }

  deinit { storage.deallocate() }

  /// Free space after the last byte, to read into; `append` tells how much of it was used.
  mutating func room() -> UnsafeMutableRawBufferPointer {
    let needed = count + Self.chunkBytes
    if needed > storage.count { grow(to: max(needed, min(mostBytes, 2 * storage.count))) }
    let tail = head + count
    let room = tail < storage.count ? storage[tail...] : storage[(tail - storage.count)..<head]
    return UnsafeMutableRawBufferPointer(rebasing: room.prefix(Self.chunkBytes))
  }

  private mutating func grow(to bytes: Int) {
    let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 16)
    let front = first(count)
    larger.copyMemory(from: front)
    UnsafeMutableRawBufferPointer(rebasing: larger[front.count...])
      .copyMemory(from: UnsafeRawBufferPointer(rebasing: storage.prefix(count - front.count)))
    storage.deallocate()
    storage = larger
    head = 0
  }

  mutating func append(_ bytes: Int) { count += bytes }

  /// The first `bytes` bytes, or those up to the end of the ring.
  func first(_ bytes: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: storage[head...].prefix(bytes))
  }

  mutating func removeFirst(_ bytes: Int) {
    count -= bytes
    head = count == 0 ? 0 : (head + bytes) % storage.count
    guard count == 0, storage.count > Self.keptBytes else { return }
    storage.deallocate()
    storage = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  }
}

/// A first-in-first-out queue.
struct Queue<Element> {
  private var elements: [Element] = []
  private var head = 0

  var count: Int { elements.count - head }
  var first: Element? { head < elements.count ? elements[head] : nil }

  mutating func append(_ element: Element) { elements.append(element) }

  mutating func removeFirst() {
    head += 1
    // Removed elements are released when they are half of all, so that each element moves about once.
    guard head == elements.count || head > 1000 && 2 * head > elements.count else { return }
    elements.removeSubrange(..<head)
    head = 0
  }
}
