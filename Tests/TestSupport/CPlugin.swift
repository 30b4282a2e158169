import Foundation

/// A plugin in C, written from the description of the interface alone: nothing of this package is
/// included.
package struct CPlugin: Sendable {
  /// Bodies of the functions.
  package var initialize: String
  package var register: String
  package var event: String
  package var close: String
  package var shutdown: String
  /// Left out of the library.
  package var without: String?

  package init(
    initialize: String = "", register: String = "host = callback; return true;",
    event: String = "answer(event, 1);", close: String = "", shutdown: String = "",
    without: String? = nil
  ) {
    self.initialize = initialize
    self.register = register
    self.event = event
    self.close = close
    self.shutdown = shutdown
    self.without = without
  }

  private var source: String {
    """
    #include <fcntl.h>
    #include <signal.h>
    #include <stdbool.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/file.h>
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
    void shutdown(void) { \(shutdown) }
    """
  }

  /// Compiles it; the library's path.
  package func build(in folder: String) throws -> String {
    let text = source.components(separatedBy: "\n").filter { line in
      without.map { !line.hasPrefix("void \($0)(") } ?? true
    }
    let file = folder + "/plugin.c"
    try text.joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
    return try Self.compile(file, to: "plugin.so", in: folder)
  }

  /// Compiles a file to a library, or with other options a program, of that name in the folder; its path.
  @discardableResult
  package static func compile(
    _ file: String, to name: String, in folder: String, options: [String] = ["-shared", "-fPIC", "-O1"]
  ) throws -> String {
    let (compiler, words) = (Process(), Pipe())
    compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    compiler.arguments =
      [
        "sh", "-c", "command -v cc >/dev/null && exec cc \"$@\"; exec clang \"$@\"", "compile",
        "-o", "\(folder)/\(name)", file,
      ] + options
    compiler.standardInput = FileHandle.nullDevice
    compiler.standardError = words
    try compiler.run()
    let said = words.fileHandleForReading.readDataToEndOfFile()
    compiler.waitUntilExit()
    guard compiler.terminationStatus == 0 else {
      throw CompileError(words: String(decoding: said, as: UTF8.self))
    }
    return "\(folder)/\(name)"
  }

  package struct CompileError: Error { package let words: String }
}
