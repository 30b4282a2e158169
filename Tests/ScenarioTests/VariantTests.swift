import Testing

@testable import Scenario

@Suite("Variants of a target")
struct VariantTests {
  private static let plugin = Target(
    name: "ffi", plugin: "p", handler: "h", transport: .ffi(FFISpec(file: "NullPlugin")), loads: [])

  private static func pool(_ name: String, workers: Int?) -> Target {
    let spec = NATSSpec(workers: workers.map { WorkersSpec(count: $0, command: ["nylon-worker"]) })
    return Target(name: name, plugin: "p", handler: "h", transport: .nats(spec), loads: [])
  }

  /// Name, workers and connections, as `nats 2 1`.
  private static func shown(_ targets: [Target], planned: Int = 1) -> [String] {
    targets.map { target in
      guard case .nats(let spec) = target.transport else { return target.name }
      let workers = spec.workers.map { String($0.count) } ?? "?"
      return "\(target.name) \(workers) \(target.connections ?? planned)"
    }
  }

  @Test("are every number of workers with every number of connections, the target itself first and as it is")
  func product() {
    let nats = Self.pool("nats", workers: 2)
    let all = TargetVariants(workers: [1, 2, 4], connections: [1, 2]).applied(to: [nats], connections: 1)
    #expect(
      Self.shown(all) == [
        "nats 2 1", "nats-2c 2 2", "nats-1w 1 1", "nats-1w-2c 1 2", "nats-4w 4 1", "nats-4w-2c 4 2",
      ])
    #expect(all.first == nats)
  }

  @Test("have the target's own numbers among them, also those that it has of its scenario")
  func own() {
    let all = TargetVariants(workers: [8], connections: [4, 1, 4])
      .applied(to: [Self.pool("nats", workers: 2)], connections: 4)
    #expect(
      Self.shown(all, planned: 4) == ["nats 2 4", "nats-1c 2 1", "nats-8w 8 4", "nats-8w-1c 8 1"])
  }

  @Test("are none of a plugin, none without numbers, and keep the workers of a pool that runs already")
  func none() {
    let targets = [Self.plugin, Self.pool("nats", workers: nil)]
    #expect(TargetVariants().applied(to: targets, connections: 1) == targets)
    let all = TargetVariants(workers: [1, 2], connections: [2]).applied(to: targets, connections: 1)
    #expect(Self.shown(all) == ["ffi", "nats ? 1", "nats-2c ? 2"])
  }

  @Test("have names of their own, of at most 64 characters, whatever the targets are called")
  func names() {
    let long = String(repeating: "x", count: 60)
    let targets = [
      Self.pool("nats", workers: 2), Self.pool("nats-4w", workers: 2), Self.pool(long + "abcd", workers: 1),
      Self.pool(long + "efgh", workers: 1),
    ]
    let all = TargetVariants(workers: [2, 4, 1024], connections: [1024]).applied(to: targets, connections: 1)
    let names = all.map(\.name)
    #expect(names.count == 2 * 6 + 2 * 8 && Set(names).count == names.count)
    #expect(names.allSatisfy { $0.count <= 64 })
    #expect(names.contains("nats-4w-2") && names.contains("nats-4w-4w"))
    #expect(names.contains(String(repeating: "x", count: 52) + "-1024w-1024c"))
    #expect(Set(targets.map(\.name)).isSubset(of: names))
  }
}
