import TestSupport
import Foundation
import Lab
import Results
@testable import Scenario
import Testing

@testable import Engine
@testable import Nylon

/// One call of a scripted plugin.
struct ScriptedCall {
  /// The phase in which it is made; 9 stands for opening a session, 10 for closing it.
  var phase: UInt8
  var method: Nylon.Method
  /// The phase that the call names.
  var namedPhase: UInt8
  /// Whose session it is for, counted from the session's own id.
  var sidOffset: Int64 = 0
  /// nil: a NULL pointer.
  var payload: [UInt8]?
  /// nil: as many as there are.
  var count: UInt64?

  /// A call that names its own phase, or phase 0 for a read.
  init(
    _ phase: UInt8, _ method: Nylon.Method, _ payload: [UInt8]? = nil, naming: UInt8? = nil,
    sidOffset: Int64 = 0, count: UInt64? = nil
  ) {
    self.phase = phase
    self.method = method
    self.payload = payload
    self.sidOffset = sidOffset
    self.count = count
    namedPhase = naming ?? (method.isRead ? 0 : phase)
  }

  static func stamp(_ phase: UInt8) -> ScriptedCall {
    ScriptedCall(phase, .setResponseHeader, count: .max)
  }

  static func next(_ phases: ClosedRange<UInt8> = 1...4) -> [ScriptedCall] {
    phases.map { ScriptedCall($0, .next) }
  }
}

/// A loaded plugin that does what a script says.
final class ScriptedPlugin {
  let library: PluginLibrary
  private let workshop: Workshop
  private let handle: UnsafeMutableRawPointer

  /// `threads` 0 calls inside `event_stream`.
  init(_ calls: [ScriptedCall], threads: Int = 0) throws {
    workshop = try Workshop()
    let path = try workshop.compile(scriptedPluginSource)
    library = try PluginLibrary(path: path)
    handle = try #require(dlopen(path, RTLD_NOW | RTLD_NOLOAD))
    typealias AddStep =
      @convention(c) (UInt8, UInt8, UInt32, Int64, UnsafePointer<UInt8>?, UInt64, UInt8) -> Void
    let addStep = try symbol("add_step", as: AddStep.self)
    for call in calls {
      let count = call.count ?? UInt64(call.payload?.count ?? 0)
      addStep(
        call.phase, call.namedPhase, call.method.rawValue, call.sidOffset, call.payload, count,
        call.method.isRead && call.sidOffset == 0 ? 1 : 0)
    }
    let useThreads = try symbol("use_threads", as: (@convention(c) (Int32) -> Void).self)
    useThreads(Int32(threads))
  }

  func symbol<Function>(_ name: String, as type: Function.Type) throws -> Function {
    unsafeBitCast(try #require(dlsym(handle, name)), to: type)
  }

  /// What the host last answered to a read, and how often it did.
  func answer(to method: Nylon.Method) throws -> (bytes: [UInt8], times: Int) {
    typealias Answered =
      @convention(c) (UInt32, UnsafeMutablePointer<UnsafePointer<UInt8>?>, UnsafeMutablePointer<UInt64>) ->
      UInt32
    let answered = try symbol("answered", as: Answered.self)
    var bytes: UnsafePointer<UInt8>?
    var count: UInt64 = 0
    let times = answered(method.rawValue, &bytes, &count)
    return ([UInt8](UnsafeBufferPointer(start: bytes, count: Int(count))), Int(times))
  }

  func text(of method: Nylon.Method) throws -> String {
    String(decoding: try answer(to: method).bytes, as: UTF8.self)
  }

  func count(_ name: String) throws -> Int {
    Int(try symbol(name, as: (@convention(c) () -> UInt32).self)())
  }
}

/// A load on a plugin in this process.
struct FFILoad {
  var load = LoadShape.closed(concurrency: 4)
  var dispatch = Dispatch.queued
  var payloads = PayloadOwner.plugin
  var spin = Spin.auto
  var threads = 1
  var handler = "script"
  var phases = Phase.session
  var request = RequestSpec()
  var verify = Verification()
  var warmupSeconds = 0.0
  var measureSeconds = 0.1
  var drainSeconds = 10.0
  var timeoutMilliseconds = 5000
  var onError = ErrorAction.end
  var decompose = false

  var order: LoadOrder {
    let policy = PhasePolicy(
      timeoutMilliseconds: timeoutMilliseconds, onError: onError, attempts: 2,
      backoffFirstMilliseconds: 1, backoffMostMilliseconds: 1)
    let target = Target(
      name: "t", plugin: "p", handler: handler,
      transport: .ffi(spec), phases: phases, loads: [load],
      policies: Dictionary(uniqueKeysWithValues: Phase.session.map { ($0, policy) }), maxInFlight: 64,
      verify: verify, decompose: decompose)
    return LoadOrder(
      target: target, load: load, request: request, warmupSeconds: warmupSeconds,
      measureSeconds: measureSeconds,
      drainSeconds: drainSeconds, threads: threads, connections: 1, seed: 1, replicate: 1)
  }

  var spec: FFISpec { FFISpec(file: "p.so", dispatch: dispatch, payloads: payloads, spin: spin) }

  /// `keepingMemory`: a load thread that hangs in the plugin goes on using it.
  func run(_ plugin: PluginLibrary, keepingMemory: Bool = false) throws -> Engine.Measurement {
    let order = order
    let memory = LoadRecording(order.layout)
    if keepingMemory { _ = Unmanaged.passRetained(memory) }
    let transports = try FFITransport.make(
      order: order, spec: spec, plugin: plugin, area: memory.area)
    return LoadRunner(order: order, area: memory.area) { ResourceSample() }.run(transports: transports)
  }

  /// Runs until so many requests were answered; bytes that the load threads allocate are counted from the first of them
  /// on that finds the load warm, however long it takes on a slow machine to become it.
  func runWarm(_ plugin: PluginLibrary, answers: UInt64) throws -> Engine.Measurement {
    var order = order
    order.measureSeconds = 600
    let memory = LoadRecording(order.layout)
    memory.endLoad { $0.answered >= answers }
    let transports = try FFITransport.make(order: order, spec: spec, plugin: plugin, area: memory.area)
    return LoadRunner(order: order, area: memory.area, sample: memory.sampleWhenWarm).run(
      transports: transports)
  }
}

extension LoadRecording {
  /// Waits until the load is warm: what is allocated once, when a session of each place goes through all that it goes
  /// through, is there by then. The other sample, at the end, waits for nothing.
  func sampleWhenWarm() -> ResourceSample {
    _ = eventually {
      (0..<area.layout.threads).reduce(0) { $0 + area.threadRecorder($1).value(.okInWindow, scope: 0) } >= 200
    }
    return ResourceSample()
  }

  /// Ends the load when there is enough, however long that takes on a slow machine.
  func endLoad(when enough: @escaping @Sendable (LoadGlance) -> Bool) {
    Thread.detachNewThread { [self] in
      _ = eventually { enough(LoadGlance(area)) }
      area.stopRequested = true
    }
  }
}
