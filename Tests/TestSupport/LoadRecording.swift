import Engine

/// Memory for a load's records, as a load process shares it.
package final class LoadRecording: @unchecked Sendable {
  // @unchecked: the memory is there as long as this is, and each of its words has one writer.
  package let area: RecordingArea
  private let memory: UnsafeMutableRawPointer

  package init(_ layout: RecordingLayout) {
    memory = .allocate(byteCount: layout.byteCount, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: layout.byteCount)
    area = RecordingArea(layout: layout, memory: memory)
  }

  deinit { memory.deallocate() }
}

/// Memory for the host's notes of a load's requests, as a load process shares it.
package final class LoadLedger: @unchecked Sendable {
  // @unchecked: as the memory of the records.
  package let area: LedgerArea
  private let memory: UnsafeMutableRawPointer

  package init(_ layout: LedgerLayout) {
    memory = .allocate(byteCount: layout.byteCount, alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: layout.byteCount)
    area = LedgerArea(layout: layout, memory: memory)
  }

  deinit { memory.deallocate() }
}
