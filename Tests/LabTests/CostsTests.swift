import TestSupport
import Foundation
@testable import Engine
import Results
import Testing

@testable import Lab

/// What others cost, read from real processes and a real broker.
@Suite struct CostsTests {
  @Test func aProcessThatSleepsAgainAndAgainHasVoluntarySwitchesAndMemory() throws {
    let sleeper = try ChildProcess.start(
      Launch("/bin/bash", ["-c", "while :; do read -t 0.005 <> <(:); done"]))
    defer { sleeper.terminate() }
    // It has hardly any memory until the kernel has loaded its program.
    #expect(eventually { ProcessClock.reading(sessions: [sleeper.pid])?.residentBytes ?? 0 > 100_000 })
    let first = try #require(ProcessClock.reading(sessions: [sleeper.pid])?.switches)
    #expect(
      eventually {
        (ProcessClock.reading(sessions: [sleeper.pid])?.switches?.since(first).x ?? 0) > 20
      })
  }

  @Test func thePoolsReadingHoldsTheProcessesBehindItsHeadsAndIsNoneWhenOneIsGone() throws {
    let shell = try ChildProcess.start(Launch("/bin/sh", ["-c", "sleep 1000; :"]))
    defer { shell.terminate() }
    #expect(
      eventually {
        (ProcessClock.reading(sessions: [shell.pid])?.switches?.count ?? 0) == 2
      })
    let own = try #require(ProcessClock.residentBytes(pid: shell.pid))
    let all = try #require(ProcessClock.reading(sessions: [shell.pid])?.residentBytes)
    #expect(all > own)
    let gone = try ChildProcess.start(Launch("/bin/sleep", ["1000"]))
    let pid = gone.pid
    gone.terminate()
    #expect(ProcessClock.reading(sessions: [shell.pid, pid]) == nil)
    #expect(ProcessClock.reading(sessions: []) == nil)
  }

  @Test func ourOwnSwitchesHoldThreadsThatHaveEnded() throws {
    let before = try #require(ProcessClock.ownReading().switches)
    let done = Guarded(false)
    let thread = Thread {
      for _ in 0..<50 { usleep(1000) }
      done.withLock { $0 = true }
    }
    thread.start()
    #expect(done.wait(until: .after(.seconds(20))) { $0 ? true : nil } == true)
    let after = try #require(ProcessClock.ownReading().switches)
    #expect(after.since(before).x >= 50)
  }

  @Test func aStatusWithoutTheCountsIsNone() {
    let text = "Name:\tx\nThreads:\t3\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t7\n"
    #expect(ProcessClock.parseSwitches(text) == SIMD2(12, 7))
    #expect(ProcessClock.parseSwitches("Name:\tx\n") == nil)
    #expect(ProcessClock.parseSwitches("voluntary_ctxt_switches:\t12\n") == nil)
  }

  @Test func theWatchSeesMessagesPendingBytesAndASlowConsumer() throws {
    let broker = try Broker.start(asksForToken: false)
    defer { broker.stop() }
    let reader = try TCPSocket.connected(to: broker.port)
    #expect(reader.send(Array("CONNECT {\"verbose\":false}\r\nSUB heavy 1\r\n".utf8)))
    #expect(try eventually { try broker.statistics().connections == 1 })
    let memory = LoadRecording(RecordingLayout(threads: 1, scopes: ["request"], windows: 1))
    let area = memory.area
    defer { withExtendedLifetime(memory) {} }
    area.measureEnd = .max
    area.measureStart = MonotonicClock.nanoseconds
    let watch = BrokerWatch([broker.monitor], area: area, seconds: 1)
    // The watch's first count must be answered before the first message, and then it looks at what waits.
    #expect(try eventually { try Self.looks(broker) > 0 })
    let writer = try TCPSocket.connected(to: broker.port)
    #expect(writer.send(Array("CONNECT {\"verbose\":false}\r\n".utf8)))
    let message = Array(("PUB heavy 1000000\r\n" + String(repeating: "x", count: 1_000_000) + "\r\n").utf8)
    // The reader never reads: what its socket does not take waits in the broker.
    for _ in 0..<30 { #expect(writer.send(message, until: .after(.seconds(60)))) }
    #expect(try eventually { try broker.monitor.pendingBytes() > 1_000_000 })
    let before = try Self.looks(broker)
    #expect(try eventually { try Self.looks(broker) > before })
    // The broker keeps at most 64 MiB for one client.
    for _ in 0..<60 { #expect(writer.send(message, until: .after(.seconds(60)))) }
    #expect(try eventually { try broker.statistics().slowConsumers == 1 })
    #expect(try eventually { try broker.statistics().inMessages == 90 })
    area.measureEnd = MonotonicClock.nanoseconds
    let activity = try #require(watch.finish().activity)
    #expect(activity.inMessages == 90)
    #expect(activity.inBytes == 90_000_000)
    #expect(activity.slowConsumers == 1)
    #expect(activity.pendingMostBytes ?? 0 > 1_000_000)
    #expect(activity.pendingLooks > 0)
    #expect(activity.warnings.count == 1)
  }

  /// How often the broker was asked what waits in it.
  private static func looks(_ broker: Broker) throws -> Int {
    struct Requests: Decodable {
      var http_req_stats: [String: Int]
    }
    let requests = try broker.monitor.decode(Requests.self, path: "/varz", until: .after(.seconds(60)))
    return requests.http_req_stats["/connz"] ?? 0
  }

  @Test func aLoadThatNeverBeganOrDiedHasNoActivity() throws {
    let broker = try Broker.start(asksForToken: false)
    defer { broker.stop() }
    let memory = LoadRecording(RecordingLayout(threads: 1, scopes: ["request"], windows: 1))
    let area = memory.area
    defer { withExtendedLifetime(memory) {} }
    #expect(BrokerWatch([broker.monitor], area: area, seconds: 1).finish().activity == nil)
    area.measureStart = MonotonicClock.nanoseconds
    area.measureEnd = .max
    #expect(BrokerWatch([broker.monitor], area: area, seconds: 1).finish().activity == nil)
  }
}
