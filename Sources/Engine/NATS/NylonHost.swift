import Foundation
import Glibc
import NATS
import Nylon

/// The additional messages of Nylon's own host (b1b1305), compared with a lean one. A session begins with a
/// message to the lifecycle subject and an `initialize` request to each phase's subject in turn. Each phase
/// has its own subscription to the session's reply subject, which the request names only in `headers.reply`.
///
/// All messages are packed before the load, then copied and patched during it.
final class NylonHost {
  /// The subscription id of slot 0's phases; those of the other slots follow, with the same number of digits.
  static let firstSubscription = 1_000_000
  private static let subscriptionDigits = 7
  /// Digits of the session id in a reply subject, zero-padded so that all subjects have the same length.
  private static let sessionDigits = 10

  /// A reply subject, with the length that all have.
  let sampleReply: String
  private let replyBytes: Int
  /// The packed map of every `initialize` message.
  let initialize: PackedRequest
  /// `PUB` and the lifecycle subject.
  let lifecycleHead: UnsafeRawBufferPointer
  /// `SUB`, the reply subject, the subscription id, CR LF.
  private let subscription: UnsafeRawBufferPointer
  /// `UNSUB`, the subscription id, CR LF.
  private let unsubscription: UnsafeRawBufferPointer

  init(_ subject: Subject, plugin: String, headers: [KeyValue]) throws {
    struct Configuration: Encodable {
      let debug = true
      let plugin_name: String
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let message = WorkerMessage.initialize(
      Array(try encoder.encode(Configuration(plugin_name: plugin))), id: RequestID(high: 0, low: 0),
      method: 0,
      headers: headers)
    initialize = PackedRequest(try RequestTemplate(message))
    sampleReply = subject.reply(session: String(repeating: "0", count: Self.sessionDigits))
    replyBytes = sampleReply.utf8.count
    lifecycleHead = RequestAnswers.keep("PUB \(subject.lifecycle)".utf8)
    subscription = RequestAnswers.keep("SUB \(sampleReply) \(Self.firstSubscription)\r\n".utf8)
    unsubscription = RequestAnswers.keep("UNSUB \(Self.firstSubscription)\r\n".utf8)
  }

  deinit {
    initialize.deallocate()
    lifecycleHead.deallocate()
    subscription.deallocate()
    unsubscription.deallocate()
  }

  var subscriptionBytes: Int { subscription.count }
  var unsubscriptionBytes: Int { unsubscription.count }

  /// Writes the subscription to a session's reply subject; returns the subject in the written bytes.
  func writeSubscription(
    slot: Int, sessionID: UInt32, at place: UnsafeMutableRawPointer
  ) -> UnsafeRawBufferPointer {
    place.copyBytes(subscription)
    let subject = UnsafeRawBufferPointer(start: place + 4, count: replyBytes)
    place.writeDecimal(Int(sessionID), digits: Self.sessionDigits, endsAt: 4 + subject.count)
    place.writeDecimal(
      Self.firstSubscription + slot, digits: Self.subscriptionDigits, endsAt: subscription.count - 2)
    return subject
  }

  func writeUnsubscription(slot: Int, at place: UnsafeMutableRawPointer) {
    place.copyBytes(unsubscription)
    place.writeDecimal(
      Self.firstSubscription + slot, digits: Self.subscriptionDigits, endsAt: unsubscription.count - 2)
  }
}

extension UnsafeMutableRawPointer {
  /// Copies bytes and returns the address after them.
  @discardableResult
  fileprivate func copyBytes(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutableRawPointer {
    if let start = bytes.baseAddress { memcpy(self, start, bytes.count) }
    return self + bytes.count
  }
}

extension PoolConnection {
  /// Publishes a slot's request; the counterpart of the lean `put`.
  @inline(never)
  func put(_ slot: Int, _ transport: NATSTransport, as host: NylonHost) -> Bool {
    let asked = transport.slots + slot
    let isPhase = asked.pointee.phaseIndex >= transport.firstPhase
    guard isPhase ? putPhase(slot, transport, host) : putInitialize(slot, transport, host) else {
      return false
    }
    asked.pointee.end = wire.written &+ UInt64(wire.unsentBytes)
    return true
  }

