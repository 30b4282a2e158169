import Glibc

/// One end of a TCP connection over IPv4, as the kernel sees it.
public struct TCPConnection {
  /// Where it stands, by the kernel's number; `ended` was closed by the other end alone.
  public enum State: Int { case established = 1, connecting = 2, ended = 8 }

  /// The port at this end.
  public let localPort: UInt16
  /// The port at the other end.
  public let remotePort: UInt16
  /// Nil for what is not listed above.
  public let state: State?
  /// Bytes that the other end has not taken yet.
  public let untakenBytes: Int

  /// All ends of this machine that go to a port.
  public static func all(to port: UInt16) -> [TCPConnection] {
    return table().split(separator: "\n").compactMap(TCPConnection.init).filter { $0.remotePort == port }
  }

  /// The kernel gives it a page at a time, and Foundation takes the first for all of it.
  private static func table() -> String {
    let file = open("/proc/net/tcp", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return "" }
    defer { close(file) }
    var bytes: [UInt8] = []
    var page = [UInt8](repeating: 0, count: 65_536)
    while case let count = read(file, &page, page.count), count > 0 { bytes += page[..<count] }
    return String(decoding: bytes, as: UTF8.self)
  }

  private init?(_ row: Substring) {
    let fields = row.split(separator: " ")
    guard fields.count > 4, let local = Self.number(fields[1], behind: ":"),
      let remote = Self.number(fields[2], behind: ":"), let state = Int(fields[3], radix: 16),
      let untaken = fields[4].split(separator: ":").first.flatMap({ Int($0, radix: 16) })
    else { return nil }
    localPort = UInt16(truncatingIfNeeded: local)
    remotePort = UInt16(truncatingIfNeeded: remote)
    self.state = State(rawValue: state)
    untakenBytes = untaken
  }

  private static func number(_ text: Substring, behind separator: Character) -> Int? {
    text.split(separator: separator).last.flatMap { Int($0, radix: 16) }
  }
}
