// Who gets a request: one worker, in turn or by chance, one of each group.
import Foundation
import Engine
import Lab
import Results
import Nylon
import Report
import Scenario

/// Requests sent one by one or together, and the deliveries that the broker counts for each worker.
enum DeliveryPromises {
  static let all = [
    PromiseTest("one-worker-per-request", onBroker: oneWorker),
    PromiseTest("round-robin", onBroker: { roundRobin(try choices($0)) }),
    PromiseTest("even-load", onBroker: { evenLoad(try choices($0)) }),
    PromiseTest("same-queue-group", onBroker: { try groups($0, ["one", "one"]) }),
    PromiseTest("different-groups", onBroker: { try groups($0, ["one", "two"]) }),
    PromiseTest("group-name-in-config", onBroker: groupNameInConfig),
    PromiseTest("wildcard-subscriber", onBroker: { try listener($0, group: nil) }),
    PromiseTest("queue-group-check", onBroker: { try listener($0, group: $0.bench.poolSpec.group) }),
  ]

  /// Sends requests for the first phase of a pool, all at once; what came back for each.
  static func gather(_ stage: Stage, count: Int, target: Target) throws -> [[Answer]] {
    let client = try RequestClient(stage.broker.url)
    let phase = target.phases.first ?? .requestFilter
    let requests = try (0..<count).map { _ in
      try client.message(target, phase: phase, request: stage.bench.request)
    }
    return try client.gather(try stage.subject(plugin: target.plugin).phase(phase), requests)
  }

  private static func oneWorker(_ stage: Stage) throws -> BehaviourResult {
    try stage.start(3)
    let ids = try stage.workerIDs()
    let before = try stage.settledDeliveries(to: ids)
    let count = stage.bench.scaled(1000, quick: 200)
    let answers = try gather(stage, count: count, target: stage.target())
    let each = zip(try stage.settledDeliveries(to: ids), before).map { $0 - $1 }
    return judgeOne(count: count, deliveries: each, answers: answers.map(\.count))
  }

  /// Each request delivered once and answered once.
  static func judgeOne(count: Int, deliveries: [UInt64], answers: [Int]) -> BehaviourResult {
    let total = deliveries.reduce(0, +)
    let once = answers.count { $0 == 1 }
    return .of(
      total == UInt64(count) && once == count,
      "\(count) requests to \(deliveries.count) workers: \(total) deliveries "
        + "(\(deliveries.map(String.init).joined(separator: ", "))), \(once) answered once, "
        + "\(answers.count { $0 == 0 }) not at all, \(answers.count { $0 > 1 }) more than once")
  }

  // MARK: The order

  /// Who got each of several hundred requests, sent one after the other.
  static func choices(_ stage: Stage) throws -> Choices {
    try stage.start(4)
    let ids = try stage.workerIDs()
    let client = try RequestClient(stage.broker.url)
    let target = stage.target()
    let phase = target.phases.first ?? .requestFilter
    let subject = try stage.subject().phase(phase)
    var choices = Choices(sequence: [], workers: ids.count, unclear: 0)
    var last = try stage.settledDeliveries(to: ids)
    for _ in 0..<stage.bench.scaled(600, quick: 200) where !stage.bench.isInterrupted() {
      _ = client.request(subject, try client.message(target, phase: phase, request: stage.bench.request))
      let now = try stage.delivered(to: ids)
      let raised = now.indices.filter { now[$0] > last[$0] }
      if raised.count == 1, now[raised[0]] == last[raised[0]] + 1 {
        choices.sequence.append(raised[0])
      } else {
        choices.unclear += 1
      }
      last = now
    }
    return choices
  }

  /// Who was chosen, in order.
  struct Choices {
    var sequence: [Int]
    var workers: Int
    /// Requests that the broker did not show as one delivery to one worker.
    var unclear: Int

    var counts: [Int] {
      (0..<workers).map { worker in sequence.count { $0 == worker } }
    }
    /// The sequence as digits, and the counts.
    var rows: [[String]] { [[sequence.map(String.init).joined(), "\(counts)"]] }
  }

  static let columns = ["workers in the order of their requests", "requests of each"]

  /// Round-robin when at least 99 % of the steps go on in one cyclic order.
  static func roundRobin(_ choices: Choices) -> BehaviourResult {
    guard let share = Statistics.roundRobinShare(choices.sequence, of: choices.workers),
      let random = Statistics.independentChoices(choices.sequence, of: choices.workers)
    else {
      return .unclear("too few requests were seen at one worker: \(choices.sequence.count)")
    }
    let isRandom = random.pValue >= 0.01
    let why =
      "\(choices.sequence.count) requests one by one to \(choices.workers) workers: \(shown(share * 100, 1)) % of "
      + "the steps follow the cyclic order that fits best (round-robin 100 %, rule at least 99 %; chance about "
      + "\(shown(100 / Double(choices.workers), 0)) %); independent uniform choice is "
      + "\(isRandom ? "not rejected" : "rejected") (Good's serial test, chi-square \(shown(random.statistic, 1)), "
      + "\(random.degrees) degrees, p \(shownP(random.pValue)))"
    let end = share >= 0.99 ? "" : isRandom ? "; the broker chooses at random" : "; it is neither of the two"
    let note = choices.unclear > 0 ? "; \(choices.unclear) requests could not be assigned" : ""
    return .of(share >= 0.99, why + end + note, columns: columns, rows: choices.rows)
  }

