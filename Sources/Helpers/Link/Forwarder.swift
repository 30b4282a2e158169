import NIOCore

/// One end of a forwarded connection: what it reads goes, when it is due, to its partner.
///
/// The order of bytes is kept, as TCP keeps it: what is due earlier than what came before it waits.
/// An end of the stream and a reset cross the link as bytes do, so they arrive behind them.
final class Forwarder: ChannelInboundHandler, NIOScheduledCallbackHandler {
  typealias InboundIn = ByteBuffer

  /// The most memory under way in one direction of a connection: the link's window. When it is full
  /// nothing more is read, so the sender's own window fills and it waits.
  private static let windowBytes = 16 << 20

  private enum Freight { case bytes(ByteBuffer), end, reset }

  private struct Parcel {
    let freight: Freight
    let due: Int64
    let memory: Int
  }

  private let relay: Relay
  private let direction: Direction
  /// The other end; set once, before any byte.
  var partner: Forwarder?
  private var context: ChannelHandlerContext?
  private var underWay = CircularBuffer<Parcel>()
  private var memoryUnderWay = 0
  private var lastDue: Int64 = 0
  private var timer: NIOScheduledCallback?
  private var isPolling = false
  private var isOpen = false
  private var readsOn = false
  private var hasEnded = false
  private var isAborted = false
  /// Whether something that came was swallowed.
  private(set) var hasHole = false
  /// Whether all that came, and how it ended, has been given on.
  private var isDone: Bool { hasEnded && underWay.isEmpty }

  init(relay: Relay, direction: Direction) {
    self.relay = relay
    self.direction = direction
  }

  /// Begins to read and to give on, once both ends are connected.
  func open() {
    isOpen = true
    if isAborted { return abort() }
    setReading(true)
    deliver()
  }

  private func setReading(_ reads: Bool) {
    guard reads != readsOn, isOpen, let context else { return }
    readsOn = reads
    try? context.channel.syncOptions?.setOption(.autoRead, value: reads)
  }

  // MARK: What comes

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    guard let options = context.channel.syncOptions else { return }
    try? options.setOption(.autoRead, value: false)
    try? options.setOption(.allowRemoteHalfClosure, value: true)
    // A burst is read and written in one go, so that one wake-up serves it.
    try? options.setOption(.maxMessagesPerRead, value: 16)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    self.context = nil
    if !isAttached, partner?.isAttached != true { relay.forget(self) }
  }

  private var isAttached: Bool { context != nil }

  func channelActive(context: ChannelHandlerContext) {
    try? context.channel.syncOptions?.setOption(.tcpOption(.tcp_nodelay), value: 1)
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let buffer = unwrapInboundIn(data)
    if relay.isSilent {
      hasHole = true
      return
    }
    send(.bytes(buffer), bytes: buffer.readableBytes, memory: buffer.storageCapacity)
    if memoryUnderWay >= Self.windowBytes { setReading(false) }
  }

  func channelReadComplete(context: ChannelHandlerContext) { deliver() }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed? = event as? ChannelEvent { end(with: .end) }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    end(with: .reset)
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    // A stream that ends behind our own end is told by this alone; one that broke, by an error before.
    end(with: .end)
    partner?.deliver()
  }

  private func end(with freight: Freight) {
    guard !hasEnded else { return }
    hasEnded = true
    if relay.isSilent {
      hasHole = true
      return
    }
    send(freight, bytes: 0, memory: 0)
    deliver()
  }

  private func send(_ freight: Freight, bytes: Int, memory: Int) {
    lastDue = max(lastDue, direction.due(bytes: bytes))
    underWay.append(Parcel(freight: freight, due: lastDue, memory: memory))
    memoryUnderWay += memory
  }

  // MARK: What goes

  func handleScheduledCallback(eventLoop: some EventLoop) {
    timer = nil
    deliver()
  }

  /// Gives the partner all that is due, and sets the timer for the rest.
  private func deliver() {
    guard let partner, isOpen else { return }
    var hasWritten = false
    var now = monotonicNanoseconds()
    while let parcel = underWay.first, parcel.due <= now, partner.takes {
      underWay.removeFirst()
      memoryUnderWay -= parcel.memory
      switch parcel.freight {
      case .bytes(let buffer):
        partner.context?.write(NIOAny(buffer), promise: nil)
        hasWritten = true
      case .end: partner.finish()
      case .reset: partner.abort()
      }
      if let next = underWay.first, next.due > now { now = monotonicNanoseconds() }
    }
    if hasWritten { partner.context?.flush() }
    if memoryUnderWay < Self.windowBytes / 2 { setReading(true) }
    if isDone, partner.isDone {
      // The two hold each other until then.
      partner.partner = nil
      self.partner = nil
    } else if partner.takes {
      setTimer(partner)
    }
  }

  /// Gives the connection up before it has come about: nothing will come from its upstream. Who connected learns of
  /// it as of everything else: not in a silence.
  func refuse() {
    if relay.isSilent {
      hasHole = true
      return
    }
    partner?.hasEnded = true
    isOpen = true
    abort()
    deliver()
  }

  /// Resets both ends at once; what is under way is gone.
  func cut() {
    for end in [self, partner].compactMap({ $0 }) {
      end.partner = nil
      end.hasEnded = true
      end.underWay.removeAll()
      end.memoryUnderWay = 0
      end.abort()
    }
  }

  private func setTimer(_ partner: Forwarder) {
    guard timer == nil, !isPolling, let parcel = underWay.first else { return }
    // The timer may outlive our own channel: what it sent is still on its way.
    guard let loop = (context ?? partner.context)?.eventLoop.assumeIsolated() else { return }
    let now = monotonicNanoseconds()
    let wakesAt = relay.wakingTime(for: parcel.due, now: now)
    if wakesAt <= now {
      // The loop looks for bytes to read between two turns of this.
      isPolling = true
      loop.execute { [self] in
        isPolling = false
        relay.hasPolled(since: now)
        deliver()
      }
    } else {
      timer = try? loop.scheduleCallback(at: .uptimeNanoseconds(UInt64(wakesAt)), handler: self)
    }
  }

  // MARK: As the partner

  /// Whether it can be given something; when it is gone, everything, which is then dropped.
  private var takes: Bool { context?.channel.isWritable ?? true || context?.channel.isActive == false }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    if context.channel.isWritable { partner?.deliver() }
    context.fireChannelWritabilityChanged()
  }

  /// Ends the stream behind what is still to be written.
  private func finish() {
    guard let context else { return }
    let written = context.eventLoop.makePromise(of: Void.self)
    context.writeAndFlush(NIOAny(ByteBuffer()), promise: written)
    let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
    written.futureResult.whenComplete { _ in bound.value.close(mode: .output, promise: nil) }
  }

  /// Closes at once, with a reset, as an end does that broke.
  func abort() {
    isAborted = true
    guard let context else { return }
    // Done at once, since this is the channel's own loop.
    _ = (context.channel as? any SocketOptionProvider)?.setSoLinger(NIOLinger(l_onoff: 1, l_linger: 0))
    context.close(promise: nil)
  }
}
