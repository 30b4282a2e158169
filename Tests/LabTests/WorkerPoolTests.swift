import TestSupport
import Foundation
import NATS
@testable import Scenario
import Testing

@testable import Lab

/// Worker pools, with workers that are no more than a line of shell: bash speaks NATS through
/// /dev/tcp, as a user's own worker in any language may.
@Suite struct WorkerPoolTests {
  /// Subscribes to the four phases of the plugin that it is told, then waits; a bash trap lets it end in order.
  static let subscriber = """
    trap 'echo drained >&2; exit 0' TERM
    exec 5<>/dev/tcp/127.0.0.1/${NATS_SERVERS##*:}
    printf 'CONNECT {"verbose":false,"auth_token":"%s"}\\r\\n' "$NATS_TOKEN" >&5
    n=0
    for phase in request_filter response_filter response_body_filter logging; do
      n=$((n+1)); printf 'SUB %s %s %s\\r\\n' "$NYLON_PREFIX.$NYLON_PLUGIN.$phase" "$NATS_GROUP" $n >&5
    done
    while :; do sleep 0.05; done
    """

  static func target(
    _ command: [String], count: Int = 2, auth: NATSAuth = NATSAuth(), startSeconds: Double = 10,
    environment: [String: String] = [:]
  ) -> Target {
    Target(
      name: "pool", plugin: "p", handler: "noop",
      transport: .nats(
        NATSSpec(
          group: "workers", auth: auth,
          workers: WorkersSpec(
            count: count, command: command, environment: environment, startSeconds: startSeconds))),
      loads: [])
  }

  @Test(arguments: [NATSAuth(token: "t0ken"), NATSAuth()])
  func aPoolIsReadyWhenTheBrokerShowsItsSubscriptions(auth: NATSAuth) throws {
    let broker = try Broker.start(auth: auth)
    defer { broker.stop() }
    let target = Self.target(["bash", "-c", Self.subscriber], auth: auth)
    let pool = try WorkerPool.start(for: target, servers: [broker.url], monitors: [broker.monitor])
    #expect(pool.pids.count == 2)
    #expect(try broker.statistics().connections == 2)
    for pid in pool.pids { #expect(ProcessClock.cpuNanoseconds(session: pid) ?? 0 > 0) }
    #expect(pool.deaths().isEmpty)
    // A second pool beside it counts its own workers only.
    let second = try WorkerPool.start(for: target, servers: [broker.url], monitors: [broker.monitor])
    #expect(try broker.statistics().connections == 4)
    let pids = pool.pids + second.pids
    #expect(pool.stop().isEmpty)
    #expect(second.stop().isEmpty)
    for pid in pids { #expect(!isAlive(pid)) }
  }

  @Test func aWorkerThatDiesAtItsStartIsToldWithItsLastWords() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    for monitors in [[broker.monitor], []] {
      let death = WorkerDeath(index: 0, status: .exited(3), lastWords: "boom")
      #expect(throws: LabError.workerDied(death)) {
        try WorkerPool.start(
          for: Self.target(["sh", "-c", "echo boom >&2; exit 3"], count: 1), servers: [broker.url],
          monitors: monitors)
      }
    }
  }

