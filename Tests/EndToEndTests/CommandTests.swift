import Foundation
import Results
import Report
import Testing

extension EndToEnd {
  @Suite("Commands that measure nothing", .tags(.besideOthers)) struct CommandTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    @Test(
      "Each command explains itself on standard output",
      arguments: [
        "run", "compare", "claims", "sweep", "export", "calibrate", "doctor", "scenarios", "validate",
        "init", "conform",
      ])
    func help(command: String) throws {
      let finished = try sandbox.bench(command, "--help")
      #expect(finished.code == 0)
      #expect(finished.out.contains("USAGE: nylon-bench \(command)"))
      #expect(finished.err.isEmpty)
    }

    @Test("--help shows the table of contents, with the exit codes")
    func overview() throws {
      let finished = try sandbox.bench("--help")
      #expect(finished.code == 0)
      for word in ["bench (default)", "compare", "claims", "EXIT CODES", "130 interrupted"] {
        #expect(finished.out.contains(word))
      }
    }

    @Test(
      "A shell completes commands, options, formats and files by the script that nylon-bench writes for it")
    func completion() throws {
      for shell in ["zsh", "fish"] {
        let finished = try sandbox.bench("--generate-completion-script", shell)
        #expect(finished.code == 0 && finished.out.contains("openmetrics"))
      }
      let script = try sandbox.write(
        try sandbox.bench("--generate-completion-script", "bash").out, as: "completion.bash")
      for name in ["mine.yaml", "mine.so", "mine.txt"] { try sandbox.write("", as: "tmp/\(name)") }
      let wanted = [
        (["conf"], "conform"), (["export", "latest", "--for"], "--format"),
        (["export", "latest", "--format", "open"], "openmetrics"),
        (["conform", "--dialect", "text"], "text-id"),
        (["claims", "--only", "f"], "figures"), (["validate", "mi"], "mine.yaml"),
        (["compare", "--ffi", "mi"], "mine.so"), (["run", "x.yaml", "--out", "../res"], "../results"),
      ]
      let asked = wanted.map { words, _ in "answer " + words.joined(separator: " ") }
      let shell = try sandbox.start(
        program: "/bin/bash",
        [
          "-c",
          """
          source "$1" && cd "$2"
          answer() {
            COMP_WORDS=(nylon-bench "$@") COMP_CWORD=$# COMP_LINE="nylon-bench $*" COMPREPLY=()
            COMP_POINT=${#COMP_LINE}
            $(complete -p nylon-bench | sed 's/.* -F \\([^ ]*\\) .*/\\1/') nylon-bench "${@: -1}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[@]}"
          }
          \(asked.joined(separator: "\n"))
          """, "completion", script, sandbox.temporary,
        ]
      ).finish()
      #expect(shell.out.split(separator: "\n").map(String.init) == wanted.map(\.1), "\(shell.err)")
    }

    @Test(
      "Wrong usage ends with 64, and says on standard error what is right",
      arguments: [
        ["run"], ["run", "a.yaml", "b.yaml"], ["run", "a.yaml", "--seed", "x"],
        ["run", "a.yaml", "--nonsense"],
        ["export", "results"], ["export", "results", "--format", "xml"], ["nonsense"], ["compare"],
        ["conform"], ["conform", "a.so", "--nats", "a"], ["conform", "a.so", "--dialect", "x"],
      ])
    func wrongUsage(arguments: [String]) throws {
      let finished = try sandbox.start(arguments).finish()
      #expect(finished.code == 64)
      #expect(finished.out.isEmpty)
      #expect(finished.err.contains("Usage: nylon-bench"))
    }

    @Test("The shipped scenarios are listed with what they are for, from any folder")
    func scenarios() throws {
      let finished = try sandbox.bench("scenarios", "--folder", Sandbox.package + "/Scenarios")
      #expect(finished.code == 0)
      let lines = finished.out.split(separator: "\n")
      #expect(lines.contains { $0.contains("compare.yaml") && $0.contains("FFI and NATS side by side") })
      #expect(!lines.contains { $0.contains("claims.yaml") })
      #expect(try sandbox.bench("scenarios").out.contains("headline.yaml"))
      #expect(try sandbox.bench("scenarios", "--folder", sandbox.folder + "/none").code == 65)
    }

    @Test("A good scenario and a good Nylon configuration are said to be valid")
    func validateGood() throws {
      let scenario = try sandbox.bench("validate", Sandbox.package + "/Scenarios/compare.yaml")
      #expect(scenario.code == 0)
      #expect(scenario.out.contains("a valid scenario, 'compare'"))
      let nylon = try sandbox.write(
        """
        messaging: [{name: default, servers: ["nats://127.0.0.1:4222"]}]
        plugins: [{name: scalable, messaging: default, entry_point: authz}]
        """, as: "nylon.yaml")
      let configuration = try sandbox.bench("validate", nylon)
      #expect(configuration.code == 0)
      #expect(configuration.out.contains("scalable"))
    }

