import ArgumentParser
import Foundation
import TestSupport
import Testing

@testable import Bench

@Suite("The manual page")
struct ManualPageTests {
  private static let page = URL(fileURLWithPath: #filePath)
    .appendingPathComponent("../../../docs/nylon-bench.1").standardizedFileURL.path

  @Test("docs/nylon-bench.1 is what the commands say of themselves")
  func rendered() throws {
    let text = try ManualPage(dump: NylonBench._dumpHelp()).text(version: ToolVersion.current)
    // NYLON_BENCH_WRITE_DOCS=1 scripts/test --filter BenchTests renews it.
    if ProcessInfo.processInfo.environment["NYLON_BENCH_WRITE_DOCS"] != nil {
      try text.write(toFile: Self.page, atomically: true, encoding: .utf8)
    }
    #expect(try String(contentsOfFile: Self.page, encoding: .utf8) == text)
    for command in NylonBench.configuration.subcommands where command.configuration.shouldDisplay {
      #expect(text.contains(".SS \"nylon\\-bench \(command._commandName.replacing("-", with: "\\-"))"))
    }
  }

  private static func isInstalled(_ program: String) -> Bool {
    FileManager.default.isExecutableFile(atPath: "/usr/bin/\(program)")
  }

  @Test(
    "groff and man read it without a warning",
    arguments: [
      ["groff", "-man", "-ww", "-Tutf8", "-z", page],
      ["man", "--warnings=w", "-E", "UTF-8", "-l", page],
    ].filter { isInstalled($0[0]) })
  func readable(words: [String]) throws {
    let ended = try Ended(
      "/usr/bin/\(words[0])", Array(words.dropFirst()),
      environment: ["PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANPAGER": "cat"])
    #expect(ended.code == 0 && ended.err.isEmpty, "\(ended.err)")
    if words[0] == "man" { #expect(ended.out.contains("nylon-bench export")) }
  }
}
