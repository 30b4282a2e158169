import Foundation
import Nylon
import TestSupport
import Testing

@testable import NylonPlugin

/// A file that a worker notes requests in.
private final class LedgerFile {
  private let path = NSTemporaryDirectory() + "/nylon-bench-ledger-\(UUID().uuidString)"
  /// Inherited by a worker that is started.
  let descriptor: Int32

  init(flags: Int32 = O_APPEND) {
    descriptor = open(path, O_RDWR | O_CREAT | flags, 0o600)
    unlink(path)
  }

  deinit { close(descriptor) }

  var variable: String { "\(HandledRequest.variable)=\(descriptor)" }

  /// What is there now.
  var records: [HandledRequest] {
    [HandledRequest](unsafeUninitializedCapacity: 1000) { buffer, count in
      let bytes = pread(descriptor, buffer.baseAddress, buffer.count * HandledRequest.byteCount, 0)
      #expect(bytes % HandledRequest.byteCount == 0)
      count = max(0, bytes) / HandledRequest.byteCount
    }
  }
}

@Suite("The ledger of a worker", .serialized, .thread("worker"))
struct LedgerTests {
  /// A request as a host sends it.
  private func request(
    _ id: RequestID, entry: String = "noop", phase: Phase = .requestFilter, method: UInt32? = nil
  ) -> WorkerMessage {
    WorkerMessage(
      requestID: id, sessionID: 9, phase: phase, method: method, timestampMilliseconds: 1,
      headers: [KeyValue(key: "entry", value: entry)])
  }

  @Test(
    "has every request that a handler saw, and one that came again twice", arguments: Dialect.allCases,
    [1, 3])
  func notes(dialect: Dialect, threads: Int) throws {
    let ledger = LedgerFile()
    let broker = try Broker()
    let worker = try Worker(
      [
        "--name", "p", "--servers", broker.url, "--max-workers", "\(threads)", "--dialect", dialect.rawValue,
      ], environment: [ledger.variable])
    worker.wait(for: "started successfully\n")
    let host = try NATSHost(broker.url)
    func ask(_ low: UInt64, _ phase: Phase) throws {
      let id =
        dialect.traits.idIsText
        ? RequestID.text(uuid(high: 5, low: low)) : RequestID(high: 5, low: low)
      _ = try host.raw(
        try Subject(plugin: "p").phase(phase),
        request(id, phase: phase, method: dialect.traits.startMethod).encoded())
    }
    try ask(1, .requestFilter)
    try ask(2, .logging)
    try ask(1, .requestFilter)
    #expect(eventually { ledger.records.count == 3 })
    #expect(ledger.records.map(\.id.low) == [1, 2, 1])
    #expect(ledger.records.map(\.id.high) == [5, 5, 5])
    #expect(ledger.records.map(\.phase) == [1, 4, 1])
    #expect(ledger.records.allSatisfy { $0.worker == worker.pid })
    #expect(ledger.records.map(\.time) == ledger.records.map(\.time).sorted())
    kill(worker.pid, SIGTERM)
    #expect(worker.exitCode() == 0)
  }

  private func uuid(high: UInt64, low: UInt64) -> String {
    var text = [UInt8](repeating: 0, count: UUIDText.byteCount)
    text.withUnsafeMutableBytes { if let start = $0.baseAddress { UUIDText.write((high, low), to: start) } }
    return String(decoding: text, as: UTF8.self)
  }

  @Test("has the request during which the worker was killed")
  func killed() throws {
    let ledger = LedgerFile()
    let broker = try Broker()
    let worker = try Worker(
      ["--name", "p", "--servers", broker.url, "--config", "{\"wait_us\": 10000000}"],
      environment: [ledger.variable])
    worker.wait(for: "started successfully\n")
    let bytes = try request(RequestID(high: 1, low: 2), entry: "wait").encoded()
    let answers = try NATSHost(broker.url).burst("nylon.plugin.p.request_filter", [bytes]) {
      #expect(eventually { ledger.records.count == 1 })
      kill(worker.pid, SIGKILL)
    }
    #expect(answers == 0 && worker.exitCode() == -SIGKILL)
    #expect(ledger.records.map(\.id) == [RequestWords(high: 1, low: 2)])
  }

  @Test("what cannot be noted is refused, and no handler sees it")
  func full() throws {
    let full = open("/dev/full", O_WRONLY | O_APPEND)
    defer { close(full) }
    let broker = try Broker()
    let worker = try Worker(
      ["--name", "p", "--servers", broker.url], environment: ["\(HandledRequest.variable)=\(full)"])
    worker.wait(for: "started successfully\n")
    let reply = try NATSHost(broker.url).message(
      "nylon.plugin.p.request_filter", request(RequestID(high: 1, low: 2), entry: "crash"))
    #expect(reply?.action == .error)
    #expect(reply?.error?.contains("No space left on device") == true)
    kill(worker.pid, SIGTERM)
    #expect(worker.exitCode() == 0)
  }

  @Test("a descriptor that cannot be appended to ends the worker with 64")
  func unusable() throws {
    let file = LedgerFile(flags: 0)
    for value in ["\(file.descriptor)", "9999", "nine"] {
      let worker = try Worker(["--name", "p"], environment: ["\(HandledRequest.variable)=\(value)"])
      #expect(worker.exitCode() == 64)
      #expect(worker.text.contains(HandledRequest.variable), "\(worker.text)")
    }
  }
}
