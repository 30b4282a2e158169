import ExampleHandlers
import Glibc
import NylonPlugin
import Nylon
import Synchronization
import Testing

/// Every test has its own server, and ends it.
private func withServer(
  _ plugin: Plugin, maxWorkers: Int = 4, readTimeoutMilliseconds: Int = 10_000,
  _ body: (PluginSymbols) throws -> Void
) rethrows {
  let symbols = PluginSymbols.of(
    FFIServer(
      plugin: plugin, maxWorkers: maxWorkers, readTimeoutMilliseconds: readTimeoutMilliseconds))
  defer { symbols.shutdown() }
  try body(symbols)
}

@Suite("A plugin in the host's process")
struct FFITests {
  @Test("the built library serves authz as the guide says", arguments: [false, true])
  func library(queued: Bool) throws {
    let symbols = try #require(PluginSymbols.loaded("libExamplePlugin.so"))
    symbols.initialize("{}")
    for _ in 0..<50 {
      let session = try #require(
        FakeHost.run(symbols, entry: "authz", context: sampleContext, queued: queued))
      session.state.withLock { state in
        #expect(state.ended == [.next, .next, .next, .next])
        #expect(
          state.calls == [
            .readRequestMethod, .readRequestPath, .setResponseHeader, .next, .setResponseHeader, .next,
            .next, .readRequestMethod, .readRequestPath, .readResponseStatus, .readResponseDuration,
            .next,
          ])
        #expect(
          state.context.response?.headers.contains(KeyValue(key: "X-Plugin-Transport", value: "FFI")) == true)
        #expect(
          state.context.response?.headers.contains(KeyValue(key: "X-Processed-By", value: "FFI-Plugin"))
            == true)
      }
    }
  }

  @Test("the null plugin answers next in all phases, and has one handler")
  func null() throws {
    let symbols = try #require(PluginSymbols.loaded("libNullPlugin.so"))
    let session = FakeHost.run(symbols, entry: "noop", context: sampleContext, queued: false)
    #expect(session?.state.withLock { $0.calls } == [.next, .next, .next, .next])
    #expect(FakeHost.run(symbols, entry: "nope", context: sampleContext, queued: false) == nil)
  }

  @Test("an unknown entry is refused, and so is every entry after shutdown")
  func unknownEntry() {
    withServer(ExampleHandlers.makePlugin()) { symbols in
      #expect(FakeHost.run(symbols, entry: "nobody", context: sampleContext, queued: false) == nil)
      #expect(FakeHost.run(symbols, entry: "", context: sampleContext, queued: false) == nil)
      #expect(FakeHost.run(symbols, entry: "noop", context: sampleContext, queued: false) != nil)
      symbols.shutdown()
      symbols.shutdown()
      #expect(!symbols.register(FakeHost.newID(), "noop", FakeHost.callback))
    }
  }

  @Test("events for unknown sessions, unknown phases and unasked answers are ignored")
  func strayEvents() {
    withServer(ExampleHandlers.makePlugin()) { symbols in
      symbols.event(4_000_000_000, .requestFilter, Method(rawValue: 0), [])
      symbols.event(4_000_000_000, .zero, .readRequestPath, [1])
      symbols.close(4_000_000_000)
      let session = FakeHost.run(symbols, entry: "authz", context: sampleContext, queued: false)
      symbols.event(4_000_000_000, .zero, Method(rawValue: 1), [1])
      symbols.event(0, .zero, Method(rawValue: 1), [1])
      symbols.event(0, .zero, .init(rawValue: 350), [])
      #expect(session?.state.withLock { $0.ended.count } == 4)
    }
  }

  @Test("a handler that throws sets 500 and ends; a phase without a handler continues")
  func throwing() {
    struct Refused: Error {}
    let plugin = Plugin()
    plugin.addPhaseHandler("strict") { $0.requestFilter { _ in throw Refused() } }
    plugin.addPhaseHandler("empty") { _ in }
    withServer(plugin) { symbols in
      let session = FakeHost.run(symbols, entry: "strict", context: sampleContext, queued: false)
      #expect(session?.state.withLock { $0.ended } == [.end, .next, .next, .next])
      #expect(session?.state.withLock { $0.context.response?.status } == 500)
      let empty = FakeHost.run(symbols, entry: "empty", context: sampleContext, queued: false)
      #expect(empty?.state.withLock { $0.calls } == [.next, .next, .next, .next])
    }
  }

  @Test("a second next is ignored, and so are later calls")
  func nextTwice() {
    let late = Mutex<PluginError?>(nil)
    let plugin = Plugin()
    plugin.addPhaseHandler("twice") { phase in
      phase.requestFilter { ctx in
        ctx.next()
        ctx.next()
        ctx.end()
        try ctx.response.setStatus(404)
        do {
          _ = try ctx.request.path
        } catch let error as PluginError {
          late.withLock { $0 = error }
        }
      }
    }
    withServer(plugin) { symbols in
      let session = FakeHost.run(symbols, entry: "twice", context: sampleContext, queued: false)
      #expect(session?.state.withLock { $0.calls } == [.next, .next, .next, .next])
      #expect(late.withLock { $0 } == .phaseIsOver(method: .readRequestPath))
    }
  }

  @Test("event_stream returns while the handler still waits, and closing releases it")
  func closing() {
    let outcome = Mutex<PluginError?>(nil)
    let plugin = Plugin()
    plugin.addPhaseHandler("reader") { phase in
      phase.requestFilter { ctx in
        do {
          _ = try ctx.request.path
        } catch PluginError.sessionClosed {
          // A handler that goes on reading is not left waiting either.
          _ = try? ctx.request.method
          outcome.withLock { $0 = .sessionClosed(method: .readRequestPath) }
        } catch {
          outcome.withLock { $0 = error as? PluginError }
          throw error
        }
      }
    }
    withServer(plugin, maxWorkers: 1) { symbols in
      let opened = FakeHost.withSilentSession(symbols, entry: "reader") { id, queue in
        symbols.event(id, .requestFilter, Method(rawValue: 0), [])
        #expect(queue.next() == .readRequestPath)
        // Another session's answer, or another read's, is not taken for this one.
        symbols.event(id + 1_000_000, .zero, .readRequestPath, [1])
        symbols.event(id, .zero, .readRequestMethod, [1])
        symbols.close(id)
      }
      #expect(opened)
      // The same thread serves on.
      let session = FakeHost.run(symbols, entry: "reader", context: sampleContext, queued: true)
      #expect(session?.state.withLock { $0.ended.count } == 4)
      #expect(outcome.withLock { $0 } == .sessionClosed(method: .readRequestPath))
    }
  }

  @Test("a read that is not answered ends as an error, and the thread keeps serving")
  func readTimeout() {
    withServer(ExampleHandlers.makePlugin(), maxWorkers: 1, readTimeoutMilliseconds: 30) { symbols in
      let opened = FakeHost.withSilentSession(symbols, entry: "authz") { id, queue in
        symbols.event(id, .requestFilter, Method(rawValue: 0), [])
        #expect(queue.next() == .readRequestMethod)
        #expect(queue.next() == .setResponseStatus)
        #expect(queue.next() == .end)
        symbols.event(id, .zero, .readRequestMethod, [1])
      }
      #expect(opened)
      let session = FakeHost.run(symbols, entry: "authz", context: sampleContext, queued: false)
      #expect(session?.state.withLock { $0.ended.count } == 4)
    }
  }

  @Test("many sessions at once keep their calls apart and in order", arguments: [false, true])
  func concurrent(queued: Bool) async {
    let symbols = PluginSymbols.of(FFIServer(plugin: ExampleHandlers.makePlugin()))
    defer { symbols.shutdown() }
    await withTaskGroup(of: Int.self) { group in
      for lane in 0..<4 {
        group.addTask {
          (0..<250).count { turn in
            var context = sampleContext
            let body = Array("body of \(lane) \(turn)".utf8)
            context.response?.body = body
            let session = FakeHost.run(symbols, entry: "echo", context: context, queued: queued)
            return session?.state.withLock {
              $0.context.response?.body == body
                && $0.calls == [.next, .next, .readResponseFullBody, .setResponseFullBody, .next, .next]
            } == true
          }
        }
      }
      var right = 0
      for await count in group { right += count }
      #expect(right == 1000)
    }
  }

  @Test("a bad configuration is reported and harms nothing")
  func badConfiguration() {
    withServer(ExampleHandlers.makePlugin()) { symbols in
      symbols.initialize("{\"work_us\": \"much\"}")
      symbols.initialize("not json")
      #expect(FakeHost.run(symbols, entry: "noop", context: sampleContext, queued: false) != nil)
    }
  }
}
