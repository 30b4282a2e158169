import Engine
import Foundation
import Lab
import Results
import Scenario

/// The network links of one run. A link is started when it is first needed, and then stays: all
/// targets that ask for the same link to the same brokers share its relay.
final class NetworkLinks {
  private struct Key: Hashable {
    let spec: LinkSpec
    let servers: [String]
  }

  /// A link of the target that is measured, and what its relay had cost before the load.
  private struct Use {
    let link: Link
    let cpuBefore: UInt64?
    let since = MonotonicClock.nanoseconds
  }

  /// A relay over so much of a core may itself be what bounds a load.
  private static let busyShare = 0.8

  private let seed: UInt64
  private var links: [Key: Link] = [:]
  private var used: [Use] = []
  /// What each link took of probes, in the order in which they were started.
  private(set) var measurements: [LinkMeasurement] = []

  init(seed: UInt64) { self.seed = seed }

  /// The URLs that a part uses to reach the brokers: through the target's link on its side, when
  /// there is one.
  func urls(to servers: [String], for target: Target, _ side: LinkPlace) throws(LabError) -> [String] {
    guard let spec = target.links.first(where: { $0.between == side }) else { return servers }
    let key = Key(spec: spec, servers: servers)
    if let link = links[key], link.isRunning { return link.urls }
    let link = try Link(spec, to: servers, seed: seed)
    links[key] = link
    measurements.append(link.accuracy)
    return link.urls
  }

  /// Notes what the relays of a target's links have cost until now, before a load.
  func begin(_ target: Target, to servers: [String]) {
    used = target.links.compactMap { links[Key(spec: $0, servers: servers)] }
      .map { Use(link: $0, cpuBefore: $0.cpuNanoseconds) }
  }

  /// Judges a measurement over links: a relay that died makes it invalid, a busy one is told.
  func judge(_ measurement: inout Engine.Measurement) {
    for use in used {
      let (link, place) = (use.link, use.link.spec.between.rawValue)
      guard link.isRunning else {
        measurement.invalidReasons.append(
          InvalidReason(
            code: .linkDied,
            detail: "the relay of the link \(place) \(link.exitStatus?.description ?? "ended")"
              + "; last words: \(link.lastWords)"))
        continue
      }
      guard let before = use.cpuBefore, let now = link.cpuNanoseconds, now > before else { continue }
      let share = Double(now - before) / Double(MonotonicClock.nanoseconds - use.since)
      if share > Self.busyShare {
        measurement.warnings.append(
          "the relay of the link \(place) used \(Int((share * 100).rounded())) % of a core: it may be what "
            + "bounds the throughput, not the network that it stands for")
      }
    }
  }

  /// Ends all links, or those to brokers that are gone.
  func stop(to servers: [String]? = nil) {
    for (key, link) in links where servers == nil || key.servers == servers {
      link.stop()
      links[key] = nil
    }
  }
}
