// What the brokers of a cluster did: how the deliveries spread over them.
import Engine
import Results

/// One broker of a cluster under one load, over all replicates.
struct NodeFigures {
  let group: MeasurementGroup
  /// From 1.
  let node: Int
  /// What its monitoring said in each replicate.
  let activities: [NodeActivity]
  /// What the workers at all brokers were delivered, in all replicates.
  let allDeliveries: UInt64

  static func all(_ document: RunDocument) -> [NodeFigures] {
    MeasurementGroup.all(document).flatMap { group -> [NodeFigures] in
      let all = group.measurements.flatMap { $0.nodes ?? [] }
      let deliveries = all.reduce(UInt64(0)) { $0 &+ ($1.workerDeliveries ?? 0) }
      return all.map(\.node).uniqued().sorted().map { node in
        NodeFigures(
          group: group, node: node, activities: all.filter { $0.node == node }, allDeliveries: deliveries)
      }
    }
  }

  /// The median over replicates.
  func median(_ figure: (NodeActivity) -> UInt64?) -> Double? {
    Statistics.median(activities.compactMap { figure($0).map { Double($0) } })
  }

  /// The part of all deliveries to workers that went to those at this broker, 0-1; nil where there were none.
  var share: Double? {
    guard allDeliveries > 0 else { return nil }
    return Double(activities.reduce(UInt64(0)) { $0 &+ ($1.workerDeliveries ?? 0) }) / Double(allDeliveries)
  }

  var isGenerators: Bool { activities.contains { ($0.generatorDeliveries ?? 0) > 0 } }
}

extension ResultTables {
  /// A row for each broker of a cluster; no rows where there is none.
  package static func nodes(_ document: RunDocument) -> ReportTable {
    func median(_ head: String, _ figure: @escaping @Sendable (NodeActivity) -> UInt64?) -> Column<
      NodeFigures
    > {
      .grouped(head) { $0.median(figure) }
    }
    return ReportTable(
      "The brokers of the cluster",
      [
        .text("target", \.group.target), .text("load", \.group.load), .other("broker") { String($0.node) },
        median("connections", \.connections), median("messages in", \.inMessages),
        median("messages out", \.outMessages), median("delivered to workers", \.workerDeliveries),
        .other("share") { Number.percent($0.share) },
        median("delivered to generator", \.generatorDeliveries), median("slow consumers", \.slowConsumers),
      ], NodeFigures.all(document),
      notes: [
        "From the monitoring of each broker at both ends of the measured time; medians over replicates. Messages in "
          + "and out are those of clients and of routes; delivered is what clients were given. A broker that was "
          + "started again tells what it did since."
      ])
  }
}

extension Answer {
  /// How the deliveries spread over the brokers of a cluster, a sentence for each target; empty without one.
  static func clusters(_ document: RunDocument) -> [String] {
    let figures = NodeFigures.all(document)
    return figures.map(\.group.target).uniqued().compactMap { target -> String? in
      let mine = figures.filter { $0.group.target == target }
      let first = mine.filter { $0.group.load == mine[0].group.load }
      let shares = first.compactMap { one in
        Number.percent(one.share).map { "\($0) at broker \(one.node)" }
      }
      guard shares.count == first.count else { return nil }
      let home = first.filter(\.isGenerators).map { String($0.node) }
      let generator = home.isEmpty ? "" : "; the generator's broker: \(home.joined(separator: ", "))"
      return
        "\(target), \(first[0].group.load): of what the workers were delivered, \(shares.joined(separator: ", "))"
        + "\(generator)."
    }
  }
}
