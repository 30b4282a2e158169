// HdrHistogram's two text formats, so that its tools can read and plot the measurements.
import Engine
import Foundation
import Results
import Scenario

enum HistogramFiles {
  /// An HdrHistogram log, V2 (format version 1.3): one line per target, load, phase, metric and replicate,
  /// which form its tag. Values are nanoseconds; the column of maximum values is in ms. Measurements follow
  /// each other from the run's start without gaps, since the time between them was not measured.
  static func log(_ document: RunDocument) -> String {
    func seconds(_ value: Double) -> String { String(format: "%.3f", value) }
    let start = seconds(Double(document.started.epochSeconds))
    var lines = [
      "#[Logged by nylon-bench \(document.toolVersion.harmless()), run \(document.runID.harmless())]",
      "#[Histogram log format version 1.3]",
      "#[StartTime: \(start) (seconds since epoch), \(document.started)]",
      "#[Tags: target.load.phase.metric.replicate; values are nanoseconds; intervals lie end to end]",
      "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"",
    ]
    var offset = 0.0
    for one in document.measurements {
      for scope in one.scopes {
        for (metric, of) in ScopeMeasurement.times where !of(scope).isEmpty {
          let tag = [one.target, one.load, scope.scope, metric, "r\(one.replicate)"].map(oneWord)
          let greatest = Double(of(scope).greatestNanoseconds) / 1e6
          lines.append(
            "Tag=\(tag.joined(separator: ".")),\(seconds(offset)),\(seconds(one.durationSeconds)),"
              + "\(seconds(greatest)),\(of(scope).hdrBase64())")
        }
      }
      offset += one.durationSeconds
    }
    return lines.joined(separator: "\n") + "\n"
  }

  static func percentileDistributions(_ document: RunDocument) -> [RenderedFile] {
    MeasurementGroup.all(document).flatMap { group in
      group.scopeNames.flatMap { scope in
        ScopeMeasurement.times.compactMap { metric, of -> RenderedFile? in
          let histogram = group.merged(scope, of)
          guard !histogram.isEmpty else { return nil }
          let name = [group.target, group.load, scope, metric].map(oneWord).joined(separator: ".")
          return RenderedFile(name: "\(name).hgrm", contents: percentileDistribution(histogram))
        }
      }
    }
  }

  /// HdrHistogram's percentile distribution of a histogram, in microseconds, with 5 steps per halving of the
  /// distance to 100 % (`outputPercentileDistribution` of the Java library).
  static func percentileDistribution(_ histogram: LatencyHistogram) -> String {
    var lines = ["       Value     Percentile TotalCount 1/(1-Percentile)", ""]
    var seen: UInt64 = 0
    var level = 0.0
    var greatest: UInt64 = 0
    /// The midpoints of the counters, from which the library computes mean and deviation.
    var middles: [(value: Double, count: Double)] = []
    func line(_ share: Double) -> String {
      String(format: "%12.3f %2.12f %10ld", Double(greatest) / 1000, share, Int(seen))
    }
    for index in histogram.filled where histogram.counters[index] > 0 {
      let here = histogram.counters[index]
      let lowest = HistogramGeometry.lowestValue(at: index)
      greatest = HistogramGeometry.highestValue(at: index)
      middles.append((Double(lowest + (greatest - lowest + 1) / 2), Double(here)))
      seen += here
      let reached = 100 * Double(seen) / Double(histogram.count)
      while reached >= level, level < 100 {
        lines.append(line(level / 100) + String(format: " %14.2f", 1 / (1 - level / 100)))
        let halvings = Int(log2(100 / (100 - level))) + 1
        level += 100 / (5 * pow(2, Double(halvings)))
        if seen == histogram.count { break }
      }
      if seen == histogram.count { lines.append(line(1)) }
    }
    let total = Double(max(seen, 1))
    let mean = middles.reduce(0) { $0 + $1.value * $1.count } / total
    let squares = middles.reduce(0) { $0 + ($1.value - mean) * ($1.value - mean) * $1.count }
    let deviation = (squares / total).squareRoot()
    lines += [
      String(format: "#[Mean    = %12.3f, StdDeviation   = %12.3f]", mean / 1000, deviation / 1000),
      String(format: "#[Max     = %12.3f, Total count    = %12ld]", Double(greatest) / 1000, Int(seen)),
      "#[Buckets =           26, SubBuckets     =         2048]",
    ]
    return lines.joined(separator: "\n") + "\n"
  }

  /// The text without characters that end a tag or a part of a file name.
  private static func oneWord(_ text: String) -> String {
    text.unicodeScalars.map { scalar in
      let isEnd =
        scalar.properties.isWhitespace || scalar.isSteering || ",./\\\"".unicodeScalars.contains(scalar)
      return isEnd ? "_" : String(scalar)
    }.joined()
  }
}
