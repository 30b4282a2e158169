import CNylonABI
import Glibc
import NylonPlugin
import Nylon

extension PluginSymbols {
  /// The symbols of a server in this process.
  static func of(_ server: FFIServer) -> PluginSymbols {
    PluginSymbols(
      initialize: { json in
        json.withCString { server.initialize($0, Int32(json.utf8.count)) }
      },
      register: { id, entry, callback in
        entry.withCString { server.registerSessionStream(id, $0, UInt32(entry.utf8.count), callback) }
      },
      event: { id, phase, method, data in
        withEvent(id, phase, method, data) { server.eventStream($0) }
      },
      close: { server.closeSessionStream($0) },
      shutdown: { server.shutdown() })
  }

  /// The symbols of a shared library that lies beside the tests; nil when it was not built.
  static func loaded(_ library: String) -> PluginSymbols? {
    var buffer = [CChar](repeating: 0, count: 4096)
    guard readlink("/proc/self/exe", &buffer, buffer.count - 1) > 0 else { return nil }
    let path = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let folder = path.split(separator: "/").dropLast().joined(separator: "/")
    guard let handle = dlopen("/\(folder)/\(library)", RTLD_NOW | RTLD_LOCAL) else { return nil }
    return of(
      symbol(handle, "initialize"), symbol(handle, "register_session_stream"),
      symbol(handle, "event_stream"), symbol(handle, "close_session_stream"),
      symbol(handle, "shutdown"))
  }

  private static func symbol<Function>(_ handle: UnsafeMutableRawPointer, _ name: String) -> Function? {
    dlsym(handle, name).map { unsafeBitCast($0, to: Function.self) }
  }

  private static func of(
    _ initialize: NylonInitialize?, _ register: NylonRegisterSessionStream?,
    _ event: NylonEventStream?, _ close: NylonCloseSessionStream?, _ shutdown: NylonShutdown?
  ) -> PluginSymbols? {
    guard let initialize, let register, let event, let close, let shutdown else { return nil }
    return PluginSymbols(
      initialize: { json in json.withCString { initialize($0, Int32(json.utf8.count)) } },
      register: { id, entry, callback in
        entry.withCString { register(id, $0, UInt32(entry.utf8.count), callback) }
      },
      event: { id, phase, method, data in withEvent(id, phase, method, data) { event($0) } },
      close: { close($0) }, shutdown: { shutdown() })
  }

  private static func withEvent(
    _ id: UInt32, _ phase: Phase, _ method: Method, _ data: [UInt8],
    _ body: (UnsafePointer<NylonFfiBuffer>) -> Void
  ) {
    data.withUnsafeBufferPointer { bytes in
      var event = NylonFfiBuffer(
        sid: id, phase: phase.rawValue, method: method.rawValue, ptr: bytes.baseAddress,
        len: UInt64(bytes.count))
      body(&event)
    }
  }
}
