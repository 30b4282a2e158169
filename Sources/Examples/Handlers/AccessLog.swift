import Synchronization

/// The last lines of the access log, in memory: a handler under load must not wait for a terminal.
public final class AccessLog: Sendable {
  /// The one that both products use.
  public static let shared = AccessLog(capacity: 1024)

  /// A finished request.
  public struct Line: Sendable, Hashable {
    /// `GET`, `POST`, …
    public var method: String
    /// The path without the query.
    public var path: String
    /// The status that was sent.
    public var status: Int
    /// Milliseconds that the request took.
    public var durationMilliseconds: Int

    /// A line.
    public init(method: String, path: String, status: Int, durationMilliseconds: Int) {
      self.method = method
      self.path = path
      self.status = status
      self.durationMilliseconds = durationMilliseconds
    }
  }

  private struct State {
    var lines: [Line] = []
    var position = 0
    var lastRequest = ""
  }

  private let capacity: Int
  private let state = Mutex(State())

  /// A log that keeps the last `capacity` lines.
  public init(capacity: Int) { self.capacity = max(1, capacity) }

  /// Adds a line; the oldest one goes.
  public func append(_ line: Line) {
    state.withLock { state in
      if state.lines.count < capacity {
        state.lines.append(line)
      } else {
        state.lines[state.position] = line
      }
      state.position = (state.position + 1) % capacity
    }
  }

  /// The lines, oldest first.
  public var lines: [Line] {
    state.withLock { state in
      guard state.lines.count == capacity else { return state.lines }
      return Array(state.lines[state.position...] + state.lines[..<state.position])
    }
  }

  /// The request that a filter saw last, as `METHOD path`.
  public var lastRequest: String { state.withLock { $0.lastRequest } }

  /// Notes what a request filter read.
  func requestSeen(method: String, path: String) {
    let request = "\(method) \(path)"
    state.withLock { $0.lastRequest = request }
  }
}
