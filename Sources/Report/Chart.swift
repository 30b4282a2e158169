// One chart type for all figures of a report, drawn as inline SVG that needs no script.
import Foundation
import Results

/// Series of points between two axes, or in rows along one axis.
///
/// Every mark carries its values as `data-x` and `data-y` and states them in its `<title>`. A value that was
/// not measured has no point, so it is never drawn as 0.
struct Chart {
  enum Scale {
    case linear, logarithmic
    /// HdrHistogram's scale: each tenth of the remaining samples takes the same width.
    case percentile

    func position(_ value: Double) -> Double {
      switch self {
      case .linear: value
      case .logarithmic: log10(value)
      case .percentile: -log10(1 - value / 100)
      }
    }
  }

  struct Axis {
    /// The title, with its unit.
    var title: String
    var scale: Scale
    var low: Double
    var high: Double
    var ticks: [Double]
    var label: (Double) -> String?

    /// The position of a value, from 0 at the low end to 1; nil outside of the axis.
    func share(_ value: Double) -> Double? {
      let (start, end) = (scale.position(low), scale.position(high))
      let share = (scale.position(value) - start) / (end - start)
      return (-0.001...1.001).contains(share) ? share : nil
    }
  }

  struct Point {
    var x: Double
    /// Nil interrupts the line.
    var y: Double?
    /// The ends of a whisker or bar: along `x` in rows, else along `y`.
    var ends: (low: Double, high: Double)?
    /// Text beside the mark, shown if there is room.
    var label: String?
    /// The tooltip of the point.
    var title: String
    var isMarked = true
    var isHollow = false
  }

  struct Series {
    enum Form { case line, dots, bars }

    var name: String
    /// Colour and shape, from 0; the same for the same subject in all charts of a report.
    var style: Int
    var form = Form.line
    var isDashed = false
    var points: [Point]

    /// The style of documented values.
    static let documented = -1

    var classes: String {
      (style < 0 ? "doc" : "s\(style % 6)") + (isDashed || style >= 6 ? " dashed" : "")
    }
    /// Series that share a colour differ in shape.
    var shape: String {
      style < 0 ? Self.star : Self.shapes[(style + style / Self.shapes.count) % Self.shapes.count]
    }

    /// SVG outlines around the current point of a path.
    private static let shapes = [
      "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z", "m-4-4h8v8h-8z", "m0-5.5l5.3 9.2h-10.6z",
      "m0-6l6 6l-6 6l-6-6z", "m0 5.5l5.3-9.2h-10.6z",
      "m-1.7-5.2h3.4v3.5h3.5v3.4h-3.5v3.5h-3.4v-3.5h-3.5v-3.4h3.5z",
    ]
    private static let star =
      "m0-7.5l1.9 5l5.2.3l-4.1 3.2l1.4 5.1l-4.4-2.9l-4.4 2.9l1.4-5.1l-4.1-3.2l5.2-.3z"
  }

  /// The measure on an axis; the values determine its extent.
  struct Measure: Sendable {
    /// The title, with its unit.
    var title: String
    /// Nil: logarithmic when the values span a wide range.
    var scale: Scale?
    var label: @Sendable (Double) -> String?
  }

  let title: String
  let x: Axis
  /// Nil for a chart of rows.
  let y: Axis?
  /// The row heads; a point's `y` is the number of its row.
  let rows: [(name: String, note: String)]
  let series: [Series]
  /// A value of `x` that is marked with a line.
  let reference: Double?
  /// Events along `x`, each with a line and a text.
  let marks: [(x: Double, words: String)]

