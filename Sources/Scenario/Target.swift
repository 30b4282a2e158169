import Nylon

/// One thing that is loaded: a plugin or a pool, with its handler.
package struct Target: Codable, Sendable, Equatable {
  /// The name in results.
  package var name: String
  /// The plugin's name in `plugins:`.
  package var plugin: String
  /// The handler's name: `entry` of `register_session_stream`, `headers.entry` over NATS.
  package var handler: String
  /// The way to it.
  package var transport: TransportSpec
  /// The phases of a session, the plan's unless the target has its own.
  package var phases: [Phase]
  /// The loads, the plan's unless the target has its own.
  package var loads: [LoadShape]
  /// How each phase is timed and retried; has an entry for each of the four phases.
  package var policies: [Phase: PhasePolicy]
  /// The most sessions in flight in an open load.
  package var maxInFlight: Int
  /// What happens to a request when `maxInFlight` are in flight.
  package var overflow: OverflowPolicy
  /// What an answered session must have done to the response.
  package var verify: Verification
  /// NATS connections of the generator for this target; nil: the plan's.
  package var connections: Int?
  /// Whether it is measured where the time of each phase goes; nil, as in older runs, means no.
  package var decompose: Bool?

  /// Whether it is measured where the time of each phase goes.
  package var isDecomposed: Bool { decompose == true }

  /// A target.
  package init(
    name: String, plugin: String, handler: String, transport: TransportSpec,
    phases: [Phase] = Phase.session, loads: [LoadShape],
    policies: [Phase: PhasePolicy] = Target.standardPolicies, maxInFlight: Int = 1024,
    overflow: OverflowPolicy = .queue, verify: Verification = Verification(),
    decompose: Bool? = nil
  ) {
    self.name = name
    self.plugin = plugin
    self.handler = handler
    self.transport = transport
    self.phases = phases
    self.loads = loads
    self.policies = policies
    self.maxInFlight = maxInFlight
    self.overflow = overflow
    self.verify = verify
    self.decompose = decompose
  }

  /// Nylon's defaults for all four phases.
  package static let standardPolicies: [Phase: PhasePolicy] = Dictionary(
    uniqueKeysWithValues: Phase.session.map { ($0, PhasePolicy.standard(for: $0)) })
}

/// What happens to a request that finds all places taken.
package enum OverflowPolicy: String, Codable, Sendable, CaseIterable {
  /// It waits; its intended time stands.
  case queue
  /// It fails at once, counted as rejected.
  case reject
  /// It fails at once, counted as shed.
  case shed
}

/// What the response must look like after a session's last phase; empty parts are not checked.
package struct Verification: Codable, Sendable, Equatable {
  /// The status, nil when not checked.
  package var status: UInt16?
  /// Headers that must be there; an empty value means any value.
  package var responseHeaders: [KeyValue]
  /// True when the response body must be the one that the upstream sent, byte for byte.
  package var bodyUnchanged: Bool
  /// The exact response body as text, nil when not checked.
  package var body: String?

  /// A check.
  package init(
    status: UInt16? = nil, responseHeaders: [KeyValue] = [], bodyUnchanged: Bool = false,
    body: String? = nil
  ) {
    self.status = status
    self.responseHeaders = responseHeaders
    self.bodyUnchanged = bodyUnchanged
    self.body = body
  }

  /// True when nothing is checked.
  package var isEmpty: Bool {
    status == nil && responseHeaders.isEmpty && !bodyUnchanged && body == nil
  }
}
