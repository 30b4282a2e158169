import Foundation
import Testing

@testable import Scenario

/// The text with all keys switched on that it has for the user: lines that begin with `#` and no space.
private func switchedOn(_ text: String) -> String {
  text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
    let code = line.drop { $0 == " " }
    guard code.hasPrefix("#"), !code.hasPrefix("# ") else { return String(line) }
    return String(line.prefix(line.count - code.count) + code.dropFirst())
  }.joined(separator: "\n")
}

/// The transport of a library without any key of its own.
private func inProcess(_ file: String) -> TransportSpec {
  .ffi(FFISpec(file: file, payloads: .plugin, spin: .auto))
}

private let nylon = """
  runtime: {threads: 2}
  messaging:
    - {name: default, servers: ["nats://me:hidden@127.0.0.1:4222"]}
    - {name: nowhere, servers: []}
  plugins:
    - {name: fast, type: ffi, file: ./plugin.so}
    - {name: scalable, type: messaging, messaging: default, group: workers, entry_point: authz, max_inflight: 32}
    - {name: lonely, type: messaging, messaging: nowhere}
    - {name: sandboxed, type: wasm, file: ./plugin.wasm}
  services:
    - {name: ws, service_type: plugin, plugin: {name: fast, entry: socket}}
  middleware_groups:
    auth:
      - {plugin: fast, entry: check, payload: {user: "x"}}
      - {plugin: fast, entry: log}
      - {plugin: scalable, entry: authz}
      - {plugin: RequestHeaderModifier}

  """

@Suite("A scenario from the command line's arguments")
struct DraftTests {
  @Test("A plugin's library is measured unloaded, with 8 and 64 in flight, and at a known rate")
  func library() throws {
    var draft = ScenarioDraft.library("/tmp/libmine.so.1", handler: nil)
    var plan = try ScenarioLoader.load(draft, options: .init())
    #expect(plan.name == "mine" && plan.summary == "What the plugin mine costs in process.")
    #expect(plan.loads.map(\.label) == ["closed-1", "closed-8", "closed-64"])
    #expect(plan.targets.map(\.name) == ["mine"] && plan.targets[0].handler == "authz")
    #expect(plan.targets[0].transport == inProcess("/tmp/libmine.so.1"))
    #expect(plan.targets[0].phases.count == 4 && plan.rounds == 6...12)
    #expect(plan.warnings.isEmpty && plan.file.isEmpty)
    draft.openRatePerSecond = 5000
    plan = try ScenarioLoader.load(draft, options: .init(overrides: ["targets.0.spin=on"], quick: true))
    #expect(plan.loads.last?.label == "open-5000" && plan.rounds == 1...1)
    #expect(plan.targets[0].spin == .on)
  }

  @Test("A product of this package keeps its name")
  func product() throws {
    let plan = try ScenarioLoader.load(.library("ExamplePlugin", handler: "noop"), options: .init())
    #expect(plan.targets[0].transport == inProcess("ExamplePlugin"))
    #expect(plan.targets[0].name == "ExamplePlugin" && plan.targets[0].handler == "noop")
  }

  @Test(
    "A target is named after the plugin's file",
    arguments: [
      ("/a/mine.so", "mine"), ("/a/lib.so", "lib"), ("/a/plugin_sdk.so", "plugin_sdk"),
      ("/a/x.so.so", "x-so"),
      ("/a/é #1.so", "---1"), ("/a/.so", "plugin"),
    ])
  func names(file: String, name: String) { #expect(ScenarioDraft.pluginName(of: file) == name) }

  @Test(
    "Whatever a file and a handler are called, they arrive as they were given",
    arguments: [
      "a b", "it's \"x\"", "a: b # c", "null", "~", "- x", "ü🦊", "{x}", "&a", "%x", "true", "0x1F", "*",
    ])
  func oddNames(name: String) throws {
    let plan = try ScenarioLoader.load(.library("/tmp/\(name).so", handler: name), options: .init())
    #expect(plan.targets[0].handler == name)
    #expect(plan.targets[0].transport == inProcess("/tmp/\(name).so"))
  }

  @Test("What cannot be a value is refused in the words that the user typed")
  func refused() throws {
    let wanted: [(ScenarioDraft, String)] = [
      (
        .library("/tmp/x.so", handler: "a\tb"),
        "/tmp/x.so: targets.0.handler = 'a?b': contains a control character"
      ),
      (
        .sideBySide(library: "/tmp/x.so", pool: "a b", command: ["w"], servers: [], handler: nil),
        "--ffi /tmp/x.so --nats a b: plugins.1.name = 'a b'"
      ),
    ]
    for (draft, words) in wanted {
      #expect {
        _ = try ScenarioLoader.load(draft, options: .init())
      } throws: { "\($0)".hasPrefix(words) }
    }
  }

