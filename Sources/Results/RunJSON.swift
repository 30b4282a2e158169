// The JSON form of a run: sorted, indented, keys in snake_case. Foundation's own snake_case does not
// round-trip (`runID` comes back as `runId`), so the decoding of keys is spelled out here.
import Engine
import Foundation

/// JSON for scripts: every command spells keys as run.json does.
package enum RunJSON {
  /// Returns any value as JSON text, sorted and indented, with a final line end.
  package static func text(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .custom { path in
      RunKeys.stored(path.last?.stringValue ?? "").codingKey
    }
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
  }
}

/// Encodes a growing run after each measurement.
///
/// Only new and changed measurements are encoded. Encoding all of them would take almost as long as the next
/// measurement at the end of a run of ten minutes.
package struct RunEncoder {
  private var encoded: [(measurement: Engine.Measurement, text: String)] = []

  package init() {}

  /// Returns the same text as ``RunDocument/json()``.
  package mutating func json(_ document: RunDocument) throws -> String {
    for (place, measurement) in document.measurements.enumerated()
    where place >= encoded.count || encoded[place].measurement != measurement {
      let lines = try RunJSON.text(measurement).split(separator: "\n", omittingEmptySubsequences: false)
      let text = lines.dropLast().map { $0.isEmpty ? "" : "    " + $0 }.joined(separator: "\n")
      encoded.replaceSubrange(place..<min(place + 1, encoded.count), with: [(measurement, text)])
    }
    encoded.removeLast(encoded.count - document.measurements.count)
    var rest = document
    rest.measurements = []
    let text = try rest.json()
    // Only keys of the document itself are indented by two spaces, and line ends within strings are escaped.
    guard !encoded.isEmpty, let start = text.firstRange(of: "\n  \"measurements\" : [")?.upperBound,
      let end = text[start...].firstIndex(of: "]")
    else { return try document.json() }
    return text[..<start] + "\n" + encoded.map(\.text).joined(separator: ",\n") + "\n  " + text[end...]
  }
}

extension RunDocument {
  package func json() throws -> String {
    do {
      return try RunJSON.text(self)
    } catch {
      throw RunFolderError(
        kind: .invalid, path: runID, problem: "the run cannot be written as JSON: \(error)",
        remedy: "report this; it is an error in nylon-bench")
    }
  }

  /// Parses JSON text; errors name it by `path`.
  package init(json data: Data, path: String) throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .custom { path in
      RunKeys.property(path.map(\.stringValue)).codingKey
    }
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    func invalid(
      _ problem: String, remedy: String = "restore the file from where it was copied, or measure again"
    ) -> RunFolderError {
      RunFolderError(kind: .invalid, path: path, problem: problem, remedy: remedy)
    }
    do {
      let schema = try decoder.decode(SchemaOnly.self, from: data).schema
      guard schema == RunDocument.currentSchema else {
        throw invalid(
          "key 'schema' is \(schema); this version reads \(RunDocument.currentSchema)",
          remedy: "use the nylon-bench that made the run, or measure again")
      }
      self = try decoder.decode(RunDocument.self, from: data)
    } catch let error as DecodingError {
      throw invalid(Self.problem(of: error))
    }
    for (place, measurement) in measurements.enumerated() {
      for (number, scope) in measurement.scopes.enumerated() {
        guard let problem = Self.problem(of: scope) else { continue }
        throw invalid("key 'measurements.\(place).scopes.\(number)' is wrong: \(problem)")
      }
    }
  }

  /// Rejects counts so large that sums could overflow, and whole requests that do not add up.
  private static func problem(of scope: ScopeMeasurement) -> String? {
    let counts = scope.counts
    let all = [
      counts.sent, counts.ok, counts.handlerErrors, counts.timeouts, counts.rejected, counts.shed,
      counts.lost, scope.okInWindow, scope.response.count, scope.service.count, scope.sendLag.count,
    ]
    if all.contains(where: { $0 > OutcomeCounts.most }) { return "counts over \(OutcomeCounts.most)" }
    return scope.scope == "request" && !counts.closes
      ? "'sent' is \(counts.sent), and its ends add up to \(counts.ended)" : nil
  }

  private struct SchemaOnly: Decodable { var schema: Int }

  private static func problem(of error: DecodingError) -> String {
    func place(_ context: DecodingError.Context, _ key: (any CodingKey)? = nil) -> String {
      let keys = (context.codingPath + [key].compactMap { $0 }).map {
        $0.intValue.map(String.init) ?? RunKeys.stored($0.stringValue)
      }
      return keys.isEmpty ? "the document" : "key '\(keys.joined(separator: "."))'"
    }
    switch error {
    case .keyNotFound(let key, let context): return "\(place(context, key)) is missing"
    case .valueNotFound(_, let context): return "\(place(context)) has no value"
    case .typeMismatch(let type, let context): return "\(place(context)) is not a \(type)"
    case .dataCorrupted(let context):
      guard context.codingPath.isEmpty else {
        return "\(place(context)) is wrong: \(context.debugDescription)"
      }
      // Foundation reports neither the place nor which of the two errors it is.
      return "it is not complete JSON, or a number in it is negative, too large or not an integer"
    @unknown default: return "it cannot be read: \(error)"
    }
  }
}

enum RunKeys {
  /// Words that property names spell in capitals.
  private static let capitals: Set<String> = ["id", "ip", "json", "url", "sha256", "tls", "http"]

  /// `runID` -> `run_id`, `scenarioSHA256` -> `scenario_sha256`; a name with `_` or `-` stays.
  static func stored(_ property: String) -> String {
    guard !property.contains(where: { $0 == "_" || $0 == "-" || $0 == "." }) else { return property }
    let letters = Array(property)
    return letters.enumerated().map { place, letter in
      let begins =
        letter.isUppercase && place > 0
        && (!letters[place - 1].isUppercase
          || (place + 1 < letters.count && letters[place + 1].isLowercase))
      return (begins ? "_" : "") + letter.lowercased()
    }.joined()
  }

  /// The property name for a stored key, given the path from the document's root. Foundation leaves the keys
  /// of dictionaries unchanged, except where they are not strings: `policies`.
  static func property(_ path: [String]) -> String {
    let key = path.last ?? ""
    // Histograms have their own key names.
    if path.dropLast().last == "policies" || key.hasSuffix("_ns") || key.hasPrefix("_") { return key }
    return key.split(separator: "_").enumerated().map { place, word in
      place == 0
        ? String(word)
        : capitals.contains(String(word)) ? word.uppercased() : word.prefix(1).uppercased() + word.dropFirst()
    }.joined()
  }
}
