// Handlers that show behaviour: every documented call, waiting, crashing.
import Glibc
import NylonPlugin
import Synchronization

extension ExampleHandlers {
  /// Uses every call that the guide lists under "Identical API": reads path, headers and body, sets
  /// status, header and a JSON body, goes on; ends requests for `/deny` with 403.
  static func addAPI(to plugin: Plugin) {
    plugin.addPhaseHandler("api") { phase in
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
      phase.responseFilter { ctx in
        try ctx.response.setStatus(201)
        try ctx.response.setHeader("X-Custom", "value")
        ctx.next()
      }
      phase.responseBodyFilter { ctx in
        try ctx.response.setJSON(["method": try ctx.request.method])
        ctx.next()
      }
      phase.logging { ctx in
        _ = try ctx.response.status
        ctx.next()
      }
    }
  }

  /// Waits in the request filter without using the CPU, as a handler does that asks a database.
  /// Microseconds from the header `x-wait-us`, else 1000.
  static func addWait(to plugin: Plugin) {
    plugin.addPhaseHandler("wait") { phase in
      phase.requestFilter { ctx in
        let asked = try ctx.request.header("x-wait-us").flatMap { Int($0) } ?? 1000
        usleep(UInt32(min(max(asked, 0), 10_000_000)))
        ctx.next()
      }
    }
  }

  /// Crashes its process in the request filter: what a broken handler does to its host. The
  /// header `x-crash-after` says at which request; 1 when it is not there.
  static func addCrash(to plugin: Plugin) {
    let count = RequestCount()
    plugin.addPhaseHandler("crash") { phase in
      phase.requestFilter { ctx in
        let last = try ctx.request.header("x-crash-after").flatMap { Int($0) } ?? 1
        if count.value.add(1, ordering: .relaxed).newValue >= last { abort() }
        ctx.next()
      }
    }
  }

  /// Requests of all threads so far.
  private final class RequestCount: Sendable {
    let value = Atomic<Int>(0)
  }
}
