import Foundation
import Lab
import Load
import Measure
import NylonProtocol
import Scenario

/// Request-reply: the engine's clients against a bare-socket client, and the worker against a bare one.
extension Calibration {
  /// The numbers in flight that are measured.
  static let inFlight = [1, 64, 256]
  /// The number in flight at which workers are measured: enough that the worker is never idle.
  private static let workerInFlight = 256

  /// Rates and medians of one client, a value for each round.
  private struct Rounds {
    var rates: [Double] = []
    var p50s: [Double] = []
    var rate: Double { Statistics.median(rates) ?? 0 }
    var p50: Double { Statistics.median(p50s) ?? 0 }

    mutating func add(_ figures: (rate: Double, p50: Double)) {
      rates.append(figures.rate)
      p50s.append(figures.p50)
    }
  }

  /// A row per number in flight, for each client.
  func calibrateNATS() throws -> [NATSClient: [CalibrationResult.NATS]] {
    let broker = try Broker.start()
    defer { broker.stop() }
    let subject = try Subject(plugin: Self.plugin).phase(.requestFilter)
    let worker = try startBareWorker(broker, subject: subject)
    defer { worker.terminate() }
    let request = try Self.request(for: plan(target(broker, .standard), concurrency: 1))
    var rows: [NATSClient: [CalibrationResult.NATS]] = [:]
    for inFlight in Self.inFlight {
      let (bare, engines) = try calibrateNATS(inFlight, broker: broker, subject: subject, request: request)
      for (client, engine) in engines {
        rows[client, default: []].append(
          CalibrationResult.NATS(
            inFlight: inFlight, bareRps: bare.rate, engineRps: engine.rate, ratio: engine.rate / bare.rate,
            bareP50Us: bare.p50, engineP50Us: engine.p50))
      }
    }
    return rows
  }

  /// The bare echo worker, when it has subscribed.
  func startBareWorker(_ broker: Broker, subject: String) throws -> ChildProcess {
    let worker = try ChildProcess.start(
      Launch(Executables.ownPath, ["__floor-worker", String(broker.port), subject, Self.group]))
    try waitForSubscriber(broker, worker)
    return worker
  }

  /// A target of single phases behind a broker.
  func target(_ broker: Broker, _ client: NATSClient) -> Target {
    Target(
      name: "nats", plugin: Self.plugin, handler: "noop",
      transport: .nats(NATSSpec(servers: [broker.url], group: Self.group, client: client)),
      phases: [.requestFilter], loads: [.closed(concurrency: 1)])
  }

  private func calibrateNATS(
    _ inFlight: Int, broker: Broker, subject: String, request: [UInt8]
  ) throws -> (bare: Rounds, engines: [NATSClient: Rounds]) {
    var bare = Rounds()
    var engines: [NATSClient: Rounds] = [:]
    for round in 0..<rounds {
      progress("NATS, \(inFlight) in flight, \(round + 1)/\(rounds)")
      var ways: [NATSClient?] = [nil] + NATSClient.allCases
      if round % 2 == 1 { ways.reverse() }
      for client in ways {
        guard let client else {
          bare.add(try bareNATS(inFlight, port: broker.port, subject: subject, request: request))
          continue
        }
        let target = target(broker, client)
        let bench = try Workbench(plan: plan(target, concurrency: inFlight))
        let measurement = try engine(bench, target, concurrency: inFlight)
        let p50 = measurement.request?.response.value(atPercentile: 50) ?? 0
        engines[client, default: Rounds()].add(
          (measurement.throughputPerSecond ?? 0, Double(p50) / 1e3))
      }
    }
    return (bare, engines)
  }

  /// What nylon-worker answers against a bare echo worker, both asked by the bare client.
  func calibrateWorker() throws -> CalibrationResult.Worker {
    let broker = try Broker.start()
    defer { broker.stop() }
    let bareSubject = try Subject(plugin: Self.plugin).phase(.requestFilter)
    let bareWorker = try startBareWorker(broker, subject: bareSubject)
    defer { bareWorker.terminate() }
    let plugin = "worker"
    var target = target(broker, .standard)
    target.plugin = plugin
    target.transport = .nats(
      NATSSpec(
        servers: [broker.url], group: Self.group,
        workers: WorkersSpec(count: 1, command: ["nylon-worker"])))
    let pool = try WorkerPool.start(for: target, servers: [broker.url], monitor: broker.monitor)
    defer { pool.stop() }
    let request = try Self.request(for: plan(target, concurrency: 1))
    let subject = try Subject(plugin: plugin).phase(.requestFilter)
    var rates: [String: Rounds] = [:]
    for round in 0..<rounds {
      progress("worker, \(round + 1)/\(rounds)")
      for subject in round % 2 == 0 ? [bareSubject, subject] : [subject, bareSubject] {
        rates[subject, default: Rounds()].add(
          try bareNATS(Self.workerInFlight, port: broker.port, subject: subject, request: request))
      }
    }
    let (bare, worker) = (rates[bareSubject]?.rate ?? 0, rates[subject]?.rate ?? 0)
    return CalibrationResult.Worker(
      inFlight: Self.workerInFlight, bareRps: bare, workerRps: worker, ratio: worker / bare)
  }
}
