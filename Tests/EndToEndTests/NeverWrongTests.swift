import TestSupport
import Foundation
@testable import Lab
@testable import Results
import Report
import Testing

extension EndToEnd {
  @Suite("No wrong figure is called valid, whatever a worker, a plugin or a broker does")
  struct NeverWrongTests {
    let sandbox: Sandbox

    init() throws { sandbox = try Sandbox() }

    /// The run ended with 81 for this reason, and said these words.
    private func expectInvalid(_ finished: Finished, _ code: String, _ words: String...) throws {
      #expect(finished.code == 81, "\(finished.out)\(finished.err)")
      let one = try #require(try sandbox.latest().measurements.first)
      let reason = one.invalidReasons.first { $0.code.rawValue == code }
      #expect(reason != nil, "\(one.invalidReasons)")
      for word in words { #expect(reason?.detail.contains(word) == true, "\(one.invalidReasons)") }
      for scope in one.scopes { #expect(scope.counts.closes) }
    }

    // MARK: Dialects

    @Test(
      "A handler of 20 ms takes 20 ms and a little in the worker's own dialect",
      arguments: [
        ("reply", "reply"), ("reply-sdk", "reply-sdk"), ("stream", "stream-sdk"),
        ("stream-bare", "stream-sdk"),
        ("stream-late", "stream-sdk"), ("stream", "detect"), ("stream-bare", "detect"),
      ])
    func rightDialect(_ mode: String, _ dialect: String) throws {
      let program = try ForeignWorker.build(in: sandbox)
      let finished = try sandbox.run(ForeignWorker.scenario(program, mode, dialect: dialect))
      let document = try sandbox.latest()
      expectHonest(finished, document)
      expectCounts(document)
      let request = try #require(document.measurements[0].request)
      #expect(request.response.leastNanoseconds >= 20_000_000)
      #expect(request.counts.duplicates + request.counts.late == 0)
    }

    @Test(
      "In another dialect the same handler has no valid figure, and the message says what was seen",
      .tags(.besideOthers),
      arguments: [
        ("stream", "reply", "has `method`, as those of dialect stream-sdk"),
        ("stream", "reply-sdk", "has `method`, as those of dialect stream-sdk"),
        ("stream-bare", "reply", "has `method`, as those of dialect stream-sdk"),
        ("stream-bare", "reply-sdk", "has `method`, as those of dialect stream-sdk"),
        ("late-action", "reply", "has `method`, as those of dialect stream-sdk"),
        ("late-action", "reply-sdk", "has `method`, as those of dialect stream-sdk"),
        ("reply-sdk", "reply", "this worker speaks reply-sdk"),
        ("reply", "reply-sdk", "has `action`, as those of dialect reply"),
      ])
    func wrongDialect(mode: String, dialect: String, words: String) throws {
      let program = try ForeignWorker.build(in: sandbox)
      let finished = try sandbox.run(ForeignWorker.scenario(program, mode, dialect: dialect))
      try expectInvalid(finished, "wrong_dialect", words, "dialect:")
    }

    // MARK: No answers

    private let gate = "expect: [nats.closed-1.timeouts == 0]\n"

    @Test(
      "A worker that subscribes and never answers, also behind a gate that only asks for no timeouts",
      .tags(.besideOthers))
    func muteWorker() throws {
      let program = try ForeignWorker.build(in: sandbox)
      // Longer than the load: what hangs from the warm-up on would be in no count.
      let scenario = ForeignWorker.scenario(program, "mute")
        .replacingOccurrences(of: "timeout_ms: 400", with: "timeout_ms: 30000")
      let finished = try sandbox.run(scenario + "\n" + gate, "--gate")
      try expectInvalid(
        finished, "no_answers", "none of 1 requests", "request_filter: unanswered at the end 1",
        "reply subject")
      #expect(try sandbox.latest().measurements[0].request?.counts.lost == 1)
    }

    @Test("A plugin that never calls back", .tags(.besideOthers), arguments: ["50", "30000"])
    func mutePlugin(timeout: String) throws {
      let plugin = try CPlugin(event: "").build(in: sandbox)
      let finished = try sandbox.run(
        Small.plugin(plugin).replacingOccurrences(of: "timeout_ms: 100", with: "timeout_ms: \(timeout)"))
      try expectInvalid(finished, "no_answers", "request_filter: ", "must call back")
      #expect(try sandbox.latest().measurements[0].request?.counts.sent ?? 0 > 0)
    }

    @Test("A broker that takes requests and delivers none", .tags(.besideOthers))
    func swallowingBroker() throws {
      let broker = try SwallowingBroker(in: sandbox)
      let scenario = Small.pool(workers: "{count: 1}").replacingOccurrences(
        of: "servers: []", with: "servers: [\"\(broker.url)\"]")
      let finished = try sandbox.run(scenario)
      try expectInvalid(finished, "no_answers", "request_filter: ")
      kill(broker.command.pid, SIGKILL)
      _ = broker.command.finish()
    }

    @Test("Nobody is subscribed, and the subject is named", .tags(.besideOthers))
    func nobody() throws {
      let broker = try RunningBroker(in: sandbox)
      let scenario = Small.pool(workers: "{count: 1}").replacingOccurrences(
        of: "servers: []", with: "servers: [\"\(broker.url)\"]")
      let finished = try sandbox.run(scenario)
      try expectInvalid(
        finished, "no_answers", "nobody is subscribed to nylon.plugin.example.request_filter",
        "Start the workers")
      broker.stop()
    }

    @Test("The first error of a worker is quoted", .tags(.besideOthers))
    func workerError() throws {
      let program = try ForeignWorker.build(in: sandbox)
      let finished = try sandbox.run(ForeignWorker.scenario(program, "error"))
      try expectInvalid(
        finished, "no_answers", "\"the user store is empty\"", "request_filter: handler errors")
    }

    @Test("The first difference of `verify:` is shown, in process and behind a broker", .tags(.besideOthers))
    func difference() throws {
      let verify = ", verify: {status: 201}"
      let finished = try sandbox.run(
        Small.both.replacingOccurrences(of: "handler: authz", with: "handler: noop\(verify)"),
        "--set", "replicates=1")
      let words = "verify: status is 200, wanted 201"
      try expectInvalid(finished, "no_answers", words, "responses differ from `verify:`")
      for one in try sandbox.latest().measurements {
        #expect(one.invalidReasons.contains { $0.detail.contains(words) }, "\(one.target)")
      }
    }

    // MARK: Stalls

    @Test(
      "A plugin that stands still from the middle on, inside a call or without an answer",
      .tags(.besideOthers),
      arguments: ["if (++count == 2000) usleep(1500000);", "if (++count > 2000) return;"])
    func stalledPlugin(_ stall: String) throws {
      let plugin = try CPlugin(event: "static int count; \(stall) answer(event, 1);").build(in: sandbox)
      let times = "warmup_seconds: 0\nmeasure_seconds: 2\ndrain_seconds: 0.2\n"
      try expectInvalid(
        sandbox.run(Small.plugin(plugin, times: times)), "stalled", "none was answered for", "the plugin")
    }

    @Test("A worker that stops answering", .tags(.besideOthers))
    func stalledWorker() throws {
      let program = try ForeignWorker.build(in: sandbox)
      let finished = try sandbox.run(ForeignWorker.scenario(program, "half 400", measureSeconds: 1))
      try expectInvalid(finished, "stalled", "none was answered for")
    }

    @Test("A broker that is killed under load", .tags(.besideOthers))
    func killedBroker() throws {
      let broker = try RunningBroker(in: sandbox)
      let times = "warmup_seconds: 0\nmeasure_seconds: 3\ndrain_seconds: 0.2\n"
      let command = try sandbox.start(
        run: Small.pool(workers: "{count: 1, command: nylon-worker}", times: times),
        ["--server", broker.url])
      // Requests go through it: the load is under way.
      #expect(eventually { (try? broker.monitor.statistics().inMessages) ?? 0 > 2000 })
      kill(broker.command.pid, SIGKILL)
      _ = broker.command.finish()
      try expectInvalid(command.finish(), "stalled", "the broker or the workers")
    }

    // MARK: Second runs

    @Test("A second run against running workers that keep their sessions is answered like the first")
    func secondRun() throws {
      let broker = try RunningBroker(in: sandbox)
      let program = try ForeignWorker.build(in: sandbox)
      let worker = try sandbox.start(
        program: program, ["once"], environment: ["NATS_SERVERS": broker.url, "NATS_GROUP": "workers"])
      #expect(eventually { worker.out.contains("started successfully") })
      let scenario = ForeignWorker.scenario(program, "once", measureSeconds: 0.2)
        .replacingOccurrences(of: "command: \"\(program) once\"", with: "count: 1")
        .replacingOccurrences(of: "{count: 1, count: 1}", with: "{count: 1}")
        .replacingOccurrences(of: "servers: []", with: "servers: [\"\(broker.url)\"]")
      for _ in 0..<3 {
        let finished = try sandbox.run(scenario)
        let document = try sandbox.latest()
        expectHonest(finished, document)
        let counts = try #require(document.measurements[0].request?.counts)
        #expect(counts.ok == counts.sent && counts.ok > 0)
      }
      kill(worker.pid, SIGKILL)
      _ = worker.finish()
      broker.stop()
    }

    // MARK: Punctuality

    @Test("An open load on a target that takes 5 ms is on time and reaches its rate")
    func punctual() throws {
      let plugin = try CPlugin(event: "usleep(5000); answer(event, 1);").build(in: sandbox)
      let scenario = """
        name: punctual
        plugins: [{name: given, type: ffi, file: \(plugin)}]
        targets: [{name: given, plugin: given, handler: main, phases: [request_filter]}]
        loads: [{mode: open, rate_per_second: 100, arrivals: uniform}]
        warmup_seconds: 0.2
        measure_seconds: 1
        """
      let finished = try sandbox.run(scenario)
      expectHonest(finished, try sandbox.latest())
    }
  }
}

/// A nats-server that the test runs, as a user would. It chooses its ports itself: one that the test found free
/// could be the source port of another test's connection a moment later.
struct RunningBroker {
  let command: RunningCommand
  let url: String
  let monitor: BrokerMonitor

