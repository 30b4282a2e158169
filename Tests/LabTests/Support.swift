import Foundation
import Testing

@testable import Lab

/// The letter of a process's state in /proc, such as R, S, T (stopped) or Z; nil when there is none.
func processState(_ pid: Int32) -> Character? {
  guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
    let bracket = stat.lastIndex(of: ")")
  else { return nil }
  return stat[bracket...].dropFirst(2).first
}

/// True while a process exists that is not a zombie.
func isAlive(_ pid: Int32) -> Bool { processState(pid).map { $0 != "Z" } ?? false }

/// The ids of the processes whose command line holds a word.
func processes(withWord word: String) -> [Int32] {
  let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
  return entries.compactMap(Int32.init).filter { pid in
    guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
    return line.split(separator: 0).contains { String(decoding: $0, as: UTF8.self) == word }
  }
}

/// A number of seconds to sleep that no other process is likely to sleep: a word to find it by.
func uniqueSeconds() -> String {
  "\(Int.random(in: 1_000_000...9_999_999)).\(Int.random(in: 100_000...999_999))"
}
