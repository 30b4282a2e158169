import Foundation
import Testing

@testable import Lab

/// scripts/setup against a package manager that only says what it would do.
@Suite struct SetupScriptTests {
  /// Runs the script with fakes for what it calls. `absent` is a package that is not installed.
  private func setup(absent: String, swift: String = "6.3.1") throws -> (
    status: Lab.ExitStatus?, words: String
  ) {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let fakes = """
      dpkg-query() { [[ "${@: -1}" == "$ABSENT" ]] || printf 'install ok installed'; }
      apt-get() { echo "apt-get $*"; }
      env() { echo "env $*" >&2; }
      sudo() { echo "sudo $*" >&2; return 1; }
      swift() { echo "Swift version $SWIFT (x)"; }
      systemctl() { :; }
      export -f dpkg-query apt-get env sudo swift systemctl
      exec bash "$1"
      """
    let child = try ChildProcess.start(
      Launch(
        "bash", ["-c", fakes, "fakes", root.appendingPathComponent("scripts/setup").path],
        environment: ["ABSENT": absent, "SWIFT": swift]))
    return (child.wait(timeout: .seconds(30)), child.lastWords)
  }

  @Test func itIsQuietWhenNothingIsToDo() throws {
    let (status, words) = try setup(absent: "none")
    #expect(status == .exited(0))
    #expect(words.isEmpty)
  }

  @Test func itInstallsOrNamesOnlyWhatIsMissing() throws {
    let (status, words) = try setup(absent: "zlib1g-dev")
    #expect(words.contains("missing: zlib1g-dev (the compressed histograms of a run folder)"))
    #expect(words.contains("install -y"))
    #expect(!words.contains("libnats-dev"))
    #expect(status == .exited(getuid() == 0 ? 0 : 69))
  }

  @Test func anOldSwiftEndsWith69() throws {
    let (status, words) = try setup(absent: "none", swift: "6.1.2")
    #expect(status == .exited(69))
    #expect(words.contains("6.1.2 is too old"))
  }
}
