// Promises about how a broker delivers requests, its monitoring, and the languages of workers.
import Foundation
import Lab
import Nylon
import Results

/// Sends requests one by one or together, and reads the deliveries to each worker from the monitoring.
enum BrokerPromises {
  static let all: [PromiseTest] = [
    PromiseTest("one-worker-per-request") { stage in
      try stage.start(3)
      let count = stage.bench.scaled(1000, quick: 200)
      var answers: [[Bool]] = []
      let each = try stage.deliveries(to: try stage.workerIDs().map { [$0] }) {
        answers = try stage.ask(count, stage.target())
      }
      return judgeOne(count: count, deliveries: each, answers: answers.map(\.count))
    },
    PromiseTest("round-robin") { roundRobin(try choices($0)) },
    PromiseTest("even-load") { evenLoad(try choices($0)) },
    PromiseTest("same-queue-group") { try groups($0, ["one", "one"]) },
    PromiseTest("different-groups") { try groups($0, ["one", "two"]) },
    PromiseTest("group-name-in-config") { stage in
      try stage.start(1, group: "of-the-worker")
      let answers = try stage.ask(
        stage.bench.scaled(200, quick: 50), stage.target(group: "of-the-configuration"))
      let good = answers.count { $0 == [true] }
      return .of(
        good == 0,
        "with a worker in group of-the-worker, and of-the-configuration in Nylon's configuration, \(good) of "
          + "\(answers.count) requests were answered correctly. The workers' groups alone decide who gets a "
          + "request: it names a subject and no group")
    },
    PromiseTest("wildcard-subscriber") { stage in
      let (subject, heard, good, count) = try listener(stage, group: nil)
      return .of(
        heard == count && good == count,
        "beside 2 workers, a subscriber of \(subject) saw \(heard) of \(count) requests; \(good) were "
          + "answered"
      )
    },
    PromiseTest("queue-group-check") { stage in
      let group = stage.bench.poolSpec.group
      let (subject, heard, good, count) = try listener(stage, group: group)
      return .of(
        good == count,
        "beside 2 workers, a subscriber of \(subject) in queue group \(group) got \(heard) of \(count) "
          + "requests, which no worker got; \(good) were answered. The command does not check a group: it "
          + "joins it and takes requests from the workers")
    },
    PromiseTest("subject-layout", pool: .standard) { stage in
      try stage.start(1, group: "production-workers", plugin: "my-plugin")
      let all = try stage.broker.monitor.subscriptions().filter { $0.subject.hasPrefix("nylon.plugin.") }
      let client = try RequestClient(stage.broker.url)
      let target = stage.target(handler: "noop")
      let answered = try Phase.session.count { phase in
        client.request(
          "nylon.plugin.my-plugin.\(phase.subjectFragment)",
          try client.message(target, phase, stage.bench.request))
      }
      return judgeLayout(all, answered: answered)
    },
    PromiseTest("plugin-name") { stage in
      try stage.start(1)
      let count = stage.bench.scaled(100, quick: 30)
      let misspelt = stage.target(plugin: "\(stage.bench.pool.plugin)-misspelt")
      let wrong = try stage.ask(count, misspelt).count { $0.contains(true) }
      let right = try stage.ask(count, stage.target()).count { $0.contains(true) }
      return .of(
        wrong == 0 && right == count,
        "of \(count) requests each, \(right) were answered under the worker's name and \(wrong) under another"
      )
    },
    PromiseTest("needs-broker", pool: .standard) { stage in
      let target = stage.target()
      try stage.start(1).stop()
      stage.broker.stop()
      let worker = try ChildProcess.start(
        Launch(
          try Executables.own("nylon-worker"), ["--name", "example"],
          environment: ["NATS_SERVERS": stage.broker.url]))
      let status = worker.wait(timeout: .seconds(20))
      worker.terminate()
      var refusal = ""
      do {
        _ = try stage.bench.load(target, .closed(concurrency: 1), measureSeconds: 0.1)
      } catch { refusal = "\(error)" }
      return .of(
        status == .exited(69) && !refusal.isEmpty,
        "without a broker, the worker \(status?.description ?? "kept waiting"), and the host reports: "
          + (refusal.isEmpty ? "nothing" : refusal))
    },
    PromiseTest("monitoring") { stage in
      try stage.start(2)
      let before = try stage.broker.statistics()
      let count = stage.bench.scaled(500, quick: 100)
      let answered = try stage.ask(count, stage.target()).reduce(0) { $0 + $1.count }
      _ = try stage.settledDeliveries(to: try stage.workerIDs())
      let after = try stage.broker.statistics()
      let came = Int(after.inMessages - before.inMessages)
      return .of(
        came == count + answered && after.connections >= 2,
        "/varz counts \(came) messages in for \(count) requests and \(answered) answers, and "
          + "\(before.connections) connections; /connz and /subsz show the workers (the broker was started with "
          + "monitoring enabled)")
    },
    // Starts `nats-server` without options like the guides, except for a free port on the loopback address.
    PromiseTest(name: "monitoring-default") { bench in
      let server = try ChildProcess.start(
        Launch(try Executables.broker(bench.broker), ["-a", "127.0.0.1", "-p", "-1"]))
      defer { server.terminate() }
      for _ in 0..<200 where !server.lastWords.contains("Server is ready") && server.isRunning {
        usleep(20_000)
      }
      guard server.lastWords.contains("Server is ready") else {
        return .of(.inconclusive, "nats-server did not become ready: \(server.lastWords)")
      }
      let monitors = server.lastWords.contains("Starting http monitor")
      return .of(
        monitors,
        "nats-server, started with no option except its address, "
          + (monitors
            ? "opens a monitoring port" : "opens no monitoring port: it needs -m 8222 (http_port: 8222)"))
    },
    // A worker in C without a NATS library and one written with NylonPlugin, in the same group.
    PromiseTest("any-language", pool: .standardOfOnePhase) { stage in
      try stage.start(1)
      let inSwift = try stage.workerIDs()
      try stage.start(
        1,
        command: [
          try Executables.own("nylon-bench"), "__baseline-worker", "\(stage.broker.port)",
          try stage.subject(), stage.bench.poolSpec.group,
        ])
      let inC = try stage.workerIDs().filter { !inSwift.contains($0) }
      let count = stage.bench.scaled(400, quick: 100)
      var good = 0
      let each = try stage.deliveries(to: [inSwift, inC]) {
        good = try stage.ask(count, stage.target(handler: "noop")).count { $0 == [true] }
      }
      return .of(
        good == count && each.allSatisfy { $0 > 0 },
        "one group of a worker in Swift (NylonPlugin) and one in C (a bare socket, no NATS library): \(good) of "
          + "\(count) requests answered correctly, \(each[1]) by the one in C. Two languages were tested; a "
          + "worker needs a socket and MessagePack")
    },
  ]

