/// What a call between plugin and host is about, by the number that both sides use.
///
/// A struct and not an enum: a number that nobody knows is carried, and reported, as it is.
public struct Method: RawRepresentable, Sendable, Hashable {
  /// The number on the wire.
  public let rawValue: UInt32

  /// The method of that number, known or not.
  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  // MARK: control

  /// The phase is done, go on.
  public static let next = Method(rawValue: 1)
  /// The phase is done, the plugin's response is the answer.
  public static let end = Method(rawValue: 2)
  /// Reads the payload of the route's middleware, JSON.
  public static let getPayload = Method(rawValue: 3)

  // MARK: response

  /// Payload: `HeaderKeyValue`.
  public static let setResponseHeader = Method(rawValue: 100)
  /// Payload: the header's name.
  public static let removeResponseHeader = Method(rawValue: 101)
  /// Payload: two bytes, big-endian.
  public static let setResponseStatus = Method(rawValue: 102)
  /// Payload: the body.
  public static let setResponseFullBody = Method(rawValue: 103)
  /// Payload: the next piece of a streamed body.
  public static let setResponseStreamData = Method(rawValue: 104)
  /// Ends the stream, and the phase as `next` does.
  public static let setResponseStreamEnd = Method(rawValue: 105)
  /// Sends status and headers ahead of a streamed body.
  public static let setResponseStreamHeader = Method(rawValue: 106)
  /// Answer: the body.
  public static let readResponseFullBody = Method(rawValue: 107)
  /// Answer: decimal text.
  public static let readResponseStatus = Method(rawValue: 108)
  /// Answer: decimal text.
  public static let readResponseBytes = Method(rawValue: 109)
  /// Answer: `NylonHttpHeaders`.
  public static let readResponseHeaders = Method(rawValue: 110)
  /// Answer: milliseconds, decimal text.
  public static let readResponseDuration = Method(rawValue: 111)
  /// Answer: text, empty when there was no error.
  public static let readResponseError = Method(rawValue: 112)

  // MARK: request

  /// Answer: the body.
  public static let readRequestFullBody = Method(rawValue: 200)
  /// Payload: the header's name. Answer: its value, empty when absent.
  public static let readRequestHeader = Method(rawValue: 201)
  /// Answer: `NylonHttpHeaders`.
  public static let readRequestHeaders = Method(rawValue: 202)
  /// Answer: text.
  public static let readRequestURL = Method(rawValue: 203)
  /// Answer: text.
  public static let readRequestPath = Method(rawValue: 204)
  /// Answer: text.
  public static let readRequestQuery = Method(rawValue: 205)
  /// Answer: a JSON object of strings.
  public static let readRequestParams = Method(rawValue: 206)
  /// Answer: text.
  public static let readRequestHost = Method(rawValue: 207)
  /// Answer: text.
  public static let readRequestClientIP = Method(rawValue: 208)
  /// Answer: text.
  public static let readRequestMethod = Method(rawValue: 209)
  /// Answer: decimal text.
  public static let readRequestBytes = Method(rawValue: 210)
  /// Answer: Unix milliseconds, decimal text.
  public static let readRequestTimestamp = Method(rawValue: 211)

  // MARK: WebSocket

  /// Turns the session into a WebSocket.
  public static let webSocketUpgrade = Method(rawValue: 300)
  /// Payload: text.
  public static let webSocketSendText = Method(rawValue: 301)
  /// Payload: bytes.
  public static let webSocketSendBinary = Method(rawValue: 302)
  /// Closes the WebSocket.
  public static let webSocketClose = Method(rawValue: 303)
  /// Payload: the room's name.
  public static let webSocketJoinRoom = Method(rawValue: 310)
  /// Payload: the room's name.
  public static let webSocketLeaveRoom = Method(rawValue: 311)
  /// Payload: the room's name, a NUL byte, text.
  public static let webSocketBroadcastRoomText = Method(rawValue: 312)
  /// Payload: the room's name, a NUL byte, bytes.
  public static let webSocketBroadcastRoomBinary = Method(rawValue: 313)
  /// Event: the WebSocket is open.
  public static let webSocketOnOpen = Method(rawValue: 350)
  /// Event: text came.
  public static let webSocketOnMessageText = Method(rawValue: 351)
  /// Event: bytes came.
  public static let webSocketOnMessageBinary = Method(rawValue: 352)
  /// Event: the WebSocket is closed.
  public static let webSocketOnClose = Method(rawValue: 353)
  /// Event: the WebSocket failed.
  public static let webSocketOnError = Method(rawValue: 354)
}

extension Method {
  /// Whether the host answers it, so that the plugin waits.
  @inlinable
  public var isRead: Bool {
    rawValue == 3 || (107...112).contains(rawValue) || (200...211).contains(rawValue)
  }

  /// Whether it belongs to a WebSocket, in either direction.
  @inlinable
  public var isWebSocket: Bool {
    switch rawValue {
    case 300...303, 310...313, 350...354: true
    default: false
    }
  }

  /// Whether the number has a meaning.
  @inlinable
  public var isKnown: Bool {
    switch rawValue {
    case 1...3, 100...112, 200...211: true
    default: isWebSocket
    }
  }

  /// Whether it ends the phase: `next`, `end`, and the end of a stream.
  @inlinable
  public var endsPhase: Bool { rawValue == 1 || rawValue == 2 || rawValue == 105 }

  /// Every number that has a meaning, in order.
  public static let all: [Method] = names.keys.sorted().map(Method.init(rawValue:))

  /// The name in reports, such as `set_response_header`; `method 77` for an unknown number.
  public var name: String { Self.names[rawValue] ?? "method \(rawValue)" }

  private static let names: [UInt32: String] = [
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

extension Method: CustomStringConvertible {
  /// The name.
  public var description: String { name }
}
