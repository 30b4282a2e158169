import NylonProtocol

/// A validated scenario: what to load, how, and for how long. All defaults are filled in.
///
/// Everything downstream takes this value; nothing reads YAML again.
public struct Plan: Codable, Sendable, Equatable {
  /// The scenario's name, also part of the run folder's.
  public var name: String
  /// The first comment line of the file, without `#`; what the scenario is for.
  public var summary: String
  /// The file it was read from.
  public var file: String
  /// What is loaded, in the order written.
  public var targets: [Target]
  /// The HTTP request that every session carries.
  public var request: RequestSpec
  /// The phases of a session, in order; a target may have its own.
  public var phases: [Phase]
  /// The loads, in order; a target may have its own.
  public var loads: [LoadShape]
  /// Seconds of load that are not recorded.
  public var warmupSeconds: Double
  /// Seconds of load that are recorded.
  public var measureSeconds: Double
  /// Seconds to wait for answers after the load ended.
  public var drainSeconds: Double
  /// How often each measurement is made, each in a fresh load process.
  public var replicates: Int
  /// Load threads of the generator.
  public var threads: Int
  /// NATS connections of the generator, shared out to its threads.
  public var connections: Int
  /// Seed of arrivals and ids; printed with every result.
  public var seed: UInt64
  /// Conditions of the gate, such as `nats.open-5000.response_p99_us < 5000`.
  public var expectations: [Expectation]

  /// A plan; the parser is the usual maker.
  public init(
    name: String, summary: String = "", file: String = "", targets: [Target],
    request: RequestSpec = RequestSpec(), phases: [Phase] = Phase.session, loads: [LoadShape],
    warmupSeconds: Double = 1, measureSeconds: Double = 5, drainSeconds: Double = 2,
    replicates: Int = 1, threads: Int = 1, connections: Int = 1, seed: UInt64 = 1,
    expectations: [Expectation] = []
  ) {
    self.name = name
    self.summary = summary
    self.file = file
    self.targets = targets
    self.request = request
    self.phases = phases
    self.loads = loads
    self.warmupSeconds = warmupSeconds
    self.measureSeconds = measureSeconds
    self.drainSeconds = drainSeconds
    self.replicates = replicates
    self.threads = threads
    self.connections = connections
    self.seed = seed
    self.expectations = expectations
  }
}

/// The request that a session carries, as the scenario describes it.
public struct RequestSpec: Codable, Sendable, Equatable {
  /// `GET`, `POST`, …
  public var method: String
  /// Path and, behind `?`, query.
  public var path: String
  /// Path parameters.
  public var params: [KeyValue]
  /// Request headers, in order.
  public var headers: [KeyValue]
  /// Bytes of the request body and of the upstream's response body, made from the seed.
  public var bodyBytes: Int
  /// The client's address that plugins read.
  public var clientIP: String
  /// The upstream's answer before any plugin changed it: status and headers.
  public var responseStatus: UInt16
  /// The upstream's response headers, in order.
  public var responseHeaders: [KeyValue]

  /// A request.
  public init(
    method: String = "GET", path: String = "/", params: [KeyValue] = [], headers: [KeyValue] = [],
    bodyBytes: Int = 0, clientIP: String = "127.0.0.1", responseStatus: UInt16 = 200,
    responseHeaders: [KeyValue] = []
  ) {
    self.method = method
    self.path = path
    self.params = params
    self.headers = headers
    self.bodyBytes = bodyBytes
    self.clientIP = clientIP
    self.responseStatus = responseStatus
    self.responseHeaders = responseHeaders
  }
}

/// When requests are sent.
public enum LoadShape: Codable, Sendable, Hashable {
  /// So many sessions at once, each followed by the next.
  case closed(concurrency: Int)
  /// So many sessions a second, sent when the schedule says and not when an answer comes.
  case open(ratePerSecond: Double, arrivals: Arrivals)

  /// The name in CSV and tables: `closed-64`, `open-44000`; uniform arrivals `open-44000-uniform`.
  public var label: String {
    switch self {
    case .closed(let concurrency): return "closed-\(concurrency)"
    case .open(let rate, let arrivals):
      let text = rate == rate.rounded() ? String(Int(rate)) : String(rate)
      return arrivals == .poisson ? "open-\(text)" : "open-\(text)-uniform"
    }
  }
}

