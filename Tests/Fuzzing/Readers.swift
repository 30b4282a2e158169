import Engine
import Foundation
import Lab
import NATS
import Nylon
import NylonPlugin
import Scenario

/// What reads a peer's bytes while a load runs, or before it.
enum Readers {
  /// What a broker sends: piece by piece until the bytes end, or break the protocol.
  static func wire(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let longestMessage = 4096
    var rest = bytes
    while !rest.isEmpty {
      let piece = WireParser.piece(rest, longestMessage: longestMessage)
      switch piece.kind {
      case .incomplete:
        promise(piece.byteCount > rest.count, "it waits for bytes that are here")
        promise(
          piece.byteCount <= WireParser.longestLine + longestMessage + 2, "it waits for more than it allows")
        return rest.count < bytes.count
      case .broken:
        promise(piece.fault != .none, "it does not say what is broken")
        return false
      case .message, .ping, .pong, .ok, .info, .error: break
      }
      promise(piece.byteCount > 0 && piece.byteCount <= rest.count, "a piece is longer than what is here")
      let start = rest.baseAddress.map { UInt(bitPattern: $0) } ?? 0
      for part in [piece.subject, piece.reply, piece.header, piece.payload] where !part.isEmpty {
        let place = UInt(bitPattern: part.baseAddress) &- start
        promise(place + UInt(part.count) <= UInt(piece.byteCount), "a part lies outside its piece")
      }
      _ = piece.isNoResponders
      promise(
        !piece.text.unicodeScalars.contains { $0.value < 32 }, "the broker's words command the terminal")
      if let info = piece.info { promise(info.longestPayload > 0, "no message fits") }
      rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.byteCount))
    }
    return true
  }

  /// A map of a worker's or of a host's, in any dialect.
  static func message(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let view = MessageView(reply: bytes)
    if let view {
      for dialect in Dialect.allCases { _ = dialect.traits.foreignSign(in: view) }
      _ = (view.requestID?.words, view.header(WorkerStamps.header).flatMap(WorkerStamps.init))
    }
    let reply = try? WorkerMessage(reply: bytes)
    promise((reply == nil) == (view == nil), "the two readers of replies disagree")
    if let reply {
      let again = try? reply.encoded().withUnsafeBytes { try WorkerMessage(reply: $0) }
      promise(again == reply, "a reply comes back as another one")
    }
    do throws(MessageError) {
      let request = try WorkerMessage(request: bytes)
      let again = try? request.encoded().withUnsafeBytes { try WorkerMessage(request: $0) }
      promise(again == request, "a request comes back as another one")
      return true
    } catch {
      promise(!error.description.isEmpty, "it does not say why")
      return reply != nil
    }
  }

  /// Reads everything readable, and changes everything that can be changed.
  private static let plugin: Plugin = {
    let plugin = Plugin()
    plugin.addPhaseHandler("all") { phase in
      phase.requestFilter { ctx in
        let request = ctx.request
        _ = (try request.method, try request.url, try request.host, try request.clientIP, try request.params)
        _ = (
          try request.headers, try request.header("x"), try request.body, try request.timestampMilliseconds
        )
        try ctx.response.setText(try request.query)
        try ctx.response.setHeader(try request.path, "a")
        ctx.end()
      }
      phase.responseFilter { ctx in
        try ctx.response.removeHeader(try ctx.response.headers.first?.key ?? "")
        try ctx.response.setStatus(try ctx.response.status)
      }
      phase.responseBodyFilter { ctx in
        try ctx.response.stream.write(try ctx.response.body)
        _ = (try ctx.response.byteCount, try ctx.response.durationMilliseconds)
      }
    }
    plugin.onInitialize { _ = try $0.decoded(as: [String: Int].self) }
    return plugin
  }()

  /// A message to a worker of the SDK: a byte for the dialect and the phase, then the map.
  static func worker(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let first = bytes.first else { return false }
    let dialects = Dialect.allCases
    let phases: [Phase?] = Phase.session + [nil]
    let runner = RequestRunner(plugin: plugin, dialect: dialects[Int(first) % dialects.count])
    let most = 1024
    let answer = runner.answer(
      to: UnsafeRawBufferPointer(rebasing: bytes.dropFirst()), phase: phases[Int(first) / 16 % phases.count],
      readAt: 1, most: most)
    guard let answer, let reply = MessageView(reply: answer) else {
      promise(answer == nil, "its answer is no reply")
      return false
    }
    promise(answer.count <= most || reply.error != nil, "it answers with more than the broker takes")
    return reply.action == .next || reply.action == .end
  }

  /// Maps that come back when a worker is asked for its dialect, each behind a byte with its length.
  static func dialect(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var reading = DialectProbe.Reading(asked: (1, 2))
    var isOver = false
    eachRecord(of: bytes, headBytes: 1) { _, map in
      isOver =
        isOver
        || reading.take(map) { method, view in
          responses.open(0, at: 1)
          _ = responses.answer(method, view.data ?? UnsafeRawBufferPointer(start: nil, count: 0), slot: 0) {
            _ in
          }
        }
    }
    if case .speaks = reading.finding { return true }
    return false
  }

  /// Tables of FlatBuffers: a context or a change of it, headers, one header.
  static func tables(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let change = try? HTTPContextChange(decoding: bytes)
    if let change {
      let again = try? change.encoded().withUnsafeBytes { try HTTPContextChange(decoding: $0) }
      promise(again == change, "a change comes back as another one")
      _ = HTTPContext().applying(change)
      _ = (try? HTTPContextView(bytes))?.requestHeader("host")
    }
    let headers = try? HeaderTable.decode(bytes)
    if let headers {
      let again = try? HeaderTable.encode(headers).withUnsafeBytes { try HeaderTable.decode($0) }
      promise(again == headers, "headers come back as others")
    }
    let pair = HeaderKeyValueCodec.decode(bytes)
    if let pair { _ = (Array(pair.key), Array(pair.value)) }
    return change != nil || headers != nil || pair != nil
  }

  /// A session's response. It keeps memory for as long as the process, so there is one.
  private static var responses: CalledResponses { shared.responses }
  private static let shared = SharedResponses()

  /// Calls of a handler's, each two bytes of the method, one of the payload's length, and the payload.
  static func calls(_ bytes: UnsafeRawBufferPointer) -> Bool {
    responses.open(0, at: 1)
    var isTaken = false
    eachRecord(of: bytes, headBytes: 3) { head, payload in
      let method = Nylon.Method(rawValue: UInt32(head[0]) << 8 | UInt32(head[1]))
      if method.isRead {
        isTaken = responses.answer(method, payload, slot: 0) { _ = Array($0) } || isTaken
      } else {
        isTaken = responses.apply(method, payload, slot: 0) || isTaken
      }
    }
    return isTaken
  }

  /// Gives each record of the bytes: its head, the last byte of which is a length, and as many bytes behind it.
  private static func eachRecord(
    of bytes: UnsafeRawBufferPointer, headBytes: Int,
    _ body: (_ head: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer) -> Void
  ) {
    var place = 0
    while place + headBytes <= bytes.count {
      let start = place + headBytes
      let end = min(bytes.count, start + Int(bytes[start - 1]))
      body(
        UnsafeRawBufferPointer(rebasing: bytes[place..<start]),
        UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
      place = end
    }
  }

  /// A broker's monitoring, from the first byte of HTTP.
  static func monitoring(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard case .body(let body) = MonitorAnswer(Data(bytes)) else { return false }
    let decoder = JSONDecoder()
    let clients = try? decoder.decode([BrokerClient].self, from: body)
    let subscriptions = try? decoder.decode([BrokerSubscription].self, from: body)
    let statistics = try? decoder.decode(BrokerStatistics.self, from: body)
    if let statistics {
      _ = BrokerActivity(from: statistics, to: statistics)
    }
    return clients != nil || subscriptions != nil || statistics != nil
  }
}

/// `@unchecked`: one target at a time uses it.
private final class SharedResponses: @unchecked Sendable {
  let responses: CalledResponses

  init() {
    let request = RequestSpec(
      to: "/a?b=c", headers: [KeyValue(key: "host", value: "example.test")], bodyBytes: 16)
    responses = CalledResponses(request, content: RequestContent(request, seed: 1))
  }
}
