import Foundation
import Nylon

/// A mapping of a file while it is read. A method that reads a key returns nil if the key is absent, and also
/// if its value is wrong; in that case it has reported the problem.
struct Block {
  let value: YAMLValue
  /// The path as `--set` writes it; empty at the top level.
  let path: String
  let problems: ProblemCollector
  /// The folder against which relative paths are resolved.
  let folder: String
  /// Whether unknown keys are only warnings, as in Nylon's own file, which may be newer.
  let isLenient: Bool

  /// Creates a block with the keys in `rows` and reports all other keys. Returns nil and reports a problem if
  /// the value is not a mapping.
  init?(
    _ value: YAMLValue, path: String, rows: [Row], in problems: ProblemCollector, folder: String = "",
    isLenient: Bool = false
  ) {
    self.value = value
    self.path = path
    self.problems = problems
    self.folder = folder
    self.isLenient = isLenient
    let names = rows.filter { $0.removed == nil }.map(\.name)
    guard let entries = value.entries else {
      problems.add(
        at: value.place, key: path, value: Self.printable(value, path: path),
        "is \(value.kind), not a mapping",
        remedy: "write keys such as \(names.prefix(4).joined(separator: ", "))")
      return nil
    }
    let unknown = entries.filter { !names.contains($0.key) }
    let severity: ScenarioProblem.Severity = isLenient ? .warning : .error
    for entry in unknown.prefix(Self.mostUnknown) {
      if let fate = rows.first(where: { $0.name == entry.key })?.removed {
        problems.add(
          at: entry.place, key: childPath(entry.key), "was removed: \(fate)", remedy: "delete the line")
        continue
      }
      let suggestion =
        rows.first { $0.synonyms.contains(Suggestion.normal(entry.key)) }?.name
        ?? Suggestion.nearest(to: entry.key, among: names)
      problems.add(
        severity, at: entry.place, key: childPath(entry.key),
        "is not a key of this block", suggestion: suggestion,
        remedy: Self.remedy(for: entry.key, suggestion: suggestion, allowed: names))
    }
    if let next = unknown.dropFirst(Self.mostUnknown).first {
      problems.add(
        severity, at: next.place, key: path,
        "has \(unknown.count - Self.mostUnknown) more unknown keys, starting here",
        remedy: "Allowed: \(names.joined(separator: ", "))")
    }
  }

  /// The maximum number of unknown keys to report one by one. A file with more is of another kind, and each
  /// report takes a search for the intended name.
  private static let mostUnknown = 20

  /// Returns the unit of the suggested key, or the block that the key belongs to, or all allowed keys.
  private static func remedy(for key: String, suggestion: String?, allowed: [String]) -> String {
    if let unit = suggestion.flatMap(KeyUnit.of) { return "It is in \(unit.name)" }
    let home = Schema.tables.first { $0.rows.contains { $0.name == key && $0.removed == nil } }
    if suggestion == nil, let home { return "it is a key of \(home.home)" }
    return "Allowed: \(allowed.joined(separator: ", "))"
  }

  func childPath(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  /// Returns the value of a key; nil if it is absent or empty.
  func get(_ key: String) -> YAMLValue? { value[key] }

  /// Resolves a relative path against the folder of the file that names it; returns an absolute path
  /// unchanged.
  func resolve(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    return URL(fileURLWithPath: folder).appendingPathComponent(path).standardized.path
  }

  /// Returns a key's value with its place; if the key is absent, an empty value at the block's place.
  private func item(_ key: String) -> Item {
    Item(value: get(key) ?? .empty(at: value.place), path: childPath(key), problems: problems)
  }

  func fail(_ key: String, _ message: String, suggestion: String? = nil, remedy: String? = nil) {
    item(key).fail(message, suggestion: suggestion, remedy: remedy)
  }

  /// Reports an error of a key's value and returns nil.
  func refuse<Value>(
    _ key: String, _ message: String, suggestion: String? = nil, remedy: String? = nil
  ) -> Value? {
    item(key).refuse(message, suggestion: suggestion, remedy: remedy)
  }

  /// Reports a name that is not defined in another block.
  func checkReference(_ key: String, to what: String, among names: [String]) {
    guard let name = get(key)?.text, !names.contains(name) else { return }
    fail(
      key, "is not an entry of \(what)", suggestion: Suggestion.nearest(to: name, among: names),
      remedy: names.isEmpty ? "There are none" : "Known: \(names.joined(separator: ", "))")
  }

  /// Reports a missing key of two that must be given together.
  func checkPair(_ first: String, _ second: String, _ why: String) {
    if (get(first) == nil) != (get(second) == nil) {
      fail(get(first) == nil ? first : second, "is missing", remedy: "\(why) must be given together")
    }
  }

  func warn(_ key: String, _ message: String) {
    problems.add(.warning, at: get(key)?.place ?? value.place, key: childPath(key), message)
  }

  /// Returns the text of a scalar for a message; nil for lists, mappings and possible secrets.
  static func printable(_ value: YAMLValue, path: String) -> String? {
    guard let text = value.text, !Redaction.mentionsSecret(path: path) else { return nil }
    let shown = Redaction.redactedURL(text).replacingOccurrences(of: "\n", with: " ")
    return shown.count > 80 ? String(shown.prefix(77)) + "..." : shown
  }

  // MARK: Reading

  /// Reads the text of a key. A list, a mapping, NUL and line breaks are errors.
  func text(_ key: String) -> String? {
    guard let child = get(key) else { return nil }
    guard let text = child.text else { return refuse(key, "is \(child.kind), not text") }
    let isClean = text.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 127 }
    return isClean ? text : refuse(key, "contains a control character")
  }

