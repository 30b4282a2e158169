// The JSON Schema of run.json, made of what its types decode: the keys, their types and what is required are those of
// the Codable conformances, descriptions those beside the fields, in the lists of columns and of scenario keys, and
// units follow from the names.
import Foundation
import NATS
import Nylon

@testable import Engine
@testable import Lab
@testable import Results
@testable import Scenario

typealias JSONObject = [String: Any]

enum RunSchema {
  static func text(package: String) throws -> String {
    let rooms = ["Nylon", "NATS", "Scenario", "Engine", "Lab", "Results"].map { "\(package)/Sources/\($0)" }
    let builder = SchemaBuilder(comments: try SourceComments(folders: rooms))
    var schema = try builder.described(RunDocument.self).schema
    let version = RunDocument.currentSchema
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = "urn:nylon-bench:run:\(version)"
    schema["title"] = "run.json of nylon-bench, version \(version)"
    schema["description"] =
      "Everything that one command measured. Within a version fields are only added: a run of before lacks them, and a "
      + "run of a newer nylon-bench may have fields that this schema does not allow. `x-unit` is the unit of a figure."
    schema["$defs"] = builder.definitions
    let data = try JSONSerialization.data(
      withJSONObject: schema, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
    return String(decoding: data, as: UTF8.self) + "\n"
  }
}

struct SchemaError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// A type that is read in another way than field by field.
private protocol SchemaType {
  static func schema(_ builder: SchemaBuilder) throws -> JSONObject
  static var sample: Self { get }
}

final class SchemaBuilder {
  private(set) var definitions: JSONObject = [:]
  private let comments: SourceComments

  init(comments: SourceComments) { self.comments = comments }

  /// The schema of a type, and a value of it, with which the type around it can go on decoding.
  func described<T: Decodable>(_: T.Type) throws -> (schema: JSONObject, sample: T) {
    let name = Self.name(T.self)
    var sample: T?
    var schema = Self.reference(name)
    if let type = T.self as? any SchemaType.Type {
      sample = type.sample as? T
      schema = try type.schema(self)
    } else if let type = T.self as? any CaseIterable.Type {
      let values = type.values
      sample = values.first?.value as? T
      definitions[name] = try enumeration(name, values)
    } else if let cases = comments.casesWithValues[name] {
      let probes = try cases.map { one in
        let probe = Probe(self, owner: name, caseName: one)
        sample = try T(from: probe)
        return probe
      }
      definitions[name] = try documented(["oneOf": probes.map { try $0.schema() }], name)
    } else {
      try define(name) { sample = try T(from: $0) }
    }
    guard let sample else { throw SchemaError("\(name) has no value to go on with") }
    return (schema, sample)
  }

  static func reference(_ name: String) -> JSONObject { ["$ref": "#/$defs/\(name)"] }

  /// Defines an object by the fields that a decoder is asked for.
  ///
  /// - Parameter owner: the type with the fields' comments, where that is another one.
  fileprivate func define(_ name: String, owner: String? = nil, _ decode: (Probe) throws -> Void) throws {
    let probe = Probe(self, owner: owner ?? name)
    try decode(probe)
    var schema = try documented(try probe.schema(), name)
    var properties = schema["properties"] as? JSONObject ?? [:]
    if name == "RunDocument", let version = properties["schema"] as? JSONObject {
      properties["schema"] = version.merging(["const": RunDocument.currentSchema]) { $1 }
    }
    if name == "NATSSpec" {
      // Keys of a target that earlier versions had, and that their runs keep.
      for row in TargetReader.keys.rows {
        guard let fate = row.removed else { continue }
        properties[row.name] =
          ["type": "string", "deprecated": true, "description": "In older runs only: \(fate)."] as JSONObject
      }
    }
    schema["properties"] = properties
    definitions[name] = schema
  }

  fileprivate func define(_ name: String, _ schema: JSONObject) throws {
    definitions[name] = try documented(schema, name)
  }

