import Foundation
import Scenario
import Testing

@testable import Engine
@testable import Report
@testable import Results

func temporaryFolder() throws -> String {
  let path = NSTemporaryDirectory() + "report-tests-" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  return path
}

private func entries(_ path: String) throws -> [String] {
  try FileManager.default.contentsOfDirectory(atPath: path).sorted()
}

private func sampleRun() -> RunDocument {
  document(
    replicates("ffi", around: 10_000, transport: .ffi) + replicates("nats", around: 1_000_000))
}

@Suite("A run's folder")
struct RunFolderTests {
  @Test("gives back the run that was saved, by folder, by file and by the link to the latest")
  func roundTrip() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let folder = try RunFolder.create(in: directory, scenario: "a/b c")
    let run = sampleRun()
    try folder.save(run)
    try folder.save(run)
    for path in [folder.path, "\(folder.path)/run.json", "\(directory)/latest", directory] {
      #expect(try RunFolder.open(path: path).document == run)
    }
    // A copy without the link: the newest by name.
    try FileManager.default.removeItem(atPath: "\(directory)/latest")
    try FileManager.default.copyItem(atPath: folder.path, toPath: "\(directory)/20010101T000000Z-old")
    try Data("{}".utf8).write(to: URL(fileURLWithPath: "\(directory)/20010101T000000Z-old/run.json"))
    #expect(try RunFolder.open(path: directory).document == run)
    try folder.save(run)
    try FileManager.default.removeItem(atPath: "\(directory)/20010101T000000Z-old")
    #expect(try RunFolder.open(path: "\(directory)/latest").folder.runID == folder.runID)
    #expect(folder.runID.hasSuffix("Z-a-b-c"))
    #expect(
      try entries(folder.path) == [
        "claims.csv", "comparison.csv", "histograms.hlog", "percentiles.csv", "report.html", "report.md",
        "run.json", "summary.csv", "timeline.csv",
      ])
  }

  @Test("encodes a growing run as it would encode the whole")
  func growingRun() throws {
    var run = sampleRun()
    run.warnings = ["odd: \n  \"measurements\" : [\n\n  ]"]
    let all = run.measurements
    var encoder = RunEncoder()
    for count in [0, 1, all.count, all.count, 2, 0] {
      run.measurements = Array(all.prefix(count))
      if count > 1 { run.measurements[0].invalidReasons.append(.init(code: .steal, detail: "\(count)")) }
      #expect(try encoder.json(run) == run.json())
    }
  }

  @Test("has the scenario where the command line's arguments were it")
  func ownScenario() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let folder = try RunFolder.create(in: directory, scenario: "mine")
    var run = sampleRun()
    run.scenario.text = "# What mine costs.\nname: mine\n"
    try folder.save(run)
    #expect(try String(contentsOfFile: "\(folder.path)/scenario.yaml", encoding: .utf8) == run.scenario.text)
    #expect(try RunFolder.open(path: folder.path).document == run)
    #expect(MarkdownReport.render(run).contains("scenario.yaml beside this report"))
  }

  @Test("renders the same from the stored run as from the one in memory, in every format")
  func rendersTheSame() throws {
    let run = sampleRun()
    let stored = try RunDocument(json: Data(run.json().utf8), path: "run.json")
    #expect(stored == run)
    for format in ExportFormat.allCases {
      let files = try format.render(run)
      #expect(!files.isEmpty)
      #expect(try format.render(stored) == files)
    }
  }

  @Test("keeps names in snake_case, and keys that are data as they are")
  func keys() throws {
    let text = try sampleRun().json()
    for key in [
      "\"run_id\"", "\"scenario_sha256\"", "\"client_ip\"", "\"config_json\"", "\"sum_ns\"",
      "\"GO_Max-Procs\"",
      "\"libJemalloc_x\"", "\"request_filter\"", "\"response_body_filter\"", "\"ok_in_window\"",
      "\"schema\" : 1",
    ] {
      #expect(text.contains(key), "\(key)")
    }
  }

  @Test("is a new one each time, also within a second")
  func unique() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let time = UTCSecond(epochSeconds: 1_795_323_860)
    let names = try (0..<3).map { _ in
      try RunFolder.create(in: directory, scenario: "x", at: time).runID
    }
    #expect(names == ["20261122T050420Z-x", "20261122T050420Z-x-2", "20261122T050420Z-x-3"])
  }

  @Test("never replaces a real folder by the link to the latest, and still saves the run")
  func latestIsAFolder() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let folder = try RunFolder.create(in: directory, scenario: "x")
    try FileManager.default.createDirectory(
      atPath: "\(directory)/latest/mine", withIntermediateDirectories: true)
    let error = #expect(throws: RunFolderError.self) { try folder.save(sampleRun()) }
    #expect(error?.kind == .unwritable)
    #expect(error?.path == "\(directory)/latest")
    #expect(try entries("\(directory)/latest") == ["mine"])
    #expect(try RunFolder.open(path: folder.path).document == sampleRun())
    // Where the folder is there already, nothing is measured for it.
    let before = try entries(directory)
    #expect(throws: RunFolderError.self) { try RunFolder.create(in: directory, scenario: "x") }
    #expect(try entries(directory) == before)
  }

  @Test("that is no run because of its size is refused")
  func tooLong() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let path = "\(directory)/run.json"
    #expect(FileManager.default.createFile(atPath: path, contents: nil))
    let file = try #require(FileHandle(forWritingAtPath: path))
    try file.truncate(atOffset: UInt64(RunFolder.mostBytes) + 1)
    let error = #expect(throws: RunFolderError.self) { try RunFolder.open(path: path) }
    #expect(error?.kind == .invalid && error?.problem == "it has more than 256 MiB, so it is not a run")
  }

  @Test("that cannot be created is an error with path and remedy, before anything is measured")
  func cannotBeMade() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try Data().write(to: URL(fileURLWithPath: "\(directory)/file"))
    for (path, why) in [
      ("\(directory)/file", "cannot be created: Not a directory"),
      ("\(directory)/file/below", "cannot be created, because of \(directory)/file: Not a directory"),
      ("/proc/none", "cannot be created: No such file or directory"),
    ] {
      let error = #expect(throws: RunFolderError.self) {
        try RunFolder.create(in: path, scenario: "x")
      }
      #expect(error?.kind == .unwritable && error?.path == path && error?.problem == why)
      #expect(error?.description.contains("--out") == true)
    }
  }

  @Test("that vanished leaves the run in the temporary folder, and the error says where")
  func refuge() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let folder = try RunFolder.create(in: directory, scenario: "x")
    try FileManager.default.removeItem(atPath: folder.path)
    let error = #expect(throws: RunFolderError.self) { try folder.save(sampleRun()) }
    let words = try #require(error?.remedy.components(separatedBy: "saved as ").last)
    defer { try? FileManager.default.removeItem(atPath: words) }
    #expect(try RunFolder.open(path: words).document == sampleRun())
  }

  @Test("leaves nothing half-written where a file cannot be replaced")
  func nothingHalfWritten() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(
      atPath: "\(directory)/run.json/x", withIntermediateDirectories: true)
    #expect(throws: RunFolderError.self) { try AtomicFile.write("text", to: "\(directory)/run.json") }
    #expect(try entries(directory) == ["run.json"])
    #expect(AtomicFile.error(ENOSPC, "p", "cannot be written").kind == .full)
  }

  @Test("that does not exist is an error")
  func missing() throws {
    let directory = try temporaryFolder()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    for path in [directory, "\(directory)/none"] {
      let error = #expect(throws: RunFolderError.self) { try RunFolder.open(path: path) }
      #expect(error?.kind == .missing)
    }
  }
}