  @Test("A library and a pool are two targets, and the workers' program is found from anywhere")
  func sideBySide() throws {
    let draft = ScenarioDraft.sideBySide(
      library: "/tmp/mine.so", pool: "mine", command: ["./my-worker", "a b", "--token", "hunter2"],
      servers: [],
      handler: "check")
    let plan = try ScenarioLoader.load(draft, options: .init())
    #expect(
      plan.targets.map(\.name) == ["ffi", "nats"] && plan.targets.map(\.plugin) == ["mine-ffi", "mine"])
    #expect(plan.targets.allSatisfy { $0.handler == "check" })
    guard case .nats(let spec) = plan.targets[1].transport else {
      Issue.record("no pool")
      return
    }
    let here = FileManager.default.currentDirectoryPath
    #expect(spec.workers?.command == ["\(here)/my-worker", "a b", "--token", "hunter2"])
    // One of them is asked what they speak.
    #expect(spec.servers.isEmpty && spec.dialect == nil && spec.workers?.count == 2)
    let text = try #require(plan.text)
    #expect(!text.contains("hunter2") && text.contains("\"***\""))
  }

  @Test("A script that a command names by a relative path is found from anywhere, and other words stay")
  func script() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let script = try folder.write("", as: "worker.py")
    let here = FileManager.default.currentDirectoryPath
    let relative = here.split(separator: "/").map { _ in "../" }.joined() + script.dropFirst()
    let draft = ScenarioDraft.sideBySide(
      library: "/tmp/mine.so", pool: "mine", command: ["python3", relative, "mine", "--level=1.5", "a/b"],
      servers: [],
      handler: nil)
    guard case .workers(let command, _) = draft.subjects[1].way else {
      Issue.record("no workers")
      return
    }
    #expect(command == ["python3", script, "mine", "--level=1.5", "a/b"])
  }

  @Test("Workers that run already are at --server, which the stored text names without its secrets")
  func running() throws {
    let server = "nats://me:hunter2@127.0.0.1:4222"
    let draft = ScenarioDraft.sideBySide(
      library: "/tmp/mine.so", pool: "mine", command: [], servers: [server], handler: nil)
    let plan = try ScenarioLoader.load(draft, options: .init(server: server))
    guard case .nats(let spec) = plan.targets[1].transport else {
      Issue.record("no pool")
      return
    }
    #expect(spec.servers == [server] && spec.workers == nil)
    let text = try #require(plan.text)
    #expect(!text.contains("hunter2") && text.contains("nats://***@127.0.0.1:4222"))
    // It is a scenario of its own.
    #expect(try load(text).targets.count == 2)
  }

  @Test("A command without a program, or with an open quote, is refused and not shown")
  func commands() throws {
    #expect(try ScenarioDraft.words(of: "python3 'my worker.py' x", option: "--workers").count == 3)
    for (command, words) in [
      ("", "--workers: names no program"), (" ", "names no program"),
      ("./w 'hunter2", "quote that is not closed"),
    ] {
      #expect {
        _ = try ScenarioDraft.words(of: command, option: "--workers")
      } throws: { "\($0)".contains(words) && !"\($0)".contains("hunter2") }
    }
  }

  @Test(
    "The plugins of a Nylon configuration have their place and the handlers that it names, without secrets")
  func plugins() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let path = try folder.write(nylon, as: "nylon.yaml")
    #expect(try ScenarioLoader.kind(ofFile: path) == .nylonConfiguration)
    let plugins = try ScenarioLoader.plugins(ofNylon: path)
    #expect(plugins.map(\.name) == ["fast", "scalable", "lonely", "sandboxed"])
    #expect(plugins.map(\.type) == ["ffi", "messaging", "messaging", "wasm"])
    #expect(plugins[0].place == folder.path + "/plugin.so")
    #expect(plugins[1].place == "nylon.plugin.scalable at nats://***@127.0.0.1:4222")
    // Those of middleware come before those of services, which may be WebSockets.
    #expect(plugins[0].handlers == ["check", "log", "socket"] && plugins[1].handlers == ["authz"])
    #expect(plugins.map { $0.obstacle == nil } == [true, true, false, false])
  }

  @Test("A plugin of a Nylon configuration is measured as the configuration says")
  func configured() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let path = try folder.write(nylon, as: "nylon.yaml")
    let plugins = try ScenarioLoader.plugins(ofNylon: path)
    let fast = try ScenarioLoader.load(
      .configured([plugins[0]], of: path, handler: nil), options: .init())
    #expect(fast.targets[0].transport == inProcess(folder.path + "/plugin.so"))
    #expect(fast.targets[0].handler == "check" && fast.name == "fast")
    let scalable = try ScenarioLoader.load(
      .configured([plugins[1]], of: path, handler: "other"), options: .init())
    guard case .nats(let spec) = scalable.targets[0].transport else {
      Issue.record("no pool")
      return
    }
    #expect(spec.servers == ["nats://me:hidden@127.0.0.1:4222"] && spec.group == "workers")
    #expect(scalable.targets[0].handler == "other")
    // No more than the configuration allows.
    #expect(scalable.loads.map(\.label) == ["closed-1", "closed-8", "closed-32"])
    #expect(scalable.text?.contains("hidden") == false)
    #expect {
      _ = try ScenarioLoader.load(.configured([plugins[2]], of: path, handler: nil), options: .init())
    } throws: { "\($0)".contains("workers: are not started here") }
    #expect {
      _ = try ScenarioLoader.load(.configured([plugins[3]], of: path, handler: nil), options: .init())
    } throws: { "\($0)".contains("is of the type 'wasm'") }
  }

  @Test(
    "A plugin's file that is not beside the configuration is taken from the current folder, as Nylon does")
  func currentFolder() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let plugin = try folder.write("", as: "plugin.so")
    let here = FileManager.default.currentDirectoryPath
    let ups = here.split(separator: "/").map { _ in ".." }.joined(separator: "/")
    let deep = folder.path + String(repeating: "/a", count: here.split(separator: "/").count + 1)
    try FileManager.default.createDirectory(atPath: deep, withIntermediateDirectories: true)
    let path = try folder.write(
      "plugins: [{name: fast, type: ffi, file: \(ups)\(plugin)}]\n",
      as: String(deep.dropFirst(folder.path.count + 1)) + "/n.yaml")
    #expect(try ScenarioLoader.plugins(ofNylon: path).map(\.place) == [plugin])
  }

  /// Drafts as `init` writes them, and the number of targets with all keys switched on.
  private static let written: [(ScenarioDraft, Int)] = [
    (.example, 2), (.library("/tmp/mine.so", handler: "it's"), 2),
    (.sideBySide(library: "/tmp/mine.so", pool: "p", command: ["w", "x"], servers: [], handler: nil), 2),
    (
      .sideBySide(
        library: "/tmp/mine.so", pool: "p", command: [], servers: ["nats://a:1", "b"], handler: nil), 2
    ),
  ]

  @Test("What init writes loads as it is and with all its keys switched on", arguments: written.indices)
  func allKeys(place: Int) throws {
    let (draft, targets) = Self.written[place]
    let folder = try Folder()
    defer { folder.remove() }
    let path = folder.path + "/My File.yaml"
    let text = draft.written(to: path).storedText()
    let plan = try load(text)
    #expect(plan.name == "my-file" && plan.warnings.isEmpty)
    let full = switchedOn(text)
    #expect(full.count < text.count)
    let all = try load(full)
    #expect(all.targets.count == targets && !all.expectations.isEmpty && !all.targets[0].verify.isEmpty)
  }

  @Test("A written scenario names a plugin and a configuration beside it by their paths from its folder")
  func relative() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let nylon = try folder.write(nylon, as: "nylon.yaml")
    let plugins = try ScenarioLoader.plugins(ofNylon: nylon).filter { $0.obstacle == nil }
    let path = folder.path + "/own.yaml"
    let alone = ScenarioDraft.library(folder.path + "/sub/mine.so", handler: nil).written(to: path).text()
    #expect(alone.contains("file: ./sub/mine.so\n"))
    let both = ScenarioDraft.configured(plugins, of: nylon, handler: nil).written(to: path).text()
    #expect(both.contains("config: ./nylon.yaml\n"))
    _ = try folder.write(switchedOn(both), as: "own.yaml")
    let plan = try ScenarioLoader.load(path: path, options: .init())
    #expect(plan.targets.map(\.handler) == ["check", "authz"])
  }

  @Test("A library that is taken for a scenario is named as one, with what to type")
  func libraryAsScenario() throws {
    let folder = try Folder()
    defer { folder.remove() }
    let path = folder.path + "/mine.so"
    try Data([0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0xFF]).write(to: URL(fileURLWithPath: path))
    #expect {
      _ = try ScenarioLoader.load(path: path, options: .init())
    } throws: { "\($0)".contains("is a shared library or a program") && "\($0)".contains("nylon-bench run") }
  }
}
