import Nylon

/// Reads `loads:` and `phases:`, which a scenario and each of its targets may have.
struct LoadReader {
  static let keys = ["mode", "concurrency", "rate_per_second", "arrivals"]
  static let concurrencyRange = 1...65_536
  static let rateRange = 0.1...10_000_000.0

  /// The modes of this version.
  private enum Mode: String, CaseIterable { case closed, open }

  let problems: ProblemCollector

  /// The loads of a block with their places; nil when the key is absent. Labels must be unique.
  func loads(of block: Block) -> [(load: LoadShape, path: String, item: YAMLValue)]? {
    guard block.get("loads") != nil else { return nil }
    guard let items = block.list("loads", of: "loads such as {mode: closed, concurrency: 8}") else {
      return []
    }
    if items.isEmpty { block.fail("loads", "is empty", remedy: "write at least one load") }
    var result: [(load: LoadShape, path: String, item: YAMLValue)] = []
    for (index, item) in items.enumerated() {
      let path = block.childPath("loads.\(index)")
      guard let load = load(item, path: path) else { continue }
      if result.contains(where: { $0.load.label == load.label }) {
        problems.add(
          at: item.place, key: path, value: load.label, "is in the list twice",
          remedy: "labels are unique in a list")
      } else {
        result.append((load, path, item))
      }
    }
    return result
  }

  private func load(_ item: YAMLValue, path: String) -> LoadShape? {
    guard let block = Block(item, path: path, keys: Self.keys, in: problems) else { return nil }
    guard block.required("mode", "write mode: closed or mode: open") != nil else { return nil }
    if let mode = item["mode"]?.text, ["sweep", "search"].contains(mode) {
      block.fail(
        "mode", "is not a load of this version; allowed: closed, open",
        remedy: "the command 'nylon-bench sweep' searches for the knee")
      return nil
    }
    switch block.choice("mode", of: Mode.self) {
    case .closed:
      for key in ["rate_per_second", "arrivals"] where block.get(key) != nil {
        block.fail(key, "belongs to mode: open; a closed load has a concurrency")
      }
      if block.get("concurrency") == nil {
        block.fail("concurrency", "is missing", remedy: "write how many sessions are in flight, such as 8")
      }
      return block.whole("concurrency", in: Self.concurrencyRange).map { .closed(concurrency: $0) }
    case .open:
      if block.get("concurrency") != nil {
        block.fail(
          "concurrency", "belongs to mode: closed; an open load has a rate",
          remedy: "the target's max_in_flight limits what is in flight")
      }
      if block.get("rate_per_second") == nil {
        block.fail("rate_per_second", "is missing", remedy: "write requests a second, such as 5000")
      }
      let arrivals = block.choice("arrivals", of: Arrivals.self) ?? .poisson
      return block.number("rate_per_second", in: Self.rateRange).map {
        .open(ratePerSecond: $0, arrivals: arrivals)
      }
    case nil: return nil
    }
  }

  /// The phases of a block, in a session's order; nil when the key is absent.
  func phases(of block: Block) -> [Phase]? {
    guard let items = block.list("phases", of: "phases") else { return nil }
    let names = Phase.session.map(\.subjectFragment)
    if items.isEmpty { block.fail("phases", "is empty", remedy: "allowed: \(names.joined(separator: ", "))") }
    var result: [Phase] = []
    for (index, item) in items.enumerated() {
      let path = block.childPath("phases.\(index)")
      let text = item.text ?? ""
      guard let phase = Phase(subjectFragment: text), phase != .zero else {
        problems.add(
          at: item.place, key: path, value: Block.printable(item, path: path), "is not a phase of a session",
          suggestion: Suggestion.nearest(to: text, among: names),
          remedy: "Allowed: \(names.joined(separator: ", "))")
        continue
      }
      if let last = result.last, phase <= last {
        problems.add(
          at: item.place, key: path, value: text,
          phase == last || result.contains(phase)
            ? "is in the list twice" : "comes before '\(last.subjectFragment)'",
          remedy: "phases are listed once each, in the order: \(names.joined(separator: ", "))")
        continue
      }
      result.append(phase)
    }
    return result.isEmpty ? nil : result
  }
}
