import CLinux
import Engine

/// What the operating system takes from a core while a thread does nothing but read the clock.
enum Jitter {
  /// A gap of over this between two reads is an interruption, nanoseconds.
  private static let thresholdNanoseconds: Int64 = 10_000
  /// More than this is a disturbance: it is in every latency that is measured here.
  private static let mostLostShare = 0.02
  /// On big machines the first cores stand for all.
  private static let mostCores = 8

  /// Watches each core in turn for so long.
  static func measure(cores: Int, milliseconds: Int64) -> [MachineFitness.CoreJitter] {
    (0..<min(max(cores, 0), mostCores)).compactMap { core in
      var seen = ClinuxJitter()
      guard clinux_jitter(Int32(core), milliseconds * 1_000_000, thresholdNanoseconds, &seen) == 0,
        seen.seen_ns > 0
      else { return nil }
      let seconds = Double(seen.seen_ns) / 1e9
      return MachineFitness.CoreJitter(
        core: core, interruptionsPerSecond: Double(seen.gaps) / seconds,
        lostShare: Double(seen.lost_ns) / Double(seen.seen_ns),
        longestMicroseconds: Double(seen.longest_ns) / 1000)
    }
  }

  /// The finding; it names the worst core.
  static func finding(_ jitter: [MachineFitness.CoreJitter]) -> DoctorFinding {
    guard let worst = jitter.max(by: { $0.lostShare < $1.lostShare }) else {
      return .init("OS jitter", .ok, "could not be measured")
    }
    let share = (worst.lostShare * 1000).rounded() / 10
    let detail =
      "core \(worst.core) loses \(share) % to \(Int(worst.interruptionsPerSecond.rounded())) interruptions of over "
      + "10 us a second, the longest \(Int(worst.longestMicroseconds.rounded())) us"
    return worst.lostShare > mostLostShare
      ? .init(
        "OS jitter", .warn, detail,
        remedy: "Wait for, or end, what else runs here; keep interrupts off the cores.",
        grade: .disturbed)
      : .init("OS jitter", .ok, detail)
  }
}
