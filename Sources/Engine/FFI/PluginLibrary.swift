import CNylonABI
import Foundation

/// Why a plugin cannot be used.
package enum PluginError: Error, Codable, Equatable, CustomStringConvertible {
  /// Nothing is at the path.
  case missing(path: String)
  /// The file cannot be read.
  case unreadable(path: String, why: String)
  /// The file is not a shared library for this machine.
  case notALibrary(path: String, why: String)
  /// A library that the plugin needs, or one of its symbols, is missing.
  case notLoadable(path: String, why: String)
  /// Some of the six symbols are missing.
  case symbolsMissing(path: String, symbols: [String])
  /// `register_session_stream` reports that there is no such handler.
  case noSuchEntry(path: String, entry: String)

  /// What is wrong, and what to do about it.
  package var description: String {
    switch self {
    case .missing(let path):
      "plugin '\(path)': no such file. Build it first (this package's own: swift build -c release), or correct `file:`."
    case .unreadable(let path, let why):
      "plugin '\(path)' cannot be read: \(why). Check its permissions."
    case .notALibrary(let path, let why):
      "plugin '\(path)' is not a shared library for this machine: \(why). Build it as one (Go: -buildmode=c-shared, C: -shared -fPIC)."
    case .notLoadable(let path, let why):
      "plugin '\(path)' cannot be loaded: \(why). Install what it needs (ldd shows it)."
    case .symbolsMissing(let path, let symbols):
      "plugin '\(path)' lacks \(symbols.count == 1 ? "the symbol" : "the symbols") \(symbols.joined(separator: ", ")). A plugin exports initialize, register_session_stream, event_stream, close_session_stream, plugin_free and shutdown."
    case .noSuchEntry(let path, let entry):
      "plugin '\(path)' has no handler '\(entry)': register_session_stream refused it. Name one that it has, "
        + "with `handler:` in a scenario or --handler on the command line, or add this one to the plugin."
    }
  }
}

/// A plugin in this process: a shared library and its six symbols.
///
/// Loading runs the plugin's own code; a plugin that crashes takes the process down.
package struct PluginLibrary: @unchecked Sendable {
  // @unchecked: C function pointers, which the ABI allows to be called from any thread.

  /// The file that the plugin was loaded from.
  package let path: String
  package let initialize: NylonInitialize
  package let registerSessionStream: NylonRegisterSessionStream
  package let eventStream: NylonEventStream
  package let closeSessionStream: NylonCloseSessionStream
  package let free: NylonPluginFree
  /// Called once, at the end.
  package let shutdown: NylonShutdown

  /// Loads a plugin and resolves its symbols; does not call `initialize`.
  package init(path: String) throws(PluginError) {
    try Self.checkFile(path)
    guard let handle = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
      throw Self.loadError(path: path, why: dlerror().map { String(cString: $0) } ?? "unknown error")
    }
    let names = [
      "initialize", "register_session_stream", "event_stream", "close_session_stream", "plugin_free",
      "shutdown",
    ]
    let symbols = names.map { dlsym(handle, $0) }
    let missing = zip(names, symbols).filter { $0.1 == nil }.map(\.0)
    guard missing.isEmpty else { throw .symbolsMissing(path: path, symbols: missing) }
    self.path = path
    // The casts give each symbol the type that the ABI defines; nothing can check it.
    initialize = unsafeBitCast(symbols[0], to: NylonInitialize.self)
    registerSessionStream = unsafeBitCast(symbols[1], to: NylonRegisterSessionStream.self)
    eventStream = unsafeBitCast(symbols[2], to: NylonEventStream.self)
    closeSessionStream = unsafeBitCast(symbols[3], to: NylonCloseSessionStream.self)
    free = unsafeBitCast(symbols[4], to: NylonPluginFree.self)
    shutdown = unsafeBitCast(symbols[5], to: NylonShutdown.self)
  }

  /// Initializes the plugin with its configuration.
  package func start(configJSON: String) {
    var text = configJSON
    text.withUTF8 { bytes in
      bytes.withMemoryRebound(to: CChar.self) { initialize($0.baseAddress, Int32($0.count)) }
    }
  }

  /// Checks what can be checked without loading: the file exists, is readable and is an ELF file.
  package static func checkFile(_ path: String) throws(PluginError) {
    var status = stat()
    guard stat(path, &status) == 0 else {
      if errno == ENOENT || errno == ENOTDIR { throw .missing(path: path) }
      throw .unreadable(path: path, why: String(cString: strerror(errno)))
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw .notALibrary(path: path, why: "it is not a regular file")
    }
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw .unreadable(path: path, why: String(cString: strerror(errno))) }
    defer { close(file) }
    var magic = [UInt8](repeating: 0, count: 4)
    guard read(file, &magic, 4) == 4, magic == [0x7F, 0x45, 0x4C, 0x46] else {
      throw .notALibrary(path: path, why: "it does not begin as an ELF file does")
    }
  }

  private static func loadError(path: String, why: String) -> PluginError {
    let marks = ["invalid ELF", "file too short", "wrong ELF class", "cannot dynamically load"]
    return marks.contains { why.contains($0) }
      ? .notALibrary(path: path, why: why) : .notLoadable(path: path, why: why)
  }
}
