/// Which of a run's brokers the generator and the workers connect to first. They know all others, and go there when
/// theirs is lost. Its rows say what the fields mean.
package struct NodeChoice: Codable, Sendable, Equatable {
  /// The broker that the generator connects to first, from 1.
  package var generator = 1
  /// The brokers that the workers connect to first, from 1, in turn; nil: all.
  package var workers: [Int]?

  package init(generator: Int = 1, workers: [Int]? = nil) {
    self.generator = generator
    self.workers = workers
  }

  static let most = 9

  static let keys = Keys<NodeChoice>(
    "nodes", home: "a target's nodes:", of: NodeChoice(),
    [
      Key(
        "generator", \.generator, .whole(1...most), "the broker that the generator connects to first, from 1"),
      Key(
        "workers", \.workers, .nodes,
        "the brokers that the workers connect to first, in turn: with `[1, 2]` every second worker begins with "
          + "broker 2",
        default: "all, in turn"),
    ])

  /// The places, from 0, in a list of so many brokers that the workers begin with, in turn.
  package func homes(of brokers: Int) -> [Int] { workers?.map { $0 - 1 } ?? Array(0..<brokers) }

  /// A list with the item at this place first, and those behind it next.
  package static func order<Item>(_ items: [Item], first: Int) -> [Item] {
    items.isEmpty ? [] : Array(items[(first % items.count)...] + items[..<(first % items.count)])
  }
}

extension Kind<[Int]> {
  /// Numbers of brokers: one, or a list.
  static var nodes: Kind {
    Kind(allowed: "1 to \(NodeChoice.most), or a list") { block, key in
      guard let value = block.get(key) else { return nil }
      let texts = value.items?.map(\.text) ?? [value.text]
      let numbers = texts.compactMap { $0.flatMap { Int($0) } }
      if numbers.count == texts.count, !numbers.isEmpty, numbers.allSatisfy({ (1...NodeChoice.most) ~= $0 }) {
        return numbers
      }
      return block.refuse(key, "must be numbers of brokers", remedy: "write for example [1, 2, 3]")
    }
  }
}
