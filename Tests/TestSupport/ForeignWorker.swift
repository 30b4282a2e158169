import Foundation

/// A worker in C that shares no code with this package, and answers as its first argument says:
///
/// * `reply`, `reply-sdk`: one map, with and without `action`, 20 ms after the request;
/// * `stream`, `stream-bare`, `stream-late`: an acknowledgement, a status, and 20 ms later Next, each a map of its
///   own; the acknowledgement of `stream-bare` has no `session_id`, so it looks like an answer of `reply-sdk`, and
///   that of `stream-late` comes behind Next;
/// * `late-action`: a map with `method`, and 20 ms later one with `action`;
/// * `mute`: nothing;
/// * `half`: as `reply`, without the 20 ms, for as many milliseconds as its second argument says, then nothing;
/// * `once`: as `reply` without the 20 ms, but nothing to a session id that came before;
/// * `error`: the error "the user store is empty";
/// * `twice`: as `reply` without the 20 ms, and again;
/// * `retyped`: as `reply` without the 20 ms, an id of 16 bytes as text;
/// * `malformed`: as `reply` without the 20 ms, with bytes in `data` that are no table.
package struct ForeignWorker {
  /// Compiles the worker; the program's path.
  package static func build(in folder: String) throws -> String {
    let file = folder + "/worker.c"
    try source.write(toFile: file, atomically: true, encoding: .utf8)
    return try CPlugin.compile(file, to: "foreign-worker", in: folder, options: ["-O1"])
  }

  private static let source = #"""
    #define _GNU_SOURCE
    #include <arpa/inet.h>
    #include <netinet/tcp.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>
    static int server;
    static char input[1 << 20];
    static size_t have;
    static uint8_t out[4096];
    static size_t used;
    static uint8_t seen[1 << 20][4];
    static size_t known;
    static double seconds(void) {
      struct timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      return now.tv_sec + now.tv_nsec / 1e9;
    }
    static void put(const void *bytes, size_t count) { memcpy(out + used, bytes, count); used += count; }
    static void key(const char *name) { uint8_t type = 0xa0 | strlen(name); put(&type, 1); put(name, strlen(name)); }
    static void send_map(const char *reply) {
      char head[512];
      int count = snprintf(head, sizeof head, "PUB %s %zu\r\n", reply, used);
      if (write(server, head, count) < 0 || write(server, out, used) < 0 || write(server, "\r\n", 2) < 0) exit(1);
    }
    static void begin(int entries, const uint8_t *id, size_t id_bytes) {
      used = 0;
      uint8_t map = 0x80 | entries;
      put(&map, 1);
      key("version"); put("\x01", 1);
      key("request_id"); put(id, id_bytes);
    }
    static void session(const uint8_t *sid) { key("session_id"); put("\xce", 1); put(sid, 4); }
    static void answer(const char *mode, const char *stop_after, const char *reply, const uint8_t *payload,
                       size_t count) {
      static double first;
      if (first == 0) first = seconds();
      const uint8_t *id = memmem(payload, count, "\xaarequest_id", 11);
      const uint8_t *sid = memmem(payload, count, "\xaasession_id", 11);
      if (!id || !sid || sid[11] != 0xce) exit(2);
      id += 11; sid += 12;
      size_t id_bytes = id[0] == 0xc4 || id[0] == 0xd9 ? 2 + id[1] : 1 + (id[0] & 31);
      if (!strcmp(mode, "mute")) return;
      if (!strcmp(mode, "half") && (seconds() - first) * 1000 > atof(stop_after)) return;
      if (!strcmp(mode, "once")) {
        for (size_t place = 0; place < known; place++) if (!memcmp(seen[place], sid, 4)) return;
        memcpy(seen[known++], sid, 4);
      }
      if (!strcmp(mode, "error")) {
        begin(5, id, id_bytes); session(sid); key("action"); key("error");
        key("error"); key("the user store is empty"); send_map(reply);
        return;
      }
      if (!strncmp(mode, "stream", 6)) {
        int bare = !strcmp(mode, "stream-bare");
        begin(bare ? 2 : 3, id, id_bytes);
        if (!bare) session(sid);
        int late = !strcmp(mode, "stream-late");
        if (!late) send_map(reply);
        begin(5, id, id_bytes); session(sid); key("method"); put("\x66", 1); key("data"); put("\xc4\x02\x00\xc9", 4);
        send_map(reply);
        usleep(20000);
        begin(4, id, id_bytes); session(sid); key("method"); put("\x01", 1); send_map(reply);
        if (late) { begin(3, id, id_bytes); session(sid); send_map(reply); }
        return;
      }
      if (!strcmp(mode, "late-action")) {
        begin(4, id, id_bytes); session(sid); key("method"); put("\x01", 1); send_map(reply);
      }
      if (!strcmp(mode, "retyped") && id[0] == 0xc4) {
        uint8_t text[17] = {0xb0};
        memcpy(text + 1, id + 2, 16);
        begin(4, text, 17); session(sid); key("action"); key("next"); send_map(reply);
        return;
      }
      if (!strcmp(mode, "malformed")) {
        begin(5, id, id_bytes); session(sid); key("action"); key("next"); key("data"); put("\xc4\x02\x00\xc9", 4);
        send_map(reply);
        return;
      }
      if (strcmp(mode, "half") && strcmp(mode, "once") && strcmp(mode, "twice")) usleep(20000);
      if (!strcmp(mode, "reply-sdk")) { begin(2, id, id_bytes); send_map(reply); return; }
      begin(4, id, id_bytes); session(sid); key("action"); key("next"); send_map(reply);
      if (!strcmp(mode, "twice")) send_map(reply);
    }
    int main(int count, char **words) {
      const char *phases[] = {"request_filter", "response_filter", "response_body_filter", "logging"};
      unsigned a, b, c, d, port;
      const char *servers = getenv("NATS_SERVERS"), *at = strchr(servers, '@');
      const char *place = servers + strlen("nats://");
      char token[64] = "";
      if (at) { snprintf(token, sizeof token, "%.*s", (int)(at - place), place); place = at + 1; }
      if (count < 2 || sscanf(place, "%u.%u.%u.%u:%u", &a, &b, &c, &d, &port) != 5) return 64;
      struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                    .sin_addr.s_addr = htonl(a << 24 | b << 16 | c << 8 | d)};
      server = socket(AF_INET, SOCK_STREAM, 0);
      int one = 1;
      setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      if (connect(server, (struct sockaddr *)&address, sizeof address) != 0) return 69;
      dprintf(server, "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\","
                      "\"auth_token\":\"%s\"}\r\n", token);
      for (int phase = 0; phase < 4; phase++)
        dprintf(server, "SUB nylon.plugin.example.%s %s %d\r\n", phases[phase], getenv("NATS_GROUP"), phase + 1);
      dprintf(server, "PING\r\n");
      while (1) {
        ssize_t got = read(server, input + have, sizeof input - have - 1);
        if (got <= 0) return 0;
        have += got;
        char *place = input;
        while (1) {
          input[have] = 0;
          char *end = strstr(place, "\r\n");
          if (!end) break;
          char subject[256], reply[256];
          size_t bytes, fields = 0;
          if (!strncmp(place, "MSG ", 4)) {
            fields = sscanf(place, "MSG %255s %*s %255s %zu\r\n", subject, reply, &bytes);
            if (fields != 3) return 3;
            if (end + 2 + bytes + 2 > input + have) break;
            answer(words[1], count > 2 ? words[2] : "0", reply, (uint8_t *)end + 2, bytes);
            place = end + 2 + bytes + 2;
            continue;
          }
          if (!strncmp(place, "PING", 4)) dprintf(server, "PONG\r\n");
          if (!strncmp(place, "PONG", 4)) { printf("started successfully\n"); fflush(stdout); }
          place = end + 2;
        }
        have -= place - input;
        memmove(input, place, have);
      }
    }
    """#
}
