import Glibc

/// How a process ended.
package enum ExitStatus: Sendable, Equatable, Codable {
  /// By itself, with this code.
  case exited(Int32)
  case signaled(Int32)
  /// Unknown: its keeper was killed, and the kernel killed the process with it.
  case lost

  /// True for exit code 0.
  package var isSuccess: Bool { self == .exited(0) }
}

extension ExitStatus: CustomStringConvertible {
  /// To be put behind a name: `exited with code 3`.
  package var description: String {
    switch self {
    case .exited(let code): return "exited with code \(code)"
    case .signaled(let number): return "was ended by \(ExitStatus.signalName(number))"
    case .lost: return "was killed together with its keeper"
    }
  }

  private static func signalName(_ number: Int32) -> String {
    let names: [Int32: String] = [
      SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGFPE: "SIGFPE", SIGHUP: "SIGHUP", SIGILL: "SIGILL",
      SIGINT: "SIGINT", SIGKILL: "SIGKILL", SIGPIPE: "SIGPIPE", SIGSEGV: "SIGSEGV",
      SIGTERM: "SIGTERM", SIGTRAP: "SIGTRAP", SIGXCPU: "SIGXCPU",
    ]
    return names[number].map { "\($0) (signal \(number))" } ?? "signal \(number)"
  }
}

/// What a process, with the descendants that it waited for, has used up to its end.
package struct ResourceUse: Sendable, Equatable, Codable {
  /// CPU time in user mode, ns.
  package var userNanoseconds: UInt64
  /// CPU time in the kernel, ns.
  package var systemNanoseconds: UInt64
  /// The most memory it ever had resident, bytes.
  package var maxResidentBytes: UInt64

  package init(userNanoseconds: UInt64, systemNanoseconds: UInt64, maxResidentBytes: UInt64) {
    self.userNanoseconds = userNanoseconds
    self.systemNanoseconds = systemNanoseconds
    self.maxResidentBytes = maxResidentBytes
  }

  /// User and kernel together, ns.
  package var cpuNanoseconds: UInt64 { userNanoseconds &+ systemNanoseconds }
}
