import Foundation
import TestSupport

/// A temporary folder in which plugins are compiled; gone when the value is.
final class Workshop {
  let folder: String

  init() throws {
    folder = NSTemporaryDirectory() + "nylon-bench-tests-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path

  /// The beginning of every plugin's source: headers, the host's callback, a way to call it, and the payload of a
  /// header `x-sid` with the session's id.
  private static let preamble = #"""
    #define _GNU_SOURCE
    #include "nylon_abi.h"
    #include <pthread.h>
    #include <stdatomic.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    enum { stamp_bytes = 52 };
    static NylonCallback host;
    __attribute__((unused)) static void call(uint32_t sid, uint8_t phase, uint32_t method, const void *bytes,
                                             uint64_t count) {
      NylonFfiBuffer buffer = {sid, phase, method, bytes, count};
      host(&buffer);
    }
    __attribute__((unused)) static void stamp(uint8_t *out, uint32_t sid) {
      char text[12];
      uint32_t length = (uint32_t)snprintf(text, sizeof text, "%u", sid);
      uint32_t head[] = {12, 8 | 12 << 16, 4 | 8 << 16, 8, 8, 16, 5};
      memset(out, 0, stamp_bytes);
      memcpy(out, head, sizeof head);
      memcpy(out + 28, "x-sid", 5);
      memcpy(out + 36, &length, 4);
      memcpy(out + 40, text, length);
    }
    #line 1

    """#

  /// Compiles a plugin; the path of the shared library.
  func compile(_ source: String, name: String = "plugin") throws -> String {
    let file = "\(folder)/\(name).c"
    try (Self.preamble + source).write(toFile: file, atomically: true, encoding: .utf8)
    return try compile(file: file, name: name)
  }

  func compile(file: String, name: String) throws -> String {
    try CPlugin.compile(
      file, to: "\(name).so", in: folder,
      options: ["-shared", "-fPIC", "-O2", "-pthread", "-I\(Self.package)/Sources/Nylon/ABI/include"])
  }
}
