import Nylon

/// A validated scenario: what to load, how, and for how long. All defaults are filled in.
///
/// Everything downstream takes this value; nothing reads YAML again.
package struct Plan: Codable, Sendable, Equatable {
  /// The scenario's name, also part of the run folder's.
  package var name: String
  /// The first comment line of the file, without `#`; what the scenario is for.
  package var summary: String
  /// The file it was read from.
  package var file: String
  /// What is loaded, in the order written.
  package var targets: [Target]
  /// The HTTP request that every session carries.
  package var request: RequestSpec
  /// The phases of a session, in order; a target may have its own.
  package var phases: [Phase]
  /// The loads, in order; a target may have its own.
  package var loads: [LoadShape]
  /// Seconds of load that are not recorded.
  package var warmupSeconds: Double
  /// Seconds of load that are recorded.
  package var measureSeconds: Double
  /// Seconds to wait for answers after the load ended.
  package var drainSeconds: Double
  /// How often each measurement is made, each in a fresh load process.
  package var replicates: Int
  /// Load threads of the generator.
  package var threads: Int
  /// NATS connections of the generator, shared out to its threads.
  package var connections: Int
  /// Seed of arrivals and ids; printed with every result.
  package var seed: UInt64
  /// Conditions of the gate, such as `nats.open-5000.response_p99_us < 5000`.
  package var expectations: [Expectation]
  /// What the loader found odd but not wrong; holds no secrets.
  package var warnings: [String]

  /// A plan; the parser is the usual maker.
  package init(
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
  package func quick() -> Plan {
    var plan = self
    plan.warmupSeconds = min(warmupSeconds, 0.3)
    plan.measureSeconds = min(measureSeconds, 1)
    plan.drainSeconds = min(drainSeconds, 1)
    plan.replicates = 1
    return plan
  }
}

/// The request that a session carries, as the scenario describes it.
package struct RequestSpec: Codable, Sendable, Equatable {
  /// `GET`, `POST`, …
  package var method: String
  /// Path and, behind `?`, query.
  package var path: String
  /// Path parameters.
  package var params: [KeyValue]
  /// Request headers, in order.
  package var headers: [KeyValue]
  /// Bytes of the request body and of the upstream's response body, made from the seed.
  package var bodyBytes: Int
  /// The client's address that plugins read.
  package var clientIP: String
  /// The upstream's answer before any plugin changed it: status and headers.
  package var responseStatus: UInt16
  /// The upstream's response headers, in order.
  package var responseHeaders: [KeyValue]

  /// A request.
  package init(
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
package enum LoadShape: Codable, Sendable, Hashable {
  /// So many sessions at once, each followed by the next.
  case closed(concurrency: Int)
  /// So many sessions a second, sent when the schedule says and not when an answer comes.
  case open(ratePerSecond: Double, arrivals: Arrivals)

  /// The name in CSV and tables: `closed-64`, `open-44000`; uniform arrivals `open-44000-uniform`.
  package var label: String {
    switch self {
    case .closed(let concurrency): return "closed-\(concurrency)"
    case .open(let rate, let arrivals):
      let text = rate == rate.rounded() ? String(Int(rate)) : String(rate)
      return arrivals == .poisson ? "open-\(text)" : "open-\(text)-uniform"
    }
  }
}

/// How the arrivals of an open load are spaced.
package enum Arrivals: String, Codable, Sendable, CaseIterable {
  /// Exponential gaps: independent clients.
  case poisson
  /// Equal gaps.
  case uniform
}

/// One line of `expect:`, such as `nats.open-5000.response_p99_us < 5000`, or of two figures,
/// `nats.closed-64.throughput_rps / ffi.closed-64.throughput_rps > 0.2`.
package struct Expectation: Codable, Sendable, Equatable {
  /// The line as written.
  package var text: String
  /// Target name, left of the first dot.
  package var target: String
  /// Load label, such as `open-5000`.
  package var load: String
  /// A numeric column of summary.csv (phase `request`).
  package var metric: String
  /// `<`, `<=`, `>`, `>=` or `==`.
  package var comparison: String
  /// The bound, in the column's unit; of two figures the bound of their ratio.
  package var bound: Double
  /// What the figure is divided by; nil for a figure of its own.
  package var divisor: Figure?

  /// A figure of a run.
  package struct Figure: Codable, Sendable, Equatable {
    /// The target's name.
    package var target: String
    /// Load label.
    package var load: String
    /// A numeric column of summary.csv.
    package var metric: String

    /// A figure.
    package init(target: String, load: String, metric: String) {
      self.target = target
      self.load = load
      self.metric = metric
    }
  }

  /// A condition.
  package init(
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
