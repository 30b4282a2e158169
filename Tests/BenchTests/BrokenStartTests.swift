@testable import Engine
import Foundation
@testable import Lab
import Nylon
@testable import Scenario
import TestSupport
import Testing

@testable import Bench

@Suite("A broker, worker or link that ends between two loads is a result") struct BrokenStartTests {
  private func bench(_ target: Target, seed: UInt64 = 1) throws -> Workbench {
    let plan = Plan(
      "broken", target, request: RequestSpec(to: "/"), loads: target.loads, warmupSeconds: 0,
      measureSeconds: 0.1,
      drainSeconds: 0.5, seed: seed)
    let bench = try Workbench(plan: plan)
    bench.loadProgram = builtCommands + "/nylon-bench"
    return bench
  }

  private func pool(link: LinkSpec? = nil) -> Target {
    var spec = NATSSpec(pool: "workers", workers: .own)
    spec.links = link.map { [$0] }
    return Target("pool", plugin: "example", handler: "noop", .nats(spec), loads: [.closed(concurrency: 1)])
  }

  private func measure(_ bench: Workbench, _ target: Target) throws -> Engine.Measurement {
    try bench.measure(target: target, load: target.loads[0], replicate: 1, onGlance: { _ in true })
  }

  @Test("A broker that hangs breaks the replicate, and the next one has another broker")
  func frozenBroker() throws {
    let target = pool()
    let bench = try bench(target)
    defer { bench.tearDown() }
    #expect(try measure(bench, target).counts.areAllRight)
    let broker = try #require(bench.cluster?.nodes.first)
    kill(broker.pid, SIGSTOP)
    #expect(eventually { ProcessClock.isStopped(broker.pid) })
    let broken = try measure(bench, target)
    #expect(broken.invalidReasons.map(\.code) == [.brokerDied], "\(broken.invalidReasons)")
    #expect(
      broken.invalidReasons.allSatisfy { $0.detail.hasPrefix("the broker did not answer before the load: ") })
    #expect(broken.counts.sent == 0 && broken.isBroken)
    #expect(!broker.isRunning)
    #expect(try measure(bench, target).counts.areAllRight)
  }

  @Test("A link whose relay ends while it is probed breaks the replicate, and the next one has another relay")
  func endedLink() throws {
    let seed = UInt64.random(in: 1 << 40..<1 << 50)
    let target = pool(link: LinkSpec(delayMilliseconds: 1))
    let bench = try bench(target, seed: seed)
    defer { bench.tearDown() }
    let killed = Guarded(false)
    Thread.detachNewThread {
      let found = eventually {
        guard let relay = Self.processes(withWord: "\(seed)").first(where: Self.isRelay) else { return false }
        return kill(relay, SIGKILL) == 0
      }
      killed.withLock { $0 = found }
    }
    let broken = try measure(bench, target)
    #expect(killed.wait(until: .after(.seconds(60))) { $0 ? true : nil } == true)
    #expect(broken.invalidReasons.map(\.code) == [.linkDied], "\(broken.invalidReasons)")
    #expect(try measure(bench, target).counts.areAllRight)
  }

  /// Whether it is the relay itself, and not on its way to become it.
  private static func isRelay(_ pid: Int32) -> Bool {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/exe"))?.hasSuffix("/nylon-link")
      == true
  }

  private static func processes(withWord word: String) -> [Int32] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return all.compactMap(Int32.init).filter { pid in
      let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
      return line.split(separator: 0).contains { $0.elementsEqual(word.utf8) }
    }
  }

  @Test("What never worked ends the run with its error")
  func neverWorked() throws {
    var target = pool()
    target.nats?.workers?.command = ["false"]
    let bench = try bench(target)
    defer { bench.tearDown() }
    #expect(throws: LabError.self) { try measure(bench, target) }
  }
}
