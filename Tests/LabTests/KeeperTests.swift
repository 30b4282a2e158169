import TestSupport
import Foundation
import Testing

@testable import Lab

/// The keeper when its parent dies. Each parent is a separate shell, killed with SIGKILL.
@Suite struct KeeperTests {
  /// Starts a shell as a parent that keeps a program through a keeper, and alone holds the
  /// writing end of its lifeline.
  private func parent(keeping program: String) throws -> Process {
    let keeper = try Executables.own("nylon-keeper")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    let script = """
      exec {life}> >(exec {in}<&0 0</dev/null; exec "$1" --lifeline $in --status 2 -- sh -c "$2")
      for _ in {1..300}; do sleep 0.1; done
      """
    process.arguments = ["-c", script, "parent", keeper, program]
    process.standardError = FileHandle.nullDevice
    try process.runAlone()
    return process
  }

  @Test func killingTheParentEndsTheProgramAndEverythingBelowIt() throws {
    let words = [uniqueSeconds(), uniqueSeconds(), uniqueSeconds()]
    let script = """
      trap '' TERM; sleep \(words[0]) & (setsid sh -c 'trap "" TERM HUP; sleep \(words[1]); :' &)
      sleep \(words[2]); sleep \(words[2])
      """
    let parent = try parent(keeping: script)
    for word in words { #expect(eventually { !processes(withWord: word).isEmpty }) }
    kill(parent.processIdentifier, SIGKILL)
    parent.waitUntilExit()
    for word in words { #expect(eventually { processes(withWord: word).isEmpty }) }
  }

  @Test func killingTheKeeperEndsItsProgram() throws {
    let word = uniqueSeconds()
    let child = try ChildProcess.start(Launch("sleep", [word]))
    let keeper = try #require(parentOf(child.pid))
    kill(keeper, SIGKILL)
    #expect(child.wait(timeout: .seconds(60)) == .lost)
    #expect(eventually { processes(withWord: word).isEmpty })
  }

  /// Of the two keepers one is killed: the one that keeps the program, or the one above it.
  @Test(arguments: [1, 2])
  func killingAKeeperEndsWhatItsProgramHadStarted(generationsAbove: Int) throws {
    let words = [uniqueSeconds(), uniqueSeconds(), uniqueSeconds()]
    let script = """
      trap '' TERM HUP
      sleep \(words[0]) & (setsid sh -c 'trap "" TERM HUP; sleep \(words[1]); :' &)
      sleep \(words[2]); :
      """
    let child = try ChildProcess.start(Launch("sh", ["-c", script]))
    for word in words { #expect(eventually { !processes(withWord: word).isEmpty }) }
    kill(try keeper(of: child, generationsAbove: generationsAbove), SIGKILL)
    // The program ignores SIGTERM, so it is killed in the end.
    #expect(child.wait(timeout: .seconds(60)) == (generationsAbove == 1 ? .lost : .signaled(SIGKILL)))
    for word in words { #expect(eventually { processes(withWord: word).isEmpty }) }
  }

  @Test func terminatingTheKeeperEndsItsProgramInOrder() throws {
    let child = try ChildProcess.start(Launch("sleep", [uniqueSeconds()]))
    kill(try #require(parentOf(child.pid)), SIGTERM)
    #expect(child.wait(timeout: .seconds(60)) == .signaled(SIGTERM))
    let other = try ChildProcess.start(Launch("sleep", [uniqueSeconds()]))
    kill(try keeper(of: other, generationsAbove: 2), SIGTERM)
    #expect(other.wait(timeout: .seconds(60)) == .signaled(SIGTERM))
  }

  @Test func theKeepersTitleShowsNothingOfTheProgram() throws {
    let child = try ChildProcess.start(Launch("sleep", [uniqueSeconds()]))
    let keeper = try #require(parentOf(child.pid))
    let line = FileManager.default.contents(atPath: "/proc/\(keeper)/cmdline") ?? Data()
    let title = line.prefix { $0 != 0 }
    #expect(String(decoding: title, as: UTF8.self) == "nylon-keeper")
    #expect(line.dropFirst(title.count).allSatisfy { $0 == 0 })
    child.terminate()
  }

  @Test func wrongUsageIsToldAndEndsWith64() throws {
    for arguments in [
      [], ["--lifeline"], ["--lifeline", "x", "--status", "1", "--", "true"],
      ["--lifeline", "99", "--status", "1", "--", "true"], ["--lifeline", "0", "--status", "1"],
      ["--what", "1"],
    ] {
      let child = try ChildProcess.start(Launch(try Executables.own("nylon-keeper"), arguments))
      #expect(child.wait(timeout: .seconds(60)) == .exited(64))
      #expect(child.lastWords.contains("usage: nylon-keeper"))
    }
  }

  private func keeper(of child: ChildProcess, generationsAbove: Int) throws -> Int32 {
    var pid = child.pid
    for _ in 0..<generationsAbove { pid = try #require(parentOf(pid)) }
    return pid
  }

  private func parentOf(_ pid: Int32) -> Int32? {
    let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
    return stat?.split(separator: ")").last?.split(separator: " ").dropFirst().first.flatMap { Int32($0) }
  }
}
