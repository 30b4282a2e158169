import Lab
import Results
import TestSupport
@testable import Scenario

@testable import Engine
@testable import Nylon

let millisecond: UInt64 = 1_000_000
let second: UInt64 = 1_000_000_000

/// A phase that the driver started.
struct StartedPhase: Equatable {
  var slot: Int
  /// Number of the session, from 0.
  var session: Int
  var phaseIndex: Int
  var attempt: Int
  var at: UInt64
}

/// What a simulated plugin does with a phase.
enum SimulatedAnswer {
  /// It ends the phase after a number of nanoseconds.
  case later(UInt64, PhaseEnd = .next)
  /// It ends the phase before `start` returns, after a number of nanoseconds.
  case within(UInt64, PhaseEnd = .next)
  case never
}

/// A transport without a plugin, with a simulated clock that only advances by waiting.
final class Simulation: SessionTransport {
  let completions: CompletionRing
  var isInProcess = false
  var clock: UInt64
  /// What each look at the clock costs.
  var tick: UInt64 = 0
  /// How much too late the load thread wakes, for each wait.
  var oversleep: () -> UInt64 = { 0 }
  var answer: (StartedPhase) -> SimulatedAnswer = { _ in .later(millisecond) }
  var accepts: (_ session: Int) -> Bool = { _ in true }
  var isRight: (_ session: Int) -> Bool = { _ in true }
  var onWait: (UInt64) -> Void = { _ in }
  /// Slots whose phase ends, and how, because another slot's is given up.
  var endsByAbandoning: (_ slot: Int) -> [(slot: Int, end: PhaseEnd)] = { _ in [] }

  private(set) var started: [StartedPhase] = []
  /// Every attempt as a handler would note it.
  private(set) var handled: [HandledRequest] = []
  private(set) var sessions = 0
  private(set) var openSessions = 0
  private(set) var mostOpenSessions = 0
  /// Ends that came after the driver had given the phase up.
  private(set) var lateEnds = 0
  private(set) var waits = 0
  /// NEXT and END that reached the driver.
  private(set) var goodEnds = 0
  private var pending: [(at: UInt64, slot: Int, token: Int, end: PhaseEnd)] = []
  private var token: [Int]
  private var sessionOfSlot: [Int]
  private var requestOfSlot: [RequestWords]
  private var nextToken = 1

  init(slots: Int, start: UInt64) {
    completions = CompletionRing(slots: slots)
    token = Array(repeating: 0, count: slots)
    sessionOfSlot = Array(repeating: -1, count: slots)
    requestOfSlot = Array(repeating: RequestWords(high: 0, low: 0), count: slots)
    clock = start
  }

  static let hasOwnClock = true
  static let hasRequestIDs = true
  func requestID(slot: Int) -> RequestWords { requestOfSlot[slot] }
  static func run(_ driver: LoadDriver<Simulation>) { driver.run() }
  let evidence = FailureEvidence()
  func partEnds(slot: Int, done: UInt64) -> SIMD4<UInt64>? { nil }

  func now() -> UInt64 {
    clock += tick
    return clock
  }

  func open(slot: Int, at time: UInt64) -> Bool {
    precondition(sessionOfSlot[slot] == -1, "a session was opened in a slot that has one")
    let session = sessions
    sessions += 1
    precondition(sessions < 5_000_000, "the load does not end")
    openSessions += 1
    mostOpenSessions = max(mostOpenSessions, openSessions)
    sessionOfSlot[slot] = session
    return accepts(session)
  }

  func start(slot: Int, phaseIndex: Int, attempt: Int, at time: UInt64) {
    precondition(token[slot] == 0, "a phase was started while another is under way")
    let phase = StartedPhase(
      slot: slot, session: sessionOfSlot[slot], phaseIndex: phaseIndex, attempt: attempt, at: clock)
    started.append(phase)
    if attempt == 1 { requestOfSlot[slot] = RequestWords(high: 7, low: UInt64(started.count)) }
    handled.append(HandledRequest(id: requestOfSlot[slot], time: clock, worker: 1, phase: .logging))
    token[slot] = nextToken
    nextToken += 1
    switch answer(phase) {
    case .later(let time, let end): pending.append((clock + time, slot, token[slot], end))
    case .within(let time, let end):
      clock += time
      token[slot] = 0
      deliver(slot, end, at: clock)
    case .never: break
    }
  }

  private func deliver(_ slot: Int, _ end: PhaseEnd, at time: UInt64) {
    if end == .next || end == .end { goodEnds += 1 }
    completions.push(PhaseCompletion(slot: Int32(slot), end: end, doneAt: time))
  }

