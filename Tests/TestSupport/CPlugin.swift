import Foundation
import Synchronization

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

  /// What was compiled in this process, by what it came of.
  private static let compiled = Mutex<[[String]: Data]>([:])

  /// Compiles a file to a library, or with other options a program, of that name in the folder; its path.
  ///
  /// A process compiles the same text once. Each caller has a file of its own all the same: a library that is loaded
  /// twice from one file is one, with one state.
  @discardableResult
  package static func compile(
    _ file: String, to name: String, in folder: String, options: [String] = ["-shared", "-fPIC", "-O1"]
  ) throws -> String {
    let output = "\(folder)/\(name)"
    let origin = [try String(contentsOfFile: file, encoding: .utf8)] + options
    if let known = compiled.withLock({ $0[origin] }) {
      try known.write(to: URL(fileURLWithPath: output))
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: output)
      return output
    }
    try runCompiler(["-o", output, file] + options, errors: output + ".errors")
    let bytes = try Data(contentsOf: URL(fileURLWithPath: output))
    compiled.withLock { $0[origin] = bytes }
    return output
  }

  /// Runs the C compiler; what it says of errors goes to a file, since a pipe would be inherited by processes that other
  /// tests start meanwhile.
  private static func runCompiler(_ arguments: [String], errors: String) throws {
    let script = "command -v cc >/dev/null && exec cc \"$@\"; exec clang \"$@\""
    let words = (["sh", "-c", script, "compile"] + arguments).map { strdup($0) } + [nil]
    defer { words.forEach { free($0) } }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    var pid: pid_t = 0
    let failure = posix_spawnp(&pid, "sh", &actions, nil, words, environ)
    guard failure == 0 else { throw CompileError(words: String(cString: strerror(failure))) }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) == -1, errno == EINTR {}
    guard status == 0 else {
      throw CompileError(words: (try? String(contentsOfFile: errors, encoding: .utf8)) ?? "it says nothing")
    }
    try? FileManager.default.removeItem(atPath: errors)
  }

  package struct CompileError: Error { package let words: String }
}