  /// Balanced when every worker gets a share and evenness is not rejected at 1 in 10 000.
  static func evenLoad(_ choices: Choices) -> BehaviourResult {
    guard let test = Statistics.evenCounts(choices.counts) else {
      return .unclear("too few requests were seen at one worker: \(choices.sequence.count)")
    }
    return .of(
      test.pValue >= 0.0001 && !choices.counts.contains(0),
      "\(choices.sequence.count) requests to \(choices.workers) workers: "
        + "\(choices.counts.map(String.init).joined(separator: ", ")); even shares are "
        + "\(test.pValue >= 0.0001 ? "not rejected" : "rejected") (Pearson's chi-square \(shown(test.statistic, 1)), "
        + "\(test.degrees) degrees, p \(shownP(test.pValue)), rule p at least 0.0001)", columns: columns,
      rows: choices.rows)
  }

  // MARK: Groups

  /// Two workers in these groups: one delivery and one answer of each different group.
  private static func groups(_ stage: Stage, _ names: [String]) throws -> BehaviourResult {
    for name in names { try stage.start(1, group: name) }
    let ids = try Set(names).sorted().map { try stage.workerIDs(group: $0) }
    let before = try ids.map { try stage.settledDeliveries(to: $0).reduce(0, +) }
    let count = stage.bench.scaled(300, quick: 100)
    let answers = try gather(stage, count: count, target: stage.target(group: names[0]))
    let after = try ids.map { try stage.settledDeliveries(to: $0).reduce(0, +) }
    return judgeGroups(
      count: count, groups: Set(names).count, deliveries: zip(after, before).map { $0 - $1 },
      answers: answers.map(\.count))
  }

  /// Every group gets every request once, and answers it once.
  static func judgeGroups(count: Int, groups: Int, deliveries: [UInt64], answers: [Int]) -> BehaviourResult {
    let each = deliveries.allSatisfy { $0 == UInt64(count) } && deliveries.count == groups
    let right = answers.count { $0 == groups }
    return .of(
      each && right == count,
      "two workers in \(groups == 1 ? "one group" : "two groups"), \(count) requests: "
        + "\(deliveries.map(String.init).joined(separator: " and ")) deliveries, \(right) requests with "
        + (groups == 1 ? "one answer" : "two answers, of which the host counts one as a duplicate"))
  }

  /// Workers in another group than the configuration names: do they get requests?
  private static func groupNameInConfig(_ stage: Stage) throws -> BehaviourResult {
    try stage.start(1, group: "of-the-worker")
    let answers = try gather(
      stage, count: stage.bench.scaled(200, quick: 50), target: stage.target(group: "of-the-configuration"))
    let good = answers.count { $0.count == 1 && $0[0].isGood }
    return .of(
      good == 0,
      "a worker in group of-the-worker, Nylon's configuration names of-the-configuration: \(good) of "
        + "\(answers.count) requests were answered well. Who gets a request is settled by the workers' groups "
        + "alone: a request names a subject and no group")
  }

  // MARK: Listening

  /// A subscriber of the documented wildcard, alone or in the workers' group, next to two workers.
  private static func listener(_ stage: Stage, group: String?) throws -> BehaviourResult {
    try stage.start(2)
    let prefix = stage.bench.poolSpec.subjectPrefix
    let subject = group == nil ? "\(prefix).>" : "\(prefix).\(stage.bench.pool.plugin).>"
    let listener = try ScriptedWorker(stage.broker.url, subjects: [subject], group: group)
    defer { listener.stop() }
    let count = stage.bench.scaled(300, quick: 100)
    let answers = try gather(stage, count: count, target: stage.target())
    let good = answers.count { $0.count == 1 && $0[0].isGood }
    let heard = listener.arrivals.count
    guard let group else {
      return .of(
        heard == count && good == count,
        "next to 2 workers a subscriber of \(subject) saw \(heard) of \(count) requests; \(good) were answered"
      )
    }
    return .of(
      good == count,
      "next to 2 workers a subscriber of \(subject) in queue group \(group) was given \(heard) of \(count) "
        + "requests, which no worker then got; \(good) were answered. The command does not check a group: it "
        + "joins it and takes requests away")
  }
}
