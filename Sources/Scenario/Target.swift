import NylonProtocol

/// One thing that is loaded: a plugin or a pool, with its handler.
public struct Target: Codable, Sendable, Equatable {
  /// The name in results.
  public var name: String
  /// The plugin's name in `plugins:`.
  public var plugin: String
  /// The handler's name: `entry` of `register_session_stream`, `headers.entry` over NATS.
  public var handler: String
  /// The way to it.
  public var transport: TransportSpec
  /// The phases of a session, the plan's unless the target has its own.
  public var phases: [Phase]
  /// The loads, the plan's unless the target has its own.
  public var loads: [LoadShape]
  /// How each phase is timed and retried; has an entry for each of the four phases.
  public var policies: [Phase: PhasePolicy]
  /// The most sessions in flight in an open load.
  public var maxInFlight: Int
  /// What happens to a request when `maxInFlight` are in flight.
  public var overflow: OverflowPolicy
  /// What an answered session must have done to the response.
  public var verify: Verification
  /// NATS connections of the generator for this target; nil: the plan's.
  public var connections: Int?
  /// Whether it is measured where the time of each phase goes; nil, as in older runs, means no.
  public var decompose: Bool?

  /// Whether it is measured where the time of each phase goes.
  public var isDecomposed: Bool { decompose == true }

  /// A target.
  public init(
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
  public static let standardPolicies: [Phase: PhasePolicy] = Dictionary(
    uniqueKeysWithValues: Phase.session.map { ($0, PhasePolicy.standard(for: $0)) })
}

/// What happens to a request that finds all places taken.
public enum OverflowPolicy: String, Codable, Sendable, CaseIterable {
  /// It waits; its intended time stands.
  case queue
  /// It fails at once, counted as rejected.
  case reject
  /// It fails at once, counted as shed.
  case shed
}

/// What the response must look like after a session's last phase; empty parts are not checked.
public struct Verification: Codable, Sendable, Equatable {
  /// The status, nil when not checked.
  public var status: UInt16?
  /// Headers that must be there; an empty value means any value.
  public var responseHeaders: [KeyValue]
  /// True when the response body must be the one that the upstream sent, byte for byte.
  public var bodyUnchanged: Bool
  /// The exact response body as text, nil when not checked.
  public var body: String?

  /// A check.
  public init(
    status: UInt16? = nil, responseHeaders: [KeyValue] = [], bodyUnchanged: Bool = false,
    body: String? = nil
  ) {
    self.status = status
    self.responseHeaders = responseHeaders
    self.bodyUnchanged = bodyUnchanged
    self.body = body
  }

  /// True when nothing is checked.
  public var isEmpty: Bool {
    status == nil && responseHeaders.isEmpty && !bodyUnchanged && body == nil
  }
}
