import Foundation
import Lab
import Engine
import Results

/// The memory that a load process records into, seen from here.
///
/// A nameless file in memory: it is gone when the last process that has it is gone.
final class SharedRecording {
  /// What the load process is given.
  let descriptor: Int32
  /// The view on it.
  let area: RecordingArea
  private let memory: UnsafeMutableRawPointer
  private let byteCount: Int

  /// New, zeroed memory.
  init(layout: RecordingLayout) throws {
    byteCount = layout.byteCount
    descriptor = try SharedMemory.create(byteCount: byteCount)
    memory = try SharedRecording.map(descriptor, byteCount: byteCount)
    area = RecordingArea(layout: layout, memory: memory)
  }

  /// The memory behind a descriptor that somebody else made.
  init(layout: RecordingLayout, descriptor: Int32) throws {
    byteCount = layout.byteCount
    self.descriptor = descriptor
    memory = try SharedRecording.map(descriptor, byteCount: byteCount)
    area = RecordingArea(layout: layout, memory: memory)
  }

  deinit {
    munmap(memory, byteCount)
    close(descriptor)
  }

  private static func map(_ descriptor: Int32, byteCount: Int) throws -> UnsafeMutableRawPointer {
    // Populated now, so that recording never waits for a page.
    guard
      let memory = mmap(
        nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | Int32(MAP_POPULATE), descriptor, 0),
      memory != MAP_FAILED
    else {
      throw LabError.system("The memory for \(byteCount) bytes of results cannot be mapped", errno: errno)
    }
    return memory
  }
}