  /// Reads the text of a key that must be present and not empty.
  func required(_ key: String, _ remedy: String) -> String? {
    Kind.text.required(remedy).read(self, key)
  }

  func flag(_ key: String) -> Bool? {
    guard let child = get(key) else { return nil }
    return child.text.flatMap { Bool($0.lowercased()) } ?? refuse(key, "must be true or false")
  }

  func choice<Choice: RawRepresentable & CaseIterable>(
    _ key: String, of type: Choice.Type
  ) -> Choice? where Choice.RawValue == String {
    guard let text = text(key) else { return nil }
    let names = Choice.allCases.map(\.rawValue)
    return Choice(rawValue: text)
      ?? refuse(
        key, "must be \(names.joined(separator: " or "))",
        suggestion: Suggestion.nearest(to: text, among: names))
  }

  /// Reads the items of a list; any other value is an error.
  func items(_ key: String, of what: String) -> [Item]? {
    guard let child = get(key) else { return nil }
    guard let items = child.items else {
      return refuse(
        key, "is \(child.kind), not a list", remedy: "write a list of \(what), each after '- '")
    }
    return items.enumerated().map { index, item in
      Item(value: item, path: childPath("\(key).\(index)"), problems: problems)
    }
  }

  func blocks(_ key: String, of what: String, rows: [Row]) -> [Block]? {
    items(key, of: what)?.compactMap { item in
      Block(item.value, path: item.path, rows: rows, in: problems, folder: folder, isLenient: isLenient)
    }
  }

  func block(_ key: String, rows: [Row]) -> Block? {
    guard let child = get(key) else { return nil }
    return Block(
      child, path: childPath(key), rows: rows, in: problems, folder: folder, isLenient: isLenient)
  }

  /// Reads the names and texts of a free mapping, in order; an empty value is empty text. With `repeats`, a
  /// list of values repeats the name. `fault` returns the problem of a name or its text, which is nil for a
  /// list or a mapping.
  func pairs(
    _ key: String, repeats: Bool = false, fault: (_ name: String, _ text: String?) -> String?
  ) -> [KeyValue]? {
    guard let child = get(key) else { return nil }
    guard let entries = child.entries else {
      return refuse(key, "is \(child.kind), not a mapping", remedy: "write 'name: value' under it")
    }
    let values = entries.flatMap { entry in
      (repeats ? entry.value.items ?? [entry.value] : [entry.value]).map { (entry.key, $0) }
    }
    return values.compactMap { name, value in
      let text = value.isNull ? "" : value.text
      let fault = fault(name, text) ?? (text == nil ? "is \(value.kind), not text" : nil)
      if let text, fault == nil { return KeyValue(key: name, value: text) }
      problems.add(at: value.place, key: "\(childPath(key)).\(name)", fault ?? "")
      return nil
    }
  }

  func number(_ key: String, in range: ClosedRange<Double>) -> Double? {
    guard let child = get(key) else { return nil }
    let unit = KeyUnit.of(key)
    let allowed = "a number from \(Self.short(range.lowerBound)) to \(Self.short(range.upperBound))"
    let wanted = "must be \(allowed)" + (unit.map { " (\($0.name))" } ?? "")
    guard case .scalar(let text, let plain) = child.content else {
      return refuse(key, "is \(child.kind); \(wanted)")
    }
    guard plain else {
      return refuse(key, "is quoted, so it is text; \(wanted)", remedy: "remove the quotes")
    }
    if let number = Self.parse(text), range.contains(number) { return number }
    return refuse(key, wanted, remedy: Self.unitRemedy(text, key: key, unit: unit))
  }

