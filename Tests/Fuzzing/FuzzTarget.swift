import Foundation

/// A reader of bytes that another party made. Whatever they are, it ends and keeps its promises.
///
/// scripts/fuzz gives its inputs to libFuzzer, and the unit tests read its seeds and some thousand inputs like them.
package struct FuzzTarget: Sendable, CustomStringConvertible {
  /// What it is called on the command line; its seeds are in the folder of this name in `Corpus`.
  package let name: String
  /// Reads the bytes; whether they are what the reader wants. A broken promise ends the process.
  package let read: @Sendable (UnsafeRawBufferPointer) -> Bool

  package var description: String { name }

  package static let all = [
    FuzzTarget(name: "wire", read: Readers.wire),
    FuzzTarget(name: "message", read: Readers.message),
    FuzzTarget(name: "worker", read: Readers.worker),
    FuzzTarget(name: "dialect", read: Readers.dialect),
    FuzzTarget(name: "tables", read: Readers.tables),
    FuzzTarget(name: "calls", read: Readers.calls),
    FuzzTarget(name: "histogram", read: Readers.histogram),
    FuzzTarget(name: "run", read: Readers.run),
    FuzzTarget(name: "scenario", read: Readers.scenario),
    FuzzTarget(name: "nylon", read: Readers.nylonConfiguration),
    FuzzTarget(name: "claims", read: Readers.claims),
    FuzzTarget(name: "monitoring", read: Readers.monitoring),
    FuzzTarget(name: "url", read: Readers.url),
    FuzzTarget(name: "credentials", read: Readers.credentials),
  ]

  /// The folder with a folder of seeds for each target.
  package static let corpus = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Corpus"

  /// Inputs to begin with, each a file, in the order of their names.
  package func seeds() throws -> [[UInt8]] {
    let folder = "\(Self.corpus)/\(name)"
    return try FileManager.default.contentsOfDirectory(atPath: folder).sorted().map {
      [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\($0)")))
    }
  }

  /// Reads a copy that ends where the input does, so that a sanitizer sees a read beyond it.
  package func read(copyOf input: [UInt8]) -> Bool {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: input.count, alignment: 1)
    defer { copy.deallocate() }
    copy.copyBytes(from: input)
    return read(UnsafeRawBufferPointer(copy))
  }
}

/// Ends the process where a reader breaks what it promises.
func promise(_ holds: Bool, _ words: @autoclosure () -> String) {
  if !holds { fatalError("broken promise: \(words())") }
}
