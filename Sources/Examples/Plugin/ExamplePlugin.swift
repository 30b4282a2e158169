// The six C symbols of an in-process plugin. They are public because an internal
// @_cdecl function vanishes from a release build.
import CNylonABI
import ExampleHandlers
import NylonPlugin

/// Created at the first call of any symbol.
private let server = FFIServer(plugin: ExampleHandlers.makePlugin())

/// Receives the configuration, once after loading.
@_cdecl("initialize")
public func pluginInitialize(_ json: UnsafePointer<CChar>?, _ length: Int32) {
  server.initialize(json, length)
}

/// Opens a session; false when there is no such entry.
@_cdecl("register_session_stream")
public func pluginRegisterSessionStream(
  _ sessionID: UInt32, _ entry: UnsafePointer<CChar>?, _ length: UInt32, _ callback: NylonCallback?
) -> Bool {
  server.registerSessionStream(sessionID, entry, length, callback)
}

/// Starts a phase, or answers a read.
@_cdecl("event_stream")
public func pluginEventStream(_ event: UnsafePointer<NylonFfiBuffer>?) { server.eventStream(event) }

/// Closes a session.
@_cdecl("close_session_stream")
public func pluginCloseSessionStream(_ sessionID: UInt32) { server.closeSessionStream(sessionID) }

/// Frees a payload that the plugin passed to the host.
@_cdecl("plugin_free")
public func pluginFree(_ pointer: UnsafeMutablePointer<UInt8>?) { server.free(pointer) }

/// Ends the plugin.
@_cdecl("shutdown")
public func pluginShutdown() { server.shutdown() }
