/// What is known of a process under a keeper.
struct KeptState: Sendable {
  /// Its id, once it runs.
  var pid: Int32?
  /// Why it could not be executed.
  var startErrno: Int32?
  /// How it ended, as its keeper told.
  var status: ExitStatus?
  var use: ResourceUse?
  /// True when it has ended, all that descended from it too, and its keeper is reaped.
  var isFinished = false
  var output = OutputTail()
  /// What it said on standard error.
  var errors = OutputTail()
  /// What came through the document pipe.
  var document: [UInt8] = []
  /// True when the document was longer than allowed.
  var documentIsCut = false
  /// The part of the keeper's report that has no line end yet.
  private var line: [UInt8] = []

  /// Takes in a part of the keeper's report.
  mutating func note(_ bytes: [UInt8]) {
    for byte in bytes {
      if byte == 10 {
        note(line: String(decoding: line, as: UTF8.self))
        line = []
      } else {
        line.append(byte)
      }
    }
  }

  private mutating func note(line: String) {
    let words = line.split(separator: " ")
    guard words.count >= 2, let number = Int32(words[1]) else { return }
    switch words[0] {
    case "started": pid = number
    case "failed": startErrno = number
    case "exited": (status, use) = (.exited(number), resourceUse(words))
    case "signaled": (status, use) = (.signaled(number), resourceUse(words))
    default: break
    }
  }

  private func resourceUse(_ words: [Substring]) -> ResourceUse {
    func value(_ name: String) -> UInt64 {
      words.first { $0.hasPrefix(name + "=") }.flatMap { UInt64($0.dropFirst(name.count + 1)) } ?? 0
    }
    return ResourceUse(
      userNanoseconds: value("user_ns"), systemNanoseconds: value("system_ns"),
      maxResidentBytes: value("max_rss_bytes"))
  }

  /// Takes in a part of the document.
  mutating func collect(_ bytes: [UInt8], limit: Int) {
    if document.count + bytes.count > limit {
      documentIsCut = true
    } else if !documentIsCut {
      document += bytes
    }
  }
}
