import Foundation
import Synchronization
import Testing

/// A thread beside the concurrency pool: runs tasks one after the other, also those that wait.
package final class TestThread: TaskExecutor {
  private let queue = DispatchQueue(label: "test thread")

  package init() {}

  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }

  private static let all = Mutex<[String: TestThread]>([:])

  /// The one thread of that name.
  fileprivate static func named(_ name: String) -> TestThread {
    all.withLock { all in
      if let known = all[name] { return known }
      let thread = TestThread()
      all[name] = thread
      return thread
    }
  }
}

/// Runs a suite, and everything in it, on a thread that it shares with the other suites that name it.
///
/// The pool has as many threads as the machine has processors, and a test that waits keeps its own. A suite that runs
/// one test after the other would line up behind all tests of the other suites after each of its own: its second test
/// would begin when nearly everything else is done.
package struct TestThreadTrait: SuiteTrait, TestScoping {
  fileprivate let name: String

  package func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    try await withTaskExecutorPreference(TestThread.named(name)) { try await function() }
  }
}

extension Trait where Self == TestThreadTrait {
  /// See ``TestThreadTrait``.
  package static func thread(_ name: String) -> Self { Self(name: name) }
}
