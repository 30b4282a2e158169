import Engine
import Foundation
import NATS
import Scenario
import Synchronization

/// A network link between two parts on this machine: a relay in front of brokers that delays every byte.
package final class Link: ProcessHolder {
  package let spec: LinkSpec
  /// URLs that lead to the brokers through the link, in their order. May hold secrets: never print them.
  package let urls: [String]
  /// The measured accuracy of the link, from probes before any load.
  package let accuracy: LinkMeasurement
  /// The relay itself, for faults.
  package let relay: Relay
  package var process: ChildProcess { relay.process }

  /// Starts a relay in front of brokers, with a port for each of their URLs. It measures the link's accuracy
  /// at once, which takes a second and a round trip. The seed is for the jitter.
  package init(
    _ spec: LinkSpec, to servers: [String], seed: UInt64 = 1, probes: Int = 1000
  ) throws(LabError) {
    self.spec = spec
    let brokers = try servers.map { (url) throws(LabError) in try Broker.servers(url)[0] }
    for broker in brokers { try Self.checkReachable(broker) }
    let echo = try EchoEnd()
    defer { echo.stop() }
    let places = brokers.map(\.address.shown) + ["127.0.0.1:\(echo.port)"]
    let bandwidth = spec.bandwidthMegabitPerSecond.map { ["--bits-per-second", "\($0 * 1e6)"] }
    relay = try Relay(
      to: places,
      ["--delay-us", "\(spec.delayMilliseconds * 1000)", "--jitter-us", "\(spec.jitterMilliseconds * 1000)"]
        + ["--seed", "\(seed)"] + (bandwidth ?? []))
    let ports = relay.ports
    urls = zip(servers, zip(brokers, ports)).map { Self.redirected($0, $1.0.address, to: $1.1) }
    accuracy = try Self.measure(spec, echo, relayPort: ports[servers.count], probes: probes)
  }

  private static func checkReachable(_ broker: BrokerServer) throws(LabError) {
    let deadline = Deadline.after(.seconds(5))
    var why = ""
    for address in broker.addresses {
      do {
        _ = try TCPSocket.connected(to: address, until: deadline)
        return
      } catch {
        why = error.why
      }
    }
    throw .brokerUnreachable(address: broker.address.shown, why: why)
  }

  /// A broker's URL with its host replaced by a loopback port; scheme and credentials are kept.
  private static func redirected(_ url: String, _ address: BrokerAddress, to port: UInt16) -> String {
    let text = url.trimmingCharacters(in: .whitespaces)
    let rest = text.range(of: "://").map { text[$0.upperBound...] } ?? text[...]
    let credentials = rest.lastIndex(of: "@").map { rest[...$0] } ?? ""
    return "\(address.usesTLS ? "tls" : "nats")://\(credentials)127.0.0.1:\(port)"
  }

  /// CPU time used by the relay, ns; nil when the relay has ended.
  package var cpuNanoseconds: UInt64? { ProcessClock.cpuNanoseconds(pid: process.pid) }
}

/// A probe: three times of the monotonic clock, ns.
private struct Probe: BitwiseCopyable {
  var sent: UInt64 = 0
  /// When the echo end received it, and when it sent it back.
  var arrived: UInt64 = 0
  var returned: UInt64 = 0

  static let size = MemoryLayout<Probe>.size

  func send(to socket: Descriptor) { socket.send(withUnsafeBytes(of: self) { Array($0) }) }
}

/// Assembles whole probes from a socket's bytes.
private struct ProbeReader {
  let socket: Descriptor
  var pending: [UInt8] = []

  /// Reads the probes received so far; nil when the peer has closed.
  mutating func read() -> [Probe]? {
    switch socket.read() {
    case .end: return nil
    case .nothingYet: return []
    case .bytes(let bytes):
      pending += bytes
      let whole = pending.count / Probe.size
      let probes = pending.withUnsafeBytes { buffer in
        (0..<whole).map { buffer.loadUnaligned(fromByteOffset: $0 * Probe.size, as: Probe.self) }
      }
      pending.removeFirst(whole * Probe.size)
      return probes
    }
  }
}

/// A loopback port that echoes every probe with the times at which it arrived and left, on a separate thread.
private final class EchoEnd: Sendable {
  let port: UInt16
  private let listener: Descriptor
  private let isStopped = Atomic<Bool>(false)

  init() throws(LabError) {
    (listener, port) = try TCPSocket.listening()
    startThread("link-echo") { [self] in serve() }
  }

  /// Closes the port within a tenth of a second.
  func stop() { isStopped.store(true, ordering: .relaxed) }

  private func serve() {
    var readers: [ProbeReader] = []
    while !isStopped.load(ordering: .relaxed) {
      let ready = TCPSocket.ready([listener] + readers.map(\.socket), milliseconds: 100)
      for place in ready.reversed() {
        if place == 0 {
          if let client = TCPSocket.accepted(by: listener) { readers.append(ProbeReader(socket: client)) }
        } else if let probes = readers[place - 1].read() {
          let arrived = MonotonicClock.nanoseconds
          for probe in probes {
            Probe(sent: probe.sent, arrived: arrived, returned: MonotonicClock.nanoseconds)
              .send(to: readers[place - 1].socket)
          }
        } else {
          readers.remove(at: place - 1)
        }
      }
    }
  }
}

extension Link {
  /// The times of probes over one path.
  private struct Times: Sendable {
    var oneWay = LatencyHistogram()
    var roundTrip = LatencyHistogram()
  }