  func whole(_ key: String, in range: ClosedRange<Int>) -> Int? {
    guard let number = number(key, in: Double(range.lowerBound)...Double(range.upperBound)) else {
      return nil
    }
    return Int(exactly: number)
      ?? refuse(key, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
  }

  /// Parses a decimal number as YAML writes it; infinity and hexadecimal are not accepted.
  static func parse(_ text: String) -> Double? {
    let digits = text.replacingOccurrences(of: "_", with: "")
    guard let first = digits.first, "+-.0123456789".contains(first),
      digits.allSatisfy({ "+-.eE0123456789".contains($0) }), let number = Double(digits), number.isFinite
    else { return nil }
    return number
  }

  /// Formats a number without a trailing `.0`.
  static func short(_ number: Double) -> String {
    number == number.rounded() && abs(number) < 1e15 ? String(Int(number)) : String(number)
  }

  /// For text such as `5s` or `44K`: explains that the key's name has the unit, and suggests a value.
  private static func unitRemedy(_ text: String, key: String, unit: KeyUnit?) -> String? {
    let digits = text.prefix(while: { $0.isNumber || "+-._".contains($0) })
    let suffix = text.dropFirst(digits.count).trimmingCharacters(in: .whitespaces).lowercased()
    guard parse(text) == nil, !suffix.isEmpty, let number = parse(String(digits)) else { return nil }
    guard let unit else {
      return ["k": 1000.0, "m": 1e6][suffix].map { "write \(short(number * $0))" }
    }
    let note = "the unit is in the key's name, \(unit.name)"
    guard let factor = unit.suffixes[suffix] else { return "\(note); write only a number" }
    return "\(note): write \(key): \(short((number * factor * 1e9).rounded() / 1e9))"
  }
}

/// An item of a list while it is read.
struct Item {
  let value: YAMLValue
  let path: String
  let problems: ProblemCollector

  func fail(_ message: String, suggestion: String? = nil, remedy: String? = nil) {
    problems.add(
      at: value.place, key: path, value: Block.printable(value, path: path), message, suggestion: suggestion,
      remedy: remedy)
  }

  /// Reports an error of the item and returns nil.
  func refuse<Value>(_ message: String, suggestion: String? = nil, remedy: String? = nil) -> Value? {
    fail(message, suggestion: suggestion, remedy: remedy)
    return nil
  }
}

/// A unit at the end of a key's name.
struct KeyUnit {
  let ending: String
  /// The unit in words, such as `seconds`.
  let name: String
  /// The factors that convert numbers with a suffix to the unit.
  let suffixes: [String: Double]

  private static let seconds: [String: Double] = [
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "second": 1, "seconds": 1, "m": 60,
    "min": 60, "minutes": 60, "h": 3600,
  ]
  private static let rates: [String: Double] = [
    "k": 1000, "m": 1e6, "/s": 1, "rps": 1, "req/s": 1, "k/s": 1000, "krps": 1000, "k req/s": 1000,
  ]
  private static let bandwidths: [String: Double] = [
    "m": 1, "mbit": 1, "mbit/s": 1, "mbps": 1, "g": 1000, "gbit": 1000, "gbit/s": 1000, "gbps": 1000,
    "k": 1e-3, "kbit": 1e-3, "kbit/s": 1e-3,
  ]
  private static let units = [
    KeyUnit(ending: "_mbit_per_second", name: "megabits a second", suffixes: bandwidths),
    KeyUnit(ending: "_per_second", name: "requests a second", suffixes: rates),
    KeyUnit(ending: "_seconds", name: "seconds", suffixes: seconds),
    KeyUnit(ending: "_ms", name: "milliseconds", suffixes: seconds.mapValues { $0 * 1000 }),
    KeyUnit(
      ending: "_bytes", name: "bytes",
      suffixes: ["b": 1, "k": 1000, "kb": 1000, "kib": 1024, "m": 1e6, "mb": 1e6, "mib": 1_048_576]),
  ]

  /// Returns the unit of a key such as `measure_seconds` or `backoff_ms_max`; nil if its name has none.
  static func of(_ key: String) -> KeyUnit? {
    units.first { (key + "_").contains($0.ending + "_") }
  }
}
