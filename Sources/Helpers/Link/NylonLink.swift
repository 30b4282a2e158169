// A network that is not there: forwards bytes with the delay, jitter and bandwidth of a link.
import ArgumentParser
import Glibc
import NIOCore
import NIOPosix

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

  @Option(help: "Where connections go, HOST:PORT; may be given several times.")
  var to: [String] = []

  @Option(help: "What each byte is held back, each way, in microseconds.")
  var delayUs: Double = 0

  @Option(help: "Half the width of what the delay varies by, evenly spread, in microseconds.")
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
    @Sendable func direction(seed: UInt64) -> Direction {
      Direction(
        delay: Int64(delayUs * 1000), jitter: Int64(jitterUs * 1000), perByte: bitsPerSecond.map { 8e9 / $0 },
        seed: seed)
    }
    // One loop, so that all connections share the link's two directions without a lock.
    let loop = MultiThreadedEventLoopGroup(numberOfThreads: 1).next()
    let relay = try loop.submit {
      let relay = Relay(outward: direction(seed: seed), homeward: direction(seed: seed &+ 0x5bd1_e995))
      return NIOLoopBound(relay, eventLoop: loop)
    }.wait()
    for text in to {
      guard let (host, port) = Self.place(text) else { continue }
      do {
        let upstream = try SocketAddress.makeAddressResolvingHost(host, port: port)
        let listening = try Relay.listen(relay, on: loop, upstream: upstream, name: text).wait()
        say("nylon-link forwards 127.0.0.1:\(listening) to \(text)")
      } catch {
        say("nylon-link: cannot forward to \(text): \(error)")
        throw ExitCode(69)
      }
    }
    while let line = readLine() {
      guard let fault = Self.faults[line] else {
        say("nylon-link: '\(line)' is none of \(Self.faults.keys.sorted().joined(separator: ", "))")
        continue
      }
      loop.execute { fault(relay.value) }
    }
    while true { pause() }
  }

  /// What a line on standard input does.
  private static let faults: [String: @Sendable (Relay) -> Void] = [
    "reset": { $0.reset() }, "silence on": { $0.silence(true) }, "silence off": { $0.silence(false) },
  ]

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
