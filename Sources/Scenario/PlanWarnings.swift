import Nylon

/// Notes what is allowed but probably not meant.
struct PlanWarnings {
  /// What a broker accepts in one message unless it is set otherwise, bytes.
  private static let brokerPayloadBytes = 1_048_576

  let problems: ProblemCollector
  let root: Block

  func check(_ plan: Plan) {
    for (index, target) in plan.targets.enumerated() {
      guard case .nats(let spec) = target.transport else { continue }
      if spec.dialect == .reply, plan.request.bodyBytes * 2 > Self.brokerPayloadBytes {
        root.warn(
          "request",
          "body_bytes \(plan.request.bodyBytes) travels twice in a message of '\(target.name)', over the "
            + "\(Self.brokerPayloadBytes) bytes that a broker accepts by default")
      }
      if let roundTrip = target.roundTripMilliseconds,
        let phase = target.phases.first(where: {
          Double(target.policies[$0]?.timeoutMilliseconds ?? .max) <= roundTrip
        })
      {
        problems.add(
          .warning, at: root.value.place, key: "targets.\(index).link",
          "takes \(Block.short(roundTrip)) ms there and back, so every \(phase.subjectFragment) times out")
      }
      if spec.dialect == .replySDK, !target.verify.responseHeaders.isEmpty || target.verify.body != nil {
        problems.add(
          .warning, at: root.value.place, key: "targets.\(index).verify",
          "cannot hold for what the handler sets: the dialect reply-sdk carries no changes back")
      }
    }
    for load in plan.loads + plan.targets.flatMap(\.loads) {
      if case .closed(let concurrency) = load, concurrency < plan.threads {
        root.warn("threads", "\(plan.threads) threads share the load \(load.label), so some are idle")
      }
    }
  }
}
