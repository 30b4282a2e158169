import TestSupport
import Foundation
import Testing

@testable import Lab

/// One after the other: there is one trap in a process.
@Suite(.serialized) struct SignalTrapTests {
  @Test(arguments: [SIGUSR1, SIGUSR2]) func signalsSpringTheTrap(number: Int32) throws {
    let trap = try SignalTrap([SIGUSR1, SIGUSR2])
    #expect(!trap.isSprung)
    kill(getpid(), number)
    #expect(eventually { trap.isSprung })
  }

  @Test func thereIsOneTrapAtATimeAndAnotherAfterIt() throws {
    for _ in 0..<3 {
      let trap = try SignalTrap([SIGUSR1])
      #expect(throws: LabError.self) { try SignalTrap([SIGUSR2]) }
      #expect(!trap.isSprung)
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
  }
}
