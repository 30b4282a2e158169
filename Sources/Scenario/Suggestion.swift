import Foundation

/// Finds the name that was probably meant.
enum Suggestion {
  /// What people write for a key of ours in other tools' words.
  private static let synonyms: [String: String] = [
    "duration": "measure_seconds", "rps": "rate_per_second", "qps": "rate_per_second",
    "users": "concurrency", "clients": "concurrency", "vus": "concurrency", "repeats": "replicates",
    "repeat": "replicates", "runs": "replicates", "url": "servers", "urls": "servers",
    "max_inflight": "max_in_flight", "max_in_flight": "max_inflight", "entry_point": "handler",
    "handler": "entry_point", "queue_group": "group", "path": "file", "attempts": "max",
    "body": "body_bytes", "env": "environment", "type": "mode", "prefix": "subject_prefix",
    "payload_bytes": "body_bytes",
  ]

  /// Endings that name a unit; a key with another one is the same key in the wrong unit.
  private static let unitEndings = [
    "_milliseconds", "_per_second", "_seconds", "_secs", "_sec", "_bytes", "_rps", "_ms", "_us", "_ns", "_kb",
    "_s",
  ]

  /// The nearest of `names`: same but for case and dashes, same but for the unit, a synonym, or few typos away.
  static func nearest(to name: String, among names: [String]) -> String? {
    let wanted = normal(name)
    if let same = names.first(where: { normal($0) == wanted }) { return same }
    if let unit = names.first(where: { stem(normal($0)) == stem(wanted) }) { return unit }
    if let synonym = synonyms[wanted], names.contains(synonym) { return synonym }
    let limit = wanted.count <= 3 ? 1 : wanted.count <= 7 ? 2 : 3
    let ranked = names.map { (name: $0, distance: distance(wanted, normal($0))) }
    guard let best = ranked.min(by: { $0.distance < $1.distance }), best.distance <= limit,
      best.distance < best.name.count
    else { return nil }
    return best.name
  }

  private static func normal(_ name: String) -> String {
    name.lowercased().replacingOccurrences(of: "-", with: "_")
  }

  private static func stem(_ name: String) -> String {
    for ending in unitEndings where name.hasSuffix(ending) && name.count > ending.count {
      return String(name.dropLast(ending.count))
    }
    return name
  }

  /// Insertions, deletions, changes and swaps of neighbours between two names (long ones are cut).
  static func distance(_ first: String, _ second: String) -> Int {
    let left = Array(first.unicodeScalars.prefix(64))
    let right = Array(second.unicodeScalars.prefix(64))
    if left.isEmpty || right.isEmpty { return max(left.count, right.count) }
    var rows = [[Int]](repeating: [Int](repeating: 0, count: right.count + 1), count: left.count + 1)
    for row in 0...left.count { rows[row][0] = row }
    for column in 0...right.count { rows[0][column] = column }
    for row in 1...left.count {
      for column in 1...right.count {
        let change = left[row - 1] == right[column - 1] ? 0 : 1
        var least = min(
          rows[row - 1][column] + 1, rows[row][column - 1] + 1, rows[row - 1][column - 1] + change)
        if row > 1, column > 1, left[row - 1] == right[column - 2], left[row - 2] == right[column - 1] {
          least = min(least, rows[row - 2][column - 2] + 1)
        }
        rows[row][column] = least
      }
    }
    return rows[left.count][right.count]
  }
}
