import Glibc
import Nylon

/// A backend for a request that carries its HTTP context: reads are local, changes are collected for the
/// reply.
final class NATSBackend: PhaseBackend {
  private var view = HTTPContextView()
  private var timestampMilliseconds: UInt64 = 0
  private var isStreaming = false

  /// The changes that the handler has made so far.
  private(set) var change = HTTPContextChange() {
    didSet { isChanged = true }
  }
  /// Whether the handler has changed anything. Reading this costs nothing, whereas reading `change` copies
  /// it.
  private(set) var isChanged = false

  var transport: Transport { .nats }

  func begin(view: HTTPContextView, timestampMilliseconds: UInt64) {
    self.view = view
    self.timestampMilliseconds = timestampMilliseconds
    isStreaming = false
    if isChanged {
      change = HTTPContextChange()
      isChanged = false
    }
  }

  /// Drops the view, whose bytes are about to be released.
  func end() { view = HTTPContextView() }

  // MARK: reads

  func text(_ method: Method, _ argument: String) throws(PluginError) -> String {
    switch method {
    case .readRequestMethod: view.method ?? ""
    case .readRequestPath: view.path ?? ""
    case .readRequestQuery: view.query ?? ""
    case .readRequestURL: url
    case .readRequestHeader: view.requestHeader(argument) ?? ""
    case .readRequestHost: view.requestHeader("host") ?? ""
    case .readRequestClientIP: clientIP
    case .readRequestBytes: "\(view.requestBody.count)"
    case .readRequestTimestamp: "\(timestampMilliseconds)"
    case .readResponseStatus: "\(change.response.status ?? view.status ?? 200)"
    case .readResponseBytes: "\(change.response.body?.count ?? view.responseBody.count)"
    case .readResponseDuration: "\(durationMilliseconds)"
    default: ""
    }
  }

  func bytes(_ method: Method) throws(PluginError) -> [UInt8] {
    switch method {
    case .readRequestFullBody: [UInt8](view.requestBody)
    case .readResponseFullBody: change.response.body ?? [UInt8](view.responseBody)
    default: []
    }
  }

  func headers(_ method: Method) throws(PluginError) -> [KeyValue] {
    method == .readRequestHeaders ? view.requestHeaders ?? [] : responseHeaders
  }

  func params() throws(PluginError) -> [String: String] {
    Dictionary((view.params ?? []).map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last })
  }

  private var url: String {
    let path = view.path ?? ""
    guard let query = view.query, !query.isEmpty else { return path }
    return "\(path)?\(query)"
  }

  private var clientIP: String {
    if let address = view.requestHeader("x-real-ip"), !address.isEmpty { return address }
    let list = view.requestHeader("x-forwarded-for") ?? ""
    return String(list.prefix { $0 != "," && $0 != " " })
  }

  private var durationMilliseconds: UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let milliseconds = UInt64(now.tv_sec) * 1000 + UInt64(now.tv_nsec) / 1_000_000
    return milliseconds > timestampMilliseconds ? milliseconds - timestampMilliseconds : 0
  }

  private var responseHeaders: [KeyValue] { change.response.headers ?? view.responseHeaders ?? [] }

  // MARK: changes

  func setHeader(_ name: String, _ value: String) {
    var headers = responseHeaders
    if let index = headers.firstIndex(where: { HeaderName.equal($0.key, name) }) {
      headers[index] = KeyValue(key: name, value: value)
      // If the header occurred several times, only this value remains.
      if index + 1 < headers.count {
        headers[(index + 1)...].removeAll { HeaderName.equal($0.key, name) }
      }
    } else {
      headers.append(KeyValue(key: name, value: value))
    }
    change.response.headers = headers
  }

  func removeHeader(_ name: String) {
    let headers = responseHeaders.filter { !HeaderName.equal($0.key, name) }
    if headers.count < responseHeaders.count { change.response.headers = headers }
  }

  func setStatus(_ status: UInt16) { change.response.status = status }

  func setBody(_ bytes: [UInt8]) { change.response.body = bytes }

  /// Does not send anything, because status and headers travel with the reply.
  func streamHeader() {
    if !isStreaming { change.response.body = [] }
    isStreaming = true
  }

  func streamData(_ bytes: [UInt8]) {
    streamHeader()
    change.response.body?.append(contentsOf: bytes)
  }

  /// Does nothing, because the reply is built from the context, which records the call.
  func finish(_ method: Method) {}
}
