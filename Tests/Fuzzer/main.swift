// libFuzzer's entry: the driver when it is linked (scripts/fuzz), else the inputs of our own mutator.
import Foundation
import Fuzzing

private let names = FuzzTarget.all.map(\.name).joined(separator: " ")
guard let name = ProcessInfo.processInfo.environment["NYLON_FUZZ_TARGET"],
  let target = FuzzTarget.all.first(where: { $0.name == name })
else {
  print(names)
  exit(CommandLine.arguments.contains("--list") ? 0 : 64)
}
Fuzzer.target = target
exit(try Fuzzer.run())

enum Fuzzer {
  /// Set once, before anything is read.
  nonisolated(unsafe) static var target = FuzzTarget.all[0]

  private typealias Reader = @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
  private typealias Driver =
    @convention(c) (
      UnsafeMutablePointer<Int32>, UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
      Reader
    ) -> Int32

  static func run() throws -> Int32 {
    guard let driver = dlsym(nil, "LLVMFuzzerRunDriver") else { return try runWithoutDriver() }
    var count = CommandLine.argc
    var arguments = CommandLine.unsafeArgv
    return unsafeBitCast(driver, to: Driver.self)(&count, &arguments) { bytes, count in
      _ = Fuzzer.target.read(UnsafeRawBufferPointer(start: bytes, count: count))
      return 0
    }
  }

  /// As many inputs as `-runs=` says.
  private static func runWithoutDriver() throws -> Int32 {
    let runs =
      CommandLine.arguments.compactMap { $0.split(separator: "=").last.flatMap { Int($0) } }.first ?? 1000
    var mutator = Mutator(seeds: try target.seeds(), seed: 1)
    for _ in 0..<runs { _ = target.read(copyOf: mutator.next()) }
    print("Done \(runs) runs without libFuzzer")
    return 0
  }
}
