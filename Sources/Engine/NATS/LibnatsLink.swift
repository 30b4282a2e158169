import CLinux
import CNats
import Scenario

/// A connection of libnats, and what is needed to learn which requests the broker refused.
final class LibnatsLink: BrokerLink {
  static let client = NATSClient.libnats

  private let connection: LoopConnection
  private let place: Int
  private var ledger = NoResponderLedger()
  /// How often the connection had been made again when the ledger was last used.
  private var reconnectsSeen: UInt64 = 0
  /// Messages that were handled and not yet given back.
  private let used = UnsafeMutablePointer<OpaquePointer?>.allocate(capacity: LibnatsLink.mostUsed)
  private var usedCount = 0
  private static let mostUsed = 2048

  init(place: Int, setup: LinkSetup) throws {
    self.place = place
    connection = try LoopConnection(
      spec: setup.spec, servers: setup.servers, inboxSubject: setup.replySubject.pattern(connection: place),
      epoll: setup.epoll, place: place)
  }

  func close() {
    destroyUsed()
    used.deallocate()
  }

  var longestPayload: Int { Int(natsConnection_GetMaxPayload(connection.connection)) }

  var remarks: [String] { Remark.reconnects(connection.reconnects) }

  @inline(__always)
  func publish(slot: Int, of transport: NATSTransport<LibnatsLink>) {
    let request = transport.request(ofSlot: slot)
    transport.patch(request, slot: slot, at: request.bytes)
    transport.slots[slot].sequence = transport.nextSequence()
    let status = natsConnection_PublishRequest(
      connection.connection, transport.subjects[Int(transport.slots[slot].phaseIndex)],
      transport.replySubject.with(token: UInt32(truncatingIfNeeded: slot), connection: place),
      request.payload, Int32(truncatingIfNeeded: request.payloadCount))
    // A request that libnats refuses otherwise (its reconnect buffer is full) times out.
    if status == NATS_MAX_PAYLOAD { transport.end(slot, .malformed) }
  }

  @inline(__always)
  func flush(_ transport: NATSTransport<LibnatsLink>) { connection.flush() }

  func handle(_ events: UInt32, _ transport: NATSTransport<LibnatsLink>) {
    if events & ~UInt32(KERNEL_WRITABLE) != 0 { connection.readEvent() }
    if events & UInt32(KERNEL_WRITABLE) != 0 { connection.flush() }
    drain(transport, firstWaitMilliseconds: 0)
  }

  static func wait(until time: UInt64, _ transport: NATSTransport<LibnatsLink>) {
    let wait = transport.sleepNanoseconds(until: time)
    guard !transport.links[0].connection.usesLoop else {
      transport.waitForSockets(wait)
      return
    }
    // With libnats' own threads: its condition variable has whole milliseconds.
    let isAlone = transport.linkCount == 1
    for place in 1..<max(1, transport.linkCount) where !isAlone {
      transport.links[place].drain(transport, firstWaitMilliseconds: 0)
    }
    transport.links[0].drain(transport, firstWaitMilliseconds: isAlone ? Int64(wait / 1_000_000) : 0)
  }

  /// Takes all messages that lie in the inbox.
  private func drain(_ transport: NATSTransport<LibnatsLink>, firstWaitMilliseconds: Int64) {
    var message: OpaquePointer?
    var wait = firstWaitMilliseconds
    while true {
      switch natsSubscription_NextMsg(&message, connection.inbox, wait) {
      case NATS_OK:
        guard let taken = message else { return }
        receive(taken, transport)
        discard(taken)
      case NATS_NO_RESPONDERS: refused(transport)
      default: return
      }
      wait = 0
    }
  }

  @inline(__always)
  private func receive(_ message: OpaquePointer, _ transport: NATSTransport<LibnatsLink>) {
    guard let subject = natsMsg_GetSubject(message), let token = transport.replySubject.token(in: subject)
    else {
      transport.unexpected()
      return
    }
    guard token < ReplySubject.firstFence else {
      ledger.fenceReturned(number: UInt64(token - ReplySubject.firstFence))
      settleRefusals(transport)
      return
    }
    let bytes = UnsafeRawBufferPointer(
      start: natsMsg_GetData(message), count: Int(natsMsg_GetDataLength(message)))
    transport.receive(bytes, token: token)
  }

  /// libnats hands each destroyed message to a collector thread and wakes it: once for each
  /// message that costs more than the message. So they are kept and handed over many at a time.
  @inline(__always)
  private func discard(_ message: OpaquePointer) {
    used[usedCount] = message
    usedCount &+= 1
    if usedCount == Self.mostUsed { destroyUsed() }
  }

  private func destroyUsed() {
    for place in 0..<usedCount { natsMsg_Destroy(used[place]) }
    usedCount = 0
  }

  // MARK: Refusals

  /// The broker found no worker for some request of this connection.
  private func refused(_ transport: NATSTransport<LibnatsLink>) {
    let reconnects = connection.reconnects
    if reconnects != reconnectsSeen {
      reconnectsSeen = reconnects
      ledger.forget()
    }
    if ledger.refused(lastSent: transport.sequence) { sendFence(transport) }
  }

  private func sendFence(_ transport: NATSTransport<LibnatsLink>) {
    let token = ReplySubject.firstFence + UInt32(ledger.fenceNumber)
    natsConnection_Publish(
      connection.connection, transport.replySubject.with(token: token, connection: place), nil, 0)
  }

  /// That may be the last piece to know which ones were refused.
  @inline(__always)
  func resolved(_ slot: Int, _ transport: NATSTransport<LibnatsLink>) {
    if ledger.fence != nil { settleRefusals(transport) }
  }

  private func settleRefusals(_ transport: NATSTransport<LibnatsLink>) {
    guard let fence = ledger.fence else { return }
    var outstanding = 0
    let slots = transport.slots
    let mine = stride(from: place, to: transport.slotCount, by: transport.linkCount)
    for slot in mine where slots[slot].isWaiting && slots[slot].sequence <= fence { outstanding += 1 }
    guard ledger.allRefused(outstandingBeforeFence: outstanding) else { return }
    for slot in mine where slots[slot].isWaiting && slots[slot].sequence <= fence {
      transport.complete(slot, .noResponders)
    }
    if ledger.settle(lastSent: transport.sequence) { sendFence(transport) }
  }
}

/// Sentences for people about a connection's life.
enum Remark {
  static func reconnects(_ count: UInt64) -> [String] {
    count == 0
      ? []
      : ["the connection to the broker was lost and made again \(count == 1 ? "once" : "\(count) times")"]
  }
}
