import Engine
import Lab

/// The three histograms of a scope.
package enum HistogramKind: String, CaseIterable {
  case response
  case service
  case sendLag = "send_lag"

  /// This one of a scope's.
  package func of(_ scope: ScopeMeasurement) -> LatencyHistogram {
    switch self {
    case .response: scope.response
    case .service: scope.service
    case .sendLag: scope.sendLag
    }
  }
}

/// All replicates of one target under one load.
package struct MeasurementGroup {
  package var target: String
  package var load: String
  /// In the order in which they were measured; not empty.
  package var measurements: [Measurement]

  /// The groups of a run, in the order of their first replicates.
  package static func all(_ document: RunDocument) -> [MeasurementGroup] {
    var groups: [MeasurementGroup] = []
    var places: [[String]: Int] = [:]
    for one in document.measurements {
      if let place = places[[one.target, one.load]] {
        groups[place].measurements.append(one)
      } else {
        places[[one.target, one.load]] = groups.count
        groups.append(MeasurementGroup(target: one.target, load: one.load, measurements: [one]))
      }
    }
    return groups
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
  package func merged(scope: String, kind: HistogramKind) -> LatencyHistogram {
    let valid = measurements.filter(\.isValid)
    let scopes = (valid.isEmpty ? measurements : valid).flatMap(\.scopes)
    return .merged(scopes.filter { $0.scope == scope }.map(kind.of))
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
