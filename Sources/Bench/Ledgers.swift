import CLinux
import Engine
import Foundation
import Lab
import Nylon
import Results
import Scenario

/// The two ledgers of a load: the phase requests that the host sends, and the ones that the workers'
/// handlers receive.
final class Ledgers {
  let layout: LedgerLayout
  private let host: SharedMapping
  /// The descriptor that each worker inherits: an anonymous file in append mode that all workers write to and
  /// that outlives them.
  let poolDescriptor: Int32

  init(_ order: LoadOrder) throws(LabError) {
    layout = LedgerLayout(order)
    host = try SharedMapping(byteCount: layout.byteCount)
    poolDescriptor = clinux_memory_file("nylon-bench-ledger", nil, 0)
    guard poolDescriptor >= 0, fcntl(poolDescriptor, F_SETFL, O_APPEND) == 0 else {
      throw .system("No memory for the ledger of a pool could be created", errno: errno)
    }
  }

  deinit { close(poolDescriptor) }

  /// The descriptor that the load process inherits.
  var hostDescriptor: Int32 { host.descriptor }

  /// Joins both ledgers. Call it after the load process and all workers have exited: workers may be late.
  func accounting() -> Accounting {
    let area = LedgerArea(layout: layout, memory: host.memory)
    let (began, ended) = (area.began, area.ended)
    return Accounting(
      sent: area.entries, handled: handled, load: ended >= began && began > 0 ? began...ended : nil,
      unnoted: area.unnoted)
  }

  /// Why the requests of a target cannot be accounted for; nil when they can.
  static func obstacle(for target: Target) -> String? {
    guard let spec = target.nats else {
      return "the plugin runs in the host's process, so there are no counts but the host's"
    }
    guard let workers = spec.workers else { return "the workers were not started by the run" }
    return workers.isOwn
      ? nil : "the workers are not those of this package, so they do not record what their handlers see"
  }

  private var handled: [HandledRequest] {
    let bytes = Int(lseek(poolDescriptor, 0, SEEK_END))
    guard bytes > 0 else { return [] }
    return [HandledRequest](unsafeUninitializedCapacity: bytes / HandledRequest.byteCount) { buffer, count in
      let wanted = UnsafeMutableRawBufferPointer(buffer)
      var read = 0
      while read < wanted.count {
        let place = wanted.baseAddress.map { $0 + read }
        let more = pread(poolDescriptor, place, wanted.count - read, off_t(read))
        guard more > 0 else { break }
        read += more
      }
      count = read / HandledRequest.byteCount
    }
  }
}
