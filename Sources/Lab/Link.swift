import Engine
import Foundation
import NATS
import Scenario
import Synchronization

/// A network link between two parts on this machine: a relay in front of brokers, which holds every
/// byte back.
package final class Link: Sendable {
  /// What was asked for.
  package let spec: LinkSpec
  /// URLs that lead to the brokers through the link, in their order. May hold secrets: never print.
  package let urls: [String]
  /// What probes through it took, before any load.
  package let accuracy: LinkMeasurement
  private let process: ChildProcess

  private init(spec: LinkSpec, urls: [String], accuracy: LinkMeasurement, process: ChildProcess) {
    self.spec = spec
    self.urls = urls
    self.accuracy = accuracy
    self.process = process
  }

  /// Starts a relay in front of brokers, and returns when its accuracy is measured, which takes a
  /// second and a round trip.
  ///
  /// - Parameters:
  ///   - spec: what the link does.
  ///   - servers: URLs of the brokers; each gets a port of the link.
  ///   - seed: of the jitter.
  ///   - probes: how many probes measure it.
  package static func start(
    _ spec: LinkSpec, to servers: [String], seed: UInt64 = 1, probes: Int = 1000
  ) throws(LabError) -> Link {
    let addresses = try servers.map { (url) throws(LabError) in try Broker.address(url) }
    for address in addresses {
      do {
        _ = try Connection(host: address.host, port: address.port, until: .after(.seconds(5)))
      } catch {
        throw .brokerUnreachable(address: address.shown, why: error.why)
      }
    }
    let echo = try EchoEnd.start()
    defer { echo.stop() }
    let process = try ChildProcess.start(
      Launch(
        try Executables.own("nylon-link"),
        arguments(spec, to: addresses.map(\.shown) + ["127.0.0.1:\(echo.port)"], seed: seed)))
    let deadline = Deadline.after(.seconds(10))
    let count = servers.count + 1
    let found = process.waitForWords(until: deadline) { words -> [UInt16]? in
      let ports = announcedPorts(in: words)
      return ports.count == count ? ports : nil
    }
    guard let ports = found else { throw failure(of: process) }
    let urls = zip(zip(servers, addresses), ports).map { redirected($0.0, $0.1, to: $1) }
    do {
      let probe = LinkProbe(echo: echo, relayPort: ports[count - 1], spec: spec)
      let accuracy = try probe.measure(probes: probes)
      return Link(spec: spec, urls: urls, accuracy: accuracy, process: process)
    } catch {
      process.kill()
      throw error
    }
  }

  /// A broker's URL with a loopback port in place of its host; scheme and credentials stay.
  private static func redirected(_ url: String, _ address: BrokerAddress, to port: UInt16) -> String {
    let text = url.trimmingCharacters(in: .whitespaces)
    let rest = text.range(of: "://").map { text[$0.upperBound...] } ?? text[...]
    let credentials = rest.lastIndex(of: "@").map { rest[...$0] } ?? ""
    return "\(address.usesTLS ? "tls" : "nats")://\(credentials)127.0.0.1:\(port)"
  }

  private static func arguments(_ spec: LinkSpec, to places: [String], seed: UInt64) -> [String] {
    var words = places.flatMap { ["--to", $0] }
    words += ["--delay-us", "\(spec.delayMilliseconds * 1000)"]
    words += ["--jitter-us", "\(spec.jitterMilliseconds * 1000)", "--seed", "\(seed)"]
    if let bandwidth = spec.bandwidthMegabitPerSecond {
      words += ["--bits-per-second", "\(bandwidth * 1e6)"]
    }
    return words
  }

  /// The ports of the lines `nylon-link forwards 127.0.0.1:PORT to …` that are whole.
  private static func announcedPorts(in words: String) -> [UInt16] {
    words.components(separatedBy: "nylon-link forwards 127.0.0.1:").dropFirst().compactMap { line in
      guard line.contains("\n") else { return nil }
      return UInt16(line.prefix { $0.isNumber })
    }
  }

  private static func failure(of process: ChildProcess) -> LabError {
    let why = process.exitStatus.map { "it \($0)" } ?? "it did not say where it listens in time"
    process.terminate()
    return .notReady("nylon-link", why: why, lastWords: process.lastWords)
  }

  /// The relay's process id, for its CPU time.
  package var pid: Int32 { process.pid }

  /// CPU time that the relay has used, ns; nil when it is gone.
  package var cpuNanoseconds: UInt64? { ProcessClock.cpuNanoseconds(pid: process.pid) }

  /// False once the relay has ended, for whatever reason.
  package var isRunning: Bool { process.isRunning }

  /// How the relay ended; nil while it runs.
  package var exitStatus: ExitStatus? { process.exitStatus }

  /// What the relay said last, such as that a broker takes no connections.
  package var lastWords: String { process.lastWords }

  /// Cuts the link and waits until the relay is gone.
  @discardableResult
  package func stop() -> ExitStatus? { process.terminate(grace: .seconds(1)) }

  /// Kills the relay at once: a fault, to see what clients do.
  @discardableResult
  package func kill() -> ExitStatus? { process.kill() }
}

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

/// What a network link was asked to add, and what it did add when small probes crossed it, before
/// any load.
package struct LinkMeasurement: Codable, Sendable, Equatable {
  /// Between which parts: `generator-broker` or `broker-workers`.
  package var between: String
  /// What makes the delay: `relay`.
  package var method: String
  /// The delay that was asked for, each way, µs.
  package var delayMicroseconds: Double
  /// Half the width of what the delay varies by, µs.
  package var jitterMicroseconds: Double
  /// The bandwidth that was asked for, each way, Mbit/s; nil when it has no limit.
  package var bandwidthMegabitPerSecond: Double?
  /// Bytes of a probe.
  package var probeBytes: Int
  /// Probes one way through the link, both ways together.
  package var oneWay: DelayFigures
  /// Probes there and back through the link.
  package var roundTrip: DelayFigures
  /// The same to the same echo without the link: what the machine itself takes one way.
  package var directOneWay: DelayFigures
  /// The same there and back without the link.
  package var directRoundTrip: DelayFigures

  /// What a probe must take one way at least, without jitter: the delay, and the time on the wire, µs.
  package var askedOneWayMicroseconds: Double {
    delayMicroseconds + (bandwidthMegabitPerSecond.map { Double(probeBytes) * 8 / $0 } ?? 0)
  }
}

/// A few figures of delays; nil where there were too few.
package struct DelayFigures: Codable, Sendable, Equatable {
  /// How many.
  package var count: UInt64
  /// The least, µs.
  package var leastMicroseconds: Double?
  /// The median, µs.
  package var p50Microseconds: Double?
  /// The 99th percentile, µs; nil with under 10 beyond it.
  package var p99Microseconds: Double?

  /// The figures of a histogram.
  package init(_ histogram: LatencyHistogram) {
    func shown(_ nanoseconds: UInt64?) -> Double? { nanoseconds.map { Double($0) / 1000 } }
    count = histogram.count
    leastMicroseconds = histogram.isEmpty ? nil : shown(histogram.leastNanoseconds)
    p50Microseconds = shown(histogram.value(atPercentile: 50))
    p99Microseconds = shown(histogram.printableValue(atPercentile: 99))
  }
}
