// The broker and workers of a test, and a scripted client and worker for tests without a load process.
import Engine
import Foundation
import Lab
import Nylon
import Scenario
import Synchronization

/// The broker of one test and the pools connected to it. All of them end with the test.
final class Stage {
  let bench: PromiseBench
  let broker: Broker
  private var pools: [WorkerPool] = []

  private init(_ bench: PromiseBench) throws {
    self.bench = bench
    broker = try Broker.start(asksForToken: bench.asksForToken, program: bench.broker)
  }

  static func with<Result>(_ bench: PromiseBench, _ body: (Stage) throws -> Result) throws -> Result {
    let stage = try Stage(bench)
    defer {
      // No results are needed any more, so skip the graceful shutdown.
      for pool in stage.pools { pool.stop(grace: .zero) }
      stage.broker.kill()
    }
    return try body(stage)
  }

  var phase: Phase { bench.pool.phases.first ?? .requestFilter }

  /// The pool under test on this broker, with changes. By default the load does not start its workers.
  func target(
    handler: String? = nil, group: String? = nil, plugin: String? = nil, timeoutMilliseconds: Int? = nil,
    workers: WorkersSpec? = nil
  ) -> Target {
    var target = bench.target(timeoutMilliseconds: timeoutMilliseconds, servers: [broker.url])
    target.nats?.workers = workers
    if let group { target.nats?.group = group }
    target.handler = handler ?? target.handler
    target.plugin = plugin ?? target.plugin
    return target
  }

  /// Starts workers of the pool under test, or of another command, and returns when they have subscribed.
  @discardableResult
  func start(
    _ count: Int, group: String? = nil, plugin: String? = nil, command: [String]? = nil
  ) throws -> WorkerPool {
    var workers = bench.poolSpec.workers
    workers?.count = count
    if let command { workers?.command = command }
    let pool = try WorkerPool.start(
      for: target(group: group, plugin: plugin, workers: workers), servers: [broker.url],
      monitors: [broker.monitor])
    pools.append(pool)
    return pool
  }

  func subject(plugin: String? = nil) throws -> String {
    try Subject(prefix: bench.poolSpec.subjectPrefix, plugin: plugin ?? bench.pool.plugin).phase(phase)
  }

  /// Sends requests for a pool's first phase all at once. Returns, per request, whether each reply is good.
  func ask(_ count: Int, _ target: Target) throws -> [[Bool]] {
    let client = try RequestClient(broker.url)
    let requests = try (0..<count).map { _ in try client.message(target, phase, bench.request) }
    return try client.gather(try subject(plugin: target.plugin), requests)
  }

  /// The client IDs subscribed to the first phase of the pool under test in a group, in connection order.
  func workerIDs(group: String? = nil) throws -> [UInt64] {
    let wanted = try subject()
    let group = group ?? bench.poolSpec.group
    let subscriptions = try broker.monitor.subscriptions()
    return Set(subscriptions.filter { $0.subject == wanted && $0.group == group }.map(\.clientID)).sorted()
  }

  /// The number of messages delivered to each client; 0 for a client that has disconnected.
  func delivered(to ids: [UInt64]) throws -> [UInt64] {
    let all = try broker.monitor.clients()
    return ids.map { id in all.first { $0.id == id }?.deliveredMessages ?? 0 }
  }

  func settledDeliveries(to ids: [UInt64]) throws -> [UInt64] {
    var last = try delivered(to: ids)
    for _ in 0..<100 {
      usleep(20_000)
      let now = try delivered(to: ids)
      if now == last { return now }
      last = now
    }
    return last
  }

  /// Runs `body` and returns the number of messages that it caused to be delivered to each set of clients.
  func deliveries(to sets: [[UInt64]], of body: () throws -> Void) throws -> [UInt64] {
    func all() throws -> [UInt64] { try sets.map { try settledDeliveries(to: $0).reduce(0, +) } }
    let before = try all()
    try body()
    return zip(try all(), before).map { $0 - $1 }
  }
}

/// Sends requests one by one or all at once. It counts replies and measures no times.
final class RequestClient {
  private let library: Libnats
  private var count: UInt64 = 0

  init(_ url: String) throws { library = try Libnats(url, name: "nylon-bench-promises") }

