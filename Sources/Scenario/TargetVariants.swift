/// Targets with other numbers of workers and of connections: every combination, each with a name of its own.
package struct TargetVariants: Sendable {
  /// Workers of a pool that the run starts, beside the target's own number.
  package var workers: [Int]
  /// NATS connections of the generator, beside the target's own number.
  package var connections: [Int]

  /// The longest name that a target may have.
  private static let longestName = 64

  /// Numbers to combine; none leaves a target's own.
  package init(workers: [Int] = [], connections: [Int] = []) {
    self.workers = workers
    self.connections = connections
  }

  /// Each target as it is, followed by its variants, whose names say what is other: `nats-4w`, `nats-2c`,
  /// `nats-4w-2c`. A plugin has none, and a pool that runs already keeps its workers.
  ///
  /// - Parameter planned: the connections of a target that does not say how many it has.
  package func applied(to targets: [Target], connections planned: Int) -> [Target] {
    var names = Set(targets.map(\.name))
    return targets.flatMap { target -> [Target] in
      guard case .nats(let spec) = target.transport else { return [target] }
      let own = (workers: spec.workers?.count, connections: target.connections ?? planned)
      // Nil is a number that stays.
      let counts = [nil] + (own.workers.map { Self.others(workers, than: $0) } ?? [])
      let lines = [nil] + Self.others(connections, than: own.connections)
      let pairs = counts.flatMap { count in lines.map { (workers: count, connections: $0) } }
      return [target]
        + pairs.dropFirst().map { pair in
          var variant = target
          var suffix = ""
          if let count = pair.workers {
            var changed = spec
            changed.workers?.count = count
            variant.transport = .nats(changed)
            suffix += "-\(count)w"
          }
          if let count = pair.connections {
            variant.connections = count
            suffix += "-\(count)c"
          }
          variant.name = Self.name(target.name, suffix, without: names)
          names.insert(variant.name)
          return variant
        }
    }
  }

  private static func others(_ numbers: [Int], than own: Int) -> [Int?] {
    Set(numbers).subtracting([own]).sorted()
  }

  /// The name with its suffix, cut in front of it where it would be too long, and with a number behind it
  /// where another target is called so.
  private static func name(_ base: String, _ suffix: String, without taken: Set<String>) -> String {
    var number = 1
    while true {
      let end = number == 1 ? suffix : "\(suffix)-\(number)"
      let name = String(base.prefix(longestName - end.count)) + end
      if !taken.contains(name) { return name }
      number += 1
    }
  }
}
