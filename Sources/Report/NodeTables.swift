// Tables about the brokers of a cluster: the distribution of deliveries over them.
import Engine
import Results

/// One broker of a cluster under one load, over all replicates.
struct NodeFigures {
  let group: MeasurementGroup
  /// The broker's number, from 1.
  let node: Int
  /// The broker's monitoring data in each replicate.
  let activities: [NodeActivity]
  /// The messages delivered to workers at all brokers, in all replicates.
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

  /// The share, 0-1, of all deliveries to workers that went through this broker; nil when there were none.
  var share: Double? {
    guard allDeliveries > 0 else { return nil }
    return Double(activities.reduce(UInt64(0)) { $0 &+ ($1.workerDeliveries ?? 0) }) / Double(allDeliveries)
  }

  var isGenerators: Bool { activities.contains { ($0.generatorDeliveries ?? 0) > 0 } }
}

extension ResultTables {
  /// One row for each broker of a cluster; no rows without a cluster.
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
        "From the monitoring of each broker at the start and end of the measured time; medians over "
          + "replicates. Messages in and out are those of clients and of routes; delivered is what clients "
          + "were given. A broker that was restarted counts from its restart."
      ])
  }
}

extension Answer {
  /// The distribution of deliveries over a cluster's brokers, one sentence for each target; empty without
  /// one.
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
        "\(target), \(first[0].group.load): of the deliveries to workers, \(shares.joined(separator: ", "))"
        + "\(generator)."
    }
  }
}
