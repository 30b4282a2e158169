// Simulates a network: forwards bytes with the delay, jitter and bandwidth of a link.
import ArgumentParser
import CEvent
import CLinux
import Glibc

@main
struct NylonLink: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nylon-link",
    abstract: "Forwards TCP connections with the delay, jitter and bandwidth of a network link.",
    discussion: """
      For each --to it listens on a free loopback port and says so on standard error, a line each, in \
      order: "nylon-link forwards 127.0.0.1:PORT to HOST:PORT". All of them are one link: they share its \
      bandwidth, each way. It runs until it is ended.

      Lines on its standard input are faults of the link. "reset" resets all connections. "silence on" swallows \
      all bytes, both ways: connections stay open, new ones are accepted, and nothing gets through; "silence off" \
      ends that, and resets the connections that lost something.
      """)

  @Option(help: "The destination of connections, HOST:PORT; may be given several times.")
  var to: [String] = []

  @Option(help: "The delay of each byte, each way, in microseconds.")
  var delayUs: Double = 0

  @Option(help: "The largest deviation from the delay, evenly distributed, in microseconds.")
  var jitterUs: Double = 0

  @Option(help: "Bits per second, each way; without it there is no limit.")
  var bitsPerSecond: Double?

  @Option(help: "Seed of the jitter.")
  var seed: UInt64 = 1

  func validate() throws {
    guard !to.isEmpty else { throw ValidationError("nothing to forward to; give --to HOST:PORT") }
    for text in to where Self.place(text) == nil {
      throw ValidationError("--to '\(text)' is not of the form HOST:PORT")
    }
    guard (0...60e6).contains(delayUs), (0...delayUs).contains(jitterUs) else {
      throw ValidationError("--delay-us must be 0 to 60000000, and --jitter-us 0 to the delay")
    }
    guard (1000...1e12).contains(bitsPerSecond ?? 1000) else {
      throw ValidationError("--bits-per-second must be 1000 to 1000000000000")
    }
  }

  func run() throws {
    func direction(seed: UInt64) -> Direction {
      Direction(
        delay: Int64(delayUs * 1000), jitter: Int64(jitterUs * 1000), perByte: bitsPerSecond.map { 8e9 / $0 },
        seed: seed)
    }
    // A write to a closed connection returns an error instead.
    signal(SIGPIPE, SIG_IGN)
    // A single loop lets all connections share the link's two directions without a lock.
    let loop = EventLoop()
    let relay = Relay(
      loop: loop, outward: direction(seed: seed), homeward: direction(seed: seed &+ 0x5bd1_e995))
    for text in to {
      guard let (host, port) = Self.place(text) else { continue }
      do {
        let route = try Route(relay: relay, host: host, port: port, name: text)
        say("nylon-link forwards 127.0.0.1:\(route.port) to \(text)")
      } catch {
        say("nylon-link: cannot forward to \(text): \(error)")
        throw ExitCode(69)
      }
    }
    try Self.obey(for: relay)
    loop.run()
    throw ExitCode.failure
  }

  /// The faults by their lines on standard input.
  private static let faults: [(line: String, apply: @Sendable (Relay) -> Void)] = [
    ("reset", { $0.reset() }), ("silence off", { $0.silence(false) }), ("silence on", { $0.silence(true) }),
  ]

  /// Reads the lines on a separate thread, since the loop can wait for a pipe but not for every kind of file. The
  /// thread sends the loop the index of each fault.
  private static func obey(for relay: Relay) throws {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else { throw SystemError(errno: errno) }
    let onFault = relay.loop.event(ends[0], EV_READ | EV_PERSIST, for: relay) { pipe, _, context in
      var place: UInt8 = 0
      guard read(pipe, &place, 1) == 1, let relay = EventLoop.object(context, Relay.self) else { return }
      NylonLink.faults[Int(place)].apply(relay)
    }
    event_add(onFault, nil)
    var thread = pthread_t()
    let status = pthread_create(
      &thread, nil,
      { pipe in
        while let line = readLine() {
          if var place = NylonLink.faults.firstIndex(where: { $0.line == line }) {
            _ = write(Int32(Int(bitPattern: pipe)), &place, 1)
          } else {
            let known = NylonLink.faults.map(\.line).joined(separator: ", ")
            say("nylon-link: '\(line)' is none of \(known)")
          }
        }
        return nil
      }, UnsafeMutableRawPointer(bitPattern: Int(ends[1])))
    guard status == 0 else { throw SystemError(errno: status) }
  }

  /// `host:port` or `[address]:port`.
  private static func place(_ text: String) -> (host: String, port: Int)? {
    guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
      (1...65535).contains(port)
    else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    return host.isEmpty ? nil : (String(host), port)
  }
}

/// Writes a line to standard error, in one piece.
func say(_ line: String) {
  let bytes = Array((line + "\n").utf8)
  _ = write(STDERR_FILENO, bytes, bytes.count)
}
