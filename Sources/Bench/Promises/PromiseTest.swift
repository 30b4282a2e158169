import Foundation
import Lab
import Results
import Report
import Scenario

/// One test of a documented promise that is no figure.
struct PromiseTest: Sendable {
  /// What `claims.yaml` calls it.
  let name: String
  /// Tries it, on parts of its own.
  let run: @Sendable (PromiseBench) throws -> BehaviourResult

  init(_ name: String, _ run: @escaping @Sendable (PromiseBench) throws -> BehaviourResult) {
    self.name = name
    self.run = run
  }

  /// A test on a broker of its own.
  init(
    _ name: String, pool: PromiseBench.Pool = .underTest,
    onBroker run: @escaping @Sendable (Stage) throws -> BehaviourResult
  ) {
    self.init(name) { bench in try Stage.with(bench.with(pool), run) }
  }
}

/// All tests, and how they are run.
enum Promises {
  /// In the order in which they are run: the quick ones first.
  static let all: [PromiseTest] =
    DeliveryPromises.all + LayoutPromises.all + SettingPromises.all + HandlerPromises.all + FaultPromises.all
    + ScalingPromises.all

  /// The names that `test:` may have.
  static var names: Set<String> { Set(all.map(\.name)) }

  /// Runs the tests that the statements name, each once.
  ///
  /// A test that an interruption cut short has no result.
  /// - Parameters:
  ///   - specs: the documented statements.
  ///   - bench: what they are tried with.
  ///   - onStart: is told each test's place, how many there are, and its name.
  ///   - onResult: gets each result as soon as it is there.
  static func run(
    _ specs: [BehaviourSpec], bench: PromiseBench, onStart: (Int, Int, String) -> Void = { _, _, _ in },
    onResult: (BehaviourResult) throws -> Void
  ) rethrows {
    let wanted = Set(specs.compactMap(\.test))
    let tests = all.filter { wanted.contains($0.name) }
    for (place, test) in tests.enumerated() {
      if bench.isInterrupted() { return }
      onStart(place, tests.count, test.name)
      let result = result(of: test, bench)
      if bench.isInterrupted() { return }
      try onResult(result)
    }
  }

  private static func result(of test: PromiseTest, _ bench: PromiseBench) -> BehaviourResult {
    do {
      var result = try test.run(bench)
      result.test = test.name
      if let note = bench.poolNote { result.why += "; \(note)" }
      return result
    } catch let error as LabError where error.isMissing {
      return BehaviourResult(test: test.name, verdict: .notMeasured, why: "\(error)")
    } catch {
      return BehaviourResult(
        test: test.name, verdict: .inconclusive, why: "the test could not be done: \(error)")
    }
  }

  /// A row for each statement; those whose test has no result are left out.
  static func verdicts(_ specs: [BehaviourSpec], results: [BehaviourResult]) -> [ClaimVerdict] {
    specs.compactMap { spec -> ClaimVerdict? in
      let result = results.first { $0.test == spec.test }
      let isMeasured = spec.notMeasured == nil
      guard let verdict = isMeasured ? result?.verdict : ClaimVerdict.Verdict.notMeasured else { return nil }
      return ClaimVerdict(of: spec, verdict, why: spec.notMeasured ?? result?.why ?? "")
    }
  }
}

extension BehaviourResult {
  /// A verdict of yes or no; the runner fills in the test's name.
  static func of(
    _ holds: Bool, _ why: String, columns: [String] = [], rows: [[String]] = []
  ) -> BehaviourResult {
    BehaviourResult(test: "", verdict: holds ? .holds : .fails, why: why, columns: columns, rows: rows)
  }

  /// Neither can be said.
  static func unclear(_ why: String, columns: [String] = [], rows: [[String]] = []) -> BehaviourResult {
    BehaviourResult(test: "", verdict: .inconclusive, why: why, columns: columns, rows: rows)
  }
}

/// A number with so many digits behind the point.
func shown(_ value: Double, _ digits: Int = 2) -> String { String(format: "%.\(digits)f", value) }

/// A p-value, with more digits where it is small.
func shownP(_ value: Double) -> String {
  value < 0.0001 ? "under 0.0001" : shown(value, value < 0.01 ? 4 : 3)
}