@Suite("A run.json that is wrong")
struct HostileRunTests {
  private func read(_ text: String) throws -> RunDocument {
    try RunDocument(json: Data(text.utf8), path: "run.json")
  }

  @Test("is refused wherever it ends early")
  func truncated() throws {
    let text = try document([measurement("nats", around: 1000)]).json()
    for length in stride(from: 0, to: text.utf8.count - 2, by: 97) {
      let error = #expect(throws: RunFolderError.self) {
        try RunDocument(json: Data(text.utf8.prefix(length)), path: "run.json")
      }
      #expect(error?.kind == .invalid)
    }
  }

  @Test("is refused with another schema, and the error names both")
  func schema() throws {
    let text = try document([]).json().replacingOccurrences(of: "\"schema\" : 1", with: "\"schema\" : 99")
    let error = #expect(throws: RunFolderError.self) { try read(text) }
    #expect(error?.problem == "key 'schema' is 99; this version reads 1")
  }

  @Test(
    "is refused with a wrong or missing value, and the error names the key",
    arguments: [
      ("\"run_id\" : \"20261122T050420Z-compare\"", "\"run_id\" : 5", "run_id"),
      ("\"run_id\"", "\"other\"", "run_id"),
      ("\"started\" : \"2026-11-22T05:04:20Z\"", "\"started\" : \"2026-13-22T05:04:20Z\"", "started"),
      ("\"sent\" : 2000", "\"sent\" : \"many\"", "measurements.0.scopes.0.counts.sent"),
      ("\"hdr\" : \"HISTF", "\"hdr\" : \"HISTX", "measurements.0.scopes.0.response"),
    ])
  func wrongValues(old: String, new: String, key: String) throws {
    let text = try document([measurement("nats", around: 1000)]).json()
    try #require(text.contains(old))
    let error = #expect(throws: RunFolderError.self) {
      try read(text.replacingOccurrences(of: old, with: new))
    }
    #expect(error?.problem.contains("'\(key)'") == true, "\(error?.problem ?? "")")
  }

  @Test("is refused when a number does not fit, and the error says so")
  func numbers() throws {
    let text = try document([measurement("nats", around: 1000)]).json()
    for (old, new) in [("\"sent\" : 2000", "-1"), ("\"seed\" : 42", "1e99"), ("\"concurrency\" : 64", "0.5")]
    {
      try #require(text.contains(old))
      let key = try #require(old.components(separatedBy: " : ").first)
      let error = #expect(throws: RunFolderError.self) {
        try read(text.replacingOccurrences(of: old, with: "\(key) : \(new)"))
      }
      #expect(error?.problem.contains("a number in it is") == true, "\(error?.problem ?? "")")
    }
  }

  @Test("is refused when its counts do not add up, or would overflow")
  func counts() throws {
    let text = try document([measurement("nats", around: 1000)]).json()
    for (old, new) in [
      ("\"ok\" : 2000", "\"ok\" : 1999"), ("\"sent\" : 2000", "\"sent\" : 18446744073709551615"),
      ("\"lost\" : 0", "\"lost\" : 18446744073709551615"),
      ("\"ok_in_window\" : 2000", "\"ok_in_window\" : 18446744073709551615"),
    ] {
      try #require(text.contains(old))
      let error = #expect(throws: RunFolderError.self) {
        try read(text.replacingOccurrences(of: old, with: new))
      }
      #expect(error?.problem.hasPrefix("key 'measurements.0.scopes.0' is wrong") == true, "\(old)")
    }
  }

  @Test("is refused when it is not a run")
  func notARun() {
    for text in ["", "null", "[]", "{}", "\"x\"", "{\"schema\": \"one\"}", "{\"schema\": 1}"] {
      #expect(throws: RunFolderError.self) { try read(text) }
    }
    #expect(throws: RunFolderError.self) {
      try RunDocument(json: Data([0xff, 0xfe, 0x00]), path: "run.json")
    }
  }
}

@Suite("Small helpers of a run")
struct HelperTests {
  @Test("The folder above a path is found, of names of one character too")
  func folderAbove() {
    let cases = [
      "r": "", "r/": "", "a/b": "a", "a/b/": "a", "/": "/", "/r": "/", "/a/b": "/a", "": "", "./r": ".",
    ]
    for (path, above) in cases { #expect(AtomicFile.folder(of: path) == above, "\(path)") }
  }

  @Test("SHA-256 is that of the standard's examples")
  func sha256() {
    #expect(
      SHA256Text.of("abc".utf8) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      SHA256Text.of("".utf8) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(SHA256Text.ofFile("/none/such") == nil)
  }

  @Test("a time is written as UTC to the second")
  func times() {
    let time = UTCSecond(epochSeconds: 1_795_323_860)
    #expect(time.description == "2026-11-22T05:04:20Z")
    #expect(time.compact == "20261122T050420Z")
  }
}