  /// Subscribes to the session's reply subject and publishes the phase's request without a reply subject.
  private func putPhase(_ slot: Int, _ transport: NATSTransport, _ host: NylonHost) -> Bool {
    let asked = transport.slots + slot
    let step = Int(asked.pointee.phaseIndex)
    let request = transport.contexts.request(
      Int(asked.pointee.context), phaseIndex: step - Int(transport.firstPhase))
    guard request.payloadCount <= wire.longestPayload else {
      transport.end(slot, .malformed)
      return true
    }
    let head = headWithoutInbox(step)
    let count = host.subscriptionBytes + head.count + request.byteCount
    guard let start = wire.reserve(count) else { return false }
    let reply = host.writeSubscription(slot: slot, sessionID: asked.pointee.lastSID, at: start)
    let body = (start + host.subscriptionBytes).copyBytes(head)
    write(request, of: asked, transport, at: body)
    request.patchReply(body, subject: reply)
    wire.commit(count)
    return true
  }

  /// Publishes the `initialize` request of a step to a phase's subject. The first one of a session is
  /// preceded by the message to the lifecycle subject.
  private func putInitialize(_ slot: Int, _ transport: NATSTransport, _ host: NylonHost) -> Bool {
    let asked = transport.slots + slot
    let request = host.initialize
    let head = heads[Int(asked.pointee.phaseIndex)]
    let beginning = asked.pointee.phaseIndex == 0 ? host.lifecycleHead.count + request.byteCount : 0
    let count = beginning + head.count + Self.tokenBytes + request.byteCount
    guard let start = wire.reserve(count) else { return false }
    if beginning > 0 { write(request, of: asked, transport, at: start.copyBytes(host.lifecycleHead)) }
    let token = (start + beginning).copyBytes(head)
    token.storeBytes(of: asked.pointee.token, as: UInt64.self)
    write(request, of: asked, transport, at: token + Self.tokenBytes)
    wire.commit(count)
    return true
  }

  private func write(
    _ request: PackedRequest, of asked: UnsafeMutablePointer<NATSSlot>, _ transport: NATSTransport,
    at place: UnsafeMutableRawPointer
  ) {
    memcpy(place, request.bytes, request.byteCount)
    request.patch(
      place, requestID: asked.pointee.requestID, sessionID: asked.pointee.lastSID,
      timestampMilliseconds: transport.unixMilliseconds)
  }

  /// Unsubscribes from the replies of a slot's phase. Does not mutate this view, so it may be called while
  /// input is handled.
  func unsubscribe(_ slot: Int, _ host: NylonHost) {
    // Subscriptions end with their connection.
    guard wire.isConnected else { return }
    let count = host.unsubscriptionBytes
    if backlog.pointee.count == 0, let place = wire.reserve(count) {
      host.writeUnsubscription(slot: slot, at: place)
      wire.commit(count)
    } else {
      host.writeUnsubscription(slot: slot, at: backlog.pointee.extend(by: count))
    }
  }
}

extension NATSTransport {
  /// Handles a message that did not come to the inbox: a reply to a slot's phase, or an unexpected message.
  @inline(never)
  func receiveElsewhere(_ piece: WirePiece, over connection: PoolConnection) {
    let slot = piece.sid - NylonHost.firstSubscription
    guard let nylonHost, slot >= 0, slot < slotCount else { return unexpected() }
    let wasWaiting = slots[slot].isWaiting
    receive(piece.payload, slot: slot, over: connection)
    if wasWaiting, !slots[slot].isWaiting { connection.unsubscribe(slot, nylonHost) }
  }

  /// Unsubscribes from the replies of a phase that is given up.
  @inline(never)
  func unsubscribe(_ slot: Int) {
    guard let nylonHost, slots[slot].phaseIndex >= firstPhase else { return }
    connections[place(ofSlot: slot)].unsubscribe(slot, nylonHost)
  }
}
