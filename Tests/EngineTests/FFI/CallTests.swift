import Foundation
import Lab
import Results
@testable import Scenario
import Testing

@testable import Engine
@testable import Nylon

/// Where and how a plugin calls.
struct Way: CustomTestStringConvertible {
  var dispatch: Dispatch
  var pluginThreads: Int
  var loadThreads: Int

  static let all = [Dispatch.queued, .inline].flatMap { dispatch in
    [(0, 1), (3, 1), (0, 2), (3, 2)].map {
      Way(dispatch: dispatch, pluginThreads: $0.0, loadThreads: $0.1)
    }
  }

  var testDescription: String { "\(dispatch), \(pluginThreads) plugin threads, \(loadThreads) load threads" }
}

private let content = RequestSpec(
  method: "POST", path: "/api/items?x=1&y=2", params: [KeyValue(key: "id", value: "7")],
  headers: [KeyValue(key: "Host", value: "example.org"), KeyValue(key: "X-Trace", value: "abc")],
  bodyBytes: 64, clientIP: "10.1.2.3", responseStatus: 201,
  responseHeaders: [KeyValue(key: "Server", value: "up"), KeyValue(key: "Via", value: "1.1 up")])

extension FFITests {
  @Suite struct Calls {
    @Test(arguments: Way.all) func everyReadIsAnsweredAsTheInterfaceSays(way: Way) throws {
      let reads = Nylon.Method.names.keys.sorted().map(Nylon.Method.init(rawValue:)).filter(\.isRead)
      #expect(reads.count == 1 + 6 + 12)
      let calls = reads.map {
        ScriptedCall(1, $0, $0 == .readRequestHeader ? Array("x-trace".utf8) : nil)
      }
      let plugin = try ScriptedPlugin(calls + ScriptedCall.next(), threads: way.pluginThreads)
      let measurement = try load(way).run(plugin.library)
      try expectOnlyAnswers(measurement)
      let body = RequestContent(content, seed: 1).request.body
      let texts: [(Nylon.Method, String)] = [
        (.getPayload, "{}"), (.readResponseStatus, "200"), (.readResponseBytes, "64"),
        (.readResponseError, ""), (.readRequestHeader, "abc"),
        (.readRequestURL, "http://example.org/api/items?x=1&y=2"), (.readRequestPath, "/api/items"),
        (.readRequestQuery, "x=1&y=2"), (.readRequestParams, "{\"id\":\"7\"}"),
        (.readRequestHost, "example.org"), (.readRequestClientIP, "10.1.2.3"),
        (.readRequestMethod, "POST"), (.readRequestBytes, "64"),
      ]
      for (method, text) in texts { #expect(try plugin.text(of: method) == text, "\(method)") }
      #expect(try plugin.answer(to: .readRequestFullBody).bytes == body)
      #expect(try plugin.answer(to: .readResponseFullBody).bytes == body)
      #expect(body.count == 64)
      #expect(try headers(plugin, .readRequestHeaders) == content.headers)
      #expect(try headers(plugin, .readResponseHeaders).isEmpty)
      #expect(UInt64(try plugin.text(of: .readResponseDuration)) != nil)
      let unixMilliseconds = try #require(UInt64(plugin.text(of: .readRequestTimestamp)))
      // A time in this century and in the right unit; not a duration.
      #expect((1_500_000_000_000..<4_000_000_000_000).contains(unixMilliseconds))
      let phases = measurement.scopes[1].counts.ok
      for method in reads { #expect(try plugin.answer(to: method).times >= Int(phases), "\(method)") }
    }

    @Test func aPhaseThatThePluginEndsInsideTheAnswerOfAReadIsEndedAtOnce() throws {
      // With one in flight no other session would come along and find the end.
      let plugin = try ScriptedPlugin(
        [ScriptedCall(1, .readRequestPath), ScriptedCall(3, .readRequestPath)] + ScriptedCall.next())
      let measurement = try FFILoad(load: .closed(concurrency: 1)).run(plugin.library)
      try expectOnlyAnswers(measurement)
    }

    @Test func whatIsAbsentIsAnsweredWithNothing() throws {
      let plugin = try ScriptedPlugin(
        [
          ScriptedCall(1, .readRequestHeader, Array("x-none".utf8)), ScriptedCall(1, .readRequestHost),
          ScriptedCall(1, .readRequestQuery), ScriptedCall(1, .readRequestURL),
          ScriptedCall(1, .readRequestFullBody), ScriptedCall(1, .readRequestParams),
        ] + ScriptedCall.next())
      try expectOnlyAnswers(FFILoad().run(plugin.library))
      for method in [
        Nylon.Method.readRequestHeader, .readRequestHost, .readRequestQuery, .readRequestFullBody,
      ] {
        #expect(try plugin.answer(to: method).bytes == [])
        #expect(try plugin.answer(to: method).times > 0)
      }
      #expect(try plugin.text(of: .readRequestURL) == "/")
      #expect(try plugin.text(of: .readRequestParams) == "{}")
    }

    @Test(arguments: Way.all) func everyWriteChangesWhatIsReadAndVerified(way: Way) throws {
      let calls = [
        ScriptedCall(1, .setResponseStatus, [0x01, 0xA2]),
        ScriptedCall(1, .setResponseHeader, HeaderKeyValueCodec.encode(key: "X-New", value: "first")),
        ScriptedCall(1, .setResponseHeader, HeaderKeyValueCodec.encode(key: "x-new", value: "second")),
        ScriptedCall(1, .removeResponseHeader, Array("VIA".utf8)),
        ScriptedCall(1, .setResponseFullBody, Array("whole".utf8)),
        ScriptedCall(2, .readResponseStatus), ScriptedCall(2, .readResponseHeaders),
        ScriptedCall(2, .readResponseFullBody), ScriptedCall(2, .readResponseBytes),
        ScriptedCall(3, .setResponseFullBody, []),
        ScriptedCall(3, .setResponseStreamHeader),
        ScriptedCall(3, .setResponseStreamData, Array("one,".utf8)),
        ScriptedCall(3, .setResponseStreamData, Array("two".utf8)),
        ScriptedCall(3, .setResponseStreamEnd),
        ScriptedCall(1, .next), ScriptedCall(2, .next), ScriptedCall(4, .next),
      ]
      let plugin = try ScriptedPlugin(calls, threads: way.pluginThreads)
      var load = load(way)
      load.verify = Verification(
        status: 418,
        responseHeaders: [KeyValue(key: "x-new", value: "second"), KeyValue(key: "server", value: "")],
        body: "one,two")
      try expectOnlyAnswers(load.run(plugin.library))
      #expect(try plugin.text(of: .readResponseStatus) == "418")
      #expect(try plugin.text(of: .readResponseFullBody) == "whole")
      #expect(try plugin.text(of: .readResponseBytes) == "5")
      #expect(try headers(plugin, .readResponseHeaders) == [KeyValue(key: "x-new", value: "second")])
    }

    @Test func aResponseThatIsNotAsWantedIsAnErrorEachTime() throws {
      let wanted = [
        Verification(status: 200), Verification(responseHeaders: [KeyValue(key: "via", value: "else")]),
        Verification(responseHeaders: [KeyValue(key: "x-none", value: "")]), Verification(body: "other"),
      ]
      for verify in wanted {
        let plugin = try ScriptedPlugin(ScriptedCall.next())
        var load = FFILoad(request: content)
        load.verify = verify
        let request = try #require(load.run(plugin.library).request)
        #expect(request.counts.sent > 0)
        #expect(request.counts.wrongContent == request.counts.sent)
        #expect(request.counts.handlerErrors == request.counts.sent)
        #expect(request.response.isEmpty)
      }
    }

    @Test(arguments: Way.all) func aSessionBeginsWithTheUpstreamsResponseAgain(way: Way) throws {
      // What one session appends must not be there for the next in its slot.
      let plugin = try ScriptedPlugin(
        [
          ScriptedCall(1, .setResponseFullBody, Array("a".utf8)),
          ScriptedCall(2, .setResponseStreamData, Array("b".utf8)),
          ScriptedCall(1, .removeResponseHeader, Array("server".utf8)),
          ScriptedCall(1, .next), ScriptedCall(2, .next), ScriptedCall(3, .end), ScriptedCall(4, .next),
        ], threads: way.pluginThreads)
      var load = load(way)
      load.verify = Verification(
        status: 201, responseHeaders: [KeyValue(key: "via", value: "1.1 up")], body: "ab")
      try expectOnlyAnswers(load.run(plugin.library))
    }

    @Test(arguments: Way.all) func endInTheRequestFilterSendsThePluginsOwnResponseThroughTheOtherPhases(
      way: Way
    ) throws {
      let plugin = try ScriptedPlugin(
        [
          ScriptedCall(1, .removeResponseHeader, Array("server".utf8)),
          ScriptedCall(1, .setResponseHeader, HeaderKeyValueCodec.encode(key: "X-Own", value: "1")),
          ScriptedCall(1, .setResponseFullBody, Array("own".utf8)), ScriptedCall(1, .end),
          ScriptedCall(2, .readResponseStatus), ScriptedCall(2, .readResponseHeaders),
          ScriptedCall(3, .readResponseFullBody),
        ] + ScriptedCall.next(2...4), threads: way.pluginThreads)
      var load = load(way)
      load.verify = Verification(
        status: 200, responseHeaders: [KeyValue(key: "x-own", value: "1")], body: "own")
      let measurement = try load.run(plugin.library)
      try expectOnlyAnswers(measurement)
      for scope in measurement.scopes { #expect(scope.counts.ok == measurement.scopes[0].counts.ok) }
      #expect(try plugin.text(of: .readResponseStatus) == "200")
      #expect(try headers(plugin, .readResponseHeaders) == [KeyValue(key: "X-Own", value: "1")])
      #expect(try plugin.text(of: .readResponseFullBody) == "own")
    }

    @Test func aResponseOfThePluginThatSetsNothingIsEmpty() throws {
      let plugin = try ScriptedPlugin(
        [ScriptedCall(1, .end), ScriptedCall(4, .readResponseHeaders)] + ScriptedCall.next(2...4))
      var load = FFILoad(request: content)
      load.verify = Verification(status: 200, body: "")
      try expectOnlyAnswers(load.run(plugin.library))
      #expect(try headers(plugin, .readResponseHeaders).isEmpty)
    }

    @Test func eachSessionIsOpenedAndClosedOnce() throws {
      let plugin = try ScriptedPlugin(ScriptedCall.next())
      let measurement = try FFILoad().run(plugin.library)
      // One more: the session that finds out whether the handler exists.
      let sessions = try plugin.count("count_opened")
      #expect(sessions >= Int(try #require(measurement.request).counts.sent) + 1)
      #expect(try plugin.count("count_closed") == sessions)
    }

    private func load(_ way: Way) -> FFILoad {
      FFILoad(dispatch: way.dispatch, threads: way.loadThreads, request: content)
    }

    private func headers(
      _ plugin: ScriptedPlugin, _ method: Nylon.Method
    ) throws -> [KeyValue] {
      try plugin.answer(to: method).bytes.withUnsafeBytes { try HeaderTable.decode($0) }
    }
  }
}

/// Every request of the load was answered, and nothing else happened.
func expectOnlyAnswers(_ measurement: Engine.Measurement, sourceLocation: SourceLocation = #_sourceLocation)
  throws
{
  let request = try #require(measurement.request)
  var wanted = OutcomeCounts()
  wanted.sent = request.counts.sent
  wanted.ok = request.counts.sent
  #expect(request.counts.sent > 0, sourceLocation: sourceLocation)
  #expect(request.counts == wanted, sourceLocation: sourceLocation)
  #expect(request.response.count == wanted.ok, sourceLocation: sourceLocation)
  #expect(measurement.invalidReasons.isEmpty, sourceLocation: sourceLocation)
  for scope in measurement.scopes.dropFirst() {
    #expect(scope.counts.sent == scope.counts.ok, sourceLocation: sourceLocation)
    #expect(scope.response.count == scope.counts.ok, sourceLocation: sourceLocation)
  }
}
