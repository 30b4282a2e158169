/// When a sleep for a deadline is to end, so that the schedule is kept without staying awake all the time.
///
/// The kernel wakes late, and the later the longer it slept: a core that was idle for long is woken from deeper,
/// a virtual one by its host, which looks for work for some 200 us before it lets a core go. So a long sleep ends
/// early, a second, short one goes on from there, and the last stretch, as long as a short sleep is late, is not
/// slept at all.
package enum Nap {
  /// A sleep of at most so long ends within the margin, nanoseconds.
  package static let shortNanoseconds: UInt64 = 200_000

  /// The end of the next sleep, monotonic nanoseconds; nil when the deadline is too near for any.
  ///
  /// - Parameter margin: how late a short sleep ends, nanoseconds.
  package static func end(before deadline: UInt64, now: UInt64, margin: UInt64) -> UInt64? {
    guard deadline > now &+ margin else { return nil }
    let early = max(margin, shortNanoseconds)
    return deadline &- now > early &+ margin ? deadline &- early : deadline &- margin
  }
}
