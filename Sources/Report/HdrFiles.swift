// HdrHistogram's own two text formats, so that its tools can read and plot what was measured.
import Foundation
import Engine
import Lab
import Results

extension ExportFormat {
  static let hlog = ExportFormat("hlog", isInRunFolder: true) {
    [RenderedFile(name: "histograms.hlog", contents: HistogramFiles.log($0))]
  }

  /// Percentile distributions, a file for each target, load, phase and metric.
  static let hgrm = ExportFormat("hgrm") { document in
    MeasurementGroup.all(document).flatMap { group in
      group.scopeNames.flatMap { scope in
        HistogramKind.allCases.compactMap { kind -> RenderedFile? in
          let histogram = group.merged(scope: scope, kind: kind)
          guard !histogram.isEmpty else { return nil }
          let name = [group.target, group.load, scope, kind.rawValue].map(HistogramFiles.oneWord)
          return RenderedFile(
            name: name.joined(separator: ".") + ".hgrm",
            contents: HistogramFiles.percentileDistribution(histogram))
        }
      }
    }
  }
}

/// Writers of HdrHistogram's formats.
enum HistogramFiles {
  /// An HdrHistogram log, V2 (format version 1.3): a line per target, load, phase, metric and
  /// replicate, with these as its tag. Values are nanoseconds; the column of greatest values is in ms.
  ///
  /// Measurements are laid out one after the other from the run's start, since what is between them
  /// was not measured.
  static func log(_ document: RunDocument) -> String {
    let start = Double(document.started.epochSeconds)
    var lines = [
      "#[Logged by nylon-bench \(oneLine(document.toolVersion)), run \(oneLine(document.runID))]",
      "#[Histogram log format version 1.3]",
      "#[StartTime: \(seconds(start)) (seconds since epoch), \(document.started)]",
      "#[Tags: target.load.phase.metric.replicate; values are nanoseconds; intervals lie end to end]",
      "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"",
    ]
    var offset = 0.0
    for one in document.measurements {
      for scope in one.scopes {
        for kind in HistogramKind.allCases where !kind.of(scope).isEmpty {
          let histogram = kind.of(scope)
          let tag = [one.target, one.load, scope.scope, kind.rawValue, "r\(one.replicate)"].map(oneWord)
          lines.append(
            "Tag=\(tag.joined(separator: ".")),\(seconds(offset)),\(seconds(one.durationSeconds)),"
              + "\(seconds(Double(histogram.greatestNanoseconds) / 1e6)),\(histogram.hdrBase64())")
        }
      }
      offset += one.durationSeconds
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// HdrHistogram's percentile distribution of a histogram, in microseconds, with 5 steps per
  /// halving of the distance to 100 % (`outputPercentileDistribution` of the Java library).
  static func percentileDistribution(_ histogram: LatencyHistogram) -> String {
    var lines = ["       Value     Percentile TotalCount 1/(1-Percentile)", ""]
    var seen: UInt64 = 0
    var level = 0.0
    for (index, here) in histogram.counters.enumerated() where here > 0 {
      seen += here
      let reached = 100 * Double(seen) / Double(histogram.count)
      while reached >= level, level < 100 {
        lines.append(
          line(HistogramGeometry.highestValue(at: index), level / 100, seen)
            + String(format: " %14.2f", 1 / (1 - level / 100)))
        let halvings = Int(log2(100 / (100 - level))) + 1
        level += 100 / (5 * pow(2, Double(halvings)))
        if seen == histogram.count { break }
      }
      if seen == histogram.count { lines.append(line(HistogramGeometry.highestValue(at: index), 1, seen)) }
    }
    let greatest = histogram.counters.lastIndex { $0 > 0 }.map(HistogramGeometry.highestValue) ?? 0
    let (mean, deviation) = moments(histogram)
    lines += [
      String(format: "#[Mean    = %12.3f, StdDeviation   = %12.3f]", mean / 1000, deviation / 1000),
      String(
        format: "#[Max     = %12.3f, Total count    = %12ld]", Double(greatest) / 1000, Int(histogram.count)),
      "#[Buckets =           26, SubBuckets     =         2048]",
    ]
    return lines.joined(separator: "\n") + "\n"
  }

  private static func line(_ value: UInt64, _ share: Double, _ seen: UInt64) -> String {
    String(format: "%12.3f %2.12f %10ld", Double(value) / 1000, share, Int(seen))
  }

  /// Mean and standard deviation over the counters' middles, as the library takes them.
  private static func moments(_ histogram: LatencyHistogram) -> (mean: Double, deviation: Double) {
    guard !histogram.isEmpty else { return (0, 0) }
    let total = Double(histogram.count)
    func middle(_ index: Int) -> Double {
      let low = HistogramGeometry.lowestValue(at: index)
      return Double(low + (HistogramGeometry.highestValue(at: index) - low + 1) / 2)
    }
    var sum = 0.0
    for (index, here) in histogram.counters.enumerated() where here > 0 {
      sum += middle(index) * Double(here)
    }
    let mean = sum / total
    var squares = 0.0
    for (index, here) in histogram.counters.enumerated() where here > 0 {
      squares += (middle(index) - mean) * (middle(index) - mean) * Double(here)
    }
    return (mean, (squares / total).squareRoot())
  }

  private static func seconds(_ value: Double) -> String { String(format: "%.3f", value) }

  private static func oneLine(_ text: String) -> String {
    String(text.map { $0.isNewline ? " " : $0 })
  }

  /// A text without what ends a tag or a part of a file's name.
  static func oneWord(_ text: String) -> String {
    String(text.map { $0.isWhitespace || ",./\\\"".contains($0) || $0.isNewline ? "_" : $0 })
  }
}
