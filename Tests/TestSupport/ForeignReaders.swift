import Foundation

/// How a program ended, and what it said.
package struct Ended: Sendable {
  package let code: Int32
  package let out: String
  package let err: String
}

extension Ended {
  /// Runs a program to its end.
  ///
  /// - Parameter environment: instead of this process's own.
  package init(
    _ program: String, _ arguments: [String], environment: [String: String]? = nil, folder: String? = nil
  ) throws {
    let said = "\(NSTemporaryDirectory())/said-\(UUID().uuidString)"
    let files = [said + ".out", said + ".err"]
    // Files take what a pipe that nobody reads yet would not.
    for file in files { try Data().write(to: URL(fileURLWithPath: file)) }
    defer { for file in files { try? FileManager.default.removeItem(atPath: file) } }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    if let environment { process.environment = environment }
    if let folder { process.currentDirectoryURL = URL(fileURLWithPath: folder) }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(forWritingAtPath: files[0])
    process.standardError = FileHandle(forWritingAtPath: files[1])
    try process.run()
    process.waitUntilExit()
    code = process.terminationStatus
    out = try String(contentsOfFile: files[0], encoding: .utf8)
    err = try String(contentsOfFile: files[1], encoding: .utf8)
  }
}

/// Readers of our files, and a NATS client, that others wrote: packages of PyPI in one virtual environment that the tests
/// share.
package enum ForeignReaders {
  private static let packages = [
    "hdrhistogram>=0.10", "jsonschema>=4.18", "prometheus-client>=0.20", "nats-py>=2.6", "msgpack>=1.0",
  ]
  private static let folder = URL(fileURLWithPath: #filePath).appendingPathComponent(
    "../../../.build/readers"
  )
  .standardizedFileURL.path
  package static var python: String { folder + "/bin/python" }

  /// Why tests that need them are skipped.
  package static let absence =
    "python3 and pip cannot make .build/readers with \(packages.joined(separator: ", ")): is there a network?"

  /// Whether they are there; the first look installs them.
  package static let areThere: Bool = {
    let mark = folder + "/made-of.txt"
    let wanted = packages.joined(separator: "\n")
    if (try? String(contentsOfFile: mark, encoding: .utf8)) == wanted { return true }
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1"]
    for (program, arguments) in [
      ("/usr/bin/env", ["python3", "-m", "venv", "--clear", folder]), (python, pip + packages),
    ] {
      guard let ended = try? Ended(program, arguments) else { return false }
      if ended.code != 0 {
        FileHandle.standardError.write(Data("\(absence)\n\(ended.err)\n".utf8))
        return false
      }
    }
    return (try? wanted.write(toFile: mark, atomically: true, encoding: .utf8)) != nil
  }()

  /// What a Python program that has them prints as JSON.
  package static func answer<Answer: Decodable>(of program: String, _ arguments: [String]) throws -> Answer {
    let ended = try Ended(python, ["-I", "-X", "utf8", "-c", program] + arguments)
    guard ended.code == 0 else { throw Failure(words: ended.err) }
    return try JSONDecoder().decode(Answer.self, from: Data(ended.out.utf8))
  }

  /// What is wrong with each of these JSON documents by a JSON Schema: a place and a reason; nothing where it is valid.
  package static func faults(of documents: [String], bySchema schema: String) throws -> [[String]] {
    try answer(
      of:
        """
        import json, sys
        from jsonschema import Draft202012Validator
        schema = json.load(open(sys.argv[1]))
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema)
        def told(error):
            return "/".join(map(str, error.absolute_path)) + ": " + error.message[:300]
        print(json.dumps([[told(e) for e in validator.iter_errors(json.load(open(f)))] for f in sys.argv[2:]]))
        """, [schema] + documents)
  }

  private struct Failure: Error { let words: String }
}