  /// Sends probes through the relay and directly to the same echo end, alternating, one per millisecond on
  /// each path.
  private static func measure(
    _ spec: LinkSpec, _ echo: EchoEnd, relayPort: UInt16, probes: Int
  ) throws(LabError) -> LinkMeasurement {
    let sockets = [
      try TCPSocket.connected(to: echo.port), try TCPSocket.connected(to: relayPort),
    ]
    let times = Guarded<[Times]?>(nil)
    let most = Deadline.after(.milliseconds(Int(Double(probes) * 2 + spec.delayMilliseconds * 4) + 10_000))
    startThread("link-probe") {
      let found = collect(sockets, probes: probes, until: most)
      times.withLock { $0 = found }
    }
    for _ in 0..<probes {
      for socket in sockets {
        Probe(sent: MonotonicClock.nanoseconds).send(to: socket)
        usleep(500)
      }
    }
    // The thread checks its deadline ten times a second.
    let found = times.wait(until: most.advanced(by: .seconds(1))) { $0 } ?? [Times(), Times()]
    let (direct, relayed) = (found[0], found[1])
    guard found.allSatisfy({ $0.roundTrip.count == probes }) else {
      throw .notReady(
        "The network link",
        why: "only \(relayed.roundTrip.count) of \(probes) probes came back through it in time", lastWords: ""
      )
    }
    return LinkMeasurement(
      between: spec.between.rawValue, method: "relay", delayMicroseconds: spec.delayMilliseconds * 1000,
      jitterMicroseconds: spec.jitterMilliseconds * 1000,
      bandwidthMegabitPerSecond: spec.bandwidthMegabitPerSecond, probeBytes: Probe.size,
      oneWay: DelayFigures(relayed.oneWay), roundTrip: DelayFigures(relayed.roundTrip),
      directOneWay: DelayFigures(direct.oneWay), directRoundTrip: DelayFigures(direct.roundTrip))
  }

  /// Collects the probes that came back.
  private static func collect(_ sockets: [Descriptor], probes: Int, until deadline: Deadline) -> [Times] {
    var readers = sockets.map { ProbeReader(socket: $0) }
    var times = [Times(), Times()]
    while times.contains(where: { $0.roundTrip.count < probes }), !deadline.isPast {
      for place in TCPSocket.ready(sockets, milliseconds: 100) {
        guard let messages = readers[place].read() else { return times }
        let now = MonotonicClock.nanoseconds
        for message in messages {
          times[place].oneWay.record(message.arrived - message.sent)
          times[place].oneWay.record(now - message.returned)
          times[place].roundTrip.record(now - message.sent)
        }
      }
    }
    return times
  }
}

/// The delay that a network link should add, and the delay that small probes measured before any load.
package struct LinkMeasurement: Codable, Sendable, Equatable {
  /// The two parts: `generator-broker` or `broker-workers`.
  package var between: String
  /// The means of the delay: `relay`.
  package var method: String
  /// The requested delay each way, µs.
  package var delayMicroseconds: Double
  /// Half the width of the delay's variation, µs.
  package var jitterMicroseconds: Double
  /// The requested bandwidth each way, Mbit/s; nil when unlimited.
  package var bandwidthMegabitPerSecond: Double?
  /// Bytes of a probe.
  package var probeBytes: Int
  /// Delays one way through the link, over both directions.
  package var oneWay: DelayFigures
  /// Delays there and back through the link.
  package var roundTrip: DelayFigures
  /// Delays one way to the same echo end without the link: the machine's own share.
  package var directOneWay: DelayFigures
  /// Delays there and back without the link.
  package var directRoundTrip: DelayFigures

  /// The least time that a probe must take one way without jitter: the delay and the transmission time, µs.
  package var askedOneWayMicroseconds: Double {
    delayMicroseconds + (bandwidthMegabitPerSecond.map { Double(probeBytes) * 8 / $0 } ?? 0)
  }
}

/// Statistics of delays; nil where there were too few.
package struct DelayFigures: Codable, Sendable, Equatable {
  /// Probes that arrived.
  package var count: UInt64
  /// The least delay.
  package var leastMicroseconds: Double?
  /// The median delay.
  package var p50Microseconds: Double?
  /// The delay at percentile 99; nil with fewer than 10 probes beyond it.
  package var p99Microseconds: Double?

  package init(_ histogram: LatencyHistogram) {
    func shown(_ nanoseconds: UInt64?) -> Double? { nanoseconds.map { Double($0) / 1000 } }
    count = histogram.count
    leastMicroseconds = histogram.isEmpty ? nil : shown(histogram.leastNanoseconds)
    p50Microseconds = shown(histogram.value(atPercentile: 50))
    p99Microseconds = shown(histogram.printableValue(atPercentile: 99))
  }
}

/// A running `nylon-link`: loopback ports that forward to other places, with injected faults.
package final class Relay: ProcessHolder {
  package let process: ChildProcess
  /// The ports that forward to the places, in their order.
  let ports: [UInt16]

  /// Starts a relay with a port for each place (`host:port`).
  init(to places: [String], _ options: [String] = []) throws(LabError) {
    process = try ChildProcess.start(
      Launch(
        program: try Executables.own("nylon-link"), arguments: places.flatMap { ["--to", $0] } + options,
        takesCommands: true))
    ports = try process.announcedPorts(
      ["nylon-link forwards "], count: places.count, by: "nylon-link", until: .after(.seconds(10)))
  }

  /// Resets all connections in both directions.
  package func reset() { process.tell("reset") }

  /// Starts or stops dropping all bytes in both directions. Connections that lost bytes are reset at the end,
  /// since their streams have a gap.
  package func silence(_ on: Bool) { process.tell(on ? "silence on" : "silence off") }
}
