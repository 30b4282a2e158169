import Foundation
import Results
import Report
import TestSupport
import Testing

extension EndToEnd {
  @Suite("What is bad or missing is named", .tags(.besideOthers)) struct FaultTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// Runs a scenario with one plugin, and expects an end before any load.
    private func expectRefusal(_ plugin: String, code: Int32, words: [String]) throws {
      let finished = try sandbox.run(Small.plugin(plugin))
      #expect(finished.code == code)
      #expect(finished.out.isEmpty)
      for word in words { #expect(finished.err.contains(word), "\(finished.err)") }
      #expect(try FileManager.default.contentsOfDirectory(atPath: sandbox.results).isEmpty)
    }

    @Test("A missing plugin")
    func missing() throws {
      try expectRefusal("./none.so", code: 69, words: ["none.so", "missing"])
    }

    @Test("A plugin that may not be read", .enabled(if: geteuid() != 0, "root may read everything"))
    func unreadable() throws {
      let path = try CPlugin().build(in: sandbox)
      chmod(path, 0)
      try expectRefusal(path, code: 69, words: [path, "cannot be read"])
    }

    @Test("A plugin without one of the six symbols")
    func symbol() throws {
      let path = try CPlugin(without: "plugin_free").build(in: sandbox)
      try expectRefusal(path, code: 69, words: [path, "plugin_free"])
    }

    @Test("A plugin that is no shared library")
    func notALibrary() throws {
      let path = try sandbox.write("#!/bin/sh\n", as: "script.so")
      try expectRefusal(path, code: 69, words: [path, "not a shared library"])
    }

    @Test("A handler that the plugin does not know")
    func handler() throws {
      let path = try CPlugin(register: "return false;").build(in: sandbox)
      try expectRefusal(path, code: 65, words: ["'main'", "register_session_stream refused it"])
    }

    @Test("A broker that does not answer")
    func closedPort() throws {
      let closed = try LoopbackPort(listens: false)
      defer { closed.close() }
      let finished = try sandbox.run(
        Small.nats, "--server", "nats://me:hidden-word@127.0.0.1:\(closed.number)")
      #expect(finished.code == 69)
      #expect(finished.err.contains("127.0.0.1:\(closed.number) does not answer"))
      #expect(!finished.err.contains("hidden-word"))
    }

    @Test("A broker that never greets")
    func silentListener() throws {
      let silent = try LoopbackPort(listens: true)
      defer { silent.close() }
      let finished = try sandbox.run(Small.nats, "--server", "nats://127.0.0.1:\(silent.number)")
      #expect(finished.code == 69)
      #expect(finished.err.contains("127.0.0.1:\(silent.number) does not answer"))
    }

    @Test("No nats-server", .enabled(if: Namespace.isAllowed, "needs a mount namespace of its own"))
    func noBroker() throws {
      let path = try sandbox.write(Small.nats, as: "nats.yaml")
      let hidden = "for d in /usr/sbin /usr/local/sbin; do mount -t tmpfs none $d; done; PATH=/usr/bin:/bin"
      for (words, place) in [(["run", path, "--out", sandbox.results], \Finished.err), (["doctor"], \.out)] {
        let finished = try Namespace.bench(words, after: hidden, in: sandbox)
        #expect(finished.code == 69)
        #expect(finished[keyPath: place].contains("apt-get install nats-server"))
      }
    }

    @Test("A worker that dies at its start, with its last words")
    func worker() throws {
      let finished = try sandbox.run(
        Small.pool(workers: "{count: 1, command: [sh, -c, 'echo no such table: users >&2; exit 3']}"))
      #expect(finished.code == 1)
      #expect(finished.err.contains("no such table: users"))
      #expect(finished.err.contains("3"))
      #expect(sandbox.processes().isEmpty)
    }

    @Test("A missing worker program")
    func workerProgram() throws {
      let finished = try sandbox.run(Small.pool(workers: "{count: 1, command: no-such-program}"))
      #expect(finished.code == 69)
      #expect(finished.err.contains("no-such-program"))
    }

    @Test("A results folder that cannot be written, before anything is measured")
    func results() throws {
      let file = try sandbox.write("", as: "a-file")
      let path = try sandbox.write(Small.ffi, as: "ffi.yaml")
      let finished = try sandbox.bench("run", path, "--out", file + "/results")
      #expect(finished.code == 1)
      #expect(finished.err.contains("a-file/results"))
      #expect(finished.err.contains("--out"))
    }

    @Test(
      "A full disk: the run is saved elsewhere, and the message says where",
      .enabled(if: Namespace.isAllowed, "needs a mount namespace of its own"))
    func fullDisk() throws {
      let path = try sandbox.write(Small.ffi, as: "ffi.yaml")
      let finished = try Namespace.bench(
        ["run", path, "--out", sandbox.results], after: "mount -t tmpfs -o size=8k none '\(sandbox.results)'",
        in: sandbox)
      #expect(finished.code == 1)
      #expect(finished.err.contains("No space left on device"))
      #expect(!finished.err.contains("What was measured before the error is in"))
      let saved = try FileManager.default.contentsOfDirectory(atPath: sandbox.temporary)
      let refuge = try #require(saved.first { $0.hasSuffix("run.json") })
      #expect(finished.err.contains(refuge))
      expectCounts(try RunFolder.open(path: "\(sandbox.temporary)/\(refuge)").document)
    }
  }
}

/// A mount namespace of one command's own: folders can be hidden or full there, and nobody else sees it.
enum Namespace {
  static let isAllowed: Bool = {
    let probe = Process()
    probe.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    probe.arguments = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/usr/local/sbin"]
    probe.standardError = FileHandle.nullDevice
    guard (try? probe.runAlone()) != nil else { return false }
    probe.waitUntilExit()
    return probe.terminationStatus == 0
  }()

  /// Runs `nylon-bench` after a shell script that changes what it sees.
  static func bench(_ words: [String], after script: String, in sandbox: Sandbox) throws -> Finished {
    try sandbox.start(
      program: "/usr/bin/env",
      ["unshare", "-rm", "sh", "-c", script + "; exec \"$@\"", "sh", Sandbox.command("nylon-bench")] + words
    ).finish()
  }
}

/// A port of the loopback interface that this test alone has. It takes connections and says nothing, or refuses them.
struct LoopbackPort {
  struct NoPort: Error {}

  let number: UInt16
  private let descriptor: Int32

  init(listens: Bool) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
      }
    }
    guard isBound, !listens || listen(descriptor, 8) == 0 else { throw NoPort() }
    number = UInt16(bigEndian: address.sin_port)
    self.descriptor = descriptor
  }

  func close() { _ = Glibc.close(descriptor) }
}