  func abandon(slot: Int) {
    token[slot] = 0
    for other in endsByAbandoning(slot) where token[other.slot] != 0 {
      token[other.slot] = 0
      deliver(other.slot, other.end, at: clock)
    }
  }

  func finish(slot: Int, verify: Bool) -> Bool {
    let session = sessionOfSlot[slot]
    precondition(session >= 0, "a session was finished twice")
    sessionOfSlot[slot] = -1
    openSessions -= 1
    return !verify || isRight(session)
  }

  func poll(until time: UInt64) {
    waits += 1
    precondition(waits < 5_000_000, "the load does not end")
    let next = pending.map(\.at).min() ?? .max
    clock = max(clock, min(next, time)) + oversleep()
    onWait(clock)
    let due = pending.filter { $0.at <= clock }.sorted { $0.at < $1.at }
    pending.removeAll { $0.at <= clock }
    for event in due {
      guard token[event.slot] == event.token else {
        lateEnds += 1
        continue
      }
      token[event.slot] = 0
      deliver(event.slot, event.end, at: event.at)
    }
  }
}

/// A load on a simulated transport.
struct SimulatedLoad {
  var load = LoadShape.closed(concurrency: 1)
  var phases: [Phase] = [.requestFilter]
  var policy = PhasePolicy(
    timeoutMilliseconds: 100, onError: .end, attempts: 1, backoffFirstMilliseconds: 10,
    backoffMostMilliseconds: 40)
  var maxInFlight = 4
  var overflow = OverflowPolicy.queue
  var request = RequestSpec()
  var warmup: UInt64 = 0
  var measure = second
  var drain = second
  var windows = 10
  var seed: UInt64 = 1
  var start: UInt64 = 5 * second
  var faults: [FaultSpec]?
  /// Room for notes of requests; nil without a ledger.
  var ledgerEntries: Int?

  var order: LoadOrder {
    var target = Target(
      name: "simulated", plugin: "p", handler: "h", transport: .ffi(FFISpec(file: "none.so")),
      phases: phases, loads: [load],
      policies: Dictionary(uniqueKeysWithValues: Phase.session.map { ($0, policy) }),
      maxInFlight: maxInFlight, overflow: overflow)
    target.faults = faults
    return LoadOrder(
      target: target, load: load, request: request, warmupSeconds: Double(warmup) / 1e9,
      measureSeconds: Double(measure) / 1e9, drainSeconds: Double(drain) / 1e9, threads: 1,
      connections: 1, seed: seed, replicate: 1)
  }

  /// Runs the load to its end; `prepare` scripts the plugin.
  func run(_ prepare: (Simulation, RecordingArea) -> Void = { _, _ in }) -> SimulatedResult {
    let order = order
    let layout = RecordingLayout(threads: 1, scopes: order.layout.scopes, windows: windows)
    let memory = LoadRecording(layout)
    let window = LoadWindow(
      start: start, measureStart: start + warmup, measureEnd: start + warmup + measure,
      drainNanoseconds: drain)
    memory.area.measureStart = window.measureStart
    memory.area.measureEnd = window.measureEnd
    let simulation = Simulation(slots: order.placeCount, start: start - 10 * millisecond)
    prepare(simulation, memory.area)
    let schedule = ArrivalSchedule(load, warmupSeconds: Double(warmup) / 1e9, seed: seed)
    let ledger = ledgerEntries.map { LoadLedger(LedgerLayout(threads: 1, entriesPerThread: $0)) }
    let driver = LoadDriver(
      transport: simulation, steps: PhaseStep.steps(of: order), slotCount: order.placeCount,
      schedule: schedule, overflow: overflow, window: window, area: memory.area, thread: 0,
      keepsGaps: order.hasFaults, ledger: ledger?.area)
    driver.run()
    return SimulatedResult(
      measurement: LoadResult.measurement(order: order, area: memory.area), simulation: simulation,
      memory: memory, ledger: ledger)
  }
}

/// What a simulated load recorded.
struct SimulatedResult {
  let measurement: Measurement
  let simulation: Simulation
  let memory: LoadRecording
  let ledger: LoadLedger?

  /// What the driver noted and what the handlers noted, joined; nil without a ledger.
  var accounting: Accounting? {
    ledger.map {
      Accounting(
        sent: $0.area.entries, handled: simulation.handled, load: 0...UInt64.max, unnoted: $0.area.unnoted)
    }
  }

  var request: ScopeMeasurement { measurement.scopes[0] }
  var counts: OutcomeCounts { request.counts }
  func phase(_ index: Int) -> ScopeMeasurement { measurement.scopes[index + 1] }
}
