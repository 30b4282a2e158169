import Glibc
import NylonPlugin
import Synchronization

/// The example handlers `noop`, `authz`, `echo`, `work`, `api`, `wait`, `crash` and `pause`, shared by both
/// transports.
package enum ExampleHandlers {
  /// A plugin with all of these handlers.
  package static func makePlugin() -> Plugin {
    struct Configuration: Decodable {
      var work_us: Int?
      var wait_us: Int?
    }
    let plugin = Plugin()
    plugin.onInitialize { configuration in
      let decoded = try configuration.decoded(as: Configuration.self)
      workMicroseconds.store(decoded?.work_us ?? 100, ordering: .relaxed)
      waitMicroseconds.store(decoded?.wait_us ?? 1000, ordering: .relaxed)
    }
    plugin.addPhaseHandler("noop", addNoop)
    plugin.addPhaseHandler("authz", addAuthz)
    plugin.addPhaseHandler("echo", addEcho)
    plugin.addPhaseHandler("work", addWork)
    plugin.addPhaseHandler("api", addAPI)
    plugin.addPhaseHandler("wait", addWait)
    plugin.addPhaseHandler("crash", addCrash)
    plugin.addPhaseHandler("pause", addPause)
    return plugin
  }

  private static let workMicroseconds = Atomic(100)
  private static let waitMicroseconds = Atomic(1000)
  private static let crashRequests = Atomic(0)

  /// Does nothing, in four phases: measures the cost of calling a handler.
  private static func addNoop(to phase: PhaseHandler) {
    phase.requestFilter { $0.next() }
    phase.responseFilter { $0.next() }
    phase.responseBodyFilter { $0.next() }
    phase.logging { $0.next() }
  }

  /// The handler of the quick-start guides: two reads, two headers, a log line.
  private static func addAuthz(to phase: PhaseHandler) {
    phase.requestFilter { ctx in
      _ = (try ctx.request.method, try ctx.request.path)
      try ctx.response.setHeader("X-Plugin-Transport", ctx.transport.rawValue)
      ctx.next()
    }
    phase.responseFilter { ctx in
      let processor = ctx.transport == .ffi ? "FFI-Plugin" : "NATS-Worker"
      try ctx.setResponseHeader("X-Processed-By", processor)
      ctx.next()
    }
    phase.responseBodyFilter { $0.next() }
    phase.logging { ctx in
      AccessLog.shared.append(
        AccessLog.Line(
          method: try ctx.request.method, path: try ctx.request.path, status: try ctx.response.status,
          durationMilliseconds: try ctx.response.durationMilliseconds))
      ctx.next()
    }
  }

  /// Reads the response's body and sets it again: measures the cost of passing bytes.
  private static func addEcho(to phase: PhaseHandler) {
    phase.responseBodyFilter { ctx in
      try ctx.response.setBody(try ctx.response.body)
      ctx.next()
    }
  }

  /// Burns CPU in the request filter, like a handler with real work. Microseconds from the header
  /// `x-work-us`, else from `work_us` of the configuration, else 100.
  private static func addWork(to phase: PhaseHandler) {
    phase.requestFilter { ctx in
      let asked = try number("x-work-us", of: ctx) ?? workMicroseconds.load(ordering: .relaxed)
      // SuspendingClock reads CLOCK_MONOTONIC.
      let end = SuspendingClock.now + .microseconds(clamped(asked))
      while SuspendingClock.now < end {}
      ctx.next()
    }
  }

  /// Uses every call that the guide lists under "Identical API": reads path, headers and body, sets
  /// status, header and a JSON body, and continues; ends requests for `/deny` with 403.
  private static func addAPI(to phase: PhaseHandler) {
    phase.requestFilter { ctx in
      let request = ctx.request
      let path = try request.path
      let seen = "\(path) \(try request.headers.count) \(try request.body.count)"
      try ctx.response.setHeader("X-Seen", seen)
      guard path == "/deny" else { return ctx.next() }
      try ctx.response.setStatus(403)
      try ctx.response.setJSON(["denied": true])
      ctx.end()
    }
    // The answer to a denied request passes through the other phases too.
    phase.responseFilter { ctx in
      guard try ctx.response.status != 403 else { return ctx.next() }
      try ctx.response.setStatus(201)
      try ctx.response.setHeader("X-Custom", "value")
      ctx.next()
    }
    phase.responseBodyFilter { ctx in
      guard try ctx.response.status != 403 else { return ctx.next() }
      try ctx.response.setJSON(["method": try ctx.request.method])
      ctx.next()
    }
    phase.logging { ctx in
      _ = try ctx.response.status
      ctx.next()
    }
  }

  /// Waits in the request filter without using the CPU, like a handler that queries a database.
  /// Microseconds from the header `x-wait-us`, else from `wait_us` of the configuration, else 1000.
  private static func addWait(to phase: PhaseHandler) {
    phase.requestFilter { ctx in
      let asked = try number("x-wait-us", of: ctx) ?? waitMicroseconds.load(ordering: .relaxed)
      usleep(UInt32(clamped(asked)))
      ctx.next()
    }
  }

  /// Crashes its process in the request filter, at the request whose number the header
  /// `x-crash-after` gives, by default the first.
  private static func addCrash(to phase: PhaseHandler) {
    phase.requestFilter { ctx in
      let last = try number("x-crash-after", of: ctx) ?? 1
      if crashRequests.add(1, ordering: .relaxed).newValue >= last { abort() }
      ctx.next()
    }
  }

  /// Sets a header, waits for `wait_us` of the configuration, and continues, in the request filter and
  /// without a read: its phase ends long after its first call.
  private static func addPause(to phase: PhaseHandler) {
    phase.requestFilter { ctx in
      try ctx.response.setHeader("X-Paused", "yes")
      usleep(UInt32(clamped(waitMicroseconds.load(ordering: .relaxed))))
      ctx.next()
    }
  }

  private static func number(_ header: String, of ctx: PhaseContext) throws -> Int? {
    try ctx.request.header(header).flatMap { Int($0) }
  }

  /// A request must not hold a worker for more than ten seconds.
  private static func clamped(_ microseconds: Int) -> Int { min(max(microseconds, 0), 10_000_000) }
}

/// The last lines of the access log, in memory: a handler under load must not wait for a terminal.
package final class AccessLog: Sendable {
  package static let shared = AccessLog()
  private static let capacity = 1024

  package struct Line: Sendable {
    package var method: String
    package var path: String
    package var status: Int
    package var durationMilliseconds: Int
  }

  private let state = Mutex<(lines: [Line], count: Int)>(([], 0))

  /// Adds a line; a full log drops its oldest line.
  func append(_ line: Line) {
    state.withLock { state in
      if state.count < Self.capacity {
        state.lines.append(line)
      } else {
        state.lines[state.count % Self.capacity] = line
      }
      state.count += 1
    }
  }

  /// The lines, oldest first.
  package var lines: [Line] {
    state.withLock { state in
      let oldest = state.count % Self.capacity
      return Array(state.lines[oldest...] + state.lines[..<oldest])
    }
  }
}
