import Foundation
import Engine
import Lab
import Results

/// Charts of response time by percentile, a chart per load, as inline SVG.
enum PercentileChart {
  private static let width = 760.0
  private static let height = 320.0
  private static let left = 70.0
  private static let right = 20.0
  private static let top = 34.0
  private static let bottom = 34.0
  private static let ticks: [Double] = [0, 50, 90, 99, 99.9, 99.99]

  /// A curve: the percentile and its microseconds.
  private struct Curve {
    var name: String
    package var points: [(percentile: Double, microseconds: Double)]
  }

  /// A chart for each load of which something can be drawn.
  static func all(_ document: RunDocument) -> String {
    let groups = MeasurementGroup.all(document)
    return groups.map(\.load).uniqued().map { load in
      chart(load, groups.filter { $0.load == load }.map(curve).filter { $0.points.count > 1 })
    }.joined()
  }

  private static func curve(_ group: MeasurementGroup) -> Curve {
    let histogram = group.merged(scope: "request", kind: .response)
    // Ten steps per tenth of the samples that are left.
    let points = (0...40).compactMap { step -> (Double, Double)? in
      let percentile = 100 * (1 - pow(10, -Double(step) / 10))
      return histogram.printableMicroseconds(percentile).map { (percentile, max($0, 0.001)) }
    }
    let mark = group.measurements.allSatisfy(\.isValid) ? "" : " (invalid)"
    return Curve(name: group.target + mark, points: points)
  }

  private static func chart(_ load: String, _ curves: [Curve]) -> String {
    let times = curves.flatMap { $0.points.map(\.microseconds) }
    guard let least = times.min(), let most = times.max() else { return "" }
    let lowest = log10(least).rounded(.down)
    let highest = max(lowest + 1, log10(most).rounded(.up))
    let scale = { (time: Double) in
      top + (height - top - bottom) * (1 - (log10(time) - lowest) / (highest - lowest))
    }
    var svg = "<svg viewBox=\"0 0 \(Int(width)) \(Int(height))\" width=\"\(Int(width))\" role=\"img\" "
    svg += "aria-label=\"Response time by percentile, \(HTMLReport.escaped(load))\">\n"
    svg += label("Response time by percentile, \(load), replicates merged", x: left, y: 14)
    svg += timeGrid(lowest, highest, scale) + percentileGrid()
    for (place, curve) in curves.enumerated() {
      let points = curve.points.map { "\(text(x($0.percentile))),\(text(scale($0.microseconds)))" }
      svg += "<polyline fill=\"none\" stroke=\"var(--c\(place % 6))\" stroke-width=\"2\" "
      svg += "points=\"\(points.joined(separator: " "))\"/>\n"
      let y = top + 14 + Double(place) * 16
      svg += "<line x1=\"\(text(left + 10))\" x2=\"\(text(left + 34))\" y1=\"\(text(y - 4))\" "
      svg += "y2=\"\(text(y - 4))\" stroke=\"var(--c\(place % 6))\" stroke-width=\"2\"/>\n"
      svg += label(curve.name, x: left + 40, y: y)
    }
    return svg + "</svg>\n"
  }

  private static func timeGrid(
    _ lowest: Double, _ highest: Double, _ scale: (Double) -> Double
  ) -> String {
    stride(from: lowest, through: highest, by: 1).map { power in
      let y = scale(pow(10, power))
      return "<line class=\"grid\" x1=\"\(text(left))\" x2=\"\(text(width - right))\" y1=\"\(text(y))\" "
        + "y2=\"\(text(y))\"/>\n"
        + label(Number.time(microseconds: pow(10, power)) ?? "", x: left - 6, y: y + 4, anchor: "end")
    }.joined()
  }

  private static func percentileGrid() -> String {
    ticks.map { percentile in
      "<line class=\"grid\" x1=\"\(text(x(percentile)))\" x2=\"\(text(x(percentile)))\" y1=\"\(text(top))\" "
        + "y2=\"\(text(height - bottom))\"/>\n"
        + label(
          "\(Number.text(percentile) ?? "") %", x: x(percentile), y: height - bottom + 18, anchor: "middle")
    }.joined()
  }

  /// The place of a percentile: each tenth of what is left of the samples takes the same width.
  private static func x(_ percentile: Double) -> Double {
    left + (width - left - right) * (-log10(max(1 - percentile / 100, 1e-4)) / 4)
  }

  private static func label(_ name: String, x: Double, y: Double, anchor: String = "start") -> String {
    "<text x=\"\(text(x))\" y=\"\(text(y))\" text-anchor=\"\(anchor)\">\(HTMLReport.escaped(name))</text>\n"
  }

  private static func text(_ number: Double) -> String { Number.text(number, digits: 1) ?? "0" }
}
