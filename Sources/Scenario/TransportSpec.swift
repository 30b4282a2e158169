import NATS

/// The way to a target.
package enum TransportSpec: Codable, Sendable, Equatable {
  /// A shared library in the load process.
  case ffi(FFISpec)
  /// A pool of workers behind a broker.
  case nats(NATSSpec)

  /// `ffi` or `nats`, as in CSV.
  package var name: String {
    switch self {
    case .ffi: "ffi"
    case .nats: "nats"
    }
  }
}

/// A plugin in the host's own process.
package struct FFISpec: Codable, Sendable, Equatable {
  /// A path, or the name of a product of this package (such as `ExamplePlugin`).
  package var file: String
  /// The plugin's configuration, JSON text, given to `initialize`; empty when none.
  package var configJSON: String
  /// Where the plugin's calls are handled.
  package var dispatch: Dispatch

  /// A plugin.
  package init(file: String, configJSON: String = "", dispatch: Dispatch = .queued) {
    self.file = file
    self.configJSON = configJSON
    self.dispatch = dispatch
  }
}

/// Where the host handles what a plugin calls.
package enum Dispatch: String, Codable, Sendable, CaseIterable {
  /// Copied and handed to the thread that owns the session, as the real host does.
  case queued
  /// Handled inside the callback, on the plugin's thread.
  case inline
}

/// A pool of workers behind a broker.
package struct NATSSpec: Codable, Sendable, Equatable {
  /// Broker URLs; empty means that a broker is started. May hold secrets: never print.
  package var servers: [String]
  /// First part of the subjects.
  package var subjectPrefix: String
  /// The queue group.
  package var group: String
  /// The wire dialect.
  package var dialect: Dialect
  /// When the client writes.
  package var flush: FlushMode
  /// The generator's NATS client; nil when the scenario does not say.
  package var client: NATSClient?
  /// Credentials. Secret: never print.
  package var auth: NATSAuth
  /// Transport security.
  package var tls: NATSTLS
  /// The workers to start; nil when they run already.
  package var workers: WorkersSpec?
  /// The plugin's configuration, JSON text, for the `initialize` message; empty when none.
  package var configJSON: String
  /// The network links that are put between the parts, at most one on each side of the broker; nil
  /// when there are none.
  package var links: [LinkSpec]?

  /// A pool.
  package init(
    servers: [String] = [], subjectPrefix: String = "nylon.plugin", group: String = "default",
    dialect: Dialect = .reply, flush: FlushMode = .immediate, client: NATSClient? = nil,
    auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS(), workers: WorkersSpec? = nil,
    configJSON: String = "", links: [LinkSpec]? = nil
  ) {
    self.servers = servers
    self.subjectPrefix = subjectPrefix
    self.group = group
    self.dialect = dialect
    self.flush = flush
    self.client = client
    self.auth = auth
    self.tls = tls
    self.workers = workers
    self.configJSON = configJSON
    self.links = links
  }
}

/// The wire dialects of NATS workers.
package enum Dialect: String, Codable, Sendable, CaseIterable {
  /// One reply with `action`; the HTTP context travels with the request.
  case reply
  /// The real Go SDK with one reply.
  case replySDK = "reply-sdk"
  /// The newest real Go SDK: several maps on the reply subject.
  case streamSDK = "stream-sdk"
}

/// When the generator's NATS client writes what it published.
package enum FlushMode: String, Codable, Sendable, CaseIterable {
  /// As soon as there is something to write, as the real host does.
  case immediate
  /// The C client's own default: a flusher thread that sleeps about 1 ms.
  case libraryDefault = "library-default"
}

/// The NATS clients that the generator has.
package enum NATSClient: String, Codable, Sendable, CaseIterable {
  /// The C client, on the load thread's own loop.
  case libnats
  /// The package's own: one socket, one buffer each way, nothing else.
  case native

  /// What is taken where the scenario does not say.
  package static let standard = NATSClient.native

  /// Why the native client cannot serve a target; nil when it can.
  package static func needsLibrary(_ spec: NATSSpec) -> String? {
    spec.flush == .libraryDefault ? "flush: library-default is libnats' own" : nil
  }
}

/// Workers that the suite starts for a pool.
package struct WorkersSpec: Codable, Sendable, Equatable {
  /// How many.
  package var count: Int
  /// The program and its arguments; a bare `nylon-worker` is this package's own.
  package var command: [String]
  /// Extra environment.
  package var environment: [String: String]
  /// Seconds that a worker may take until it answers.
  package var startSeconds: Double

  /// Workers.
  package init(
    count: Int, command: [String], environment: [String: String] = [:], startSeconds: Double = 10
  ) {
    self.count = count
    self.command = command
    self.environment = environment
    self.startSeconds = startSeconds
  }
}
