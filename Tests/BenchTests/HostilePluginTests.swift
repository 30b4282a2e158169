import Foundation
import TestSupport
import Testing

@testable import Bench
@testable import Engine

@Suite("A plugin that reaches for what is not its own") struct HostilePluginTests {
  @Test(
    "A record that a plugin wrote over is said to be damaged, and harms nobody", arguments: ["", "abort();"])
  func overwrites(then: String) throws {
    let measurement = try measure(
      CPlugin(
        event: """
          static int count;
          if (++count == 10) {
            FILE *maps = fopen("/proc/self/maps", "r");
            char line[512];
            unsigned long start, end;
            while (fgets(line, sizeof line, maps))
              if (strstr(line, "nylon-bench-results") && sscanf(line, "%lx-%lx", &start, &end) == 2)
                memset((void *)start, 0xFF, end - start);
            fclose(maps);
            \(then)
          }
          answer(event, 1);
          """))
    #expect(measurement.has(.recordingDamaged), "\(measurement.invalidReasons)")
    #expect(measurement.has(.pluginCrashed) == !then.isEmpty)
    #expect(measurement.isBroken && measurement.counts.sent == 0)
    #expect(measurement.scopes.map(\.scope).count == 5 && measurement.scopes.allSatisfy { $0.counts.closes })
  }

  @Test("Nobody makes the memory of a record shorter or longer")
  func sealed() throws {
    let mapping = try SharedMapping(byteCount: 4096)
    for length in [0, 100, 8192] as [off_t] {
      #expect(ftruncate(mapping.descriptor, length) == -1 && errno == EPERM)
    }
    var facts = stat()
    #expect(fstat(mapping.descriptor, &facts) == 0 && facts.st_size == 4096)
  }

  @Test("A plugin finds no descriptor of the record, and shortens none")
  func descriptors() throws {
    let measurement = try measure(
      CPlugin(
        initialize: """
          char path[64], name[256];
          for (int fd = 0; fd < 256; fd++) {
            snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            ssize_t count = readlink(path, name, sizeof name - 1);
            if (count <= 0) continue;
            name[count] = 0;
            if (strstr(name, "memfd")) { fprintf(stderr, "found %s\\n", name); abort(); }
            if (ftruncate(fd, 0) == 0) abort();
          }
          """))
    #expect(!measurement.has(.pluginCrashed), "\(measurement.invalidReasons)")
    #expect(measurement.counts.areAllRight)
  }

  @Test("A program that a plugin starts inherits none of the load process's descriptors")
  func inherited() throws {
    let measurement = try measure(
      CPlugin(
        initialize: """
          for (int fd = 3; fd < 256; fd++) {
            int flags = fcntl(fd, F_GETFD);
            if (flags >= 0 && !(flags & FD_CLOEXEC)) { fprintf(stderr, "%d is inherited\\n", fd); abort(); }
          }
          """))
    #expect(!measurement.has(.pluginCrashed), "\(measurement.invalidReasons)")
    #expect(measurement.counts.areAllRight)
  }
}
