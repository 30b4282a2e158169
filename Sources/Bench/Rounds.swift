import Engine
import Report
import Results
import Scenario

/// One target under one load: the unit of a verdict.
struct Condition: Hashable {
  let target: String
  let load: String
}

extension MeasurementGroup {
  var condition: Condition { Condition(target: target, load: load) }
}

struct Step: Equatable {
  var target: Target
  let load: LoadShape
  let replicate: Int
  var warmupSeconds = 0.0
  /// Whether the step belongs to a rate search rather than to the scenario.
  var isOfSearch = false
  /// The measured time of a soak, seconds; nil for other steps.
  var soakSeconds: Double?

  var condition: Condition { Condition(target: target.name, load: load.label) }
}

/// A question that a run answers, with the conditions that the answer depends on.
struct Question: Equatable {
  let conditions: [Condition]
  let isOpen: Bool

  /// The questions of a judged run: comparison rows, claims and expectations. A/A pairs, which check the
  /// procedure, and comparisons with further subjects of the claims are not included.
  static func all(_ document: RunDocument, checks: [ClaimCheck]) -> [Question] {
    let further = checks.reduce(into: Set<String>()) { $0.formUnion($1.furtherTargets) }
    let comparisons = document.comparisons.filter {
      Answer.metrics.contains($0.metric) && $0.aValue != nil && $0.bValue != nil
        && !Comparison.isAA($0, document.scenario.targets) && further.isDisjoint(with: [$0.a, $0.b])
    }.map { row in
      Question(
        conditions: [row.a, row.b].map { Condition(target: $0, load: row.condition) },
        isOpen: row.verdict == .unclear)
    }
    let claims = checks.map { check in
      let open = check.undecided(in: document.claims)
      return Question(
        conditions: open.map { Condition(target: $0.target, load: $0.load) }, isOpen: !open.isEmpty)
    }
    let expectations = zip(document.scenario.expectations, document.expectations).map { line, result in
      let other = line.divisor.map { Condition(target: $0.target, load: $0.load) }
      return Question(
        conditions: [Condition(target: line.target, load: line.load), other].compactMap { $0 },
        isOpen: result.isOpen)
    }
    return comparisons + claims + expectations
  }
}

/// Decides which measurements a run takes in each round, and when it stops.
///
/// The first rounds, up to the plan's minimum, measure all conditions. Then the questions are evaluated, and
/// later rounds measure only the conditions of open questions and those that were disturbed.
struct Rounds {
  enum End: Equatable { case answered, mostRounds, budget }

  let plan: Plan
  /// The time limit for all measurements, seconds; nil without a limit.
  var budgetSeconds: Double?
  /// The number of completed rounds.
  private(set) var made = 0
  /// The number of measurements in the completed rounds.
  private var measurementCount = 0
  /// The conditions of the next round; nil for all.
  private var wanted: Set<Condition>?
  /// Conditions whose warm-up was doubled because their replicates agreed on a trend.
  private(set) var warmedLonger: Set<Condition> = []
  private(set) var questions: [Question] = []

  /// A progress text such as `, 4 of 12 questions answered`; empty before the first evaluation.
  var answered: String {
    questions.isEmpty ? "" : ", \(questions.count { !$0.isOpen }) of \(questions.count) questions answered"
  }

  init(plan: Plan, budgetSeconds: Double? = nil) {
    self.plan = plan
    self.budgetSeconds = budgetSeconds
  }

  /// The steps of the next round: all targets for each load, with their order reversed every other round so
  /// that drift cancels.
  func nextRound() -> [Step] {
    let round = made + 1
    let targets = round % 2 == 1 ? plan.targets : plan.targets.reversed()
    let mostLoads = plan.targets.map(\.loads.count).max() ?? 0
    return (0..<mostLoads).flatMap { place in
      targets.filter { place < $0.loads.count }.map { target in
        var step = Step(target: target, load: target.loads[place], replicate: round)
        step.warmupSeconds = plan.warmupSeconds * (warmedLonger.contains(step.condition) ? 2 : 1)
        return step
      }
    }.filter { wanted?.contains($0.condition) ?? true }
  }

  /// Evaluates the results after a round. Returns why the run ends, or nil when it continues.
  ///
  /// - Parameter elapsedSeconds: seconds since the first measurement started.
  mutating func finishRound(
    _ document: inout RunDocument, checks: [ClaimCheck], elapsedSeconds: Double
  ) -> End? {
    measurementCount += nextRound().count
    made += 1
    giveUp(document)
    if made >= plan.replicates, isLook {
      look(at: &document, checks)
      if lengthenWarmup(&document, elapsedSeconds: elapsedSeconds) { look(at: &document, checks) }
      let open = questions.filter { $0.isOpen && $0.conditions.allSatisfy { !hopeless.contains($0) } }
      wanted = lacking(plan.replicates, document).union(open.flatMap(\.conditions)).subtracting(hopeless)
      if wanted == [] { return .answered }
      favourLacking(document, elapsedSeconds: elapsedSeconds)
    }
    // Later rounds have fewer conditions than the first ones and are shorter accordingly.
    let next = secondsEach(elapsedSeconds) * Double(nextRound().count)
    let isSpent = budgetSeconds.map { elapsedSeconds + next > $0 } ?? false
    guard made >= most || isSpent else { return nil }
    if useShortWarmups(&document) { look(at: &document, checks) }
    return made >= most ? .mostRounds : .budget
  }

