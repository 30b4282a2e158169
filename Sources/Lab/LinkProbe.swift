import Foundation
import Engine
import Scenario
import Synchronization

/// A probe: three moments of the monotonic clock, ns.
private struct ProbeMessage {
  /// When it was sent, when the echo end had it, and when the echo end sent it back.
  var sent: UInt64 = 0
  var arrived: UInt64 = 0
  var returned: UInt64 = 0

  static let size = 24

  var bytes: [UInt8] {
    [sent, arrived, returned].flatMap { word in withUnsafeBytes(of: word) { Array($0) } }
  }

  init() {}

  init(_ bytes: ArraySlice<UInt8>) {
    let words = bytes.withUnsafeBytes { buffer in
      (0..<3).map { buffer.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self) }
    }
    (sent, arrived, returned) = (words[0], words[1], words[2])
  }
}

/// Gathers bytes of a socket to whole probes.
private struct ProbeReader {
  let socket: Descriptor
  private var pending: [UInt8] = []

  init(_ socket: Descriptor) {
    self.socket = socket
  }

  /// What has come; nil when the other side has closed.
  mutating func read() -> [ProbeMessage]? {
    switch socket.read() {
    case .end: return nil
    case .nothingYet: return []
    case .bytes(let bytes):
      pending += bytes
      let whole = pending.count / ProbeMessage.size
      let messages = (0..<whole).map { place in
        ProbeMessage(pending[(place * ProbeMessage.size)..<((place + 1) * ProbeMessage.size)])
      }
      pending.removeFirst(whole * ProbeMessage.size)
      return messages
    }
  }
}

/// A loopback port that sends every probe back with the times at which it had it, on a thread of its own.
final class EchoEnd: Sendable {
  let port: UInt16
  private let listener: Descriptor
  private let isStopped = Atomic<Bool>(false)

  private init(listener: Descriptor, port: UInt16) {
    self.listener = listener
    self.port = port
  }

  /// Opens the port.
  static func start() throws(LabError) -> EchoEnd {
    let (listener, port) = try LoopbackSocket.listening()
    let end = EchoEnd(listener: listener, port: port)
    Thread.detachNewThread { end.serve() }
    return end
  }

  /// Closes it, within a tenth of a second.
  func stop() { isStopped.store(true, ordering: .relaxed) }

  private func serve() {
    var readers: [ProbeReader] = []
    while !isStopped.load(ordering: .relaxed) {
      let ready = LoopbackSocket.ready([listener] + readers.map(\.socket), milliseconds: 100)
      for place in ready.reversed() {
        if place == 0 {
          if let client = LoopbackSocket.accepted(by: listener) { readers.append(ProbeReader(client)) }
        } else if let messages = readers[place - 1].read() {
          echo(messages, to: readers[place - 1].socket)
        } else {
          readers.remove(at: place - 1)
        }
      }
    }
  }

  private func echo(_ messages: [ProbeMessage], to socket: Descriptor) {
    let arrived = monotonicNanoseconds()
    for var message in messages {
      message.arrived = arrived
      message.returned = monotonicNanoseconds()
      socket.send(message.bytes)
    }
  }
}

/// Sends probes through a relay and, in turn, straight to the same echo end.
struct LinkProbe {
  let echo: EchoEnd
  let relayPort: UInt16
  let spec: LinkSpec

  /// The times of probes on one way.
  private struct Times: Sendable {
    var oneWay = LatencyHistogram()
    var roundTrip = LatencyHistogram()
    var count = 0
  }

  /// So many probes on each way, one a millisecond.
  func measure(probes: Int) throws(LabError) -> LinkMeasurement {
    let sockets = [
      try LoopbackSocket.connected(to: echo.port), try LoopbackSocket.connected(to: relayPort),
    ]
    let times = Guarded([Times(), Times()])
    let most = Deadline.after(.milliseconds(Int(Double(probes) * 2 + spec.delayMilliseconds * 4) + 10_000))
    let isOver = Guarded(false)
    Thread.detachNewThread {
      Self.collect(sockets, probes: probes, until: most, into: times)
      isOver.withLock { $0 = true }
    }
    for _ in 0..<probes {
      for socket in sockets {
        var message = ProbeMessage()
        message.sent = monotonicNanoseconds()
        socket.send(message.bytes)
        usleep(500)
      }
    }
    _ = isOver.wait(until: most) { $0 ? true : nil }
    let found = times.withLock { $0 }
    guard found.allSatisfy({ $0.count == probes }) else {
      throw .notReady(
        "The network link", why: "only \(found[1].count) of \(probes) probes came back through it in time",
        lastWords: "")
    }
    return measurement(direct: found[0], relayed: found[1])
  }

  private static func collect(
    _ sockets: [Descriptor], probes: Int, until deadline: Deadline, into times: Guarded<[Times]>
  ) {
    var readers = sockets.map { ProbeReader($0) }
    var own = [Times(), Times()]
    while own.contains(where: { $0.count < probes }), !deadline.isPast {
      for place in LoopbackSocket.ready(sockets, milliseconds: 100) {
        guard let messages = readers[place].read() else { return }
        let now = monotonicNanoseconds()
        for message in messages {
          own[place].oneWay.record(message.arrived - message.sent)
          own[place].oneWay.record(now - message.returned)
          own[place].roundTrip.record(now - message.sent)
          own[place].count += 1
        }
      }
    }
    times.withLock { $0 = own }
  }

  private func measurement(direct: Times, relayed: Times) -> LinkMeasurement {
    LinkMeasurement(
      between: spec.between.rawValue, method: "relay", delayMicroseconds: spec.delayMilliseconds * 1000,
      jitterMicroseconds: spec.jitterMilliseconds * 1000,
      bandwidthMegabitPerSecond: spec.bandwidthMegabitPerSecond, probeBytes: ProbeMessage.size,
      oneWay: DelayFigures(relayed.oneWay), roundTrip: DelayFigures(relayed.roundTrip),
      directOneWay: DelayFigures(direct.oneWay), directRoundTrip: DelayFigures(direct.roundTrip))
  }
}
