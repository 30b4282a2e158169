import Foundation

/// Small scenarios.
enum Small {
  static let times = "warmup_seconds: 0.1\nmeasure_seconds: 0.5\ndrain_seconds: 0.3\n"

  /// The smallest plugin, one request in flight.
  static let ffi = """
    name: small-ffi
    plugins: [{name: floor, type: ffi, file: NullPlugin}]
    targets: [{name: ffi, plugin: floor, handler: noop}]
    loads: [{mode: closed, concurrency: 1}]
    \(times)
    """

  /// Two workers behind a broker of the run's own.
  static let nats = pool(workers: "{count: 2, command: nylon-worker}")

  /// Both, with the same handler.
  static let both = """
    name: small-both
    messaging: [{name: default, servers: []}]
    plugins:
      - {name: in-process, type: ffi, file: ExamplePlugin}
      - {name: example, messaging: default, group: workers}
    targets:
      - {name: ffi, plugin: in-process, handler: authz}
      - {name: nats, plugin: example, handler: authz, workers: {count: 1, command: nylon-worker}}
    loads: [{mode: closed, concurrency: 2}, {mode: open, rate_per_second: 200}]
    replicates: 2
    \(times)
    """

  /// A pool behind a broker.
  static func pool(workers: String, auth: String = "", times: String = times, target: String = "") -> String {
    """
    name: small-nats
    messaging: [{name: default, servers: []\(auth)}]
    plugins: [{name: example, messaging: default, group: workers}]
    targets:
      - {name: nats, plugin: example, handler: noop, timeout_ms: 300, workers: \(workers)\(target)}
    loads: [{mode: closed, concurrency: 4}]
    \(times)
    """
  }

  /// A plugin's file, and then the smallest plugin: what comes after a plugin that failed.
  static func plugin(_ path: String, times: String = times) -> String {
    """
    name: small-plugin
    plugins:
      - {name: given, type: ffi, file: \(path)}
      - {name: floor, type: ffi, file: NullPlugin}
    targets:
      - {name: given, plugin: given, handler: main, timeout_ms: 100}
      - {name: floor, plugin: floor, handler: noop}
    loads: [{mode: closed, concurrency: 1}]
    \(times)
    """
  }
}

/// A plugin in C, written from the description of the interface alone: nothing of this package is
/// included.
struct CPlugin {
  /// Bodies of the functions.
  var initialize = ""
  var register = "host = callback; return true;"
  var event = "answer(event, 1);"
  var close = ""
  /// Left out of the library.
  var without: String?

  private var source: String {
    """
    #include <stdbool.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <time.h>
    #include <unistd.h>
    struct FfiBuffer { uint32_t sid; uint8_t phase; uint32_t method; const uint8_t *ptr; uint64_t len; };
    typedef void (*callback_t)(const struct FfiBuffer *);
    static callback_t host;
    __attribute__((unused)) static void call(uint32_t sid, uint8_t phase, uint32_t method,
                                             const void *bytes, uint64_t length) {
      struct FfiBuffer buffer = {sid, phase, method, bytes, length};
      host(&buffer);
    }
    __attribute__((unused)) static void answer(const struct FfiBuffer *event, uint32_t method) {
      call(event->sid, event->phase, method, NULL, 0);
    }
    __attribute__((unused)) static void set_header(const struct FfiBuffer *event, uint8_t *out) {
      static const uint32_t head[] = {12, 8 | 12 << 16, 4 | 8 << 16, 8, 8, 16, 5};
      memset(out, 0, 48);
      memcpy(out, head, sizeof head);
      memcpy(out + 28, "x-key", 5);
      out[36] = 5;
      memcpy(out + 40, "value", 5);
      call(event->sid, event->phase, 100, out, 48);
    }
    __attribute__((unused)) static double seconds(void) {
      struct timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      return now.tv_sec + now.tv_nsec / 1e9;
    }
    void initialize(const char *config, int length) { \(initialize) }
    bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, callback_t callback) {
      \(register)
    }
    void event_stream(const struct FfiBuffer *event) { \(event) }
    void close_session_stream(uint32_t sid) { \(close) }
    void plugin_free(uint8_t *bytes) { free(bytes); }
    void shutdown(void) {}
    """
  }

  /// Compiles it; the library's path.
  func build(in sandbox: Sandbox) throws -> String {
    let text = source.components(separatedBy: "\n").filter { line in
      without.map { !line.hasPrefix("void \($0)(") } ?? true
    }
    let file = try sandbox.write(text.joined(separator: "\n"), as: "plugin.c")
    return try Self.compile(file, to: "plugin.so", in: sandbox)
  }

  /// Compiles a file to a library, or with other options a program, of that name in the sandbox; its path.
  @discardableResult
  static func compile(
    _ file: String, to name: String, in sandbox: Sandbox, options: [String] = ["-shared", "-fPIC", "-O1"]
  ) throws -> String {
    let library = "\(sandbox.folder)/\(name)"
    let compiler = try sandbox.start(
      program: "/usr/bin/env",
      [
        "sh", "-c", "command -v cc >/dev/null && exec cc \"$@\"; exec clang \"$@\"", "compile",
        "-o", library, file,
      ] + options)
    let finished = compiler.finish()
    guard finished.code == 0 else { throw CompileError(words: finished.err) }
    return library
  }

  struct CompileError: Error { let words: String }
}