  private func documented(_ schema: JSONObject, _ name: String) throws -> JSONObject {
    guard let words = comments.types[name] else {
      throw SchemaError("the type \(name) has no comment, which the schema needs")
    }
    return schema.merging(["description": Self.words(words)]) { old, _ in old }
  }

  private func enumeration(_ name: String, _ values: [(value: Any, stored: String)]) throws -> JSONObject {
    var schema = try documented(["type": "string", "enum": values.map(\.stored)], name)
    let meanings = values.compactMap { value, stored in
      comments.members[name]?["\(value)"].map { "`\(stored)`: \(Self.words($0))" }
    }
    schema["description"] = (["\(schema["description"] ?? "")"] + meanings).joined(separator: " ")
    return schema
  }

  /// The type's name within its module, such as `ClaimVerdict.Verdict`.
  private static func name(_ type: Any.Type) -> String {
    String(reflecting: type).split(separator: ".").dropFirst().joined(separator: ".")
  }

  // MARK: What is said of a field

  private static let keys: [String: [Scenario.Row]] = [
    "Plan": Plan.keys.rows, "Target": TargetReader.keys.rows, "LoadShape": LoadReader.keys.rows,
    "WorkersSpec": WorkersSpec.keys.rows, "LinkSpec": LinkSpec.keys.rows,
    "RequestSpec": RequestSpec.keys.rows,
    "Verification": Verification.keys.rows, "NATSTLS": NATSTLS.keys.rows, "NATSAuth": NATSAuth.keys.rows,
  ]

  private static let columns: [String: [String: String]] = [
    "ClaimVerdict": meanings(ClaimVerdict.columns), "ComparisonRow": meanings(ComparisonRow.columns),
  ]

  private static func meanings<Row>(_ columns: [Column<Row>]) -> [String: String] {
    Dictionary(uniqueKeysWithValues: columns.map { ($0.name, $0.meaning) })
  }

  /// The field's schema with what is known of it.
  fileprivate func field(_ schema: JSONObject, _ owner: String, _ key: String) throws -> JSONObject {
    let stored = RunKeys.stored(key)
    let property = comments.renamed[owner]?[key] ?? key
    // The scenario's keys abbreviate units.
    let written = stored.replacing("milliseconds", with: "ms").replacing("megabit", with: "mbit")
    let reference = (schema["items"] as? JSONObject ?? schema)["$ref"] as? String
    let type = reference.flatMap { $0.split(separator: "/").last }.map(String.init)
    let words =
      comments.members[owner]?[property]
      ?? Self.keys[owner]?.first { $0.name == written }?.meaning
      ?? Self.columns[owner]?[stored]
      ?? type.flatMap { comments.types[$0] }
      ?? SummaryRow.column(stored)?.meaning
    guard let words, !words.isEmpty else {
      throw SchemaError("\(owner).\(property) has no comment, which the schema needs")
    }
    var schema = schema
    schema["description"] = Self.words(words)
    schema["x-unit"] = Self.unit(stored)
    return schema
  }

  /// In the document a value that is nil is absent.
  private static func words(_ comment: String) -> String {
    comment.replacing(/\b([Nn])il\b/) { $0.1 == "N" ? "Absent" : "absent" }
      .replacing("  ", with: " ").replacing(" The rows of `keys` explain the fields.", with: "")
  }

