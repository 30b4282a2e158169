import Engine
import Report
import Results
import Scenario

/// One target under one load, the unit that a verdict is about.
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
  /// Whether it is a step of a search, which the scenario does not name.
  var isOfSearch = false
  /// The measured time of a soak; nil of other steps.
  var soakSeconds: Double?

  var condition: Condition { Condition(target: target.name, load: load.label) }
}

/// Something that a run is to answer, and the conditions that the answer needs.
struct Question: Equatable {
  let conditions: [Condition]
  let isOpen: Bool

  /// The rows of the comparison, the claims and the expectations of a judged run. An A/A pair checks the
  /// procedure and is no question, nor is what further subjects of the claims come to.
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

/// Which measurements a run makes in each round, and when it stops.
///
/// The method: at least so many rounds of all conditions, then looks at all questions; later rounds measure
/// only what an open question needs, and what was disturbed.
struct Rounds {
  enum End: Equatable { case answered, mostRounds, budget }

  let plan: Plan
  /// The time that the measurements may take, seconds; nil without a limit.
  var budgetSeconds: Double?
  /// Rounds that have been made.
  private(set) var made = 0
  /// Measurements of those rounds.
  private var measurementCount = 0
  /// What the next round measures; nil for all.
  private var wanted: Set<Condition>?
  /// Conditions that are warmed up for twice as long, since their replicates agreed on a trend.
  private(set) var warmedLonger: Set<Condition> = []
  private(set) var questions: [Question] = []

  /// Such as `, 4 of 12 questions answered`; empty before the first look.
  var answered: String {
    questions.isEmpty ? "" : ", \(questions.count { !$0.isOpen }) of \(questions.count) questions answered"
  }

  init(plan: Plan, budgetSeconds: Double? = nil) {
    self.plan = plan
    self.budgetSeconds = budgetSeconds
  }

  /// The measurements of the next round: for each load the targets in turn, A B and in the next round B A, so
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

  /// Looks at what was measured after a round; tells why the run ends, or nil when it goes on.
  ///
  /// - Parameter elapsedSeconds: since the first measurement began.
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
    // A later round has fewer conditions than the first ones, and takes so much less.
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

  /// A condition has nothing to answer with until it has the fewest replicates. Where the time lasts for those that lack
  /// some, since they were disturbed or are measured anew, and not for all else as well, the next rounds measure them and
  /// what they are compared with.
  private mutating func favourLacking(_ document: RunDocument, elapsedSeconds: Double) {
    guard let budgetSeconds, let wanted else { return }
    let roundsOfAll = Double(Statistics.fewestReplicates * wanted.count) * secondsEach(elapsedSeconds)
    let lacking = wanted.intersection(lacking(Statistics.fewestReplicates, document))
    guard !lacking.isEmpty, elapsedSeconds + roundsOfAll > budgetSeconds else { return }
    self.wanted = lacking
  }

  /// The conditions without so many replicates, and what they are compared with: only replicates of one round are a pair.
  private func lacking(_ count: Int, _ document: RunDocument) -> Set<Condition> {
    let groups = MeasurementGroup.all(document).filter { $0.lacksReplicates(count) }
    return Set(groups.map(\.condition).filter { !hopeless.contains($0) }.flatMap(compared))
  }

  /// A condition, and those that its questions are about as well.
  private func compared(_ condition: Condition) -> Set<Condition> {
    Set(questions.map(\.conditions).filter { $0.contains(condition) }.joined() + [condition])
  }

  /// What a measurement has taken so far.
  private func secondsEach(_ elapsedSeconds: Double) -> Double {
    elapsedSeconds / Double(max(1, measurementCount))
  }

  /// A condition that is measured anew gets as many rounds again as give an interval.
  private var most: Int {
    plan.mostReplicates + (warmedLonger.isEmpty ? 0 : Statistics.fewestReplicates)
  }

  /// More looks than these would find differences by chance.
  private var isLook: Bool {
    made == most || made == plan.replicates || Comparison.looks.contains(made)
      || made > 12 && made.isMultiple(of: 4)
  }

  /// Conditions of which every replicate is broken: a plugin that always crashes is not tried again and again.
  private(set) var hopeless: Set<Condition> = []

  private mutating func giveUp(_ document: RunDocument) {
    guard made >= 2 else { return }
    for group in MeasurementGroup.all(document) where group.measurements.allSatisfy(\.isBroken) {
      hopeless.insert(group.condition)
    }
    guard !hopeless.isEmpty, wanted == nil else { return }
    let all = plan.targets.flatMap { target in
      target.loads.map { Condition(target: target.name, load: $0.label) }
    }
    wanted = Set(all).subtracting(hopeless)
  }

  /// Marks the replicates of a condition with a trend as warmed up for too short, once, so that it is measured
  /// anew with twice the warm-up. Without the time for that the replicates are kept: they show more than a few new
  /// ones would, and the condition is said to be never steady.
  ///
  /// - Returns: whether there was one.
  private mutating func lengthenWarmup(_ document: inout RunDocument, elapsedSeconds: Double) -> Bool {
    guard made < plan.mostReplicates, plan.warmupSeconds > 0 else { return false }
    let before = warmedLonger.count
    var left = budgetSeconds.map { $0 - elapsedSeconds } ?? .infinity
    // What was disturbed comes first, and is asked for again at the next look.
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
            "warmed up for \(plan.warmupSeconds) s, and then \(trend.detail); measured anew with twice that"))
    }
    return warmedLonger.count > before
  }

  /// Takes back the marks of conditions for whose new replicates the time did not last after all: all replicates
  /// together show more than the few new ones, and whether the condition was steady is asked of all.
  ///
  /// - Returns: whether there was one.
  private func useShortWarmups(_ document: inout RunDocument) -> Bool {
    let short = MeasurementGroup.all(document).filter {
      warmedLonger.contains($0.condition) && $0.lacksReplicates(Statistics.fewestReplicates)
    }
    for group in short { document.unmark(group.target, group.load, .shortWarmup) }
    return !short.isEmpty
  }
}
