import Foundation
import NATS
import Nylon
import Scenario

/// Sends workers the plugin's configuration before the first request, where their dialect supports it, and
/// waits until they have accepted it.
struct WorkerInitialization {
  let order: LoadOrder
  let spec: NATSSpec
  let dialect: DialectTraits

  /// The time limit for this package's own workers to answer; those of the real SDK may not answer at all.
  private static let longestMilliseconds: UInt64 = 5000
  /// The number of workers that were already running is unknown: this long without an answer ends the wait.
  private static let silenceMilliseconds: UInt64 = 300
  /// Messages per worker on subjects where the broker picks one worker of the group for each message: the
  /// chance that a given one of `n` workers gets none of `32 n` is below e^-32.
  private static let messagesEach = 32
  /// The number of workers to assume when it is unknown.
  private static let assumedWorkers = 16

  /// Sends the configuration, if there is one; returns warnings for the user.
  ///
  /// - Throws: ``BrokerError`` without a broker, ``SecurityFileError`` for a file that cannot be used,
  ///   ``LoadFailure`` when a worker refuses the configuration.
  func run() throws -> [String] {
    // Nylon's own host sends each session's workers a configuration that it builds itself.
    guard !spec.configJSON.isEmpty, order.target.host == .lean else { return [] }
    let talk = try WorkerTalk(order: order, spec: spec)
    defer { talk.close() }
    switch dialect.configuredOn {
    case .lifecycle, .everywhere:
      talk.publish(try message(), to: talk.subject.lifecycle)
      try collect(talk)
      return []
    case .phases: return try sendToGroup(talk)
    }
  }

  private func message() throws -> [UInt8] {
    try WorkerMessage.initialize(
      Array(spec.configJSON.utf8), id: .text(UUID().uuidString.lowercased()),
      timestampMilliseconds: MonotonicClock.unixNanoseconds / 1_000_000, headers: spec.defaultHeaders ?? []
    ).encoded()
  }

  /// Whether the workers are this package's own, which answer an `initialize` message.
  private var workersAnswer: Bool { spec.workers?.isOwn == true }

  private func collect(_ talk: WorkerTalk) throws {
    let ours = order.workerPIDs.count
    var answers = 0
    while ours == 0 || answers < ours {
      let patience = ours > 0 && workersAnswer ? Self.longestMilliseconds : Self.silenceMilliseconds
      guard case .payload(let reply)? = talk.next(until: Self.time(in: patience)) else { break }
      answers += 1
      try check(reply)
    }
    if workersAnswer, answers < ours {
      throw LoadFailure(
        kind: .failed,
        message:
          "target '\(order.target.name)': \(answers) of \(ours) workers took the plugin's `config:` in time")
    }
  }

  /// Sends enough messages to reach every worker of the group, because the broker picks one per message.
  private func sendToGroup(_ talk: WorkerTalk) throws -> [String] {
    let known = order.workerPIDs.count
    let count =
      known == 1 ? order.target.phases.count : Self.messagesEach * (known > 0 ? known : Self.assumedWorkers)
    let subjects = order.target.phases.map { talk.subject.phase($0) }
    let message = try message()
    for place in 0..<count {
      talk.publish(message, to: subjects[place % subjects.count])
      guard case .payload(let reply)? = talk.next(until: Self.time(in: Self.longestMilliseconds)) else {
        return [
          "a worker did not answer the plugin's `config:` on \(subjects[place % subjects.count]), so it is not "
            + "known whether the workers have it"
        ]
      }
      try check(reply)
    }
    guard known == 0 else { return [] }
    return [
      "the plugin's `config:` was sent to the queue group \(count) times, but the number of workers is not "
        + "known: with more than \(Self.assumedWorkers), some may not have it"
    ]
  }

  private static func time(in milliseconds: UInt64) -> UInt64 {
    MonotonicClock.nanoseconds + milliseconds * 1_000_000
  }