  init(in sandbox: Sandbox) throws {
    let command = try sandbox.start(
      program: "/usr/bin/env", ["nats-server", "-a", "127.0.0.1", "-p", "-1", "-m", "-1"],
      environment: ["PATH": "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/bin"])
    try #require(eventually { command.err.contains("Server is ready") }, "\(command.err)")
    self.command = command
    url = "nats://127.0.0.1:\(try Self.port(after: "client connections on 127.0.0.1:", in: command.err))"
    monitor = BrokerMonitor(port: try Self.port(after: "http monitor on 127.0.0.1:", in: command.err))
  }

  private static func port(after words: String, in log: String) throws -> UInt16 {
    let place = try #require(log.firstRange(of: words), "\(log)")
    return try #require(UInt16(log[place.upperBound...].prefix { $0.isNumber }))
  }

  func stop() {
    kill(command.pid, SIGTERM)
    _ = command.finish()
  }
}

/// A broker in C that greets and answers PING, and delivers nothing.
struct SwallowingBroker {
  let command: RunningCommand
  let url: String

  init(in sandbox: Sandbox) throws {
    let file = try sandbox.write(Self.source, as: "broker.c")
    let program = try CPlugin.compile(
      file, to: "swallowing-broker", in: sandbox, options: ["-O1", "-pthread"])
    let command = try sandbox.start(program: program, [])
    try #require(eventually { command.out.contains("\n") })
    self.command = command
    url = "nats://127.0.0.1:\(command.out.prefix { $0.isNumber })"
  }

  private static let source = #"""
    #include <arpa/inet.h>
    #include <pthread.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>
    static void *serve(void *argument) {
      FILE *client = fdopen((int)(intptr_t)argument, "r+");
      int out = dup(fileno(client));
      char line[65536];
      dprintf(out, "INFO {\"server_id\":\"X\",\"version\":\"2.9.10\",\"max_payload\":1048576,\"headers\":true}\r\n");
      while (fgets(line, sizeof line, client))
        if (!strncmp(line, "PING", 4)) dprintf(out, "PONG\r\n");
      fclose(client);
      close(out);
      return NULL;
    }
    int main(void) {
      struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
      socklen_t size = sizeof address;
      int listener = socket(AF_INET, SOCK_STREAM, 0);
      if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 16)) return 1;
      if (getsockname(listener, (struct sockaddr *)&address, &size)) return 1;
      printf("%d\n", ntohs(address.sin_port));
      fflush(stdout);
      while (1) {
        pthread_t thread;
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)accept(listener, NULL, NULL));
        pthread_detach(thread);
      }
    }
    """#
}