  /// Creates a chart whose axes contain all points; nil when there is nothing to draw.
  init?(
    _ title: String, _ series: [Series], x: Measure, y: Measure?,
    rows: [(name: String, note: String)] = [], reference: Double? = nil,
    marks: [(x: Double, words: String)] = []
  ) {
    let points = series.flatMap(\.points).filter { $0.y != nil }
    let ends = points.compactMap(\.ends).flatMap { [$0.low, $0.high] }
    let across = points.map(\.x) + (y == nil ? ends + [reference].compactMap { $0 } : [])
    let up = y.flatMap { Axis(holding: points.compactMap(\.y) + ends, $0) }
    guard let x = Axis(holding: across, x), !points.isEmpty, (y == nil) == (up == nil) else { return nil }
    (self.title, self.series, self.rows, self.reference) = (title, series, rows, reference)
    self.marks = marks
    (self.x, self.y) = (x, up)
  }

  /// A text alternative for readers who cannot see the chart.
  private var summary: String {
    guard let y else { return rows.map { "\($0.name): \($0.note)" }.joined(separator: "; ") }
    return series.compactMap { one in
      let values = one.points.compactMap(\.y)
      guard let least = values.min().flatMap(y.label), let most = values.max().flatMap(y.label) else {
        return nil
      }
      return "\(one.name): \(y.title) from \(least) to \(most)"
    }.joined(separator: "; ")
  }
}

extension Chart.Axis {
  /// Creates an axis for all drawable values, a linear one starting at 0; nil without a value above 0.
  init?(holding values: [Double], _ measure: Chart.Measure) {
    let drawable = values.filter { $0 == 0 || (1e-9...1e15).contains($0) }
    let positive = drawable.filter { $0 > 0 }
    guard let least = positive.min(), let most = positive.max() else { return nil }
    (title, label) = (measure.title, measure.label)
    scale = measure.scale ?? (!drawable.contains(0) && most > 20 * least ? .logarithmic : .linear)
    switch scale {
    case .linear:
      let magnitude = pow(10, log10(most / 4).rounded(.down))
      let step = [1, 2, 2.5, 5, 10].map { $0 * magnitude }.first { $0 >= most / 4 } ?? most
      (low, high) = (0, step * (most / step).rounded(.up))
      ticks = (0...Int((most / step).rounded(.up))).map { step * Double($0) }
    case .logarithmic:
      let steps = (-9...15).flatMap { power in [1.0, 2, 5].map { $0 * pow(10, Double(power)) } }
      // Marks must not lie on the edge.
      let start = steps.last { $0 * 1.2 <= least } ?? least
      let end = steps.first { $0 >= most * 1.2 } ?? most * 2
      (low, high) = (start, end)
      let choices = [1, 3, 6, 12].map { every in
        steps.indices.filter { $0 % every == 0 }.map { steps[$0] }.filter { (start...end).contains($0) }
      }
      ticks = choices.first { $0.count <= 7 } ?? []
    case .percentile:
      let named = [0, 50, 90, 99, 99.9, 99.99, 99.999]
      let end = named.dropFirst(2).first { $0 >= most } ?? 99.999
      (low, high, ticks) = (0, end, named.filter { $0 <= end })
    }
  }
}

// MARK: SVG

extension Chart {
  private static let width = 640.0
  private static let rowHeight = 46.0
  private static let (right, bottom) = (34.0, 58.0)
  private var left: Double { rows.isEmpty ? 78 : 24 }
  private var top: Double { rows.isEmpty ? 34 : 4 }
  private var height: Double { rows.isEmpty ? 370 : top + Self.rowHeight * Double(rows.count) + Self.bottom }

