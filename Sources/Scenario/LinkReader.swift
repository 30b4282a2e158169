/// Reads `link:` of a target: one link, or a list with one for each side of the broker.
struct LinkReader {
  static let keys = ["between", "delay_ms", "jitter_ms", "bandwidth_mbit_per_second"]
  static let delayRange = 0.0...10_000
  static let bandwidthRange = 1.0...100_000

  let problems: ProblemCollector

  /// The links; nil when there are none.
  func links(of target: Block, workers: WorkersSpec?) -> [LinkSpec]? {
    guard let value = target.get("link") else { return nil }
    let path = target.childPath("link")
    let items = value.items.map { $0.enumerated().map { ("\(path).\($0)", $1) } } ?? [(path, value)]
    var links: [LinkSpec] = []
    for (path, item) in items {
      guard let block = Block(item, path: path, keys: Self.keys, in: problems) else { continue }
      guard let link = link(block, workers: workers) else { continue }
      if links.contains(where: { $0.between == link.between }) {
        block.fail(
          "between", "has a link already (\(link.between.rawValue))",
          remedy: "write one link for each side of the broker")
      }
      links.append(link)
    }
    return links.isEmpty ? nil : links
  }

  private func link(_ block: Block, workers: WorkersSpec?) -> LinkSpec? {
    let names = LinkPlace.allCases.map(\.rawValue).joined(separator: " or ")
    let placeText = block.required("between", "write \(names)")
    let place = placeText == nil ? nil : block.choice("between", of: LinkPlace.self)
    if block.get("delay_ms") == nil {
      block.fail("delay_ms", "is missing", remedy: "write the delay of one way, such as delay_ms: 0.5")
    }
    let delay = block.number("delay_ms", in: Self.delayRange)
    let jitter = block.number("jitter_ms", in: Self.delayRange) ?? 0
    let bandwidth = block.number("bandwidth_mbit_per_second", in: Self.bandwidthRange)
    if let delay, jitter > delay {
      block.fail(
        "jitter_ms", "is over \(block.childPath("delay_ms")) (\(Block.short(delay)))",
        remedy: "the delay varies by so much both ways, and cannot be less than nothing")
    }
    if place == .brokerWorkers, workers == nil {
      block.fail(
        "between", "cannot be broker-workers: the workers run already, and have their own connections",
        remedy: "start them here with workers: {command: …}, or write generator-broker")
    }
    guard let place, let delay else { return nil }
    return LinkSpec(
      between: place, delayMilliseconds: delay, jitterMilliseconds: jitter,
      bandwidthMegabitPerSecond: bandwidth)
  }
}
