import Foundation
import Fuzzing
import TestSupport
import Testing

/// A short run of what scripts/fuzz does for long: a reader that fails ends the test process, and the input is found
/// by scripts/fuzz.
@Suite("Readers of others' bytes", .serialized, .thread("fuzz")) struct FuzzingTests {
  @Test("take their seeds, and survive a thousand inputs like them", arguments: FuzzTarget.all)
  func survive(target: FuzzTarget) throws {
    let seeds = try target.seeds()
    #expect(seeds.contains { target.read(copyOf: $0) }, "no seed is what the reader wants")
    var mutator = Mutator(seeds: seeds, seed: 1)
    var taken = 0
    let inputs = 1000
    for _ in 0..<inputs where target.read(copyOf: mutator.next()) { taken += 1 }
    // Inputs that are all refused, or all taken, would try little of a reader.
    #expect(taken > 0 && taken < inputs)
  }

  @Test("have a folder of seeds each, and all seeds together are small")
  func corpus() throws {
    let folders = try FileManager.default.contentsOfDirectory(atPath: FuzzTarget.corpus)
    #expect(Set(folders) == Set(FuzzTarget.all.map(\.name)))
    let bytes = try FuzzTarget.all.reduce(0) { try $0 + $1.seeds().reduce(0) { $0 + $1.count } }
    #expect(bytes < 300_000)
  }
}
