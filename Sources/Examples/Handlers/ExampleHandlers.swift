import Glibc
import NylonPlugin
import Synchronization

/// The example plugin: `noop`, `authz`, `echo`, `work`, `api`, `wait` and `crash`, the same for both transports.
public enum ExampleHandlers {
  /// A plugin with all of them.
  public static func makePlugin() -> Plugin {
    let plugin = Plugin()
    register(on: plugin)
    return plugin
  }

  /// Adds all of them to a plugin; `log` takes what the logging phase writes.
  public static func register(on plugin: Plugin, log: AccessLog = .shared) {
    addNoop(to: plugin)
    addAuthz(to: plugin, log: log)
    addEcho(to: plugin)
    addWork(to: plugin)
    addAPI(to: plugin)
    addWait(to: plugin)
    addCrash(to: plugin)
  }

  /// Does nothing, in four phases: what the way to a handler costs by itself.
  private static func addNoop(to plugin: Plugin) {
    plugin.addPhaseHandler("noop") { phase in
      phase.requestFilter { $0.next() }
      phase.responseFilter { $0.next() }
      phase.responseBodyFilter { $0.next() }
      phase.logging { $0.next() }
    }
  }

  /// The handler of the quick-start guides: two reads, two headers, a log line.
  private static func addAuthz(to plugin: Plugin, log: AccessLog) {
    plugin.addPhaseHandler("authz") { phase in
      phase.requestFilter { ctx in
        log.requestSeen(method: try ctx.request.method, path: try ctx.request.path)
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
        log.append(
          AccessLog.Line(
            method: try ctx.request.method, path: try ctx.request.path,
            status: try ctx.response.status,
            durationMilliseconds: try ctx.response.durationMilliseconds))
        ctx.next()
      }
    }
  }

  /// Reads the response's body and sets it again: what bytes cost.
  private static func addEcho(to plugin: Plugin) {
    plugin.addPhaseHandler("echo") { phase in
      phase.responseBodyFilter { ctx in
        try ctx.response.setBody(try ctx.response.body)
        ctx.next()
      }
    }
  }

  private struct WorkConfiguration: Decodable {
    var work_us: Int?
  }

  /// Burns CPU in the request filter: what a handler costs that has something to do. Microseconds
  /// from the header `x-work-us`, else from `work_us` of the configuration, else 100.
  private static func addWork(to plugin: Plugin) {
    let standard = Shared(100)
    plugin.onInitialize { configuration in
      let decoded = try configuration.decoded(as: WorkConfiguration.self)
      standard.value.store(clampedMicroseconds(decoded?.work_us ?? 100), ordering: .relaxed)
    }
    plugin.addPhaseHandler("work") { phase in
      phase.requestFilter { ctx in
        let asked = try ctx.request.header("x-work-us").flatMap { Int($0) }
        burn(
          microseconds: asked.map(clampedMicroseconds) ?? standard.value.load(ordering: .relaxed))
        ctx.next()
      }
    }
  }

  /// A request must not hold a worker for more than ten seconds.
  private static func clampedMicroseconds(_ asked: Int) -> Int { min(max(asked, 0), 10_000_000) }

  private static func burn(microseconds: Int) {
    let end = monotonicNanoseconds() + UInt64(microseconds) * 1000
    while monotonicNanoseconds() < end {}
  }

  private static func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
  }

  /// A number that handlers of several threads read.
  private final class Shared: Sendable {
    let value: Atomic<Int>
    init(_ value: Int) { self.value = Atomic(value) }
  }
}
