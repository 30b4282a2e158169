import Results
import Engine
import Foundation

/// Files that are there whole or not at all.
enum AtomicFile {
  /// Writes a file beside the path and renames it; on failure nothing of it stays, and a file
  /// that was there before is untouched.
  static func write(_ text: String, to path: String) throws {
    let temporary = "\(path).\(getpid()).part"
    do {
      try fill(temporary, with: Array(text.utf8))
      guard rename(temporary, path) == 0 else { throw error(errno, path, "cannot be replaced") }
    } catch {
      unlink(temporary)
      throw error
    }
  }

  /// Makes `link` point to `target`; replaces a link, never a file or a folder.
  static func link(_ link: String, to target: String) throws {
    var facts = stat()
    if lstat(link, &facts) == 0, facts.st_mode & S_IFMT != S_IFLNK {
      throw RunFolderError(
        kind: .unwritable, path: link, problem: "is a real file or folder, not a link",
        remedy: "move it away, or choose another folder with --out")
    }
    let temporary = "\(link).\(getpid()).part"
    unlink(temporary)
    guard symlink(target, temporary) == 0 else { throw error(errno, link, "cannot be made") }
    guard rename(temporary, link) == 0 else {
      let code = errno
      unlink(temporary)
      throw error(code, link, "cannot be replaced")
    }
  }

  /// The error of a failed system call.
  static func error(_ code: Int32, _ path: String, _ problem: String) -> RunFolderError {
    let isFull = code == ENOSPC || code == EDQUOT
    return RunFolderError(
      kind: isFull ? .full : .unwritable, path: path,
      problem: "\(problem): \(String(cString: strerror(code)))",
      remedy: isFull
        ? "free some space, or choose a folder on another disk with --out"
        : "choose a folder that can be written with --out")
  }

  private static func fill(_ path: String, with bytes: [UInt8]) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw error(errno, path, "cannot be made") }
    defer { close(file) }
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw error(errno, path, "cannot be written") }
      rest = rest.dropFirst(written)
    }
    guard fsync(file) == 0 else { throw error(errno, path, "cannot be written") }
  }
}
