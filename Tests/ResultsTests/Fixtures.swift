import struct Foundation.Data
import class Foundation.NSString
@testable import Lab
import NATS
import Nylon

@testable import Engine
@testable import Report
@testable import Results
@testable import Scenario

/// A histogram of evenly spaced values around a middle: half of it to one and a half of it.
func histogram(around nanoseconds: UInt64, count: UInt64 = 2000) -> LatencyHistogram {
  var histogram = LatencyHistogram()
  for step in 0..<count { histogram.record(nanoseconds / 2 + nanoseconds * step / count) }
  return histogram
}

/// A scope in which all was answered well.
func scope(_ name: String = "request", around nanoseconds: UInt64, count: UInt64 = 2000)
  -> ScopeMeasurement
{
  var counts = OutcomeCounts()
  counts.sent = count
  counts.ok = count
  return ScopeMeasurement(
    scope: name, counts: counts, okInWindow: count, response: histogram(around: nanoseconds, count: count),
    service: histogram(around: nanoseconds * 99 / 100, count: count),
    sendLag: histogram(around: nanoseconds / 100, count: count))
}

/// A valid measurement of 2 s, all answered around a time.
func measurement(
  _ target: String, load: String = "open-1000", replicate: Int = 1, around nanoseconds: UInt64,
  count: UInt64 = 2000, transport: TransportKind = .nats, invalid: [InvalidReason.Code] = []
) -> Measurement {
  Measurement(
    target: target, transport: transport, handler: "authz", load: load,
    offeredRatePerSecond: load.hasPrefix("open-") ? Double(load.dropFirst(5)) : nil, concurrency: 64,
    workers: transport == .nats ? 2 : nil, payloadBytes: 128, replicate: replicate, durationSeconds: 2,
    scopes: [
      scope(around: nanoseconds, count: count), scope("logging", around: nanoseconds / 4, count: count),
    ],
    windows: (0..<4).map {
      MeasurementWindow(
        startSeconds: Double($0) / 2, durationSeconds: 0.5, completed: count / 4 + UInt64($0),
        p50Nanoseconds: nanoseconds, p99Nanoseconds: nil, maxNanoseconds: nanoseconds * 2)
    },
    cpuGeneratorNanoseconds: count * 2500, cpuBrokerNanoseconds: transport == .nats ? count * 1000 : nil,
    allocatedBytes: count * 64, stealShare: 0.01,
    invalidReasons: invalid.map { InvalidReason(code: $0, detail: "seen \($0.rawValue)") })
}

/// So many replicates, each one percent slower than the last.
func replicates(
  _ target: String, load: String = "open-1000", around nanoseconds: UInt64, count: Int = 6,
  samples: UInt64 = 2000, transport: TransportKind = .nats, invalid: [InvalidReason.Code] = []
) -> [Measurement] {
  (0..<count).map {
    measurement(
      target, load: load, replicate: $0 + 1, around: nanoseconds + nanoseconds * UInt64($0) / 100,
      count: samples, transport: transport, invalid: invalid)
  }
}

/// These with a trend that they share: the response time changes by this share of the middle.
func unsteady(_ measurements: [Measurement], change: Double) -> [Measurement] {
  measurements.map { one in
    var trending = one
    trending.invalidReasons = [InvalidReason(code: .neverSteady, detail: "of a fixture")]
    for (place, window) in one.windows.enumerated() {
      let share = Double(place) / Double(one.windows.count - 1) - 0.5
      trending.windows[place].p50Nanoseconds =
        window.p50Nanoseconds.map { UInt64(Double($0) * (1 + change * share)) }
    }
    return trending
  }
}

/// A target behind a broker, every field of which has a value.
func natsTarget(_ name: String, group: String = "workers") -> Target {
  Target(
    name: name, plugin: "pool", handler: "authz",
    transport: .nats(
      NATSSpec(
        servers: ["nats://127.0.0.1:4222"], group: group, auth: NATSAuth(user: "u", nkey: "k"),
        tls: NATSTLS(enabled: true, caFile: "ca.pem", certFile: "c.pem", keyFile: "k.pem"),
        workers: WorkersSpec(count: 2, command: ["nylon-worker"], environment: ["GO_Max-Procs": "2"]))),
    loads: [.closed(concurrency: 1), .open(ratePerSecond: 1000, arrivals: .poisson)],
    verify: Verification(
      status: 200, responseHeaders: [KeyValue(key: "x", value: "y")], bodyUnchanged: true, body: "text"))
}

/// A target in the process.
func ffiTarget(_ name: String, file: String = "ExamplePlugin") -> Target {
  Target(
    name: name, plugin: "in-process", handler: "authz",
    transport: .ffi(FFISpec(file: file, configJSON: "{}")),
    loads: [.open(ratePerSecond: 1000, arrivals: .poisson)])
}

/// A run of those measurements.
func document(
  _ measurements: [Measurement], targets: [Target] = [ffiTarget("ffi"), natsTarget("nats")],
  expectations: [Expectation] = []
) -> RunDocument {
  var machine = MachineFacts()
  machine.cpuModel = "Some CPU <8>"
  machine.cgroupCores = 1.5
  machine.memoryBytes = 8_589_934_592
  machine.optimisedBuild = true
  machine.versions = ["nats-server": "2.11.0", "libJemalloc_x": "5.3"]
  let plan = Plan(
    name: "compare", summary: "FFI and NATS.", file: "Scenarios/compare.yaml", targets: targets,
    request: RequestSpec(params: [KeyValue(key: "id", value: "7")], clientIP: "192.0.2.1"),
    loads: [.open(ratePerSecond: 1000, arrivals: .uniform)], seed: 42, expectations: expectations)
  var document = RunDocument(
    runID: "20261122T050420Z-compare", toolVersion: "1.0.0", commandLine: ["nylon-bench", "compare"],
    scenario: plan, scenarioSHA256: String(repeating: "ab", count: 32),
    plugins: [PluginFile(name: "in-process", file: "libExamplePlugin.so", sha256: "00ff")],
    machine: machine, started: UTCSecond(epochSeconds: 1_795_323_860))
  document.ended = UTCSecond(epochSeconds: 1_795_323_900)
  document.measurements = measurements
  document.warnings = ["a | b"]
  document.judge()
  return document
}

/// One of a run's CSV files; empty when the run has no such file.
func csv(_ name: String, _ document: RunDocument) -> String {
  CSV.files(document).first { $0.title == name }.map(CSV.render) ?? ""
}

/// A documented figure about a target.
func claim(
  _ id: String = "claim", line: Int = 38, _ words: String = "", low: Double?, high: Double?,
  unit: ClaimSpec.Unit = .milliseconds, metric: String = "response_p50_us", better: ClaimSpec.Better = .lower,
  of target: ClaimSpec.Role = .nats, against: ClaimSpec.Role? = nil, relation: ClaimSpec.Relation? = nil,
  rate: Double? = nil
) -> ClaimSpec {
  ClaimSpec(
    id: id, document: "guide.md", line: line, words: words, low: low, high: high, unit: unit, metric: metric,
    better: better, target: target, against: against, relation: relation, documentedRatePerSecond: rate)
}

/// The fields of a CSV text without quotes in it, a dictionary for each row.
func records(_ csv: String) -> [[String: String]] {
  let lines = csv.components(separatedBy: "\r\n").dropLast().map { $0.components(separatedBy: ",") }
  return lines.dropFirst().map { Dictionary(uniqueKeysWithValues: zip(lines[0], $0)) }
}
