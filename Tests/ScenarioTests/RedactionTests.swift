import Foundation
import Nylon
import Testing

@testable import Scenario

@Suite("Secrets stay inside")
struct RedactionTests {
  @Test(
    "The user part of a URL is hidden",
    arguments: [
      ("nats://u:p@h:4222", "nats://***@h:4222"), ("nats://token@h", "nats://***@h"),
      ("nats://u:p/w@x@h", "nats://***@h"), ("u:p@h:1", "***@h:1"), ("nats://h:1", "nats://h:1"),
      ("a nats://u:p@h, tls://x:y@i/ b", "a nats://***@h, tls://***@i/ b"),
      ("nats://h?token=x", "nats://h?***"),
      ("/login?access_token=a.b-c&page=1", "/login?access_token=***&page=1"),
      ("/a?X-Amz-Signature=ab12;k=v&sig=", "/a?X-Amz-Signature=***;k=v&sig="),
      ("a=b=c password=p==, n=1", "a=b=c password=***, n=1"),
      ("send 'Authorization: Bearer ey.J-1' now", "send 'Authorization: Bearer ***' now"),
      ("a bearer of news", "a bearer *** news"),
      ("", ""), ("@", "***@"),
    ])
  func urls(_ url: String, _ expected: String) { #expect(Redaction.redactedURL(url) == expected) }

  @Test(
    "The secrets of an argument are hidden, also in a command",
    arguments: [
      ("./w --token hunter2 --level=3", "./w --token *** --level=3"),
      ("env NATS_TOKEN=hunter2 ./w nats://u:p@h", "env NATS_TOKEN=*** ./w nats://***@h"),
      ("--workers=./w --token hunter2", "--workers=***"),
      ("messaging.0.auth.token=hunter2", "messaging.0.auth.token=***"),
      ("nats://u:p@h", "nats://***@h"), ("it's mine.yaml", "it's mine.yaml"), ("p99 < 5ms", "p99 < 5ms"),
    ])
  func arguments(_ text: String, _ expected: String) { #expect(Redaction.argument(text) == expected) }

  @Test("A redacted plan holds no secret and is otherwise the same")
  func plan() throws {
    let secret = "hunter2"
    let text = small.replacingOccurrences(
      of: "servers: [nats://127.0.0.1:4222]}",
      with:
        "servers: ['nats://u:\(secret)@h:1'], auth: {token: \(secret), user: \(secret), password: \(secret), "
        + "credentials: /\(secret), nkey: /\(secret)}}"
    ).replacingOccurrences(
      of: "file: ExamplePlugin}", with: "file: ExamplePlugin, config: {a: [{api_key: \(secret), n: 1}]}}"
    ).replacingOccurrences(
      of: "plugin: pool}",
      with: "plugin: pool, workers: {command: 'w --token \(secret) --creds=\(secret) nats://a:\(secret)@h', "
        + "environment: {NATS_TOKEN: \(secret), URL: 'nats://a:\(secret)@h', PLAIN: yes}}}")
    let plan = try load(text + "request: {headers: {Authorization: \(secret), host: h}}\n")
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    #expect(String(decoding: try encoder.encode(plan), as: UTF8.self).contains(secret))
    let redacted = plan.redacted()
    #expect(!String(decoding: try encoder.encode(redacted), as: UTF8.self).contains(secret))
    #expect(redacted.targets.map(\.name) == plan.targets.map(\.name))
    guard case .nats(let spec) = redacted.targets[1].transport,
      case .ffi(let ffi) = redacted.targets[0].transport
    else {
      Issue.record("transports changed")
      return
    }
    #expect(spec.servers == ["nats://***@h:1"] && spec.auth.token == "***")
    #expect(spec.workers?.command == ["w", "--token", "***", "--creds=***", "nats://***@h"])
    #expect(spec.workers?.environment["PLAIN"] == "yes")
    #expect(ffi.configJSON == #"{"a":[{"api_key":"***","n":1}]}"#)
  }

  @Test("Every key that the schema calls secret is masked")
  func schema() {
    #expect(
      Schema.secrets == [
        "auth", "token", "user", "password", "credentials", "credentials_file", "nkey",
      ])
    for name in Schema.secrets { #expect(Redaction.assignment("a.\(name)=x") == "a.\(name)=***") }
  }

  @Test("A secret in a path's query, or within a longer value of a configuration or a header, is masked")
  func withinValues() throws {
    let config =
      "config: {call: 'curl -H \"Authorization: Bearer hunter2\" https://u:hunter2@h/?key=hunter2', n: 1}}"
    let text = small.replacingOccurrences(of: "file: ExamplePlugin}", with: "file: ExamplePlugin, " + config)
    let request = "request: {path: '/a?page=1&api_key=hunter2', headers: {x-forward: 'Bearer hunter2'}}\n"
    let redacted = try load(text + request).redacted()
    #expect(redacted.request.path == "/a?page=1&api_key=***")
    #expect(redacted.request.headers.map(\.value) == ["Bearer ***"])
    guard case .ffi(let spec) = redacted.targets[0].transport else {
      Issue.record("the transport changed")
      return
    }
    #expect(
      spec.configJSON == #"{"call":"curl -H \"Authorization: Bearer ***\" https://***@h/?***","n":1}"#,
      "\(spec.configJSON)")
  }

  @Test("An @ in a path or a header is no secret")
  func prose() throws {
    let plan = try load(small + "request: {path: '/users/@me?x=1', headers: {from: a@b.test}}\n")
    #expect(plan.redacted() == plan)
  }

  @Test("No error shows a secret")
  func errors() throws {
    let text = small.replacingOccurrences(
      of: "servers: [nats://127.0.0.1:4222]}",
      with: "servers: ['http://u:hunter2@h', 'nats://u:hun#ter2@'], auth: {enabled: hunter2, tokn: hunter2, "
        + "token: [hunter2], password: \"hunter2\\n\", user: x}}")
    let fault = try faults(text + "request: {headers: {authorization: [[hunter2]]}}\n")
    #expect(!fault.contains("hunter2") && !fault.contains("ter2"), "\(fault)")
    #expect(fault.contains("did you mean 'token'?"))
    let syntax = try faults("messaging:\n  - {auth: {token: hunter2, password: 'hunter2}}\n")
    #expect(!syntax.contains("hunter2"))
  }
}
