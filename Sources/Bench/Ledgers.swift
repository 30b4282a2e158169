import CLinux
import Engine
import Foundation
import Lab
import Nylon
import Results
import Scenario

/// The two ledgers of a load: what the host notes of the phase requests that it sends, and what the workers note of those
/// that their handlers see.
final class Ledgers {
  let layout: LedgerLayout
  private let host: SharedMapping
  private let pool: PoolLedger

  init(_ order: LoadOrder) throws(LabError) {
    layout = LedgerLayout(order)
    host = try SharedMapping(byteCount: layout.byteCount)
    pool = try PoolLedger()
  }

  /// What the load process inherits.
  var hostDescriptor: Int32 { host.descriptor }
  /// What each worker inherits.
  var poolDescriptor: Int32 { pool.descriptor }

  /// Joins both. Asked when the load process and all workers have ended, since a worker may be late.
  func accounting() -> Accounting {
    let area = LedgerArea(layout: layout, memory: host.memory)
    let (began, ended) = (area.began, area.ended)
    return Accounting(
      sent: area.entries, handled: pool.records, load: ended >= began && began > 0 ? began...ended : nil,
      unnoted: area.unnoted)
  }

  /// Why the requests of a target cannot be accounted for; nil when they can.
  static func obstacle(for target: Target) -> String? {
    guard case .nats(let spec) = target.transport else {
      return "the plugin runs in the host's process, where what the host counts is all there is"
    }
    guard let workers = spec.workers else { return "the workers were not started by the run" }
    return workers.isOwn
      ? nil : "the workers are not those of this package, so that they do not note what their handlers see"
  }
}

/// What the workers of a pool note: a nameless file in append mode, to which each of them adds, and which is there when
/// they are not.
private final class PoolLedger {
  let descriptor: Int32

  init() throws(LabError) {
    descriptor = clinux_memory_file("nylon-bench-ledger", nil, 0)
    guard descriptor >= 0, fcntl(descriptor, F_SETFL, O_APPEND) == 0 else {
      throw .system("No memory for the ledger of a pool could be made", errno: errno)
    }
  }

  deinit { close(descriptor) }

  /// All records so far.
  var records: [HandledRequest] {
    let bytes = Int(lseek(descriptor, 0, SEEK_END))
    guard bytes > 0 else { return [] }
    return [HandledRequest](unsafeUninitializedCapacity: bytes / HandledRequest.byteCount) { buffer, count in
      let wanted = UnsafeMutableRawBufferPointer(buffer)
      var read = 0
      while read < wanted.count {
        let more = pread(descriptor, wanted.baseAddress.map { $0 + read }, wanted.count - read, off_t(read))
        guard more > 0 else { break }
        read += more
      }
      count = read / HandledRequest.byteCount
    }
  }
}