/// How the arrivals of an open load are spaced.
public enum Arrivals: String, Codable, Sendable, CaseIterable {
  /// Exponential gaps: independent clients.
  case poisson
  /// Equal gaps.
  case uniform
}

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

  /// A target.
  public init(
    name: String, plugin: String, handler: String, transport: TransportSpec,
    phases: [Phase] = Phase.session, loads: [LoadShape],
    policies: [Phase: PhasePolicy] = Target.standardPolicies, maxInFlight: Int = 1024,
    overflow: OverflowPolicy = .queue, verify: Verification = Verification()
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

/// The way to a target.
public enum TransportSpec: Codable, Sendable, Equatable {
  /// A shared library in the load process.
  case ffi(FFISpec)
  /// A pool of workers behind a broker.
  case nats(NATSSpec)

  /// `ffi` or `nats`, as in CSV.
  public var name: String {
    switch self {
    case .ffi: "ffi"
    case .nats: "nats"
    }
  }
}

/// A plugin in the host's own process.
public struct FFISpec: Codable, Sendable, Equatable {
  /// A path, or the name of a product of this package (such as `ExamplePlugin`).
  public var file: String
  /// The plugin's configuration, JSON text, given to `initialize`; empty when none.
  public var configJSON: String
  /// Where the plugin's calls are handled.
  public var dispatch: Dispatch

  /// A plugin.
  public init(file: String, configJSON: String = "", dispatch: Dispatch = .queued) {
    self.file = file
    self.configJSON = configJSON
    self.dispatch = dispatch
  }
}

/// Where the host handles what a plugin calls.
public enum Dispatch: String, Codable, Sendable, CaseIterable {
  /// Copied and handed to the thread that owns the session, as the real host does.
  case queued
  /// Handled inside the callback, on the plugin's thread.
  case inline
}

/// A pool of workers behind a broker.
public struct NATSSpec: Codable, Sendable, Equatable {
  /// Broker URLs; empty means that a broker is started. May hold secrets: never print.
  public var servers: [String]
  /// First part of the subjects.
  public var subjectPrefix: String
  /// The queue group.
  public var group: String
  /// The wire dialect.
  public var dialect: Dialect
  /// When the client writes.
  public var flush: FlushMode
  /// Credentials. Secret: never print.
  public var auth: NATSAuth
  /// Transport security.
  public var tls: NATSTLS
  /// The workers to start; nil when they run already.
  public var workers: WorkersSpec?

  /// A pool.
  public init(
    servers: [String] = [], subjectPrefix: String = "nylon.plugin", group: String = "default",
    dialect: Dialect = .reply, flush: FlushMode = .immediate, auth: NATSAuth = NATSAuth(),
    tls: NATSTLS = NATSTLS(), workers: WorkersSpec? = nil
  ) {
    self.servers = servers
    self.subjectPrefix = subjectPrefix
    self.group = group
    self.dialect = dialect
    self.flush = flush
    self.auth = auth
    self.tls = tls
    self.workers = workers
  }
}

/// The wire dialects of NATS workers.
public enum Dialect: String, Codable, Sendable, CaseIterable {
  /// One reply with `action`; the HTTP context travels with the request.
  case reply
  /// The real Go SDK with one reply.
  case replySDK = "reply-sdk"
  /// The newest real Go SDK: several maps on the reply subject.
  case streamSDK = "stream-sdk"
}

/// When the generator's NATS client writes what it published.
public enum FlushMode: String, Codable, Sendable, CaseIterable {
  /// As soon as there is something to write, as the real host does.
  case immediate
  /// The C client's own default: a flusher thread that sleeps about 1 ms.
  case libraryDefault = "library-default"
}

/// How a client proves who it is. Every value is a secret.
public struct NATSAuth: Codable, Sendable, Equatable {
  /// A token.
  public var token: String?
  /// A user name.
  public var user: String?
  /// Its password.
  public var password: String?
  /// Path of a credentials file.
  public var credentials: String?
  /// Path of an nkey seed file.
  public var nkey: String?

  /// Credentials.
  public init(
    token: String? = nil, user: String? = nil, password: String? = nil, credentials: String? = nil,
    nkey: String? = nil
  ) {
    self.token = token
    self.user = user
    self.password = password
    self.credentials = credentials
    self.nkey = nkey
  }
}

/// Transport security of a broker connection.
public struct NATSTLS: Codable, Sendable, Equatable {
  /// Whether TLS is used.
  public var enabled: Bool
  /// Path of the authorities' certificates.
  public var caFile: String?
  /// Path of the client's certificate.
  public var certFile: String?
  /// Path of the client's key.
  public var keyFile: String?

  /// Settings.
  public init(
    enabled: Bool = false, caFile: String? = nil, certFile: String? = nil, keyFile: String? = nil
  ) {
    self.enabled = enabled
    self.caFile = caFile
    self.certFile = certFile
    self.keyFile = keyFile
  }
}

/// Workers that the suite starts for a pool.
public struct WorkersSpec: Codable, Sendable, Equatable {
  /// How many.
  public var count: Int
  /// The program and its arguments; a bare `nylon-worker` is this package's own.
  public var command: [String]
  /// Extra environment.
  public var environment: [String: String]
  /// Seconds that a worker may take until it answers.
  public var startSeconds: Double

  /// Workers.
  public init(
    count: Int, command: [String], environment: [String: String] = [:], startSeconds: Double = 10
  ) {
    self.count = count
    self.command = command
    self.environment = environment
    self.startSeconds = startSeconds
  }
}

/// One line of `expect:`, such as `nats.open-5000.response_p99_us < 5000`.
public struct Expectation: Codable, Sendable, Equatable {
  /// The line as written.
  public var text: String
  /// Target name, left of the first dot.
  public var target: String
  /// Load label, such as `open-5000`.
  public var load: String
  /// A numeric column of summary.csv (phase `request`).
  public var metric: String
  /// `<`, `<=`, `>`, `>=` or `==`.
  public var comparison: String
  /// The bound, in the column's unit.
  public var bound: Double

  /// A condition.
  public init(
    text: String, target: String, load: String, metric: String, comparison: String, bound: Double
  ) {
    self.text = text
    self.target = target
    self.load = load
    self.metric = metric
    self.comparison = comparison
    self.bound = bound
  }
}