    @Test("A bad scenario ends with 65, and each problem is named by file and line")
    func validateBad() throws {
      let path = try sandbox.write(
        """
        plugins: [{name: p, type: ffi, file: NullPlugin}]
        targets: [{name: ffi, plugin: q}]
        loads:
          - {mode: closed, concurrency: 0}
        measure_secs: 5
        """, as: "bad.yaml")
      for command in ["validate", "run"] {
        let finished = try sandbox.bench(command, path)
        #expect(finished.code == 65)
        #expect(finished.out.isEmpty)
        for place in ["bad.yaml:2:", "bad.yaml:4:", "bad.yaml:5:", "measure_seconds"] {
          #expect(finished.err.contains(place))
        }
      }
      #expect(try sandbox.bench("validate", sandbox.folder + "/none.yaml").code == 65)
    }

    @Test(
      "What run refuses is not called valid: what cannot be verified, and files that are missing or no libraries"
    )
    func validateAsRun() throws {
      let pool = Small.pool(
        workers: "{count: 1, command: nylon-worker}", target: ", dialect: text-id, verify: {status: 200}")
      let text = try sandbox.write("not a library", as: "text.so")
      let wanted: [(String, Int32, String)] = [
        (pool, 65, "scenario.yaml:5:"),
        (Small.plugin("/none.so"), 69, "The plugin '/none.so' of target 'given'"),
        (Small.plugin(text), 69, "is not a shared library"),
        ("broker: none\n" + Small.nats, 69, "of `broker:`"),
        (
          Small.pool(workers: "{count: 1, command: no-such}"), 69, "'no-such' of the workers of target 'nats'"
        ),
        (
          Small.pool(workers: "{count: 1, command: nylon-worker}", auth: ", auth: {nkey: a}"), 65,
          "messaging.0.auth"
        ),
      ]
      for (scenario, code, words) in wanted {
        let path = try sandbox.write(scenario, as: "scenario.yaml")
        for command in ["validate", "run"] {
          let finished = try sandbox.bench(command, path, "--out", sandbox.results)
          #expect(finished.code == code && finished.err.contains(words), "\(command): \(finished.err)")
          #expect(finished.out.isEmpty)
        }
      }
    }

    @Test("doctor names what it checked, also as JSON")
    func doctor() throws {
      let finished = try sandbox.bench("doctor")
      #expect(finished.code == 0)
      for name in ["nats-server", "nylon-worker", "clock source", "steal", "OS jitter", "grade "] {
        #expect(finished.out.contains(name))
      }
      let json = try sandbox.bench("doctor", "--json")
      let findings = try JSONSerialization.jsonObject(with: Data(json.out.utf8)) as? [[String: Any]]
      for name in ["nats-server", "grade"] {
        #expect(findings?.contains { $0["name"] as? String == name } == true)
      }
    }

    @Test("A result that cannot be written to standard output is an error", arguments: [">/dev/full", ">&-"])
    func unwritten(redirection: String) throws {
      let command = try Sandbox.command("nylon-bench")
      let finished = try sandbox.start(
        program: "/bin/sh", ["-c", "cd '\(Sandbox.package)' && exec '\(command)' scenarios \(redirection)"]
      ).finish()
      #expect(finished.code == 1)
      #expect(finished.err.hasPrefix("error: standard output cannot be written: "), "\(finished.err)")
    }

    @Test(
      "A help text, a version and a completion that standard output does not take are an error",
      arguments: [
        "--help", "help", "help run", "--version", "--generate-completion-script bash", "bench --help",
        "run --help", "compare --help", "claims --help", "sweep --help", "export --help", "calibrate --help",
        "doctor --help", "scenarios --help", "validate --help", "init --help", "conform --help",
      ])
    func unwrittenHelp(words: String) throws {
      let command = try Sandbox.command("nylon-bench")
      for (redirection, why) in [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")] {
        let finished = try sandbox.start(
          program: "/bin/sh", ["-c", "exec '\(command)' \(words) \(redirection)"]
        ).finish()
        #expect(finished.code == 1)
        #expect(
          finished.err.hasPrefix("error: standard output cannot be written: \(why)."), "\(finished.err)")
      }
    }

    @Test("Too little memory is said, and crashes nothing")
    func memory() throws {
      let command = try Sandbox.command("nylon-bench")
      let finished = try sandbox.start(
        program: "/bin/sh",
        ["-c", "ulimit -v 100000; exec '\(command)' validate '\(Sandbox.package)/Scenarios/compare.yaml'"]
      ).finish()
      #expect(finished.code == 1 && finished.out.isEmpty)
      #expect(finished.err.hasPrefix("error: The address space is limited to 97 MiB"), "\(finished.err)")
    }

    @Test("Something that is no run ends with 65")
    func exportOfNothing() throws {
      let path = try sandbox.write("{}", as: "run.json")
      for run in [sandbox.folder + "/none", path, sandbox.temporary] {
        let finished = try sandbox.bench("export", run, "--format", "csv")
        #expect(finished.code == 65)
        #expect(finished.out.isEmpty && finished.err.contains(run))
      }
    }
  }
}
