import CLinux
import Foundation
import Testing

@testable import Lab

@Suite struct LoadProcessTests {
  @Test func theOrderGoesInAndTheDocumentComesOut() throws {
    let load = try LoadProcess.start(
      order: Array("order".utf8), arguments: ["-c", "cat >&$NYLON_BENCH_DOCUMENT_FD; echo done >&2"],
      program: "/bin/sh")
    let outcome = load.wait(limit: .seconds(20))
    #expect(outcome.document == Array("order".utf8))
    #expect(outcome.status == .exited(0))
    #expect(outcome.lastWords == "done")
    #expect(!outcome.ranOver)
  }

  @Test func sharedMemoryGoesBothWays() throws {
    let memory = try Descriptor.memory("shared", holding: Array("ping".utf8))
    let load = try LoadProcess.start(
      order: [], arguments: ["-c", "cat <&4 >&3; printf pong > /proc/self/fd/$NYLON_BENCH_SHARED_FD"],
      program: "/bin/sh", sharedMemory: memory.raw)
    #expect(load.wait(limit: .seconds(20)).document == Array("ping".utf8))
    lseek(memory.raw, 0, SEEK_SET)
    guard case .bytes(let bytes) = memory.read() else {
      Issue.record("nothing in the shared memory")
      return
    }
    #expect(bytes == Array("pong".utf8))
  }

  @Test func aCrashIsAResultWithoutADocument() throws {
    let load = try LoadProcess.start(
      order: [], arguments: ["-c", "echo going down >&2; kill -SEGV $$"], program: "/bin/sh")
    let outcome = load.wait(limit: .seconds(20))
    #expect(outcome.document == nil)
    #expect(outcome.status == .signaled(SIGSEGV))
    #expect(outcome.lastWords == "going down")
  }

  @Test func aProcessThatRunsOverIsEnded() throws {
    let load = try LoadProcess.start(order: [], arguments: ["1000"], program: "/bin/sleep")
    let outcome = load.wait(limit: .milliseconds(100))
    #expect(outcome.ranOver)
    #expect(outcome.status == .signaled(SIGTERM))
    #expect(!isAlive(load.pid))
  }

  @Test func whoPollsCanEndItAndStillGetsWhatWasMeasured() throws {
    let up = NSTemporaryDirectory() + "/nylon-bench-up-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: up) }
    let script = "trap 'echo half >&3; exit 0' TERM; : >\"$1\"; while :; do sleep 0.02; done"
    let load = try LoadProcess.start(order: [], arguments: ["-c", script, "load", up], program: "/bin/sh")
    var goesOn: [Bool] = []
    let outcome = load.wait(
      limit: .seconds(60), every: .milliseconds(100),
      onPoll: {
        goesOn.append(goesOn.count < 2 || !FileManager.default.fileExists(atPath: up))
        return goesOn[goesOn.count - 1]
      })
    // It was asked until it said no, and not again.
    #expect(goesOn.count >= 3 && goesOn.firstIndex(of: false) == goesOn.count - 1)
    #expect(outcome.document == Array("half\n".utf8))
    #expect(outcome.status == .exited(0))
    #expect(!outcome.ranOver)
  }

  @Test func theProgramIsOursUnlessAnotherIsNamed() throws {
    #expect(FileManager.default.isExecutableFile(atPath: Executables.ownPath))
    #expect(Executables.ownPath.hasPrefix(Executables.ownFolder))
  }

  @Test func aFileWithoutTheRunBitIsNotCalledMissing() throws {
    let file = NSTemporaryDirectory() + "no-program-" + UUID().uuidString
    func says(_ words: String) {
      #expect {
        _ = try Executables.find(file, remedy: "Remedy.")
      } throws: { "\($0)" == "The program \(file) \(words). Remedy." }
    }
    says("is missing")
    try Data().write(to: URL(fileURLWithPath: file))
    defer { try? FileManager.default.removeItem(atPath: file) }
    says("is not an executable file")
  }
}
