import CNats
import Nylon

/// A subscription and what its messages are about; nil is the lifecycle.
struct NATSSubscription: Sendable {
  let handle: NATSHandle
  let phase: Phase?
}

/// One message on its way to a handler.
struct NATSJob: Sendable {
  let message: NATSHandle
  let phase: Phase?
  /// When it was read from the socket, monotonic nanoseconds; 0 when nobody has asked for such times yet.
  let readAt: UInt64
}

/// The five subscriptions of a worker.
struct NATSSubscriptions: Sendable {
  let all: [NATSSubscription]

  init(
    _ connection: NATSHandle, subject: Subject, group: String
  ) throws(NATSWorkerError) {
    var all: [NATSSubscription] = []
    for phase in Phase.session {
      let name = subject.phase(phase)
      all.append(
        NATSSubscription(
          handle: try Self.made(name) {
            natsConnection_QueueSubscribeSync(&$0, connection.pointer, name, group)
          }, phase: phase))
    }
    all.append(
      NATSSubscription(
        handle: try Self.made(subject.lifecycle) {
          natsConnection_SubscribeSync(&$0, connection.pointer, subject.lifecycle)
        }, phase: nil))
    self.all = all
  }

  private static func made(
    _ subject: String, _ make: (inout OpaquePointer?) -> natsStatus
  ) throws(NATSWorkerError) -> NATSHandle {
    var subscription: OpaquePointer?
    let status = make(&subscription)
    guard status == NATS_OK, let subscription else {
      throw .failed(step: "subscribe to \(subject)", reason: NATSConnection.text(status))
    }
    // What the host has in flight bounds the queue; libnats is not to drop any of it.
    natsSubscription_SetPendingLimits(subscription, -1, -1)
    return NATSHandle(pointer: subscription)
  }

  /// Gives every message that is there, read at that time; on the loop's thread.
  func drain(readAt: UInt64, _ take: (NATSJob) -> Void) {
    for subscription in all {
      var message: OpaquePointer?
      while natsSubscription_NextMsg(&message, subscription.handle.pointer, 0) == NATS_OK {
        guard let taken = message else { break }
        take(
          NATSJob(message: NATSHandle(pointer: taken), phase: subscription.phase, readAt: readAt))
        message = nil
      }
    }
  }

  /// Takes back the interest; what the broker has sent already still comes.
  func beginDrain(timeoutMilliseconds: Int) {
    for subscription in all {
      natsSubscription_DrainTimeout(subscription.handle.pointer, Int64(timeoutMilliseconds))
    }
  }

  /// Whether the broker has confirmed all that, so that nothing will come any more.
  var isDrained: Bool {
    all.allSatisfy {
      natsSubscription_DrainCompletionStatus($0.handle.pointer) != NATS_ILLEGAL_STATE
    }
  }

  func destroy() {
    for subscription in all { natsSubscription_Destroy(subscription.handle.pointer) }
  }
}
