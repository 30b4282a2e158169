import Foundation
import Lab
import Engine
import Results
import Report
import Scenario

/// The bare program and the engine, measured in turn: a value of each for every round.
struct InTurn {
  var bare: [Double] = []
  var engine: [Double] = []

  var bareMedian: Double { Statistics.median(bare) ?? 0 }
  var engineMedian: Double { Statistics.median(engine) ?? 0 }
}

/// The engine's figure over the bare program's: the median over rounds of the ratio within one round, which
/// holds better on a shared machine than either figure.
struct PairedRatio {
  var ratio: Double
  /// Its 95 % bootstrap interval; nil with under 3 rounds.
  var interval: Interval?

  /// A ratio; nil when there are no rounds or the bare program's figure is 0.
  init?(_ turns: InTurn) {
    guard let paired = Statistics.pairedRatio(a: turns.bare, b: turns.engine), !turns.bare.isEmpty else {
      return nil
    }
    ratio = paired.ratio
    interval = paired.interval
  }
}

/// What `calibrate` found; its JSON is promised to scripts. What was not asked for, or could not be measured,
/// is absent.
struct CalibrationResult: Encodable {
  /// The null plugin through the engine and through a bare C loop.
  struct FFI: Encodable {
    /// Nanoseconds per phase request of the bare loop.
    var bareNs: Double
    /// Nanoseconds per phase request of the engine.
    var engineNs: Double
    var ratio: Double?
    var ratioLow: Double?
    var ratioHigh: Double?
    /// Bytes that the load thread allocated per phase request, in the measured time.
    var allocatedBytes: Double?

    init(_ turns: InTurn, allocatedBytes: Double?) {
      bareNs = turns.bareMedian
      engineNs = turns.engineMedian
      let paired = PairedRatio(turns)
      (ratio, ratioLow, ratioHigh) = (paired?.ratio, paired?.interval?.low, paired?.interval?.high)
      self.allocatedBytes = allocatedBytes
    }
  }

  /// A plugin that answers from a thread of its own, through the engine and through a bare C host with
  /// one queue.
  struct Queue: Encodable {
    var inFlight: Int
    /// Nanoseconds per phase request of the bare host.
    var bareNs: Double
    /// Nanoseconds per phase request of the engine.
    var engineNs: Double
    var ratio: Double?
    var ratioLow: Double?
    var ratioHigh: Double?

    init(inFlight: Int, _ turns: InTurn) {
      self.inFlight = inFlight
      bareNs = turns.bareMedian
      engineNs = turns.engineMedian
      let paired = PairedRatio(turns)
      (ratio, ratioLow, ratioHigh) = (paired?.ratio, paired?.interval?.low, paired?.interval?.high)
    }
  }

  /// How late an open load of the null plugin is, through the engine and in a bare loop that sleeps.
  struct Pacing: Encodable {
    /// Requests of one phase a second.
    var ratePerSecond: Double
    /// The rate's share of what the same sessions reach in a closed loop; nil at rates that are given.
    var shareOfHighest: Double?
    /// p99 of how late the bare loop starts a request.
    var bareP99Us: Double
    /// p99 of the engine's send lag.
    var engineP99Us: Double
    var ratio: Double?
    var ratioLow: Double?
    var ratioHigh: Double?
    /// Requests that the engine answered a second.
    var engineRps: Double

    init(ratePerSecond: Double, shareOfHighest: Double?, _ turns: InTurn, engineRps: Double) {
      self.ratePerSecond = ratePerSecond
      self.shareOfHighest = shareOfHighest
      bareP99Us = turns.bareMedian
      engineP99Us = turns.engineMedian
      let paired = PairedRatio(turns)
      (ratio, ratioLow, ratioHigh) = (paired?.ratio, paired?.interval?.low, paired?.interval?.high)
      self.engineRps = engineRps
    }
  }

  /// Request-reply through the engine and through a bare-socket client.
  struct NATS: Encodable {
    var inFlight: Int
    var bareRps: Double
    var engineRps: Double
    /// Engine's rate over the bare client's.
    var ratio: Double?
    var ratioLow: Double?
    var ratioHigh: Double?
    var bareP50Us: Double
    var engineP50Us: Double
    /// Engine's median response time over the bare client's.
    var p50Ratio: Double?
    /// Bytes that the load thread allocated per phase request, in the measured time.
    var allocatedBytes: Double?

    init(inFlight: Int, rates: InTurn, p50s: InTurn, allocatedBytes: Double?) {
      self.inFlight = inFlight
      bareRps = rates.bareMedian
      engineRps = rates.engineMedian
      let paired = PairedRatio(rates)
      (ratio, ratioLow, ratioHigh) = (paired?.ratio, paired?.interval?.low, paired?.interval?.high)
      bareP50Us = p50s.bareMedian
      engineP50Us = p50s.engineMedian
      p50Ratio = PairedRatio(p50s)?.ratio
      self.allocatedBytes = allocatedBytes
    }
  }

  /// nylon-worker's `noop` and a bare echo worker, both under the bare-socket client.
  struct Worker: Encodable {
    var inFlight: Int
    var bareRps: Double
    var workerRps: Double
    /// nylon-worker's rate over the bare worker's.
    var ratio: Double?
    var ratioLow: Double?
    var ratioHigh: Double?

    init(inFlight: Int, _ turns: InTurn) {
      self.inFlight = inFlight
      bareRps = turns.bareMedian
      workerRps = turns.engineMedian
      let paired = PairedRatio(turns)
      (ratio, ratioLow, ratioHigh) = (paired?.ratio, paired?.interval?.low, paired?.interval?.high)
    }
  }

  /// The load process with many requests in flight.
  struct Memory: Encodable {
    var inFlight: Int
    /// Resident memory when the measured time began, bytes.
    var residentStartBytes: UInt64?
    /// And when it ended.
    var residentEndBytes: UInt64?
  }

  var clockNs: Double?
  var recordNs: Double?
  /// The p99 of how late a short sleep ends.
  var timerOvershootUs: Double?
  var ffi: FFI?
  var ffiQueue: Queue?
  var pacing: [Pacing]?
  /// The client that scenarios get which name none.
  var client = NATSClient.standard
  /// That client's rows.
  var nats: [NATS]?
  var natsLibnats: [NATS]?
  var natsNative: [NATS]?
  var worker: Worker?
  var memory: Memory?
  /// What the engine must reach, and whether it does.
  var goals: [CalibrationGoal] = []
  var rounds: Int
  var secondsEach: Double
  var measured = UTCSecond()
  var toolVersion = ToolVersion.current
  var machine = MachineFacts.read(optimisedBuild: ToolVersion.isOptimised)
}
