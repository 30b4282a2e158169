import Synchronization
import TestSupport
import Testing

/// All end-to-end tests. One that measures has the machine for itself; those with the tag `besideOthers` run some at a
/// time.
@Suite(.places) struct EndToEnd {}

extension Tag {
  /// For a test that looks at messages, exit codes, counts and what is left behind, and asks no figure to be valid: what
  /// runs at the same time must not make it fail.
  @Tag static var besideOthers: Self
}

/// Gives each test case its place on the machine, or all places, and a thread of its own to wait on.
struct PlacesTrait: SuiteTrait, TestTrait, TestScoping {
  let isRecursive = true
  private static let places = Places()

  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    let wanted = test.tags.contains(.besideOthers) ? 1 : Places.count
    await Self.places.take(wanted)
    defer { Self.places.giveBack(wanted) }
    try await withTaskExecutorPreference(TestThread()) { try await function() }
  }
}

extension Trait where Self == PlacesTrait {
  static var places: Self { Self() }
}

/// How many tests may run at once.
final class Places: Sendable {
  /// Most of them wait for processes most of the time.
  static let count = 5

  private struct State {
    var free = Places.count
    /// Who waits, by the number of places that they want.
    var waiting: [Int: [CheckedContinuation<Void, Never>]] = [:]

    /// Takes places for the next of those who wait and can go on; those who want few go first.
    mutating func next() -> CheckedContinuation<Void, Never>? {
      let wanted = waiting.filter { !$0.value.isEmpty }.keys.min()
      guard let wanted, wanted <= free else { return nil }
      free -= wanted
      return waiting[wanted]?.removeFirst()
    }
  }

  private let state = Mutex(State())

  /// Waits until a number of places are free, and takes them.
  func take(_ wanted: Int) async {
    await withCheckedContinuation { continuation in
      state.withLock { $0.waiting[wanted, default: []].append(continuation) }
      resume()
    }
  }

  func giveBack(_ taken: Int) {
    state.withLock { $0.free += taken }
    resume()
  }

  private func resume() {
    while let next = state.withLock({ $0.next() }) { next.resume() }
  }
}
