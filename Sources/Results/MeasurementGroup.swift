import Engine

extension ScopeMeasurement {
  /// Its three histograms by name.
  package static let times: [(name: String, of: @Sendable (ScopeMeasurement) -> LatencyHistogram)] = [
    ("response", \.response), ("service", \.service), ("send_lag", \.sendLag),
  ]
}

/// All replicates of one target under one load.
package struct MeasurementGroup {
  package var target: String
  package var load: String
  /// In the order in which they were measured; not empty.
  package var measurements: [Measurement]

  init(_ target: String, _ load: String, of all: [Measurement]) {
    (self.target, self.load) = (target, load)
    measurements = all.filter { $0.target == target && $0.load == load }
  }

  /// The groups of a run, in the order of their first replicates.
  package static func all(_ document: RunDocument) -> [MeasurementGroup] {
    document.measurements.map { [$0.target, $0.load] }.uniqued().map {
      MeasurementGroup($0[0], $0[1], of: document.measurements)
    }
  }

  /// Names of the scopes, `request` first.
  package var scopeNames: [String] { measurements.flatMap { $0.scopes.map(\.scope) }.uniqued() }

  /// Names of the phases, in order.
  package var phaseNames: [String] { scopeNames.filter { $0 != "request" } }

  /// The valid replicates where they are the most, else all.
  package var used: [Measurement] {
    let valid = measurements.filter(\.isValid)
    return valid.count * 2 > measurements.count ? valid : measurements
  }

  /// The histograms of all valid replicates as one, or of all replicates where none is valid.
  package func merged(_ scope: String, _ time: (ScopeMeasurement) -> LatencyHistogram) -> LatencyHistogram {
    let valid = measurements.filter(\.isValid)
    let scopes = (valid.isEmpty ? measurements : valid).flatMap(\.scopes)
    return .merged(scopes.filter { $0.scope == scope }.map(time))
  }

  /// The median over the used replicates that have this figure; nil when none has.
  package func median(_ column: String, scope: String = "request") -> Double? {
    Statistics.median(figures(column, scope: scope))
  }

  /// This column's figures of the used replicates.
  package func figures(_ column: String, scope: String = "request") -> [Double] {
    used.compactMap { $0.figure(column, scope: scope) }
  }

  /// Requests of all replicates that did not end well.
  package func failures(scope: String = "request") -> UInt64 {
    measurements.flatMap(\.scopes).filter { $0.scope == scope }.reduce(0) {
      $0 + $1.counts.ended - $1.counts.ok
    }
  }

  package var isValid: Bool { measurements.allSatisfy(\.isValid) }

  /// `yes`, or how many are invalid and why.
  package var validity: String {
    let invalid = measurements.filter { !$0.isValid }
    guard !invalid.isEmpty else { return "yes" }
    let codes = invalid.flatMap { $0.invalidReasons.map(\.code.rawValue) }.uniqued().joined(separator: ", ")
    return invalid.count == measurements.count
      ? "NO: \(codes)" : "\(invalid.count) of \(measurements.count) not: \(codes)"
  }
}
