import Lab
import Results
import Testing

@testable import Engine

/// A broker that handles one connection's messages in order, and workers that answer when they
/// like, without a socket: what the ledger is told is what a real broker's order allows.
private struct SimulatedBroker {
  private struct Request {
    var sequence: UInt64
    var isRefused: Bool
  }

  private enum Message {
    case request(Request)
    case fence
  }

  private enum Incoming {
    case refusal
    case fence
  }

  private var random: SplitMix64
  private var ledger = NoResponderLedger()
  private var toBroker: [Message] = []
  private var fromBroker: [Incoming] = []
  private var workers: [Request] = []
  /// Requests that the client waits for, by sequence: whether the broker will refuse it.
  private var waiting: [UInt64: Bool] = [:]
  private var sequence: UInt64 = 0
  private let refusedShare: Int
  private(set) var wronglyRefused = 0
  private(set) var rightlyRefused = 0
  private(set) var answered = 0
  private(set) var refusedInAll = 0

  init(seed: UInt64) {
    random = SplitMix64(seed: seed)
    refusedShare = [0, 1, 5, 9, 10][Int(seed % 5)]
  }

  mutating func run(steps: Int) {
    for _ in 0..<steps {
      switch Int.random(in: 0..<10, using: &random) {
      case 0...2: send()
      case 3...5: brokerHandles()
      case 6...7: clientReads()
      default: workerAnswers()
      }
    }
    // The load is over: everything that is under way arrives.
    while !toBroker.isEmpty || !fromBroker.isEmpty || !workers.isEmpty {
      brokerHandles()
      clientReads()
      workerAnswers()
    }
  }

  var unresolved: Int { waiting.count }

  private mutating func send() {
    guard waiting.count < 40 else { return }
    sequence += 1
    let isRefused = Int.random(in: 0..<10, using: &random) < refusedShare
    if isRefused { refusedInAll += 1 }
    waiting[sequence] = isRefused
    toBroker.append(.request(Request(sequence: sequence, isRefused: isRefused)))
  }

  private mutating func brokerHandles() {
    guard !toBroker.isEmpty else { return }
    switch toBroker.removeFirst() {
    case .fence: fromBroker.append(.fence)
    case .request(let request):
      if request.isRefused { fromBroker.append(.refusal) } else { workers.append(request) }
    }
  }

  private mutating func clientReads() {
    guard !fromBroker.isEmpty else { return }
    switch fromBroker.removeFirst() {
    case .refusal: if ledger.refused(lastSent: sequence) { toBroker.append(.fence) }
    case .fence:
      ledger.fenceReturned(number: ledger.fenceNumber)
      settle()
    }
  }

  private mutating func workerAnswers() {
    guard let place = workers.indices.randomElement(using: &random) else { return }
    let request = workers.remove(at: place)
    // Told to have been refused, though it was not: then this is an answer to nothing.
    guard waiting.removeValue(forKey: request.sequence) != nil else { return }
    answered += 1
    if ledger.fence != nil { settle() }
  }

  private mutating func settle() {
    guard let fence = ledger.fence else { return }
    let before = waiting.filter { $0.key <= fence }
    guard ledger.allRefused(outstandingBeforeFence: before.count) else { return }
    for (sequence, isRefused) in before {
      waiting[sequence] = nil
      if isRefused { rightlyRefused += 1 } else { wronglyRefused += 1 }
    }
    if ledger.settle(lastSent: sequence) { toBroker.append(.fence) }
  }
}

@Suite struct LedgerTests {
  @Test(arguments: 0..<20) func everyRefusalFindsItsRequestAndNoOther(hundreds: Int) {
    for seed in UInt64(hundreds * 50)..<UInt64(hundreds * 50 + 50) {
      var broker = SimulatedBroker(seed: seed)
      broker.run(steps: 600)
      #expect(broker.wronglyRefused == 0, "seed \(seed)")
      #expect(broker.rightlyRefused == broker.refusedInAll, "seed \(seed)")
      #expect(broker.unresolved == 0, "seed \(seed)")
      #expect(broker.answered > 0 || seed % 5 == 4, "seed \(seed)")
    }
  }

  @Test func nothingIsRefusedBeforeTheFenceIsBack() {
    var ledger = NoResponderLedger()
    let asksForAFence = ledger.refused(lastSent: 3)
    #expect(asksForAFence)
    #expect(ledger.fence == 3)
    #expect(!ledger.allRefused(outstandingBeforeFence: 1))
    let asksAgain = ledger.refused(lastSent: 5)
    #expect(!asksAgain)
    ledger.fenceReturned(number: ledger.fenceNumber)
    #expect(!ledger.allRefused(outstandingBeforeFence: 3))
    #expect(ledger.allRefused(outstandingBeforeFence: 2))
    // One that came behind the fence belongs to the next.
    let asksBehind = ledger.refused(lastSent: 6)
    #expect(!asksBehind)
    let asksForTheNext = ledger.settle(lastSent: 7)
    #expect(asksForTheNext)
    #expect(ledger.fence == 7)
    ledger.fenceReturned(number: ledger.fenceNumber)
    #expect(ledger.allRefused(outstandingBeforeFence: 1))
    let asksForOneMore = ledger.settle(lastSent: 7)
    #expect(!asksForOneMore)
    #expect(ledger.fence == nil)
  }

  @Test func aFenceOfALostConnectionIsNotTakenForTheNext() {
    var ledger = NoResponderLedger()
    let asks = ledger.refused(lastSent: 3)
    let lost = ledger.fenceNumber
    ledger.forget()
    #expect(asks && ledger.fence == nil)
    let asksAgain = ledger.refused(lastSent: 9)
    #expect(asksAgain && ledger.fence == 9)
    ledger.fenceReturned(number: lost)
    #expect(!ledger.allRefused(outstandingBeforeFence: 1))
    ledger.fenceReturned(number: ledger.fenceNumber)
    #expect(ledger.allRefused(outstandingBeforeFence: 1))
  }
}
