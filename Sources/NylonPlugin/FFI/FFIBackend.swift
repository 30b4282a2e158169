import CNylonABI
import FoundationEssentials
import Nylon

/// A phase that came through `event_stream`: every call goes to the host's callback at once.
final class FFIBackend: PhaseBackend {
  private let mailbox: ReadMailbox
  private let writer = FlatBufferWriter()
  private let readTimeoutMilliseconds: Int
  private var callback: NylonCallback?
  private var sessionID: UInt32 = 0
  private var phase = Phase.zero

  init(mailbox: ReadMailbox, readTimeoutMilliseconds: Int) {
    self.mailbox = mailbox
    self.readTimeoutMilliseconds = readTimeoutMilliseconds
  }

  func begin(sessionID: UInt32, phase: Phase, callback: NylonCallback) {
    self.sessionID = sessionID
    self.phase = phase
    self.callback = callback
  }

  var transport: Transport { .ffi }

  private func send(_ method: Method, _ payload: UnsafeRawBufferPointer, in phase: Phase) {
    let start = payload.isEmpty ? nil : payload.baseAddress
    var buffer = NylonFfiBuffer(
      sid: sessionID, phase: phase.rawValue, method: method.rawValue,
      ptr: start?.assumingMemoryBound(to: UInt8.self), len: UInt64(payload.count))
    callback?(&buffer)
  }

  private func send(_ method: Method, _ payload: UnsafeRawBufferPointer) {
    send(method, payload, in: phase)
  }

  private func send(_ method: Method, text: String) {
    var text = text
    text.withUTF8 { send(method, UnsafeRawBufferPointer($0)) }
  }

  /// Asks the host and waits; the answer's bytes are valid until the next read.
  private func read(
    _ method: Method, argument: String = ""
  ) throws(PluginError) -> UnsafeRawBufferPointer {
    guard mailbox.expect(sessionID: sessionID, method: method) else {
      throw .sessionClosed(method: method)
    }
    var argument = argument
    argument.withUTF8 { send(method, UnsafeRawBufferPointer($0), in: .zero) }
    switch mailbox.wait(timeoutMilliseconds: readTimeoutMilliseconds) {
    case .answer(let bytes): return bytes
    case .closed: throw .sessionClosed(method: method)
    case .timedOut:
      throw .readTimedOut(method: method, timeoutMilliseconds: readTimeoutMilliseconds)
    }
  }

  func text(_ method: Method) throws(PluginError) -> String {
    String(decoding: try read(method), as: UTF8.self)
  }

  func bytes(_ method: Method) throws(PluginError) -> [UInt8] { [UInt8](try read(method)) }

  func headers(_ method: Method) throws(PluginError) -> [KeyValue] {
    let bytes = try read(method)
    // A host that has none to tell may answer nothing at all.
    if bytes.isEmpty { return [] }
    do {
      return try HeaderTable.decode(bytes)
    } catch {
      throw .badAnswer(method: method, wanted: "a NylonHttpHeaders table")
    }
  }

  func params() throws(PluginError) -> [String: String] {
    let json = try read(.readRequestParams)
    if json.isEmpty { return [:] }
    guard let params = try? JSONDecoder().decode([String: String].self, from: Data(json)) else {
      throw .badAnswer(method: .readRequestParams, wanted: "a JSON object of strings")
    }
    return params
  }

  func requestHeader(_ name: String) throws(PluginError) -> String {
    String(decoding: try read(.readRequestHeader, argument: name), as: UTF8.self)
  }

  func setHeader(_ name: String, _ value: String) throws(PluginError) {
    do {
      send(
        .setResponseHeader, try HeaderKeyValueCodec.encode(key: name, value: value, with: writer))
    } catch {
      throw .tooLarge(error)
    }
  }

  func removeHeader(_ name: String) { send(.removeResponseHeader, text: name) }

  func setStatus(_ status: UInt16) {
    withUnsafeBytes(of: status.bigEndian) { send(.setResponseStatus, $0) }
  }

  func setBody(_ bytes: UnsafeRawBufferPointer) { send(.setResponseFullBody, bytes) }

  func streamHeader() { send(.setResponseStreamHeader, UnsafeRawBufferPointer(start: nil, count: 0)) }

  func streamData(_ bytes: UnsafeRawBufferPointer) { send(.setResponseStreamData, bytes) }

  func finish(_ method: Method) { send(method, UnsafeRawBufferPointer(start: nil, count: 0)) }
}
