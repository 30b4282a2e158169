// swift-tools-version: 6.2
// The one list of what is built, and why each dependency is here.
import PackageDescription

/// What every Swift target is compiled with.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
]
/// What every C target is compiled with.
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
    // YAML with the line and column of every node, which our error messages need.
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    // The relay's event loop: timers of nanoseconds (timerfd), half-close, back-pressure.
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
  ],
  targets: [
    // The NATS client of the generator and of the worker (Debian: libnats-dev).
    .systemLibrary(name: "CNats", pkgConfig: "libnats", providers: [.apt(["libnats-dev"])]),
    // malloc with a per-thread counter, for bytes allocated per request (libjemalloc-dev).
    .systemLibrary(name: "CJemalloc", pkgConfig: "jemalloc", providers: [.apt(["libjemalloc-dev"])]),
    // msgpack-c, which reads in the tests what we write: a second opinion on the format (libmsgpack-dev).
    .systemLibrary(name: "CMsgpack", pkgConfig: "msgpack", providers: [.apt(["libmsgpack-dev"])]),
    // zlib, for the HdrHistogram V2 compressed encoding (zlib1g-dev).
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    // TLS and signatures for brokers, SHA-256 in run.json (libssl-dev; swift-nio-ssl builds for minutes).
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),

    .target(name: "CNylonABI", cSettings: strictC),
    // Futex, epoll with nanoseconds, timer slack: variadic or macro calls that Swift cannot import.
    .target(name: "CKernel", cSettings: strictC),
    // The Linux calls that Swift's Glibc module lacks: memory files, spawning, CPU clocks.
    .target(name: "CLinux", cSettings: strictC),
    // FlatBuffers' official C++ library behind C functions (libflatbuffers-dev).
    .target(
      name: "CNylonFlatBuffers", exclude: ["nylon_plugin.fbs"], cxxSettings: strictCXX),

    .target(
      name: "NylonProtocol", dependencies: ["CNylonFlatBuffers"], swiftSettings: strict),
    .target(name: "NATSWire", dependencies: ["CKernel", "COpenSSL"], swiftSettings: strict),
    .target(
      name: "NylonPlugin", dependencies: ["NylonProtocol", "CNylonABI", "CNats", "NATSWire", "CKernel"],
      swiftSettings: strict),
    .target(name: "Measure", dependencies: ["CZlib"], swiftSettings: strict),
    .target(
      name: "Scenario", dependencies: ["Measure", "NylonProtocol", "NATSWire", "Yams"], swiftSettings: strict),
    .target(
      name: "Load", dependencies: ["Measure", "Scenario", "NylonProtocol", "CJemalloc", "CKernel"],
      swiftSettings: strict),
    // Each import is named: a build that does not know of one keeps what was compiled for an older layout.
    .target(
      name: "TransportFFI",
      dependencies: ["Load", "Measure", "Scenario", "CKernel", "NylonProtocol", "CNylonABI"],
      path: "Sources/Transports/FFI", swiftSettings: strict),
    .target(
      name: "TransportNATS",
      dependencies: ["Load", "Measure", "Scenario", "CKernel", "NylonProtocol", "NATSWire", "CNats"],
      path: "Sources/Transports/NATS", swiftSettings: strict),
    .target(name: "Lab", dependencies: ["Scenario", "Measure", "NATSWire", "CLinux"], swiftSettings: strict),
    .target(name: "Report", dependencies: ["Measure", "Scenario", "COpenSSL"], swiftSettings: strict),
    .target(
      name: "Behaviour",
      dependencies: ["Lab", "Scenario", "Measure", "NylonProtocol", "NATSWire", "Report", "CNats"],
      swiftSettings: strict),
    .executableTarget(
      name: "nylon-bench",
      dependencies: [
        "Measure", "Scenario", "Load", "TransportFFI", "TransportNATS", "Lab", "Behaviour", "Report",
        "NylonProtocol", "NATSWire", "Floor", "CKernel", "CNats", "CJemalloc",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "nylon-worker",
      dependencies: [
        "NylonPlugin", "ExampleHandlers",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict),
    .executableTarget(name: "nylon-keeper", cSettings: strictC),
    .executableTarget(
      name: "nylon-link",
      dependencies: [
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: strict),
    .target(name: "ExampleHandlers", dependencies: ["NylonPlugin"], swiftSettings: strict),
    .target(
      name: "ExamplePlugin", dependencies: ["NylonPlugin", "ExampleHandlers", "CNylonABI"],
      swiftSettings: strict),
    .target(name: "NullPlugin", dependencies: ["CNylonABI"], cSettings: strictC),
    .target(name: "ThreadedPlugin", dependencies: ["CNylonABI"], cSettings: strictC),
    .target(name: "Floor", dependencies: ["CNylonABI"], cSettings: strictC),
    // Certificates, nkeys, JWTs and a broker that wants them, for the tests below.
    .target(
      name: "BrokerSecurity", dependencies: ["COpenSSL"], path: "Tests/BrokerSecurity", swiftSettings: strict),
    .testTarget(
      name: "NylonProtocolTests", dependencies: ["NylonProtocol", "CMsgpack", "CJemalloc"],
      swiftSettings: strict),
    .testTarget(
      name: "NATSWireTests", dependencies: ["NATSWire", "Measure", "CKernel", "BrokerSecurity"],
      swiftSettings: strict),
    .testTarget(
      name: "NylonPluginTests",
      dependencies: [
        "NylonPlugin", "NylonProtocol", "ExampleHandlers", "CNylonABI", "CNats", "BrokerSecurity",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "MeasureTests", dependencies: ["Measure"],
      swiftSettings: strict),
    .testTarget(
      name: "ScenarioTests", dependencies: ["Scenario", "NylonProtocol", "NATSWire"],
      swiftSettings: strict),
    .testTarget(
      name: "LoadTests", dependencies: ["Load", "Measure", "Scenario", "NylonProtocol", "CJemalloc"],
      swiftSettings: strict),
    .testTarget(
      name: "TransportTests",
      dependencies: [
        "Load", "Measure", "Scenario", "NylonProtocol", "TransportFFI", "TransportNATS", "CNylonABI",
        "CJemalloc", "CNats", "NATSWire", "Lab", "BrokerSecurity",
      ],
      swiftSettings: strict),
    .testTarget(
      name: "LabTests", dependencies: ["Lab", "Scenario", "Measure", "NATSWire", "CLinux", "BrokerSecurity"],
      swiftSettings: strict),
    .testTarget(
      name: "ReportTests", dependencies: ["Report", "Measure", "Scenario", "NylonProtocol"],
      swiftSettings: strict),
    .testTarget(
      name: "BehaviourTests",
      dependencies: [
        "Behaviour", "Lab", "Scenario", "Measure", "NylonProtocol", "Report", "ExampleHandlers",
        "NylonPlugin",
      ],
      swiftSettings: strict),
    .testTarget(name: "ArchitectureTests", swiftSettings: strict),
    .testTarget(
      name: "EndToEndTests", dependencies: ["Report", "Measure", "Scenario", "Lab", "BrokerSecurity"],
      swiftSettings: strict),
  ]
)
