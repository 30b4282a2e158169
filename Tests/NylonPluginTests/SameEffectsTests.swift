import NylonPlugin
import Nylon
import Synchronization
import TestSupport
import Testing

let sampleContext = HTTPContext(
  request: HTTPRequest(
    method: "POST", path: "/api/users", query: "page=2", params: [KeyValue(key: "id", value: "7")],
    headers: [
      KeyValue(key: "Host", value: "example.test"), KeyValue(key: "X-Real-IP", value: "10.0.0.9"),
    ], body: [1, 2, 3]),
  response: HTTPResponse(
    status: 200,
    headers: [KeyValue(key: "Server", value: "up"), KeyValue(key: "server", value: "stream")],
    body: Array("hello".utf8)))

/// A plugin that uses all of the API, and tells what it read.
private func everything(_ seen: @escaping @Sendable (String) -> Void) -> Plugin {
  struct Answer: Codable { var ok: Bool }
  let plugin = Plugin()
  plugin.addPhaseHandler("everything") { phase in
    phase.requestFilter { ctx in
      let request = ctx.request
      seen("\(try request.method) \(try request.path) \(try request.query) \(try request.url)")
      seen("\(try request.params) \(try request.host) \(try request.clientIP)")
      seen("\(try request.header("HOST") ?? "-") \(try request.header("nothing") ?? "-")")
      seen("\(try request.headers.map(\.key)) \(try request.body) \(try request.byteCount)")
      seen("\(try request.timestampMilliseconds) \(try ctx.payload()) \(ctx.phase)")
      ctx.next()
    }
    phase.responseFilter { ctx in
      try ctx.response.setStatus(202)
      try ctx.response.setHeader("X-New", "1")
      try ctx.setResponseHeader("x-new", "2")
      try ctx.response.removeHeader("SERVER")
      seen("\(try ctx.response.status) \(try ctx.response.headers)")
      seen("\(try ctx.response.header("X-NEW") ?? "-") \(try ctx.response.error)")
    }
    phase.responseBodyFilter { ctx in
      seen("\(try ctx.response.body) \(try ctx.response.byteCount)")
      try ctx.response.setJSON(Answer(ok: true))
      seen("\(try ctx.response.body) \(try ctx.response.byteCount)")
      ctx.next()
    }
    phase.logging { ctx in seen("\(try ctx.response.durationMilliseconds >= 0)") }
  }
  plugin.addPhaseHandler("redirect") { phase in
    phase.requestFilter { ctx in
      try ctx.response.redirect("/login", status: 303)
      try ctx.response.setText("moved")
      ctx.end()
    }
  }
  plugin.addPhaseHandler("stream") { phase in
    phase.responseBodyFilter { ctx in
      try ctx.response.stream.writeHeader()
      try ctx.response.stream.write([1, 2])
      try ctx.response.stream.write([3])
      ctx.response.stream.end()
    }
  }
  return plugin
}

@Suite("The same handlers on both transports", .serialized, .thread("worker"))
struct SameEffectsTests {
  @Test("leave the same response and read the same values", arguments: ["everything", "redirect", "stream"])
  func effects(entry: String) throws {
    let inProcess = Mutex<[String]>([])
    let server = FFIServer(plugin: everything { line in inProcess.withLock { $0.append(line) } })
    let symbols = PluginSymbols.of(server)
    let session = try #require(
      FakeHost.run(symbols, entry: entry, context: sampleContext, queued: true))
    symbols.shutdown()

    let remote = Mutex<[String]>([])
    let broker = try Broker()
    let worker = try NATSWorker(
      plugin: everything { line in remote.withLock { $0.append(line) } }, name: "p", url: broker.url,
      group: "g")
    try worker.start()
    let (context, actions) = try NATSHost(broker.url).session(
      plugin: "p", entry: entry, context: sampleContext)
    worker.close()

    #expect(remote.withLock { $0 } == inProcess.withLock { $0 })
    session.state.withLock { state in
      #expect(sorted(context) == sorted(state.context))
      #expect(actions == state.ended.map { $0 == .end ? .end : .next })
    }
    #expect(context != sampleContext)
  }

  /// A header that is set again may keep its place or go to the end; that is no effect.
  private func sorted(_ context: HTTPContext) -> HTTPContext {
    var context = context
    context.response?.headers.sort { $0.key.lowercased() < $1.key.lowercased() }
    return context
  }
}
