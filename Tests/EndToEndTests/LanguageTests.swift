import Engine
import Foundation
import Report
import Results
import Testing

extension EndToEnd {
  @Suite("Plugins and workers in other languages") struct LanguageTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// Where scripts/plugins has put what it could build on this machine.
    private static let built = Sandbox.package + "/.build/plugins"

    private static func isBuilt(_ part: String) -> Bool {
      FileManager.default.fileExists(atPath: "\(built)/\(part)")
    }

    private static func plugins(_ file: String) -> String {
      """
      plugins:
        - {name: given, type: ffi, file: \(file)}
        - {name: working, type: ffi, file: \(file), config: {work_us: 20000}}
      """
    }

    private static func pools(_ program: String) -> (plugins: String, workers: (String) -> String) {
      (
        """
        messaging: [{name: default, servers: []}]
        plugins:
          - {name: given, messaging: default, group: workers}
          - {name: working, messaging: default, group: workers, config: {work_us: 20000}}
        """, { ", workers: {count: 1, command: \(program) \($0)}" }
      )
    }

    /// Every session of authz changes the response as it must, noop leaves it, and work lasts as long as configured.
    private func expectRightAnswers(
      plugins: String, workers: (String) -> String = { _ in "" }, transport: String, processor: String
    ) throws {
      let finished = try sandbox.run(
        """
        name: language
        \(plugins)
        targets:
          - {name: noop, plugin: given, handler: noop, verify: {status: 200, body_unchanged: true}\(workers("given"))}
          - name: authz
            plugin: given
            handler: authz
            verify:
              response_headers: {X-Plugin-Transport: \(transport), X-Processed-By: \(processor), X-Upstream: "yes"}
              body_unchanged: true
            \(workers("given").dropFirst(2))
          - {name: work, plugin: working, handler: work, loads: [{mode: closed, concurrency: 1}]\(workers("working"))}
        request: {path: /api/users, body_bytes: 64}
        response: {headers: {X-Upstream: "yes"}}
        loads: [{mode: closed, concurrency: 8}]
        \(Small.times)
        """)
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      #expect(document.measurements.count == 3)
      for measurement in document.measurements {
        #expect(measurement.request?.counts.handlerErrors == 0 && measurement.request?.counts.timeouts == 0)
      }
      let work = document.measurements.first { $0.target == "work" }
      #expect((work?.request?.response.leastNanoseconds ?? 0) >= 20_000_000)
      #expect(sandbox.processes().isEmpty)
    }

    private func expectPlugin(_ path: String) throws {
      try expectRightAnswers(plugins: Self.plugins(path), transport: "FFI", processor: "FFI-Plugin")
    }

    private func expectWorker(_ path: String) throws {
      let (plugins, workers) = Self.pools(path)
      try expectRightAnswers(plugins: plugins, workers: workers, transport: "NATS", processor: "NATS-Worker")
    }

    @Test("C: scripts/plugins builds both, and every session has the right answer")
    func c() throws {
      let folder = sandbox.folder + "/plugins"
      let script = try sandbox.start(
        program: Sandbox.package + "/scripts/plugins", ["--out", folder, "c"]
      ).finish()
      #expect(script.code == 0, "\(script.err)")
      #expect(script.out == "plugin-c.so: built\nworker-c: built\n")
      try expectPlugin(folder + "/plugin-c.so")
      try expectWorker(folder + "/worker-c")
    }

    @Test(
      "Rust, in process: every session has the right answer",
      .enabled(if: isBuilt("plugin-rust.so"), "scripts/plugins rust has not built it"))
    func rust() throws { try expectPlugin(Self.built + "/plugin-rust.so") }

    @Test(
      "Go, in process: every session has the right answer",
      .enabled(if: isBuilt("plugin-go.so"), "scripts/plugins go has not built it"))
    func go() throws { try expectPlugin(Self.built + "/plugin-go.so") }

    @Test(
      "Go, behind NATS: every session has the right answer",
      .enabled(if: isBuilt("worker-go"), "scripts/plugins go has not built it"))
    func goWorker() throws { try expectWorker(Self.built + "/worker-go") }

    @Test(
      "Python, behind NATS: every session has the right answer",
      .enabled(if: isBuilt("worker-python"), "scripts/plugins python has not built it"))
    func python() throws { try expectWorker(Self.built + "/worker-python") }

    @Test("scripts/plugins says what is missing, and ends with 0", .tags(.besideOthers))
    func missingTools() throws {
      let script = try sandbox.start(
        program: "/bin/bash",
        [Sandbox.package + "/scripts/plugins", "--out", sandbox.folder + "/none", "rust", "go"],
        environment: ["PATH": try emptyPath()]
      ).finish()
      #expect(script.code == 0, "\(script.err)")
      #expect(script.out.contains("plugin-rust.so: skipped, rustc is missing; apt-get install rustc\n"))
      #expect(script.out.contains("worker-go: skipped, go is missing; apt-get install golang-go "))
    }

    /// A PATH with the few programs that the script itself needs.
    private func emptyPath() throws -> String {
      let folder = sandbox.folder + "/bin"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      for name in ["mkdir", "mktemp", "rm", "dirname"] {
        try FileManager.default.createSymbolicLink(
          atPath: "\(folder)/\(name)", withDestinationPath: "/usr/bin/\(name)")
      }
      return folder
    }

    private static let optional = """
      name: optional
      messaging: [{name: default, servers: []}]
      plugins:
        - {name: floor, type: ffi, file: NullPlugin}
        - {name: absent, type: ffi, file: ./absent.so}
        - {name: pool, messaging: default, group: workers}
      targets:
        - {name: floor, plugin: floor, handler: noop, optional: true}
        - {name: absent, plugin: absent, handler: noop, optional: true}
        - {name: pool, plugin: pool, handler: noop, optional: true, workers: {count: 1, command: ./absent-worker}}
      loads: [{mode: closed, concurrency: 1}]
      \(Small.times)
      """

    @Test("A run skips optional targets with a missing part, and says so")
    func optionalTargets() throws {
      let finished = try sandbox.run(Self.optional)
      let document = try sandbox.latest()
      expectHonest(finished, document)
      #expect(document.measurements.map(\.target) == ["floor"])
      let warnings = document.warnings.filter { $0.contains("scripts/plugins") }
      #expect(warnings.count == 2)
      for (name, part) in [("absent", "/absent.so'"), ("pool", "/absent-worker'")] {
        #expect(
          warnings.contains { $0.contains("'\(name)' is skipped") && $0.contains(part) }, "\(warnings)")
        #expect(finished.err.contains("'\(name)' is skipped"))
      }
    }

    @Test(
      "A run with nothing but missing parts is refused, and so is a missing part that is not optional",
      .tags(.besideOthers))
    func missingParts() throws {
      let none = try sandbox.run(
        Self.optional.replacingOccurrences(of: "file: NullPlugin", with: "file: ./none.so"))
      #expect(none.code == 65)
      #expect(
        none.err.contains("targets: are all optional, and each lacks its plugin or worker program"),
        "\(none.err)")
      let required = try sandbox.run(Self.optional, "--set", "targets.1.optional=false")
      #expect(required.code != 0)
      #expect(required.err.contains("/absent.so' of target 'absent'"), "\(required.err)")
    }
  }
}
