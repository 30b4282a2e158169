// Subjects, names, monitoring, and what a worker may be written in.
import Foundation
import Lab
import Nylon
import Results
import Report
import Scenario

/// What the broker shows of a pool, and who can be a worker.
enum LayoutPromises {
  static let all = [
    PromiseTest("subject-layout", pool: .standard, onBroker: subjectLayout),
    PromiseTest("plugin-name", onBroker: pluginName),
    PromiseTest("needs-broker", pool: .standard, onBroker: needsBroker),
    PromiseTest("monitoring", onBroker: monitoring),
    PromiseTest("monitoring-default", monitoringDefault),
    PromiseTest("any-language", pool: .standardOfOnePhase, onBroker: anyLanguage),
  ]

  /// The documented worker on the documented subjects; a newer SDK's lifecycle subject is told apart.
  private static func subjectLayout(_ stage: Stage) throws -> BehaviourResult {
    try stage.start(1, group: "production-workers", plugin: "my-plugin")
    let all = try stage.monitor.subscriptions().filter { $0.subject.hasPrefix("nylon.plugin.") }
    let client = try RequestClient(stage.broker.url)
    let target = stage.target(handler: "noop", group: "production-workers", plugin: "my-plugin")
    let answered = try Phase.session.count { phase in
      let subject = "nylon.plugin.my-plugin.\(phase.subjectFragment)"
      return client.request(subject, try client.message(target, phase: phase, request: stage.bench.request))
        .isGood
    }
    return judgeLayout(all, answered: answered)
  }

  static func judgeLayout(_ all: [BrokerSubscription], answered: Int) -> BehaviourResult {
    let documented = Set(
      ["request_filter", "response_filter", "response_body_filter", "logging"].map {
        "nylon.plugin.my-plugin.\($0)"
      })
    let grouped = all.filter { $0.group != nil }
    let others = all.filter { $0.group == nil }.map(\.subject)
    let right =
      grouped.count == 4 && Set(grouped.map(\.subject)) == documented
      && grouped.allSatisfy { $0.group == "production-workers" }
    return .of(
      right && answered == 4,
      "/subsz shows \(grouped.count) subscriptions in a group, \(right ? "just the four documented ones" : "not the four documented ones"), "
        + "and \(answered) of 4 raw requests on the documented subjects were answered"
        + (others.isEmpty ? "" : "; besides, without a group: \(others.joined(separator: ", "))"),
      columns: ["subject", "queue group"], rows: all.map { [$0.subject, $0.group ?? ""] })
  }

  /// A worker under another name than the configuration's gets nothing; under the same name all.
  private static func pluginName(_ stage: Stage) throws -> BehaviourResult {
    try stage.start(1)
    let count = stage.bench.scaled(100, quick: 30)
    let other = try DeliveryPromises.gather(
      stage, count: count, target: stage.target(plugin: "\(stage.bench.pool.plugin)-misspelt"))
    let same = try DeliveryPromises.gather(stage, count: count, target: stage.target())
    let wrong = other.count { $0.contains(where: \.isGood) }
    let right = same.count { $0.contains(where: \.isGood) }
    return .of(
      wrong == 0 && right == count,
      "of \(count) requests each, \(right) were answered under the worker's name and \(wrong) under another"
    )
  }

  private static func needsBroker(_ stage: Stage) throws -> BehaviourResult {
    let before = try stage.start(1)
    let target = stage.target()
    before.stop()
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
      "without a broker the worker \(status?.description ?? "went on waiting"), and the host's side says: "
        + (refusal.isEmpty ? "nothing" : refusal))
  }

  private static func monitoring(_ stage: Stage) throws -> BehaviourResult {
    try stage.start(2)
    let before = try stage.broker.statistics()
    let count = stage.bench.scaled(500, quick: 100)
    let answers = try DeliveryPromises.gather(stage, count: count, target: stage.target())
    _ = try stage.settledDeliveries(to: try stage.workerIDs())
    let after = try stage.broker.statistics()
    let came = Int(after.inMessages - before.inMessages)
    let answered = answers.reduce(0) { $0 + $1.count }
    return .of(
      came == count + answered && after.connections >= 2,
      "/varz counts \(came) messages in for \(count) requests and \(answered) answers, and "
        + "\(before.connections) connections; /connz and /subsz show the workers (the broker was started with "
        + "monitoring switched on)")
  }

  /// The broker as the guides start it: `nats-server` alone, here only with a free port and the loopback address.
  private static func monitoringDefault(_ bench: PromiseBench) throws -> BehaviourResult {
    let server = try ChildProcess.start(Launch(try Executables.broker(), ["-a", "127.0.0.1", "-p", "-1"]))
    defer { server.terminate() }
    for _ in 0..<200 where !server.lastWords.contains("Server is ready") && server.isRunning {
      usleep(20_000)
    }
    guard server.lastWords.contains("Server is ready") else {
      return .unclear("nats-server did not become ready: \(server.lastWords)")
    }
    let monitors = server.lastWords.contains("Starting http monitor")
    return .of(
      monitors,
      "nats-server, started without options but for its address, "
        + (monitors
          ? "opens a monitoring port" : "opens no monitoring port: it needs -m 8222 (http_port: 8222)"))
  }

  /// A worker in C that knows no NATS library beside one written with NylonPlugin, in one group.
  private static func anyLanguage(_ stage: Stage) throws -> BehaviourResult {
    try stage.start(1)
    let subject = try stage.subject().phase(.requestFilter)
    let known = Set(try stage.workerIDs())
    let inC = try ChildProcess.start(
      Launch(
        stage.bench.program,
        ["__baseline-worker", "\(stage.broker.port)", subject, stage.bench.poolSpec.group]))
    defer { inC.terminate() }
    var ids = try stage.workerIDs()
    for _ in 0..<200 where ids.count < 2 && inC.isRunning {
      usleep(20_000)
      ids = try stage.workerIDs()
    }
    guard ids.count == 2 else { return .unclear("the worker in C did not subscribe: \(inC.lastWords)") }
    let before = try stage.settledDeliveries(to: ids)
    let count = stage.bench.scaled(400, quick: 100)
    let answers = try DeliveryPromises.gather(stage, count: count, target: stage.target(handler: "noop"))
    let each = zip(try stage.settledDeliveries(to: ids), before).map { $0 - $1 }
    let good = answers.count { $0.count == 1 && $0[0].isGood }
    let ofC = zip(ids, each).first { !known.contains($0.0) }?.1 ?? 0
    return .of(
      good == count && each.allSatisfy { $0 > 0 },
      "one group of a worker in Swift (NylonPlugin) and one in C (a bare socket, no NATS library): \(good) of "
        + "\(count) requests answered well, \(ofC) of them by the one in C. Two languages were tried; what they "
        + "need is a socket and MessagePack")
  }
}