  private func check(_ reply: [UInt8]) throws {
    guard let response = try? reply.withUnsafeBytes({ try WorkerMessage(reply: $0) }),
      let error = response.error, !error.isEmpty
    else { return }
    throw LoadFailure(
      kind: .scenario,
      message: "target '\(order.target.name)': a worker refused `config:` of plugin "
        + "'\(order.target.plugin)': \(error)")
  }
}

/// A connection for messages to workers before and after a load: one message at a time, none of it measured.
package struct WorkerTalk {
  package let inbox: String
  package let subject: Subject
  private let wire: WireConnection

  /// Throws ``BrokerError`` without a broker, ``SecurityFileError`` for a file that cannot be used.
  package init(order: LoadOrder, spec: NATSSpec) throws {
    inbox = "_INBOX.nylon-bench.\(UUID().uuidString)"
    subject = try Subject(prefix: spec.subjectPrefix, plugin: order.target.plugin)
    let security = try WireSecurity(auth: spec.auth, tls: spec.tls, servers: order.servers)
    wire = WireConnection(
      to: try BrokerServer.all(order.servers, security: security), subscriptions: "SUB \(inbox) 1\r\n")
    do {
      try wire.connectFirst()
    } catch {
      wire.close()
      throw error
    }
  }

  package func close() { wire.close() }

  package func publish(_ payload: [UInt8], to subject: String, wantsReply: Bool = true) {
    let reply = wantsReply ? " \(inbox)" : ""
    wire.put(Array("PUB \(subject)\(reply) \(payload.count)\r\n".utf8) + payload + [13, 10])
  }

  package enum Reply {
    case payload([UInt8])
    /// The subject has no subscribers.
    case nobody
  }

  /// The next reply; nil when none arrives by a monotonic time, or when the connection is over.
  package func next(until end: UInt64) -> Reply? {
    while true {
      if let piece = wire.nextMessage() {
        return piece.isNoResponders ? .nobody : .payload(Array(piece.payload))
      }
      if wire.isBroken || !wire.flush() { return nil }
      let isTime = wire.holdsMore ? MonotonicClock.nanoseconds < end : wire.waitForSocket(until: end) != nil
      guard isTime else { return nil }
      if wire.fill() < 0 { return nil }
    }
  }

  /// The request for a phase as a host of the dialect sends it, and the responses for the handler's reads.
  package func question(
    _ phase: Phase, _ dialect: DialectTraits, order: LoadOrder
  ) -> (message: WorkerMessage, id: (high: UInt64, low: UInt64), responses: CalledResponses) {
    let content = RequestContent(order.request, seed: order.seed)
    let sentMilliseconds = MonotonicClock.unixNanoseconds / 1_000_000
    var ids = UUIDv7(seed: .random(in: .min ... .max))
    let id = ids.next(timestampMilliseconds: sentMilliseconds)
    let message = WorkerMessage(
      dialect, id: id, sessionID: order.sessionIDsAfter, phase: phase, entry: order.target.handler,
      context: HTTPContext(request: content.request, response: content.response).encoded(),
      reply: inbox, timestampMilliseconds: sentMilliseconds)
    return (message, id, CalledResponses(order.request, content: content))
  }

  /// Answers a read where the dialect has answers to reads, so that the worker does not wait forever.
  package func answer(
    _ method: Nylon.Method, _ map: MessageView, on subject: String, from responses: CalledResponses
  ) {
    let payload = map.data ?? UnsafeRawBufferPointer(start: nil, count: 0)
    _ = responses.answer(method, payload, slot: 0) { answer in
      let encoder = ReplyEncoder()
      publish(
        Array(
          encoder.encode(
            requestID: map.requestID, sessionID: map.sessionID, phase: .zero, method: method.rawValue,
            data: answer)), to: subject, wantsReply: false)
      withExtendedLifetime(encoder) {}
    }
  }
}