  /// The unit with which a name ends.
  private static func unit(_ name: String) -> String? {
    let units = [
      ("nanoseconds", "ns"), ("ns", "ns"), ("microseconds", "us"), ("milliseconds", "ms"), ("seconds", "s"),
      ("bytes", "B"), ("megabit_per_second", "Mbit/s"), ("per_second", "1/s"), ("share", "1"),
    ]
    return units.first { name == $0.0 || name.hasSuffix("_\($0.0)") }?.1
  }
}

extension CaseIterable {
  /// The cases that are stored as text.
  fileprivate static var values: [(value: Any, stored: String)] {
    allCases.compactMap { value in
      ((value as? any RawRepresentable)?.rawValue as? String).map { (value, $0) }
    }
  }
}

// MARK: The decoder

/// A decoder without data, which notes what it is asked for.
private final class Probe: Decoder {
  let codingPath: [any CodingKey] = []
  let userInfo: [CodingUserInfoKey: Any] = [:]
  let builder: SchemaBuilder
  /// The type whose fields these are.
  let owner: String
  /// The case that an enumeration finds.
  let caseName: String?
  var fields: [String: JSONObject] = [:]
  var inner: [String: Probe] = [:]
  var optional: Set<String> = []

  init(_ builder: SchemaBuilder, owner: String, caseName: String? = nil) {
    (self.builder, self.owner, self.caseName) = (builder, owner, caseName)
  }

  func schema() throws -> JSONObject {
    let all = try fields.merging(inner.mapValues { try $0.schema() }) { own, _ in own }
    var properties: JSONObject = [:]
    for (key, schema) in all { properties[RunKeys.stored(key)] = try builder.field(schema, owner, key) }
    let required = all.keys.filter { !optional.contains($0) }.map(RunKeys.stored).sorted()
    let schema: JSONObject = ["type": "object", "additionalProperties": false, "properties": properties]
    return required.isEmpty ? schema : schema.merging(["required": required]) { old, _ in old }
  }

  func container<Key: CodingKey>(keyedBy _: Key.Type) throws -> KeyedDecodingContainer<Key> {
    KeyedDecodingContainer(ProbeContainer(probe: self))
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer { throw other }
  func singleValueContainer() throws -> any SingleValueDecodingContainer { throw other }

  fileprivate var other: SchemaError {
    SchemaError("\(owner) is read as no object: make an enumeration CaseIterable, or the type a SchemaType")
  }
}

private struct ProbeContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let probe: Probe
  let codingPath: [any CodingKey] = []

  var allKeys: [Key] { [probe.caseName.flatMap(Key.init(stringValue:))].compactMap { $0 } }

  // Only a value that may be missing is looked for before it is decoded.
  func contains(_ key: Key) -> Bool {
    probe.optional.insert(key.stringValue)
    return true
  }

  func decodeNil(forKey _: Key) -> Bool { false }

  func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
    let (schema, sample) = try probe.builder.described(type)
    probe.fields[key.stringValue] = schema
    return sample
  }

  func nestedContainer<Nested: CodingKey>(
    keyedBy _: Nested.Type, forKey key: Key
  ) throws -> KeyedDecodingContainer<Nested> {
    let inner = Probe(probe.builder, owner: probe.owner)
    probe.inner[key.stringValue] = inner
    return KeyedDecodingContainer(ProbeContainer<Nested>(probe: inner))
  }

  func nestedUnkeyedContainer(forKey _: Key) throws -> any UnkeyedDecodingContainer { throw probe.other }
  func superDecoder() throws -> any Decoder { throw probe.other }
  func superDecoder(forKey _: Key) throws -> any Decoder { throw probe.other }
}

// MARK: Types of JSON, and those with a decoder of their own

extension Bool: SchemaType {
  fileprivate static func schema(_: SchemaBuilder) -> JSONObject { ["type": "boolean"] }
  fileprivate static var sample: Bool { false }
}

extension String: SchemaType {
  fileprivate static func schema(_: SchemaBuilder) -> JSONObject { ["type": "string"] }
  fileprivate static var sample: String { "" }
}

extension Int: SchemaType {
  fileprivate static func schema(_: SchemaBuilder) -> JSONObject { ["type": "integer"] }
  fileprivate static var sample: Int { 0 }
}

extension UInt16: SchemaType {
  fileprivate static func schema(_: SchemaBuilder) -> JSONObject {
    ["type": "integer", "minimum": 0, "maximum": Int(UInt16.max)]
  }
  fileprivate static var sample: UInt16 { 0 }
}

