import Results
import Foundation

/// What the engine must reach beside bare C on the same machine, and what it did.
struct CalibrationGoal: Encodable {
  var goal: String
  /// The figure; nil when it could not be measured.
  var measured: Double?
  /// The bound that must be kept.
  var mustReach: Double
  /// What would be as fast as the machine.
  var aim: Double
  /// Whether the figure is to stay under the bound, or over it.
  var isMost: Bool
  /// Nil when there is no figure.
  var isReached: Bool? { measured.map { isMost ? $0 <= mustReach : $0 >= mustReach } }
  var isAimReached: Bool? { measured.map { isMost ? $0 <= aim : $0 >= aim } }

  /// A figure that is to be at most so much.
  static func most(_ goal: String, _ measured: Double?, _ mustReach: Double, aim: Double) -> Self {
    Self(goal: goal, measured: measured, mustReach: mustReach, aim: aim, isMost: true)
  }

  /// A figure that is to be at least so much.
  static func least(_ goal: String, _ measured: Double?, _ mustReach: Double, aim: Double) -> Self {
    Self(goal: goal, measured: measured, mustReach: mustReach, aim: aim, isMost: false)
  }

  private enum CodingKeys: CodingKey { case goal, measured, mustReach, aim, isMost, isReached, isAimReached }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(goal, forKey: .goal)
    try container.encodeIfPresent(measured, forKey: .measured)
    try container.encode(mustReach, forKey: .mustReach)
    try container.encode(aim, forKey: .aim)
    try container.encode(isMost, forKey: .isMost)
    try container.encodeIfPresent(isReached, forKey: .isReached)
    try container.encodeIfPresent(isAimReached, forKey: .isAimReached)
  }
}

extension CalibrationResult {
  /// The goals of the parts that were measured.
  func judged() -> [CalibrationGoal] {
    var goals: [CalibrationGoal] = []
    if let ffi {
      goals.append(.most("FFI: times the bare loop", ffi.ratio, 1.25, aim: 1.1))
      goals.append(.most("FFI: bytes allocated per phase request", ffi.allocatedBytes, 0, aim: 0))
    }
    if let ffiQueue {
      goals.append(.most("FFI, another thread: times the bare host", ffiQueue.ratio, 1.3, aim: 1.1))
    }
    if let paced = pacing?.first(where: { $0.shareOfHighest != nil }) {
      goals.append(
        .most(
          "open load at 60 % of the highest rate: send lag, times clock_nanosleep", paced.ratio, 1.5, aim: 1.1
        ))
    }
    goals += natsGoals
    if let worker {
      goals.append(.least("nylon-worker: share of the bare worker's rate", worker.ratio, 0.7, aim: 0.9))
    }
    if let memory {
      goals.append(
        .most(
          "resident memory with \(memory.inFlight) in flight, MiB",
          memory.residentEndBytes.map { Double($0) / 1_048_576 }, 64, aim: 64))
    }
    return goals
  }

  private var natsGoals: [CalibrationGoal] {
    guard let nats else { return [] }
    func row(_ inFlight: Int) -> NATS? { nats.first { $0.inFlight == inFlight } }
    let allocated = nats.compactMap(\.allocatedBytes)
    return [
      .most("NATS, 1 in flight: p50, times the bare client's", row(1)?.p50Ratio, 1.15, aim: 1.05),
      .least("NATS, 64 in flight: share of the bare client's rate", row(64)?.ratio, 0.85, aim: 0.95),
      .least("NATS, 256 in flight: share of the bare client's rate", row(256)?.ratio, 0.75, aim: 0.95),
      .most(
        "NATS: bytes allocated per phase request",
        allocated.count == nats.count ? allocated.max() : nil, 0, aim: 0),
    ]
  }
}