  static func judgeOne(count: Int, deliveries: [UInt64], answers: [Int]) -> BehaviourResult {
    let total = deliveries.reduce(0, +)
    let once = answers.count { $0 == 1 }
    return .of(
      total == UInt64(count) && once == count,
      "\(count) requests to \(deliveries.count) workers: \(total) deliveries (\(deliveries.listed())), "
        + "\(once) answered once, \(answers.count { $0 == 0 }) not at all, \(answers.count { $0 > 1 }) more than once"
    )
  }

  /// Sends several hundred requests one after the other, and records which worker got each.
  private static func choices(_ stage: Stage) throws -> Choices {
    try stage.start(4)
    let ids = try stage.workerIDs()
    let client = try RequestClient(stage.broker.url)
    let target = stage.target()
    let subject = try stage.subject()
    var choices = Choices(sequence: [], workers: ids.count, unclear: 0)
    var last = try stage.settledDeliveries(to: ids)
    for _ in 0..<stage.bench.scaled(600, quick: 200) where !stage.bench.isInterrupted() {
      _ = client.request(subject, try client.message(target, stage.phase, stage.bench.request))
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

  struct Choices {
    var sequence: [Int]
    var workers: Int
    /// Requests that did not show up as exactly one delivery to one worker.
    var unclear: Int

    var counts: [Int] { (0..<workers).map { worker in sequence.count { $0 == worker } } }

    fileprivate func verdict(_ holds: Bool, _ why: String) -> BehaviourResult {
      .of(
        holds, why, columns: ["workers in the order of their requests", "requests of each"],
        rows: [[sequence.listed(""), "\(counts)"]])
    }

    fileprivate var tooFew: BehaviourResult {
      .of(.inconclusive, "too few requests were seen at one worker: \(sequence.count)")
    }
  }

  /// The choice is round-robin when at least 99 % of the steps follow one cyclic order.
  static func roundRobin(_ choices: Choices) -> BehaviourResult {
    guard let share = Statistics.roundRobinShare(choices.sequence, of: choices.workers),
      let random = Statistics.independentChoices(choices.sequence, of: choices.workers)
    else { return choices.tooFew }
    let isRandom = random.pValue >= 0.01
    let why =
      "\(choices.sequence.count) requests one by one to \(choices.workers) workers: \(shown(share * 100, 1)) % of "
      + "the steps follow the cyclic order that fits best (round-robin 100 %, threshold 99 %; chance about "
      + "\(shown(100 / Double(choices.workers), 0)) %); independent uniform choice is "
      + "\(isRandom ? "not rejected" : "rejected") (Good's serial test, \(figures(random)))"
    let end = share >= 0.99 ? "" : isRandom ? "; the broker chooses at random" : "; it is neither of the two"
    let note = choices.unclear > 0 ? "; \(choices.unclear) requests could not be assigned" : ""
    return choices.verdict(share >= 0.99, why + end + note)
  }

  /// The load is even when every worker gets a share and evenness is not rejected at p = 0.0001.
  static func evenLoad(_ choices: Choices) -> BehaviourResult {
    guard let test = Statistics.evenCounts(choices.counts) else { return choices.tooFew }
    return choices.verdict(
      test.pValue >= 0.0001 && !choices.counts.contains(0),
      "\(choices.sequence.count) requests to \(choices.workers) workers: \(choices.counts.listed()); even shares are "
        + "\(test.pValue >= 0.0001 ? "not rejected" : "rejected") (Pearson's \(figures(test)), threshold p "
        + "0.0001)"
    )
  }

  private static func figures(_ test: ChiSquare) -> String {
    let p = test.pValue < 0.0001 ? "under 0.0001" : shown(test.pValue, test.pValue < 0.01 ? 4 : 3)
    return "chi-square \(shown(test.statistic, 1)), \(test.degrees) degrees, p \(p)"
  }

  /// Starts a worker in each of these groups and expects one delivery and one reply per distinct group.
  private static func groups(_ stage: Stage, _ names: [String]) throws -> BehaviourResult {
    for name in names { try stage.start(1, group: name) }
    let count = stage.bench.scaled(300, quick: 100)
    let ids = try Set(names).sorted().map { try stage.workerIDs(group: $0) }
    var answers: [[Bool]] = []
    let deliveries = try stage.deliveries(to: ids) { answers = try stage.ask(count, stage.target()) }
    return judgeGroups(count: count, groups: ids.count, deliveries: deliveries, answers: answers.map(\.count))
  }

  /// Holds when every group gets and answers every request exactly once.
  static func judgeGroups(count: Int, groups: Int, deliveries: [UInt64], answers: [Int]) -> BehaviourResult {
    let each = deliveries.allSatisfy { $0 == UInt64(count) } && deliveries.count == groups
    let right = answers.count { $0 == groups }
    return .of(
      each && right == count,
      "two workers in \(groups == 1 ? "one group" : "two groups"), \(count) requests: "
        + "\(deliveries.listed(" and ")) deliveries, \(right) requests with "
        + (groups == 1 ? "one answer" : "two answers, of which the host counts one as a duplicate"))
  }

  /// Runs a subscriber of the documented wildcard next to two workers, in the given group or in none.
  private static func listener(
    _ stage: Stage, group: String?
  ) throws -> (subject: String, heard: Int, good: Int, count: Int) {
    try stage.start(2)
    let prefix = stage.bench.poolSpec.subjectPrefix
    let subject = group == nil ? "\(prefix).>" : "\(prefix).\(stage.bench.pool.plugin).>"
    let listener = try ScriptedWorker(stage.broker.url, subjects: [subject], group: group)
    defer { listener.stop() }
    let count = stage.bench.scaled(300, quick: 100)
    let good = try stage.ask(count, stage.target()).count { $0 == [true] }
    return (subject, listener.arrivals.count, good, count)
  }

  /// Holds when the documented worker subscribes to exactly the documented subjects. Subscriptions without a
  /// group, such as a newer SDK's lifecycle subject, are reported separately.
  static func judgeLayout(_ all: [BrokerSubscription], answered: Int) -> BehaviourResult {
    let documented = ["request_filter", "response_filter", "response_body_filter", "logging"].map {
      "nylon.plugin.my-plugin.\($0)"
    }
    let grouped = all.filter { $0.group != nil }
    let others = all.filter { $0.group == nil }.map(\.subject)
    let right =
      grouped.map(\.subject).sorted() == documented.sorted()
      && grouped.allSatisfy { $0.group == "production-workers" }
    return .of(
      right && answered == 4,
      "/subsz shows \(grouped.count) subscriptions in a group, "
        + "\(right ? "exactly the four documented ones" : "not the four documented ones"), "
        + "and \(answered) of 4 raw requests on the documented subjects were answered"
        + (others.isEmpty ? "" : "; also, without a group: \(others.listed())"),
      columns: ["subject", "queue group"], rows: all.map { [$0.subject, $0.group ?? ""] })
  }
}
