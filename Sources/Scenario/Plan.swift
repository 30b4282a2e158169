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
  /// What the loader found odd but not wrong; holds no secrets.
  public var warnings: [String]

  /// A plan; the parser is the usual maker.
  public init(
    name: String, summary: String = "", file: String = "", targets: [Target],
    request: RequestSpec = RequestSpec(), phases: [Phase] = Phase.session, loads: [LoadShape],
    warmupSeconds: Double = 1, measureSeconds: Double = 5, drainSeconds: Double = 2,
    replicates: Int = 1, threads: Int = 1, connections: Int = 1, seed: UInt64 = 1,
    expectations: [Expectation] = [], warnings: [String] = []
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
    self.warnings = warnings
  }

  /// The plan of `--quick`: at most 0.3 s of warm-up, 1 s of measuring, 1 s of drain, one replicate.
  ///
  /// Its figures show that everything works, not how fast anything is.
  public func quick() -> Plan {
    var plan = self
    plan.warmupSeconds = min(warmupSeconds, 0.3)
    plan.measureSeconds = min(measureSeconds, 1)
    plan.drainSeconds = min(drainSeconds, 1)
    plan.replicates = 1
    return plan
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

/// One line of `expect:`, such as `nats.open-5000.response_p99_us < 5000`, or of two figures,
/// `nats.closed-64.throughput_rps / ffi.closed-64.throughput_rps > 0.2`.
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
  /// The bound, in the column's unit; of two figures the bound of their ratio.
  public var bound: Double
  /// What the figure is divided by; nil for a figure of its own.
  public var divisor: Figure?

  /// A figure of a run.
  public struct Figure: Codable, Sendable, Equatable {
    /// The target's name.
    public var target: String
    /// Load label.
    public var load: String
    /// A numeric column of summary.csv.
    public var metric: String

    /// A figure.
    public init(target: String, load: String, metric: String) {
      self.target = target
      self.load = load
      self.metric = metric
    }
  }

  /// A condition.
  public init(
    text: String, target: String, load: String, metric: String, divisor: Figure? = nil, comparison: String,
    bound: Double
  ) {
    self.text = text
    self.target = target
    self.load = load
    self.metric = metric
    self.divisor = divisor
    self.comparison = comparison
    self.bound = bound
  }
}
