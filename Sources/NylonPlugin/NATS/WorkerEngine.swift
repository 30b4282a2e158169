import Nylon

/// What carries a worker's messages: connects, serves on threads of its own, stops.
protocol WorkerEngine: Sendable {
  /// Connects, subscribes and serves; returns when the broker has all subscriptions.
  func start() throws(NATSWorkerError)
  /// Asks it to finish what it has and to stop; returns at once.
  func stop()
  /// Waits until it has stopped; whether the connection was lost for good.
  func wait() -> Bool
}

/// What every engine serves.
struct WorkerService: Sendable {
  let plugin: Plugin
  let configuration: NATSConfiguration
  let subject: Subject

  /// The phases' subjects with the queue group, and the lifecycle's without.
  var subscriptions: [(subject: String, group: String?, phase: Phase?)] {
    Phase.session.map { (subject.phase($0), configuration.queueGroup, $0) } + [(subject.lifecycle, nil, nil)]
  }

  /// Tells people what was subscribed to.
  func logSubscriptions() {
    for phase in Phase.session {
      logLine("Subscribed to \(subject.phase(phase)) with queue group \(configuration.queueGroup)")
    }
    logLine("Subscribed to \(subject.lifecycle)")
  }
}