  func svg() -> String {
    var drawing = Drawing()
    let floor = height - Self.bottom
    for tick in x.ticks {
      guard let place = across(tick) else { continue }
      drawing.line("grid", (place, place), (top, floor))
      drawing.text(x.label(tick) ?? "", place, floor + 20, anchor: "middle")
    }
    drawing.text(
      x.title, (left + Self.width - Self.right) / 2, floor + 46, anchor: "middle", "axis")
    if let place = reference.flatMap(across) { drawing.line("reference", (place, place), (top, floor)) }
    for (number, mark) in marks.enumerated() {
      guard let place = across(mark.x) else { continue }
      drawing.open("g", "class=\"event\" data-x=\"\(Number.significant(mark.x, 9) ?? "")\"")
      drawing.title(mark.words)
      drawing.line("reference", (place, place), (top, floor))
      // Staggers the texts, since the marks may be close to each other.
      drawing.text(mark.words, place + 4, top + 12 + 14 * Double(number % 4), "wide")
      drawing.close("g")
    }
    for tick in y?.ticks ?? [] {
      guard let place = down(tick) else { continue }
      drawing.line("grid", (left, Self.width - Self.right), (place, place))
      drawing.text(y?.label(tick) ?? "", left - 8, place + 4, anchor: "end")
    }
    if let y { drawing.text(y.title, 0, 16, "axis") }
    for (number, row) in rows.enumerated() {
      let place = top + Self.rowHeight * Double(number) + 18
      drawing.text(row.name, left, place, "row")
      drawing.text(row.note, Self.width - Self.right, place, anchor: "end", "wide")
    }
    for one in series { draw(one, &drawing) }
    label(&drawing)
    let words = "<title>\(HTMLReport.escaped(title))</title>\n<desc>\(HTMLReport.escaped(summary))</desc>\n"
    return "<svg class=\"plot\" role=\"img\" viewBox=\"0 0 \(Int(Self.width)) \(Int(height))\">\n"
      + words + drawing.svg + "</svg>\n"
  }

  private func across(_ value: Double) -> Double? {
    x.share(value).map { left + $0 * (Self.width - left - Self.right) }
  }

  private func down(_ value: Double) -> Double? {
    guard let y else { return top + Self.rowHeight * (value + 0.7) }
    return y.share(value).map { top + (1 - $0) * (height - top - Self.bottom) }
  }

  private func place(_ point: Point) -> (x: Double, y: Double)? {
    across(point.x).flatMap { x in point.y.flatMap(down).map { (x, $0) } }
  }

  private func draw(_ one: Series, _ drawing: inout Drawing) {
    drawing.open("g", "class=\"\(one.classes)\" data-series=\"\(HTMLReport.escaped(one.name))\"")
    if one.form == .line {
      var path = ""
      var isInterrupted = true
      for point in one.points {
        let place = place(point)
        if let place { path += (isInterrupted ? "M" : "L") + Drawing.text(place.x, place.y) }
        isInterrupted = place == nil
      }
      if !path.isEmpty { drawing.tag("path", "class=\"line\" d=\"\(path)\"") }
    }
    for point in one.points where point.isMarked {
      guard let y = point.y, let place = place(point) else { continue }
      let values: [(String, Double?)] = [
        ("x", point.x), ("y", y), ("low", point.ends?.low), ("high", point.ends?.high),
      ]
      let data = values.compactMap { name, value in
        Number.significant(value, 9).map { " data-\(name)=\"\($0)\"" }
      }.joined()
      if one.form == .bars {
        guard let ends = point.ends, let start = across(ends.low), let end = across(ends.high) else {
          continue
        }
        drawing.open("g", "class=\"bar\"\(data)")
        drawing.title(point.title)
        let size = "width=\"\(Drawing.text(max(end - start, 1)))\" height=\"18\""
        drawing.tag("rect", "x=\"\(Drawing.text(start))\" y=\"\(Drawing.text(place.y - 9))\" \(size)")
        if let label = point.label, end - start > 26 {
          drawing.text(label, (start + end) / 2, place.y + 5, anchor: "middle", "inside")
        }
        drawing.close("g")
        continue
      }
      if let ends = point.ends {
        if rows.isEmpty {
          let clamped = [ends.low, ends.high].compactMap(down)
          if clamped.count == 2 { drawing.line("whisker", (place.x, place.x), (clamped[0], clamped[1])) }
        } else if let start = across(ends.low), let end = across(ends.high) {
          drawing.line("whisker", (start, end), (place.y, place.y))
        }
      }
      drawing.open(
        "path",
        "class=\"\(point.isHollow ? "mark hollow" : "mark")\" d=\"M\(Drawing.text(place.x, place.y))\(one.shape)\""
          + data)
      drawing.title(point.title)
      drawing.close("path")
    }
    drawing.close("g")
  }