  /// Encodes a phase request as the host would send it.
  func message(_ target: Target, _ phase: Phase, _ request: RequestSpec) throws -> [UInt8] {
    count += 1
    guard let spec = target.nats else { return [] }
    let content = RequestContent(request, seed: 1)
    return try WorkerMessage(
      (spec.dialect ?? .reply).traits, id: (0x0190_0000_0000_7000 | count >> 32, 1 << 63 | count),
      sessionID: UInt32(truncatingIfNeeded: count), phase: phase, entry: target.handler,
      context: HTTPContext(request: content.request, response: content.response).encoded(), reply: "",
      timestampMilliseconds: UInt64(Date().timeIntervalSince1970 * 1000), headers: spec.defaultHeaders ?? []
    ).encoded()
  }

  private static func isGood(_ answer: Libnats.Message) -> Bool {
    guard let message = answer.payload.withUnsafeBytes({ try? WorkerMessage(reply: $0) }) else {
      return false
    }
    // The single reply of the original SDK has no action.
    return [.next, .end, .missing].contains(message.action) && message.error?.isEmpty != false
  }

  func request(_ subject: String, _ bytes: [UInt8]) -> Bool {
    library.request(subject, bytes, timeoutMilliseconds: 2000).map(Self.isGood) ?? false
  }

  /// Sends all requests and waits until no more replies arrive. Returns, per request, whether each is good.
  func gather(_ subject: String, _ requests: [[UInt8]]) throws -> [[Bool]] {
    let answers = Guarded<[Libnats.Message]>([])
    let inbox = "_INBOX.promises.\(UUID().uuidString)"
    try library.subscribe("\(inbox).*") { message in answers.withLock { $0.append(message) } }
    for (place, bytes) in requests.enumerated() {
      library.publish(bytes, to: subject, reply: "\(inbox).\(place)")
    }
    try library.flush()
    // On a busy machine the first replies may be slow. Afterwards, wait until none arrive for 300 ms.
    _ = answers.wait(until: .after(.seconds(2))) { $0.count >= requests.count ? true : nil }
    var seen: [Libnats.Message] = []
    repeat {
      seen = answers.withLock { $0 }
      usleep(300_000)
    } while answers.withLock({ $0.count }) > seen.count
    let each = Dictionary(grouping: seen, by: \.subject)
    return requests.indices.map { each["\(inbox).\($0)", default: []].map(Self.isGood) }
  }
}

/// A worker in this process that replies after a delay, or never, and records the requests.
final class ScriptedWorker: Sendable {
  /// A received attempt of a request; the time is monotonic, nanoseconds.
  typealias Arrival = (requestID: RequestID, at: UInt64)

  private struct State {
    var arrivals: [Arrival] = []
    var waiting = 0
    var mostWaiting = 0
  }

  /// A separate queue, because all threads of the global queue may be busy.
  private static let queue = DispatchQueue(label: "scripted-worker")

  private let library: Libnats
  private let state = Mutex(State())

  /// - Parameter answerAfterMilliseconds: the delay of the `next` reply; nil to never reply.
  init(_ url: String, subjects: [String], group: String?, answerAfterMilliseconds: Int? = nil) throws {
    library = try Libnats(url, name: "scripted-worker")
    for subject in subjects {
      try library.subscribe(subject, group: group) { [self] in received($0, answerAfterMilliseconds) }
    }
    try library.flush()
  }

  var arrivals: [Arrival] { state.withLock { $0.arrivals } }
  /// The largest number of requests that waited for their reply at the same time.
  var mostWaiting: Int { state.withLock { $0.mostWaiting } }

  func stop() { library.close() }

  private func received(_ message: Libnats.Message, _ answerAfterMilliseconds: Int?) {
    let now = MonotonicClock.nanoseconds
    guard let request = message.payload.withUnsafeBytes({ try? WorkerMessage(request: $0) }),
      let requestID = request.requestID
    else { return }
    let reply = answerAfterMilliseconds == nil ? nil : message.reply
    state.withLock { state in
      state.arrivals.append((requestID, now))
      if reply != nil { state.waiting += 1 }
      state.mostWaiting = max(state.mostWaiting, state.waiting)
    }
    guard let reply, let answerAfterMilliseconds else { return }
    Self.queue.asyncAfter(deadline: .now() + .milliseconds(answerAfterMilliseconds)) { [self] in
      let response = WorkerMessage(requestID: requestID, sessionID: request.sessionID, action: .next)
      state.withLock { $0.waiting -= 1 }
      library.publish((try? response.encoded()) ?? [], to: reply)
    }
  }
}
