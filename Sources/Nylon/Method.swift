/// The method of a call between plugin and host, identified by its number on the wire.
///
/// This is a struct rather than an enum, so that unknown numbers can be carried and reported.
public struct Method: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
  /// The number on the wire.
  public let rawValue: UInt32

  /// Creates the method with a number, known or not.
  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  package static let next = Method(rawValue: 1)  // done, go on
  package static let end = Method(rawValue: 2)  // done, the plugin's response is the answer
  package static let getPayload = Method(rawValue: 3)  // answer: the middleware's payload, JSON

  package static let setResponseHeader = Method(rawValue: 100)  // payload: `HeaderKeyValue`
  package static let removeResponseHeader = Method(rawValue: 101)  // payload: the header's name
  package static let setResponseStatus = Method(rawValue: 102)  // payload: two bytes, big-endian
  package static let setResponseFullBody = Method(rawValue: 103)  // payload: the body
  package static let setResponseStreamData = Method(rawValue: 104)  // payload: a piece of the streamed body
  package static let setResponseStreamEnd = Method(rawValue: 105)  // ends the stream and the phase
  package static let setResponseStreamHeader = Method(rawValue: 106)  // sends status and headers ahead
  package static let readResponseFullBody = Method(rawValue: 107)  // answer: the body
  package static let readResponseStatus = Method(rawValue: 108)  // answer: decimal text
  package static let readResponseBytes = Method(rawValue: 109)  // answer: decimal text
  package static let readResponseHeaders = Method(rawValue: 110)  // answer: `NylonHttpHeaders`
  package static let readResponseDuration = Method(rawValue: 111)  // answer: milliseconds, decimal text
  package static let readResponseError = Method(rawValue: 112)  // answer: text, empty when there was no error

  package static let readRequestFullBody = Method(rawValue: 200)  // answer: the body
  package static let readRequestHeader = Method(rawValue: 201)  // payload: the name; answer: value or empty
  package static let readRequestHeaders = Method(rawValue: 202)  // answer: `NylonHttpHeaders`
  package static let readRequestURL = Method(rawValue: 203)  // answer: text
  package static let readRequestPath = Method(rawValue: 204)  // answer: text
  package static let readRequestQuery = Method(rawValue: 205)  // answer: text
  package static let readRequestParams = Method(rawValue: 206)  // answer: a JSON object of strings
  package static let readRequestHost = Method(rawValue: 207)  // answer: text
  package static let readRequestClientIP = Method(rawValue: 208)  // answer: text
  package static let readRequestMethod = Method(rawValue: 209)  // answer: text
  package static let readRequestBytes = Method(rawValue: 210)  // answer: decimal text
  package static let readRequestTimestamp = Method(rawValue: 211)  // answer: Unix milliseconds, decimal text
}

extension Method {
  /// Whether the host answers the call, so that the plugin waits.
  @inlinable
  public var isRead: Bool {
    rawValue == 3 || (107...112).contains(rawValue) || (200...211).contains(rawValue)
  }

  /// Whether the interface defines the method.
  package var isKnown: Bool { Self.names[rawValue] != nil }

  /// Whether the call ends the phase: `next`, `end`, or the end of a stream.
  @inlinable
  public var endsPhase: Bool { rawValue == 1 || rawValue == 2 || rawValue == 105 }

  /// The name, such as `set_response_header`; `method 77` for an unknown number.
  public var description: String { Self.names[rawValue] ?? "method \(rawValue)" }

  static let names: [UInt32: String] = [
    1: "next", 2: "end", 3: "get_payload",
    100: "set_response_header", 101: "remove_response_header", 102: "set_response_status",
    103: "set_response_full_body", 104: "set_response_stream_data", 105: "set_response_stream_end",
    106: "set_response_stream_header", 107: "read_response_full_body", 108: "read_response_status",
    109: "read_response_bytes", 110: "read_response_headers", 111: "read_response_duration",
    112: "read_response_error",
    200: "read_request_full_body", 201: "read_request_header", 202: "read_request_headers",
    203: "read_request_url", 204: "read_request_path", 205: "read_request_query",
    206: "read_request_params", 207: "read_request_host", 208: "read_request_client_ip",
    209: "read_request_method", 210: "read_request_bytes", 211: "read_request_timestamp",
    300: "websocket_upgrade", 301: "websocket_send_text", 302: "websocket_send_binary",
    303: "websocket_close", 310: "websocket_join_room", 311: "websocket_leave_room",
    312: "websocket_broadcast_room_text", 313: "websocket_broadcast_room_binary",
    350: "websocket_on_open", 351: "websocket_on_message_text",
    352: "websocket_on_message_binary", 353: "websocket_on_close", 354: "websocket_on_error",
  ]
}
