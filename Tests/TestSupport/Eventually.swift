import Glibc

/// Waits until something holds.
///
/// - Parameters:
///   - seconds: so long that only a hang takes longer: it turns one into a failure, and asserts no time.
///   - microseconds: between two looks.
/// - Returns: false when it never held.
public func eventually(
  within seconds: Double = 60, every microseconds: UInt32 = 5_000, _ holds: () throws -> Bool
) rethrows -> Bool {
  let deadline = ContinuousClock.now + .seconds(seconds)
  while try !holds() {
    if ContinuousClock.now > deadline { return false }
    usleep(microseconds)
  }
  return true
}