extension UInt64: SchemaType {
  fileprivate static func schema(_: SchemaBuilder) -> JSONObject { ["type": "integer", "minimum": 0] }
  fileprivate static var sample: UInt64 { 0 }
}

extension Double: SchemaType {
  /// What is no finite number is a text, which JSON has no other way to say.
  fileprivate static func schema(_: SchemaBuilder) -> JSONObject {
    ["anyOf": [["type": "number"], ["enum": ["inf", "-inf", "nan"]]] as [JSONObject]]
  }
  fileprivate static var sample: Double { 0 }
}

extension Array: SchemaType where Element: Decodable {
  fileprivate static func schema(_ builder: SchemaBuilder) throws -> JSONObject {
    ["type": "array", "items": try builder.described(Element.self).schema]
  }
  fileprivate static var sample: [Element] { [] }
}

extension Dictionary: SchemaType where Key: Decodable, Value: Decodable {
  fileprivate static func schema(_ builder: SchemaBuilder) throws -> JSONObject {
    [
      "type": "object", "propertyNames": try builder.described(Key.self).schema,
      "additionalProperties": try builder.described(Value.self).schema,
    ]
  }
  fileprivate static var sample: [Key: Value] { [:] }
}

extension UTCSecond: SchemaType {
  fileprivate static func schema(_ builder: SchemaBuilder) throws -> JSONObject {
    try builder.define(
      "UTCSecond",
      ["type": "string", "format": "date-time", "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$"])
    return SchemaBuilder.reference("UTCSecond")
  }
  fileprivate static var sample: UTCSecond { UTCSecond(epochSeconds: 0) }
}

extension Phase: SchemaType {
  fileprivate static func schema(_ builder: SchemaBuilder) throws -> JSONObject {
    try builder.define("Phase", ["type": "string", "enum": Phase.session.map(\.subjectFragment)])
    return SchemaBuilder.reference("Phase")
  }
  fileprivate static var sample: Phase { .logging }
}

extension FaultVictim: SchemaType {
  fileprivate static func schema(_ builder: SchemaBuilder) throws -> JSONObject {
    try builder.define("FaultVictim", ["type": "string"])
    return SchemaBuilder.reference("FaultVictim")
  }
  fileprivate static var sample: FaultVictim { .workers }
}

extension OutcomeCounts: SchemaType {
  fileprivate static func schema(_ builder: SchemaBuilder) throws -> JSONObject {
    let all = Counter.outcomes.map { "\($0)" }
    var properties: JSONObject = [:]
    for counter in Counter.outcomes {
      properties[RunKeys.stored("\(counter)")] =
        try builder.described(UInt64.self).schema.merging(["description": counter.meaning]) { old, _ in old }
    }
    // Those without which counts cannot be read.
    let required = try all.filter { name in
      let others = Dictionary(uniqueKeysWithValues: all.filter { $0 != name }.map { ($0, 0) })
      let data = try JSONSerialization.data(withJSONObject: others)
      return (try? JSONDecoder().decode(OutcomeCounts.self, from: data)) == nil
    }
    try builder.define(
      "OutcomeCounts",
      [
        "type": "object", "additionalProperties": false, "properties": properties,
        "required": required.map(RunKeys.stored).sorted(),
      ])
    return SchemaBuilder.reference("OutcomeCounts")
  }
  fileprivate static var sample: OutcomeCounts { OutcomeCounts() }
}

extension LatencyHistogram: SchemaType {
  fileprivate static func schema(_ builder: SchemaBuilder) throws -> JSONObject {
    // It asks for its fields, and then finds that an empty text is no histogram.
    try builder.define("LatencyHistogram", owner: "LatencyHistogram.Stored") {
      _ = try? LatencyHistogram(from: $0)
    }
    return SchemaBuilder.reference("LatencyHistogram")
  }
  fileprivate static var sample: LatencyHistogram { LatencyHistogram() }
}
