import CLinux
import Glibc
import Nylon

/// Records each request that a worker is about to pass to its handler, in an append-mode file that all
/// workers of a pool share and that outlives them.
struct HandlerLedger: Sendable {
  private let descriptor: Int32
  private let worker = getpid()

  /// Returns nil if the descriptor is not open for appending. Programs that a handler starts do not inherit
  /// it.
  init?(descriptor: Int32) {
    let flags = fcntl(descriptor, F_GETFL)
    guard flags >= 0, flags & O_APPEND != 0, flags & O_ACCMODE != O_RDONLY else { return nil }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    self.descriptor = descriptor
  }

  /// Records a request with a single write, so that a killed process leaves no partial record. Returns the
  /// reason if the request could not be recorded, otherwise nil.
  func note(_ id: RequestIDView?, phase: Phase) -> String? {
    let words = id?.words ?? (high: 0, low: 0)
    let record = HandledRequest(
      id: RequestWords(high: words.high, low: words.low), time: kernel_now_ns(), worker: worker, phase: phase)
    while true {
      let count = withUnsafeBytes(of: record) { write(descriptor, $0.baseAddress, HandledRequest.byteCount) }
      if count == HandledRequest.byteCount { return nil }
      if count >= 0 { return "only part of its record could be written" }
      if errno != EINTR { return String(cString: strerror(errno)) }
    }
  }
}

extension NATSConfiguration {
  /// Returns the configured ledger, or nil if none is configured.
  func ledger() throws(NATSWorkerError) -> HandlerLedger? {
    guard let descriptor = ledgerDescriptor else { return nil }
    guard let ledger = HandlerLedger(descriptor: descriptor) else {
      throw .badOption(
        key: HandledRequest.variable,
        reason:
          "descriptor \(descriptor) is not open for appending; leave the variable out, nylon-bench sets it")
    }
    return ledger
  }
}
