// swift-tools-version: 6.2
// Lists all targets, and the reason for each dependency.
import PackageDescription

/// The settings of every Swift target.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
]
/// The settings of every C target.
let strictC: [CSetting] = [.treatAllWarnings(as: .error)]
let strictCXX: [CXXSetting] = [.treatAllWarnings(as: .error)]

let package = Package(
  name: "nylon-bench",
  products: [
    .executable(name: "nylon-bench", targets: ["nylon-bench"]),
    .executable(name: "nylon-worker", targets: ["nylon-worker"]),
    .executable(name: "nylon-keeper", targets: ["nylon-keeper"]),
    .executable(name: "nylon-link", targets: ["nylon-link"]),
    .library(name: "NylonPlugin", targets: ["NylonPlugin"]),
    .library(name: "ExamplePlugin", type: .dynamic, targets: ["ExamplePlugin"]),
    .library(name: "NullPlugin", type: .dynamic, targets: ["NullPlugin"]),
    .library(name: "ThreadedPlugin", type: .dynamic, targets: ["ThreadedPlugin"]),
  ],
  dependencies: [
    // The commands' arguments, help texts and usage errors.
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    // YAML with the line and column of every node, for error messages.
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // Libraries and Linux calls for Swift.
    // An independent NATS client, for behaviour tests and as a peer in `calibrate` (libnats-dev).
    .systemLibrary(
      name: "CNats", path: "Sources/System/CNats", pkgConfig: "libnats", providers: [.apt(["libnats-dev"])]),
    // malloc with a per-thread counter, for bytes allocated per request (libjemalloc-dev).
    .systemLibrary(
      name: "CJemalloc", path: "Sources/System/CJemalloc", pkgConfig: "jemalloc",
      providers: [.apt(["libjemalloc-dev"])]),
    // msgpack-c, an independent reader and writer of the format, for the tests (libmsgpack-dev).
    .systemLibrary(
      name: "CMsgpack", path: "Sources/System/CMsgpack", pkgConfig: "msgpack",
      providers: [.apt(["libmsgpack-dev"])]),
    // zlib, for the HdrHistogram V2 compressed encoding (zlib1g-dev).
    .systemLibrary(
      name: "CZlib", path: "Sources/System/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    // TLS and signatures for brokers, SHA-256 in run.json (libssl-dev).
    .systemLibrary(
      name: "COpenSSL", path: "Sources/System/COpenSSL", pkgConfig: "openssl",
      providers: [.apt(["libssl-dev"])]),
    // The relay's event loop: ready sockets, a listener with back-off (libevent-dev).
    .systemLibrary(
      name: "CEvent", path: "Sources/System/CEvent", pkgConfig: "libevent_core",
      providers: [.apt(["libevent-dev"])]),
    // The Linux calls that Swift cannot import: variadic, or missing in its Glibc module.
    .target(name: "CLinux", path: "Sources/System/CLinux", cSettings: strictC),

    // The plugin interface and its implementations.
    .target(name: "CNylonABI", path: "Sources/Nylon/ABI", cSettings: strictC),
    // FlatBuffers' official C++ library behind C functions (libflatbuffers-dev).
    .target(
      name: "CNylonFlatBuffers", path: "Sources/Nylon/FlatBuffers", exclude: ["nylon_plugin.fbs"],
      cxxSettings: strictCXX),
    .target(
      name: "Nylon", dependencies: ["CNylonFlatBuffers"], exclude: ["ABI", "FlatBuffers"],
      swiftSettings: strict),
    .target(name: "NATS", dependencies: ["CLinux", "COpenSSL"], swiftSettings: strict),
    .target(
      name: "NylonPlugin", dependencies: ["Nylon", "CNylonABI", "NATS", "CLinux"],
      swiftSettings: strict),

    // The benchmark.
    .target(name: "Scenario", dependencies: ["Nylon", "NATS", "Yams"], swiftSettings: strict),
    .target(
      name: "Engine",
      dependencies: ["Scenario", "Nylon", "NATS", "CNylonABI", "CJemalloc", "CLinux", "CZlib"],
      swiftSettings: strict),
    .target(name: "Lab", dependencies: ["Scenario", "Engine", "NATS", "CLinux"], swiftSettings: strict),
    .target(
      name: "Results", dependencies: ["Engine", "Lab", "Nylon", "Scenario", "COpenSSL"],
      swiftSettings: strict),
    .target(name: "Report", dependencies: ["Results", "Engine", "Lab", "Scenario"], swiftSettings: strict),
    .target(name: "Baseline", dependencies: ["CNylonABI", "CNats"], cSettings: strictC),
    .target(
      name: "Bench",
      dependencies: [
        "Scenario", "Engine", "Lab", "Results", "Report", "Nylon", "NATS", "Baseline", "CLinux", "CNats",
        "CNylonABI", "CJemalloc", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict),
    .executableTarget(name: "nylon-bench", dependencies: ["Bench"], swiftSettings: strict),

    .executableTarget(name: "nylon-keeper", path: "Sources/Helpers/Keeper", cSettings: strictC),
    .executableTarget(
      name: "nylon-link",
      dependencies: [
        "CEvent", "CLinux", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/Helpers/Link", swiftSettings: strict),

    .executableTarget(
      name: "nylon-worker",
      dependencies: [
        "NylonPlugin", "ExampleHandlers",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/Examples/Worker", swiftSettings: strict),
    .target(
      name: "ExampleHandlers", dependencies: ["NylonPlugin"], path: "Sources/Examples/Handlers",
      swiftSettings: strict),
    .target(
      name: "ExamplePlugin", dependencies: ["NylonPlugin", "ExampleHandlers", "CNylonABI"],
      path: "Sources/Examples/Plugin", swiftSettings: strict),
    .target(
      name: "NullPlugin", dependencies: ["CNylonABI"], path: "Sources/Examples/NullPlugin",
      cSettings: strictC),
    .target(
      name: "ThreadedPlugin", dependencies: ["CNylonABI"], path: "Sources/Examples/ThreadedPlugin",
      cSettings: strictC),

    // Shared by the tests below: certificates, nkeys, JWTs, a broker that requires them, memory for a load, a plugin and
    // a worker in C, and independent readers of the result files.
    .target(
      name: "TestSupport", dependencies: ["Engine", "COpenSSL"], path: "Tests/TestSupport",
      swiftSettings: strict),
    // The parsers of untrusted bytes, for scripts/fuzz and for a short run in the tests.
    .target(
      name: "Fuzzing",
      dependencies: ["Nylon", "NATS", "NylonPlugin", "Scenario", "Engine", "Lab", "Results", "Report"],
      path: "Tests/Fuzzing", exclude: ["Corpus"], swiftSettings: strict),
    .executableTarget(
      name: "nylon-fuzz", dependencies: ["Fuzzing"], path: "Tests/Fuzzer", swiftSettings: strict),
    .testTarget(name: "FuzzingTests", dependencies: ["Fuzzing", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "NylonTests", dependencies: ["Nylon", "CMsgpack", "CJemalloc"], swiftSettings: strict),
    .testTarget(
      name: "NATSTests", dependencies: ["NATS", "Engine", "Lab", "CLinux", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "NylonPluginTests",
      dependencies: ["NylonPlugin", "Nylon", "ExampleHandlers", "CNylonABI", "CNats", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "ScenarioTests", dependencies: ["Scenario", "Results", "Nylon", "NATS"], swiftSettings: strict),
    .testTarget(
      name: "EngineTests",
      dependencies: [
        "Engine", "Scenario", "Nylon", "NATS", "Lab", "Results", "CNylonABI", "CJemalloc", "CNats",
        "TestSupport",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "LabTests",
      dependencies: ["Lab", "Results", "Scenario", "Engine", "NATS", "CLinux", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "ResultsTests",
      dependencies: ["Results", "Report", "Engine", "Lab", "Scenario", "Nylon", "NATS", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "BenchTests",
      dependencies: [
        "Bench", "Lab", "Scenario", "Engine", "Nylon", "Results", "Report", "ExampleHandlers", "NylonPlugin",
        "TestSupport", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict),
    .testTarget(name: "ArchitectureTests", swiftSettings: strict),
    .testTarget(
      name: "EndToEndTests",
      dependencies: ["Report", "Results", "Engine", "Scenario", "Lab", "TestSupport"],
      swiftSettings: strict),
  ]
)