  @Test func theLastWordsOfAWorkerHoldNoCredentials() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let target = Self.target(
      ["sh", "-c", "echo \"bad $NATS_TOKEN $NATS_SERVERS\" >&2; exit 1"], count: 1,
      auth: NATSAuth(token: "t0ken"))
    #expect {
      try WorkerPool.start(for: target, servers: ["nats://ann:pa55@127.0.0.1:1"], monitors: [broker.monitor])
    } throws: { error in
      "\(error)".contains("bad *** nats://***@127.0.0.1:1")
    }
  }

  @Test func aWorkerThatNeverSubscribesIsToldWithTheSubject() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let target = Self.target(["sleep", uniqueSeconds()], startSeconds: 0.3)
    #expect {
      try WorkerPool.start(for: target, servers: [broker.url], monitors: [broker.monitor])
    } throws: { error in
      "\(error)".contains("only 0 of 2 subscribed to nylon.plugin.p.request_filter in queue group workers")
    }
    guard case .nats(let spec) = target.transport, let word = spec.workers?.command.last else { return }
    #expect(eventually { processes(withWord: word).isEmpty })
  }

  @Test func withAForeignBrokerTheReadyLineOrTheStartTimeCounts() throws {
    let said = try WorkerPool.start(
      for: Self.target(
        ["sh", "-c", "echo Plugin p started successfully; exec sleep 1000"], startSeconds: 600),
      servers: ["nats://127.0.0.1:1"], monitors: [])
    #expect(said.stop().isEmpty)
    let silent = try WorkerPool.start(
      for: Self.target(["sleep", "1000"], startSeconds: 0.2), servers: ["nats://127.0.0.1:1"], monitors: [])
    #expect(silent.stop().isEmpty)
  }

  @Test func workersThatDieLaterAreKnownAndThoseThatWeKilledAreNot() throws {
    let pool = try WorkerPool.start(
      for: Self.target(["sh", "-c", "echo started successfully >&2; exec sleep 1000"], count: 3),
      servers: ["nats://127.0.0.1:1"], monitors: [])
    pool.kill(0)
    #expect(pool.deaths().isEmpty)
    kill(pool.pids[1], SIGSEGV)
    #expect(eventually { !pool.deaths().isEmpty })
    let deaths = pool.stop()
    #expect(deaths.map(\.index) == [1])
    #expect(deaths.first?.status == .signaled(SIGSEGV))
    #expect(deaths.first?.lastWords == "started successfully")
  }

  /// Workers that say what they are asked to do.
  private static let talker =
    "trap 'echo drained >&2; exit 0' TERM; trap 'echo closed >&2; exit 0' USR1; echo started successfully >&2; "
    + "while :; do sleep 0.02; done"

  private static func talkers(_ count: Int) throws -> WorkerPool {
    try WorkerPool.start(
      for: target(["bash", "-c", talker], count: count), servers: ["nats://127.0.0.1:1"], monitors: [])
  }

  @Test func singleWorkersAreDrainedClosedStoppedAndReplaced() throws {
    let pool = try Self.talkers(3)
    defer { pool.stop() }
    #expect(pool.runningIndices == [0, 1, 2])
    pool.drain(0)
    pool.stop(1)
    pool.close(2)
    #expect(eventually { pool.runningIndices == [1] && !isAlive(pool.pids[0]) && !isAlive(pool.pids[2]) })
    #expect(eventually { processState(pool.pids[1]) == "T" })
    #expect(try pool.add(2) == [3, 4])
    #expect(pool.runningIndices == [1, 3, 4])
    pool.goOn(1)
    #expect(eventually { processState(pool.pids[1]) != "T" })
    // One that is stopped can still be asked to end.
    pool.stop(3)
    pool.drain(3)
    #expect(eventually { !isAlive(pool.pids[3]) })
    #expect(pool.deaths().isEmpty)
  }

  @Test func aSlowedWorkerIsStoppedAgainAndAgainUntilItGoesOn() throws {
    let pool = try Self.talkers(1)
    defer { pool.stop() }
    let pid = pool.pids[0]
    pool.slow(0)
    for _ in 0..<3 {
      #expect(eventually(every: 200) { processState(pid) == "T" })
      #expect(eventually(every: 200) { processState(pid) != "T" })
    }
    pool.goOn(0)
    // Its keeper carries out the last orders; then nobody stops it any more.
    #expect(
      eventually {
        (0..<50).allSatisfy { _ in
          usleep(2000)
          return processState(pid) != "T"
        }
      })
    pool.slow(0)
    pool.kill(0)
    #expect(!isAlive(pid) && pool.deaths().isEmpty)
  }

  @Test func aSwitchStartsTheNewGroupBeforeTheOldOneIsDrained() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let target = Self.target(["bash", "-c", Self.subscriber])
    let pool = try WorkerPool.start(for: target, servers: [broker.url], monitors: [broker.monitor])
    defer { pool.stop() }
    try pool.switchGroup(to: "green", count: 3)
    func count(_ group: String) throws -> Int {
      try broker.monitor.subscribers(of: "nylon.plugin.p.logging", group: group).count
    }
    #expect(try count("green") == 3)
    #expect(try eventually { try count("workers") == 0 })
    #expect(pool.runningIndices == [2, 3, 4])
    #expect(pool.deaths().isEmpty)
    // New ones join the new group.
    _ = try pool.add(1)
    #expect(try eventually { try count("green") == 4 })
  }

  @Test func aSwitchThatDoesNotComeAboutIsAnError() throws {
    let broker = try Broker.start()
    defer { broker.stop() }
    let once = """
      if [ "$NATS_GROUP" = green ]; then echo no >&2; exit 4; fi
      \(Self.subscriber)
      """
    let pool = try WorkerPool.start(
      for: Self.target(["bash", "-c", once], count: 1), servers: [broker.url], monitors: [broker.monitor])
    defer { pool.stop() }
    #expect {
      try pool.switchGroup(to: "green", count: 1)
    } throws: { "\($0)".contains("Worker 1 exited with code 4") }
    // The old ones serve on.
    #expect(pool.runningIndices == [0])
  }

  @Test func workersBeginWithTheirOwnBrokerAndKnowTheOthers() throws {
    let pool = try WorkerPool.start(
      for: Self.target(
        ["sh", "-c", "echo \"$NATS_SERVERS $NATS_NO_RANDOMIZE\" started successfully >&2; sleep 1000"],
        count: 3),
      servers: ["nats://a", "nats://b", "nats://c"], homes: [1, 2], monitors: [])
    defer { pool.stop() }
    #expect(
      pool.lastWords == [
        "nats://b,nats://c,nats://a 1 started successfully",
        "nats://c,nats://a,nats://b 1 started successfully",
        "nats://b,nats://c,nats://a 1 started successfully",
      ])
  }

  @Test func aTargetWithoutWorkersIsRefused() {
    let ffi = Target(
      name: "fast", plugin: "p", handler: "noop", transport: .ffi(FFISpec(file: "x")), loads: [])
    #expect {
      try WorkerPool.start(for: ffi, servers: [], monitors: [])
    } throws: { "\($0)".contains("'fast'") }
  }

  @Test func aWorkerProgramThatIsNotThereIsMissing() {
    #expect {
      try WorkerPool.start(for: Self.target(["/no/such/worker"]), servers: [], monitors: [])
    } throws: { ($0 as? LabError)?.isMissing == true }
  }
}