  /// Places the labels of points so that none covers a mark or another label; omits labels that do not fit.
  private func label(_ drawing: inout Drawing) {
    // Documented values come first.
    let marks = series.filter { $0.form != .bars }.sorted { $0.style < $1.style }.flatMap { one in
      one.points.filter(\.isMarked).compactMap { point in
        place(point).map { (label: point.label, x: $0.x, y: $0.y) }
      }
    }
    var taken = marks.map { CGRect(x: $0.x - 5, y: $0.y - 5, width: 10, height: 10) }
    let room = CGRect(
      x: left, y: top, width: Self.width - left, height: height - top - Self.bottom)
    for mark in marks {
      guard let label = mark.label else { continue }
      let width = Double(label.count) * 6.9
      let places = [
        (mark.x + 8, mark.y - 6), (mark.x - 8 - width, mark.y - 6), (mark.x - width / 2, mark.y - 21),
        (mark.x - width / 2, mark.y + 9), (mark.x + 6, mark.y - 18), (mark.x + 6, mark.y + 7),
      ]
      let boxes = places.map { CGRect(x: $0.0, y: $0.1, width: width, height: 12) }
      guard let box = boxes.first(where: { room.contains($0) && !taken.contains(where: $0.intersects) })
      else {
        continue
      }
      taken.append(box)
      drawing.text(label, box.minX, box.minY + 10, "wide")
    }
  }
}

extension Chart.Series {
  /// A description of the series' appearance, for a legend in words.
  var key: String {
    let mark =
      form == .bars
      ? "<rect x=\"4\" y=\"1\" width=\"20\" height=\"14\"/>"
      : "<path class=\"mark\(points.allSatisfy(\.isHollow) ? " hollow" : "")\" d=\"M14 8\(shape)\"/>"
    let line = form == .line ? "<path class=\"line\" d=\"M0 8L28 8\"/>" : ""
    return "<svg class=\"key \(classes)\" aria-hidden=\"true\" viewBox=\"0 0 28 16\">\(line)\(mark)</svg>"
  }
}

/// A builder for the text of an SVG.
private struct Drawing {
  var svg = ""

  mutating func open(_ name: String, _ attributes: String) { svg += "<\(name) \(attributes)>" }
  mutating func close(_ name: String) { svg += "</\(name)>\n" }
  mutating func tag(_ name: String, _ attributes: String) { svg += "<\(name) \(attributes)/>\n" }
  mutating func title(_ words: String) { svg += "<title>\(HTMLReport.escaped(words))</title>" }

  mutating func line(_ kind: String, _ x: (Double, Double), _ y: (Double, Double)) {
    let places =
      "x1=\"\(Self.text(x.0))\" x2=\"\(Self.text(x.1))\" y1=\"\(Self.text(y.0))\" y2=\"\(Self.text(y.1))\""
    tag("line", "class=\"\(kind)\" \(places)")
  }

  mutating func text(
    _ words: String, _ x: Double, _ y: Double, anchor: String = "start", _ kind: String = "tick"
  ) {
    guard !words.isEmpty else { return }
    let place = "x=\"\(Self.text(x))\" y=\"\(Self.text(y))\" text-anchor=\"\(anchor)\""
    svg += "<text class=\"\(kind)\" \(place)>\(HTMLReport.escaped(words))</text>\n"
  }

  static func text(_ numbers: Double...) -> String {
    numbers.map { Number.text($0, digits: 1) ?? "0" }.joined(separator: " ")
  }
}
