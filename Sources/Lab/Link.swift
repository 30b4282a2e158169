import Foundation
import Engine
import NATS
import Scenario

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
    let addresses = try servers.map { (url) throws(LabError) in try address(url) }
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

  private static func address(_ url: String) throws(LabError) -> BrokerAddress {
    do {
      return try BrokerAddress(url)
    } catch {
      throw .invalid("\(error)", remedy: BrokerAddressError.remedy)
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

  /// False once the relay has ended, whoever ended it.
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
