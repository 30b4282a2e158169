import CLinux
import Foundation

/// Nameless memory that processes share by handing on a descriptor; gone with its last holder.
package enum SharedMemory {
  /// So many zero bytes; the descriptor is the caller's to close, and closed on exec.
  package static func create(byteCount: Int) throws(LabError) -> Int32 {
    let descriptor = clinux_memory_file("nylon-bench-results", nil, 0)
    guard descriptor >= 0 else { throw .system("No memory file could be made", errno: errno) }
    guard ftruncate(descriptor, off_t(byteCount)) == 0 else {
      let number = errno
      close(descriptor)
      throw .system("The memory file cannot hold \(byteCount) bytes", errno: number)
    }
    return descriptor
  }
}
