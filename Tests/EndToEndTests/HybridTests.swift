import Foundation
import TestSupport
import Testing

@testable import Engine
@testable import Results

extension EndToEnd {
  @Suite("A request that passes a plugin in process and a pool") struct HybridTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    private func scenario(_ file: String, handler: String, policy: String = "", more: String = "") -> String {
      """
      name: hybrid
      messaging: [{name: default, servers: []}]
      plugins:
        - {name: first, type: ffi, file: \(file)\(policy)}
        - {name: example, messaging: default, group: workers}
      targets:
        - name: hybrid
          plugin: example
          handler: authz
          behind: {plugin: first, handler: \(handler)}
          workers: {count: 2, command: nylon-worker}
          verify: {response_headers: {X-Plugin-Transport: ""}}
      loads: [{mode: closed, concurrency: 4}, {mode: open, rate_per_second: 300}]
      replicates: 1
      \(Small.times)
      \(more)
      """
    }

    @Test(
      "Each phase passes the plugin and then the pool, whichever thread the plugin answers from",
      arguments: [("ExamplePlugin", "authz"), ("ThreadedPlugin", "noop")])
    func bothPlugins(file: String, handler: String) throws {
      let finished = try sandbox.run(scenario(file, handler: handler))
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      let phases = ["request_filter", "response_filter", "response_body_filter", "logging"]
      for one in document.measurements {
        #expect(one.scopes.map(\.scope) == ["request"] + phases + phases.map { "first.\($0)" })
        let sessions = try #require(one.request).counts.sent
        #expect(sessions > 0)
        for scope in one.scopes {
          #expect(scope.counts.ok == sessions && scope.counts.sent == sessions, "\(scope.scope)")
          #expect(scope.response.count == sessions, "\(scope.scope)")
        }
        let whole = try #require(one.request?.response.meanNanoseconds)
        let parts = one.scopes.dropFirst().compactMap(\.response.meanNanoseconds)
        #expect(parts.count == 8 && parts.reduce(0, +) <= whole * 1.001)
      }
      #expect(finished.out.contains("plugin \(file)"), "\(finished.out)")
      #expect(sandbox.processes().isEmpty)
    }

    @Test("A phase that the plugin does not end costs the session, and never reaches the pool")
    func silentPlugin() throws {
      let silent = try CPlugin(event: "").build(in: sandbox)
      let policy = ", per_phase: {request_filter: {timeout_ms: 50}}"
      _ = try sandbox.run(scenario(silent, handler: "main", policy: policy))
      let document = try sandbox.latest()
      for one in document.measurements {
        #expect(one.scopes.allSatisfy { $0.counts.closes })
        let counts = try #require(one.request).counts
        #expect(counts.sent > 0 && counts.ok == 0 && counts.timeouts + counts.lost == counts.sent)
        let pool = try #require(one.scopes.first { $0.scope == "request_filter" })
        #expect(pool.counts.sent == 0)
      }
    }
  }
}
