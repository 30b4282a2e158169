import Foundation

/// Reads what a kept process and its keeper say, on a thread of its own, so that the process never
/// waits for us; and reaps the keeper.
struct Pump: Sendable {
  /// What a descriptor carries.
  enum Channel: Sendable {
    case status, output, errors, document
  }

  /// A descriptor and what it carries.
  typealias Source = (channel: Channel, descriptor: Descriptor)

  let keeper: Int32
  let sources: [Source]
  let documentLimit: Int
  let state: Guarded<KeptState>

  func start() {
    let thread = Thread { run() }
    thread.name = "lab-pump"
    thread.stackSize = 256 << 10
    thread.start()
  }

  private func run() {
    var open = sources
    while open.contains(where: { $0.channel == .status }) {
      var watched = open.map { pollfd(fd: $0.descriptor.raw, events: Int16(POLLIN), revents: 0) }
      guard poll(&watched, nfds_t(watched.count), -1) > 0 else { continue }
      let ready = zip(open, watched).filter { $0.1.revents != 0 }.map(\.0)
      // A worker may write a line for each request. Its pipe holds a megabyte, so reading it a hundred
      // times a second is enough, and takes little of the CPU that is being measured.
      if ready.contains(where: { $0.channel == .output || $0.channel == .errors }) { nap(milliseconds: 10) }
      for source in ready where !take(from: source.channel, source.descriptor, all: false) {
        open.removeAll { $0.channel == source.channel }
      }
    }
    // The keeper has ended, and so has all below it: what was said lies in the pipes.
    for source in open {
      _ = take(from: source.channel, source.descriptor, all: true)
    }
    var ignored: Int32 = 0
    while waitpid(keeper, &ignored, 0) < 0 && errno == EINTR {}
    state.withLock { state in
      if state.status == nil { state.status = .lost }
      state.isFinished = true
    }
  }

  /// Reads once, or all that is there; false at the end.
  private func take(from channel: Channel, _ descriptor: Descriptor, all: Bool) -> Bool {
    repeat {
      switch descriptor.read() {
      case .end: return false
      case .nothingYet: return true
      case .bytes(let bytes):
        state.withLock { state in
          switch channel {
          case .status: state.note(bytes)
          case .output: state.output.append(bytes)
          case .errors: state.errors.append(bytes)
          case .document: state.collect(bytes, limit: documentLimit)
          }
        }
      }
    } while all
    return true
  }
}
