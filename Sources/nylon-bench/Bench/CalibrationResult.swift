import Foundation
import Scenario

/// What `calibrate` found; its JSON is promised to scripts.
struct CalibrationResult: Encodable {
  /// The null plugin through the engine and through a bare C loop.
  struct FFI: Encodable {
    /// Nanoseconds per phase request of the bare loop.
    var bareNs: Double
    /// Nanoseconds per phase request of the engine.
    var engineNs: Double
    var ratio: Double
    /// Load process's allocated bytes in all of the measured time.
    var engineAllocatedBytes: UInt64?
  }

  /// A plugin that answers from a thread of its own, through the engine and through a bare C host with
  /// one queue.
  struct Queue: Encodable {
    var inFlight: Int
    /// Nanoseconds per phase request of the bare host.
    var bareNs: Double
    /// Nanoseconds per phase request of the engine.
    var engineNs: Double
    var ratio: Double
  }

  /// How late an open load of the null plugin is, through the engine and in a bare loop that sleeps.
  struct Pacing: Encodable {
    /// Phase requests a second: 60 % of what the engine does in a closed loop.
    var ratePerSecond: Double
    /// p99 of how late the bare loop starts a request.
    var bareP99Us: Double
    /// p99 of the engine's send lag.
    var engineP99Us: Double
    var ratio: Double
  }

  /// Request-reply through the engine and through a bare-socket client.
  struct NATS: Encodable {
    var inFlight: Int
    var bareRps: Double
    var engineRps: Double
    /// Engine's rate over the bare client's.
    var ratio: Double
    var bareP50Us: Double
    var engineP50Us: Double
  }

  /// nylon-worker's `noop` and a bare echo worker, both under the bare-socket client.
  struct Worker: Encodable {
    var inFlight: Int
    var bareRps: Double
    var workerRps: Double
    /// nylon-worker's rate over the bare worker's.
    var ratio: Double
  }

  var clockNs: Double
  var recordNs: Double
  /// The p99 of how late a short sleep ends.
  var timerOvershootUs: Double
  var ffi: FFI
  var ffiQueue: Queue
  var pacing: [Pacing]
  /// The client that scenarios get which name none.
  var client: NATSClient
  /// That client's rows.
  var nats: [NATS]
  var natsLibnats: [NATS]
  var natsNative: [NATS]
  var worker: Worker
  var rounds: Int

  /// The table for people.
  var text: String {
    var lines = [
      String(format: "clock read         %8.1f ns", clockNs),
      String(format: "histogram record   %8.1f ns", recordNs),
      String(format: "timer overshoot    %8.1f µs (p99)", timerOvershootUs),
      "",
      "FFI, null plugin, per phase request, one thread",
      String(format: "  bare C loop      %8.1f ns", ffi.bareNs),
      String(format: "  engine           %8.1f ns   %.2f times the bare loop", ffi.engineNs, ffi.ratio),
      "",
      "FFI, plugin that answers from another thread, \(ffiQueue.inFlight) in flight, per phase request",
      String(format: "  bare C host      %8.1f ns", ffiQueue.bareNs),
      String(
        format: "  engine           %8.1f ns   %.2f times the bare host", ffiQueue.engineNs, ffiQueue.ratio),
      "",
      "Open load of the null plugin: p99 of how late a request starts",
    ]
    lines += pacing.map {
      String(
        format: "  %9.0f/s  bare loop with clock_nanosleep %8.2f µs  engine %8.2f µs   %.2f times",
        $0.ratePerSecond, $0.bareP99Us, $0.engineP99Us, $0.ratio)
    }
    lines.append("")
    for (client, rows) in [(NATSClient.native, natsNative), (.libnats, natsLibnats)] {
      lines += table(client, rows)
    }
    lines += [
      "Worker, noop, \(worker.inFlight) in flight, same bare client",
      String(format: "  bare worker      %8.0f req/s", worker.bareRps),
      String(
        format: "  nylon-worker     %8.0f req/s   %.2f times the bare worker", worker.workerRps, worker.ratio),
      "",
    ]
    lines.append("Medians of \(rounds) rounds, bare and engine in turn.")
    return lines.joined(separator: "\n")
  }

  private func table(_ name: NATSClient, _ rows: [NATS]) -> [String] {
    var lines = [
      "NATS, client \(name.rawValue)\(name == client ? " (the default)" : ""), one phase, one connection, "
        + "same bare echo worker",
      "  in flight    bare req/s  engine req/s   ratio     bare p50   engine p50",
    ]
    for row in rows {
      lines.append(
        String(
          format: "  %9d  %12.0f  %12.0f  %6.2f  %8.0f µs  %8.0f µs", row.inFlight, row.bareRps,
          row.engineRps, row.ratio, row.bareP50Us, row.engineP50Us))
    }
    return lines + [""]
  }
}
