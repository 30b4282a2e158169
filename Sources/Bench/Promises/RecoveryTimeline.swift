import Results

/// Answers over time around a fault: the rate before it, and when it was back.
struct RecoveryTimeline {
  /// The width of the intervals whose rate counts, seconds.
  static let intervalSeconds = 0.25
  /// The share of the rate before that counts as back.
  static let share = 0.9

  private(set) var samples: [LoadSample] = []

  /// Adds a look; looks without new time are left out.
  mutating func add(_ sample: LoadSample) {
    if let last = samples.last, sample.measuredSeconds <= last.measuredSeconds { return }
    samples.append(sample)
  }

  /// Answers until a time, linear between two looks; nil outside them.
  func answered(at seconds: Double) -> Double? {
    guard let after = samples.firstIndex(where: { $0.measuredSeconds >= seconds }) else { return nil }
    let right = samples[after]
    guard after > 0 else { return right.measuredSeconds == seconds ? Double(right.answered) : nil }
    let left = samples[after - 1]
    let part = (seconds - left.measuredSeconds) / (right.measuredSeconds - left.measuredSeconds)
    return Double(left.answered) + part * (Double(right.answered) - Double(left.answered))
  }

  /// Answers a second between two times; nil outside the looks.
  func ratePerSecond(from: Double, to: Double) -> Double? {
    guard to > from, let first = answered(at: from), let last = answered(at: to) else { return nil }
    return (last - first) / (to - from)
  }

  /// Seconds from `end`, when a fault was over, to the start of the first two intervals on end whose
  /// rate is at least 90 % of the rate before `begin`, when it began; nil when there are none.
  func recoverySeconds(after end: Double, before begin: Double) -> Double? {
    guard let first = samples.first, let last = samples.last,
      let before = ratePerSecond(from: first.measuredSeconds, to: begin), before > 0
    else { return nil }
    var start = end
    while start + 2 * Self.intervalSeconds <= last.measuredSeconds {
      let middle = start + Self.intervalSeconds
      let rates = [
        ratePerSecond(from: start, to: middle),
        ratePerSecond(from: middle, to: middle + Self.intervalSeconds),
      ]
      if rates.allSatisfy({ ($0 ?? 0) >= Self.share * before }) { return start - end }
      start += 0.01
    }
    return nil
  }
}
