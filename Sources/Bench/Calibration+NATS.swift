import Foundation
import Lab
import Engine
import Results
import Nylon
import Scenario

/// Request-reply: the engine's clients against a bare-socket client, and the worker against a bare one.
extension Calibration {
  /// The numbers in flight that are measured.
  static let inFlight = [1, 64, 256]
  /// The number in flight at which workers are measured: enough that the worker is never idle.
  private static let workerInFlight = 256
  /// The number in flight at which the generator's memory is looked at.
  private static let memoryInFlight = 2048

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
      for (client, row) in try calibrateNATS(inFlight, broker: broker, subject: subject, request: request) {
        rows[client, default: []].append(row)
      }
    }
    return rows
  }

  /// The bare echo worker, when it has subscribed.
  func startBareWorker(_ broker: Broker, subject: String) throws -> ChildProcess {
    let worker = try ChildProcess.start(
      Launch(Executables.ownPath, ["__baseline-worker", String(broker.port), subject, Self.group]))
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

  /// Every client in turn with the bare one, which is measured right beside each.
  private func calibrateNATS(
    _ inFlight: Int, broker: Broker, subject: String, request: [UInt8]
  ) throws -> [NATSClient: CalibrationResult.NATS] {
    var rows: [NATSClient: CalibrationResult.NATS] = [:]
    for client in NATSClient.allCases {
      let target = target(broker, client)
      let bench = try Workbench(plan: plan(target, concurrency: inFlight))
      var rates = InTurn()
      var p50s = InTurn()
      var allocated: [Double] = []
      for round in 0..<rounds {
        progress("NATS, \(client.rawValue), \(inFlight) in flight, \(round + 1)/\(rounds)")
        let bare = {
          let figures = try self.bareNATS(inFlight, port: broker.port, subject: subject, request: request)
          rates.bare.append(figures.rate)
          p50s.bare.append(figures.p50)
        }
        try inTurn(round, bare) {
          let measurement = try self.engine(bench, target, concurrency: inFlight)
          rates.engine.append(measurement.throughputPerSecond ?? 0)
          p50s.engine.append(Double(measurement.request?.response.value(atPercentile: 50) ?? 0) / 1e3)
          if let bytes = Self.allocatedPerPhase(measurement) { allocated.append(bytes) }
        }
      }
      rows[client] = CalibrationResult.NATS(
        inFlight: inFlight, rates: rates, p50s: p50s,
        allocatedBytes: allocated.count == rounds ? allocated.max() : nil)
    }
    return rows
  }

  /// A target whose pool is one nylon-worker.
  private func workerTarget(_ broker: Broker, maxInFlight: Int? = nil) -> Target {
    var target = target(broker, .standard)
    target.plugin = "worker"
    target.transport = .nats(
      NATSSpec(
        servers: [broker.url], group: Self.group,
        workers: WorkersSpec(count: 1, command: ["nylon-worker"])))
    if let maxInFlight { target.maxInFlight = maxInFlight }
    return target
  }

  /// What nylon-worker answers against a bare echo worker, both asked by the bare client.
  func calibrateWorker() throws -> CalibrationResult.Worker {
    let broker = try Broker.start()
    defer { broker.stop() }
    let bareSubject = try Subject(plugin: Self.plugin).phase(.requestFilter)
    let bareWorker = try startBareWorker(broker, subject: bareSubject)
    defer { bareWorker.terminate() }
    let target = workerTarget(broker)
    let pool = try WorkerPool.start(for: target, servers: [broker.url], monitor: broker.monitor)
    defer { pool.stop() }
    let request = try Self.request(for: plan(target, concurrency: 1))
    let subject = try Subject(plugin: target.plugin).phase(.requestFilter)
    func rate(_ subject: String) throws -> Double {
      try bareNATS(Self.workerInFlight, port: broker.port, subject: subject, request: request).rate
    }
    var turns = InTurn()
    for round in 0..<rounds {
      progress("worker, \(round + 1)/\(rounds)")
      try inTurn(
        round, { turns.bare.append(try rate(bareSubject)) }, { turns.engine.append(try rate(subject)) })
    }
    return CalibrationResult.Worker(inFlight: Self.workerInFlight, turns)
  }

  /// The generator's resident memory under many requests in flight.
  func calibrateMemory() throws -> CalibrationResult.Memory {
    let broker = try Broker.start()
    defer { broker.stop() }
    let target = workerTarget(broker, maxInFlight: Self.memoryInFlight)
    let bench = try Workbench(plan: plan(target, concurrency: Self.memoryInFlight))
    progress("memory")
    let costs = try engine(bench, target, concurrency: Self.memoryInFlight).generator
    return CalibrationResult.Memory(
      inFlight: Self.memoryInFlight, residentStartBytes: costs?.residentStartBytes,
      residentEndBytes: costs?.residentEndBytes)
  }
}
