import TestSupport
import Foundation
import Testing

@testable import Lab

@Suite struct ChildProcessTests {
  @Test func aProgramRunsToItsEndAndTellsItsCode() throws {
    let child = try ChildProcess.start(
      Launch("sh", ["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3"]))
    #expect(child.pid > 0)
    #expect(child.wait(timeout: .seconds(60)) == .exited(3))
    #expect(!child.isRunning)
  }

  @Test func standardInputReachesTheProgramWhole() throws {
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let child = try ChildProcess.start(
      Launch(program: "sh", arguments: ["-c", "cat >&3"], input: bytes, collectsDocument: true))
    #expect(child.wait(timeout: .seconds(60)) == .exited(0))
    #expect(child.document == bytes)
  }

  @Test func aDocumentOverItsLimitIsNoDocument() throws {
    let child = try ChildProcess.start(
      Launch(
        program: "sh", arguments: ["-c", "head -c 100000 /dev/zero >&3"], collectsDocument: true,
        documentLimit: 99_999))
    #expect(child.wait(timeout: .seconds(60)) == .exited(0))
    #expect(child.document == nil)
  }

  @Test func aProgramThatIsNotThereIsToldFromOneThatEndsWith127() throws {
    #expect {
      try ChildProcess.start(Launch("/no/such/program"))
    } throws: { error in
      (error as? LabError)?.isMissing == true && "\(error)".contains("/no/such/program")
    }
    let child = try ChildProcess.start(Launch("sh", ["-c", "exit 127"]))
    #expect(child.wait(timeout: .seconds(60)) == .exited(127))
  }

  @Test func aFileThatIsNoProgramIsAnErrorWithTheReason() {
    #expect(
      throws: LabError.cannotStart(program: "/etc/passwd", why: "Permission denied")
    ) { try ChildProcess.start(Launch("/etc/passwd")) }
  }

  @Test func aNULByteInAnArgumentIsRefused() {
    #expect {
      try ChildProcess.start(Launch("echo", ["a\0b"]))
    } throws: { "\($0)".contains("NUL byte") }
  }

  @Test func lastWordsHoldNoSecretHoweverMuchIsSaid() throws {
    let child = try ChildProcess.start(
      Launch(
        program: "sh",
        arguments: [
          "-c",
          "i=0; while [ $i -lt 9000 ]; do echo \"$i token $WORD nats://u:pw@h:1\" >&2; i=$((i+1)); done",
        ],
        environment: ["WORD": "sw0rdfish"], secrets: ["sw0rdfish"]))
    #expect(child.wait(timeout: .seconds(30)) == .exited(0))
    #expect(child.lastWords.hasSuffix("8999 token *** nats://***@h:1"))
    #expect(!child.lastWords.contains("sw0rd"))
    #expect(child.lastWords.utf8.count <= 65536)
  }

  @Test func aProcessThatWillNotListenIsKilledAfterTheGrace() throws {
    let child = try ChildProcess.start(
      Launch("sh", ["-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"]))
    #expect(child.waitForWords(until: .after(.seconds(60))) { $0.contains("up") ? true : nil } == true)
    #expect(child.terminate(grace: .milliseconds(100)) == .signaled(SIGKILL))
  }

  @Test func aStoppedProcessCanBeTerminated() throws {
    let child = try ChildProcess.start(Launch("sleep", ["1000"]))
    kill(child.pid, SIGSTOP)
    #expect(eventually { processState(child.pid) == "T" })
    #expect(child.terminate() == .signaled(SIGTERM))
  }

  @Test func daemonsThatAProgramLeavesBehindAreEndedWithIt() throws {
    let word = uniqueSeconds()
    let go = NSTemporaryDirectory() + "/nylon-bench-go-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: go) }
    let script = """
      (setsid sh -c 'trap "" TERM HUP; sleep \(word); sleep \(word)' &)
      until [ -e "$1" ]; do sleep 0.01; done
      """
    let child = try ChildProcess.start(Launch("sh", ["-c", script, "parent", go]))
    #expect(eventually { !processes(withWord: word).isEmpty })
    try Data().write(to: URL(fileURLWithPath: go))
    #expect(child.wait(timeout: .seconds(60)) == .exited(0))
    #expect(processes(withWord: word).isEmpty)
  }

  @Test func aChildEndsWithTheObjectThatStandsForIt() throws {
    var child: ChildProcess? = try ChildProcess.start(Launch("sleep", [uniqueSeconds()]))
    let pid = try #require(child?.pid)
    #expect(isAlive(pid))
    child = nil
    #expect(eventually { !isAlive(pid) })
  }

  @Test func aChildHasOnlyTheDescriptorsThatItIsGiven() throws {
    // A descriptor that is not closed on exec, as another library may have.
    let leaky = dup(0)
    defer { close(leaky) }
    let memory = try Descriptor.memory("given", holding: Array("hello".utf8))
    let child = try ChildProcess.start(
      Launch(program: "sh", arguments: ["-c", "ls /proc/self/fd; cat <&3"], descriptors: [memory.raw]))
    #expect(child.wait(timeout: .seconds(60)) == .exited(0))
    // ls itself opens 4.
    #expect(child.outputText == "0\n1\n2\n3\n4\nhello")
  }

  @Test func manyChildrenLeaveNoDescriptorsAndNoZombies() throws {
    func ours() -> Int { (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0 }
    func zombies() -> [Int32] {
      let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
      return entries.compactMap(Int32.init).filter { pid in
        guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else {
          return false
        }
        let words = stat.split(separator: ")").last?.split(separator: " ") ?? []
        return words.count > 1 && words[0] == "Z" && words[1] == "\(getpid())"
      }
    }
    let before = ours()
    for _ in 0..<40 {
      let child = try ChildProcess.start(Launch(program: "true", input: [1], collectsDocument: true))
      #expect(child.wait(timeout: .seconds(60)) == .exited(0))
    }
    // Other tests run meanwhile, each with some descriptors; 40 leaks of six would show.
    #expect(eventually { ours() < before + 60 })
    #expect(eventually { zombies().isEmpty })
  }
}