  private mutating func look(at document: inout RunDocument, _ checks: [ClaimCheck]) {
    document.judge(checks)
    questions = Question.all(document, checks: checks)
  }

  /// Restricts the next rounds to conditions without the minimum of replicates, and those they are compared
  /// with, when the remaining time is too short for all wanted conditions. Replicates may be missing because
  /// they were disturbed or are being measured again, and a condition yields no result without the minimum.
  /// Open questions take part until the next evaluation as far as the remaining time lasts for them too.
  private mutating func favourLacking(_ document: RunDocument, elapsedSeconds: Double) {
    guard let budgetSeconds, let wanted, made < most else { return }
    let left = (budgetSeconds - elapsedSeconds) / secondsEach(elapsedSeconds)
    let lacking = wanted.intersection(lacking(Statistics.fewestReplicates, document))
    guard !lacking.isEmpty, Double(Statistics.fewestReplicates * wanted.count) > left else { return }
    let others = left - Double(Statistics.fewestReplicates * lacking.count)
    let rounds = ((made + 1)..<most).first(where: Comparison.isLook).map { $0 - made } ?? most - made
    var kept = lacking
    for question in questions where question.isOpen {
      let more = kept.union(wanted.intersection(question.conditions))
      if Double((more.count - lacking.count) * rounds) < others { kept = more }
    }
    self.wanted = kept
  }

  /// The conditions with fewer than `count` replicates, and those they are compared with: only replicates of
  /// the same round form a pair.
  private func lacking(_ count: Int, _ document: RunDocument) -> Set<Condition> {
    let groups = MeasurementGroup.all(document).filter { $0.sound.count < count }
    return Set(groups.map(\.condition).filter { !hopeless.contains($0) }.flatMap(compared))
  }

  /// A condition and all conditions that share a question with it.
  private func compared(_ condition: Condition) -> Set<Condition> {
    Set(questions.map(\.conditions).filter { $0.contains(condition) }.joined() + [condition])
  }

  /// The average time per measurement so far, seconds.
  private func secondsEach(_ elapsedSeconds: Double) -> Double {
    elapsedSeconds / Double(max(1, measurementCount))
  }

  /// The maximum number of rounds. Conditions that are measured again add enough rounds for an interval.
  private var most: Int { plan.mostReplicates + (warmedLonger.isEmpty ? 0 : Statistics.fewestReplicates) }

  /// Whether to evaluate after this round. More frequent evaluations would find differences by chance.
  private var isLook: Bool { made == most || made == plan.replicates || Comparison.isLook(made) }

  /// Conditions whose replicates are all broken, so that a plugin that always crashes is not retried forever.
  private(set) var hopeless: Set<Condition> = []

  private mutating func giveUp(_ document: RunDocument) {
    guard made >= 2 else { return }
    for group in MeasurementGroup.all(document) where group.measurements.allSatisfy(\.isBroken) {
      hopeless.insert(group.condition)
    }
    guard !hopeless.isEmpty, wanted == nil else { return }
    wanted = Set(nextRound().map(\.condition)).subtracting(hopeless)
  }

  /// Marks the replicates of each condition with a trend as warmed up too briefly, once, so that it is
  /// measured again with twice the warm-up. When there is no time for that, the replicates are kept, since
  /// they show more than a few new ones would, and the condition is reported as never steady.
  ///
  /// - Returns: whether any condition was marked.
  private mutating func lengthenWarmup(_ document: inout RunDocument, elapsedSeconds: Double) -> Bool {
    guard made < plan.mostReplicates, plan.warmupSeconds > 0 else { return false }
    let before = warmedLonger.count
    var left = budgetSeconds.map { $0 - elapsedSeconds } ?? .infinity
    // Reserve time for disturbed conditions first; the next evaluation requests them again.
    left -= 2 * secondsEach(elapsedSeconds) * Double(lacking(Statistics.fewestReplicates, document).count)
    for group in MeasurementGroup.all(document) {
      let condition = group.condition
      guard !warmedLonger.contains(condition), let trend = group.trend else { continue }
      let secondsOfRound =
        secondsEach(elapsedSeconds) * Double(compared(condition).count) + plan.warmupSeconds
      let anew = Double(Statistics.fewestReplicates) * secondsOfRound
      guard left >= anew else { continue }
      left -= anew
      warmedLonger.insert(condition)
      document.mark(
        condition.target, condition.load,
        InvalidReason(
          code: .shortWarmup,
          detail:
            "warmed up for \(plan.warmupSeconds) s, then \(trend.detail); measured again with twice that"))
    }
    return warmedLonger.count > before
  }

  /// Removes the marks of conditions that did not get enough new replicates in time: all replicates together
  /// show more than the few new ones, and decide whether the condition was steady.
  ///
  /// - Returns: whether any mark was removed.
  private func useShortWarmups(_ document: inout RunDocument) -> Bool {
    let short = MeasurementGroup.all(document).filter {
      warmedLonger.contains($0.condition) && $0.sound.count < Statistics.fewestReplicates
    }
    for group in short { document.unmark(group.target, group.load, .shortWarmup) }
    return !short.isEmpty
  }
}
