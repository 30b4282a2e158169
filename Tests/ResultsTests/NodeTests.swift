import Foundation
import struct Engine.Measurement
import Testing

@testable import Engine
@testable import Report
@testable import Results

@Suite("The brokers of a cluster in a report")
struct NodeTests {
  /// Six replicates with the numbers of messages that the workers of three brokers received.
  private func run(_ deliveries: [UInt64]) -> RunDocument {
    var all = replicates("nats", around: 1_000_000)
    for place in all.indices {
      all[place].nodes = deliveries.enumerated().map { index, count in
        NodeActivity(
          node: index + 1, connections: 2, inMessages: 1000, outMessages: 2000, workerDeliveries: count,
          generatorDeliveries: index == 1 ? 500 : 0, slowConsumers: 0)
      }
    }
    return document(all)
  }

  @Test("have a row each, with their part of the deliveries")
  func table() {
    let table = ResultTables.nodes(run([100, 300, 600]))
    let share = table.columns.firstIndex(of: "share") ?? 0
    #expect(table.rows.map { $0[share].text } == ["10 %", "30 %", "60 %"])
    #expect(
      ReportText.sections(run([1, 1, 2])).contains { $0.tables.contains { $0.title.contains("cluster") } })
    #expect(ResultTables.nodes(document(replicates("nats", around: 1_000_000))).rows.isEmpty)
  }

  @Test("are a line of the answer, with the generator's broker")
  func answer() {
    let text = Answer.text(run([100, 300, 600]), folder: "results/x", colour: false)
      .replacingOccurrences(of: "\n  ", with: " ").replacingOccurrences(of: "\n", with: " ")
    #expect(text.contains("10 % at broker 1, 30 % at broker 2, 60 % at broker 3"), "\(text)")
    #expect(text.contains("the generator's broker: 2"))
    #expect(
      !Answer.text(document(replicates("nats", around: 1_000_000)), folder: "x", colour: false).contains(
        "broker 1"))
  }

  @Test("say nothing of a share where their monitoring did not answer")
  func silent() {
    var document = run([1, 1, 1])
    for place in document.measurements.indices {
      document.measurements[place].nodes?[2] = NodeActivity(node: 3)
    }
    let table = ResultTables.nodes(document)
    #expect(table.rows.count == 3)
    #expect(table.rows[2].contains { $0.text == nil })
  }

  @Test("are written to run.json and read back")
  func stored() throws {
    let document = run([1, 2, 3])
    let read = try JSONDecoder().decode(
      Engine.Measurement.self, from: JSONEncoder().encode(document.measurements[0]))
    #expect(read.nodes == document.measurements[0].nodes)
  }
}
