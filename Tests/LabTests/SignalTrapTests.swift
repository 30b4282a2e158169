import BrokerSecurity
import Foundation
import Testing

@testable import Lab

/// One after the other: there is one trap in a process.
@Suite(.serialized) struct SignalTrapTests {
  @Test func signalsSpringTheTrapAndAreCounted() throws {
    let seen = Guarded<[Int32]>([])
    let trap = try SignalTrap([SIGUSR1, SIGUSR2]) { number, count in
      seen.withLock { $0.append(number * 100 + Int32(count)) }
    }
    #expect(!trap.isSprung)
    #expect(trap.wait(timeout: .milliseconds(10)) == nil)
    kill(getpid(), SIGUSR1)
    #expect(trap.wait(timeout: .seconds(60)) == SIGUSR1)
    kill(getpid(), SIGUSR2)
    #expect(eventually { seen.withLock { $0 } == [SIGUSR1 * 100 + 1, SIGUSR2 * 100 + 2] })
    #expect(trap.signals == [SIGUSR1, SIGUSR2])
    trap.release()
  }

  @Test func thereIsOneTrapAtATimeAndAnotherAfterIt() throws {
    for _ in 0..<3 {
      let trap = try SignalTrap([SIGUSR1])
      #expect(throws: LabError.self) { try SignalTrap([SIGUSR2]) }
      trap.release()
      trap.release()
    }
  }

  @Test func releasedSignalsAreTheOldOwnersAgain() throws {
    var before = sigaction()
    var after = sigaction()
    sigaction(SIGUSR1, nil, &before)
    do { _ = try SignalTrap([SIGUSR1]) }
    sigaction(SIGUSR1, nil, &after)
    #expect(
      withUnsafeBytes(of: &before) { Array($0.prefix(8)) }
        == withUnsafeBytes(of: &after) { Array($0.prefix(8)) })
  }

  @Test func aChildDoesNotInheritTheTrap() throws {
    let trap = try SignalTrap([SIGUSR1])
    let child = try ChildProcess.start(Launch("sleep", ["1000"]))
    kill(child.pid, SIGUSR1)
    #expect(child.wait(timeout: .seconds(60)) == .signaled(SIGUSR1))
    #expect(!trap.isSprung)
    trap.release()
  }
}
