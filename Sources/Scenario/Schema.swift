import NATS
import Nylon

/// The description of one key, shared by the reader, its messages, the redaction and the manual.
struct Row: Sendable {
  var name: String
  var meaning = ""
  /// The default, as shown in the manual.
  var standard = "none"
  /// The allowed values, as shown in the manual.
  var allowed = ""
  /// The one type of plugin or target that has the key; empty if all types have it.
  var only = ""
  /// The names of the key in other tools.
  var synonyms: [String] = []
  /// Whether the value must never be shown.
  var isSecret = false
  /// For a key of earlier versions: the explanation of its removal.
  var removed: String?
}

/// The parser of a key's value and the values it allows. Like `Block`, `read` returns nil for an absent or
/// wrong value.
struct Kind<Value>: Sendable {
  var allowed = ""
  var isRequired = false
  /// Formats a value for the manual.
  var show: @Sendable (Value) -> String = { "`\($0)`" }
  let read: @Sendable (_ block: Block, _ key: String) -> Value?

  /// Returns a kind for which a missing or empty value is an error.
  func required(_ remedy: String) -> Kind {
    Kind(allowed: allowed, isRequired: true, show: show) { [read] block, key in
      if let value = block.get(key), value.text != "" { return read(block, key) }
      return block.refuse(key, block.get(key) == nil ? "is missing" : "is empty", remedy: remedy)
    }
  }
}

/// A row and the field that its value sets.
struct Key<Root>: Sendable {
  private(set) var row: Row
  /// The field's default, formatted for the manual; nil if the row states the default.
  fileprivate var standard: @Sendable (Root) -> String? = { _ in nil }
  fileprivate var read: @Sendable (Block, inout Root) -> Void = { _, _ in }
  /// What Nylon's own host does with the key, if it does less than its documents say and than nylon-bench
  /// does.
  fileprivate var hostRemark: (words: String, concerns: @Sendable (YAMLValue) -> Bool)?

  /// Creates a key that the reader of the block reads itself, because its value depends on more than the
  /// block.
  init(_ name: String, _ meaning: String, default standard: String = "none", allowed: String = "") {
    row = Row(name: name, meaning: meaning, standard: standard, allowed: allowed)
  }

  /// Creates a key for a field with a default.
  init<Value>(
    _ name: String, _ field: WritableKeyPath<Root, Value> & Sendable, _ kind: Kind<Value>, _ meaning: String,
    default standard: String? = nil, allowed: String? = nil
  ) {
    self.init(name, meaning, allowed: allowed ?? kind.allowed)
    self.standard = { kind.isRequired ? "required" : standard ?? kind.show($0[keyPath: field]) }
    read = { block, root in
      if let value = kind.read(block, name) { root[keyPath: field] = value }
    }
  }

  /// Creates a key for a field that is nil without it.
  init<Value>(
    _ name: String, _ field: WritableKeyPath<Root, Value?> & Sendable, _ kind: Kind<Value>, _ meaning: String,
    default standard: String = "none", allowed: String? = nil
  ) {
    self.init(
      name, meaning, default: kind.isRequired ? "required" : standard, allowed: allowed ?? kind.allowed)
    read = { block, root in
      if let value = kind.read(block, name) { root[keyPath: field] = value }
    }
  }

  /// Creates a key for a block that sets the parts of a field.
  init<Value>(
    _ name: String, _ field: WritableKeyPath<Root, Value> & Sendable, _ keys: Keys<Value>, _ meaning: String,
    default standard: String = "see below"
  ) {
    self.init(name, meaning, default: standard, allowed: "see below")
    read = { block, root in
      if let child = block.block(name, rows: keys.rows) { keys.read(child, into: &root[keyPath: field]) }
    }
  }

  /// Creates a key of earlier versions, which is reported as removed.
  init(removed name: String, _ fate: String) { row = Row(name: name, removed: fate) }

  /// Returns the key with a changed part of its row: `only`, `isSecret` or `synonyms`.
  func with<Value>(_ part: WritableKeyPath<Row, Value>, _ value: Value) -> Key {
    var key = self
    key.row[keyPath: part] = value
    return key
  }

  /// Returns the key with a warning that is shown when the configuration of a real host uses it.
  func inHost(
    _ words: String, when concerns: @escaping @Sendable (YAMLValue) -> Bool = { _ in true }
  ) -> Key {
    var key = self
    key.hostRemark = (words, concerns)
    return key
  }

  fileprivate func warnOfHost(_ block: Block) {
    guard block.isLenient, let hostRemark, let value = block.get(row.name), hostRemark.concerns(value) else {
      return
    }
    block.warn(row.name, hostRemark.words)
  }

  func only(_ type: String) -> Key { with(\.only, type) }
  func also(_ names: String...) -> Key { with(\.synonyms, names) }
  var secret: Key { with(\.isSecret, true) }
}

/// The keys of one block.
struct Keys<Root>: Sendable {
  let table: Schema.Table
  private let keys: [Key<Root>]
  private let check: @Sendable (Block, inout Root) -> Void

  var rows: [Row] { table.rows }

  /// Creates keys that fill a value like `initial`, which holds the defaults; `check` has the rules between
  /// keys.
  init(
    _ name: String, home: String, of initial: Root, _ keys: [Key<Root>],
    check: @escaping @Sendable (Block, inout Root) -> Void = { _, _ in }
  ) {
    let rows = keys.map { $0.with(\.standard, $0.standard(initial) ?? $0.row.standard).row }
    table = Schema.Table(name: name, home: home, rows: rows)
    self.keys = keys
    self.check = check
  }

  /// Reads the keys of a block. A key of another type is not read, and `refusal` returns the error message
  /// for it.
  func read(
    _ block: Block, into root: inout Root, type: String? = nil, refusal: (Row) -> String? = { _ in nil }
  ) {
    for key in keys {
      if key.row.only.isEmpty || type == nil || key.row.only == type {
        key.read(block, &root)
        key.warnOfHost(block)
      } else if block.get(key.row.name) != nil, let message = refusal(key.row) {
        block.fail(key.row.name, message)
      }
    }
    check(block, &root)
  }
}

/// All keys of a scenario and of Nylon's own blocks. A key's row is declared in the type whose field it sets;
/// the checks, the defaults, the suggestions, the redaction and the manual's tables are derived from the row.
enum Schema {
  /// The keys of one block, for messages and the manual.
  struct Table: Sendable {
    /// The name in the manual's markers.
    let name: String
    /// The block's name in messages, as in "it is a key of a target".
    let home: String
    let rows: [Row]
  }

  /// The tables in the manual's order. For a key in the wrong block, messages name the first table that has
  /// it.
  static let tables = [
    Plan.keys.table, TargetReader.keys.table, LoadReader.keys.table, WorkersSpec.keys.table,
    PrecedingPlugin.keys.table, LinkSpec.keys.table, NodeChoice.keys.table, FaultReader.keys.table,
    RequestSpec.keys.table,
    RequestSpec.responseKeys.table, Verification.keys.table, NylonConfiguration.Messaging.keys.table,
    NylonConfiguration.Plugin.keys.table, PolicyOverride.keys.table, PolicyOverride.retryKeys.table,
    NATSTLS.keys.table, NATSAuth.keys.table,
  ]

  /// The names of the keys whose values are secrets.
  static let secrets = Set(tables.flatMap(\.rows).filter(\.isSecret).map(\.name))
}

extension Kind<Double> {
  static func number(_ range: ClosedRange<Double>) -> Kind {
    Kind(
      allowed: "\(Block.short(range.lowerBound)) to \(Block.short(range.upperBound))", show: Block.short
    ) { $0.number($1, in: range) }
  }
}

extension Kind where Value: FixedWidthInteger & Sendable {
  static func whole(_ range: ClosedRange<Value>) -> Kind {
    Kind(allowed: "\(range.lowerBound) to \(range.upperBound)", show: { "\($0)" }) { block, key in
      block.whole(key, in: Int(range.lowerBound)...Int(range.upperBound)).map { Value($0) }
    }
  }
}

extension Kind<UInt64> {
  /// Any 64-bit unsigned integer, which a `Double` could not hold exactly.
  static var seed: Kind {
    Kind(allowed: "0 to \(UInt64.max)", show: { "\($0)" }) { block, key in
      block.text(key).flatMap {
        UInt64($0) ?? block.refuse(key, "must be a whole number from 0 to \(UInt64.max)")
      }
    }
  }
}

extension Kind<Bool> {
  static var flag: Kind { Kind(allowed: "`true`, `false`") { $0.flag($1) } }
}

extension Kind where Value: RawRepresentable & CaseIterable & SendableMetatype, Value.RawValue == String {
  static var choice: Kind {
    let names = Value.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ")
    return Kind(allowed: names, show: { "`\($0.rawValue)`" }) { $0.choice($1, of: Value.self) }
  }
}

extension Kind<String> {
  static var text: Kind { Kind { $0.text($1) } }

  /// A path, made absolute relative to the folder of the file that names it.
  static var path: Kind {
    Kind(allowed: "a path") { block, key in
      block.text(key).flatMap { $0.isEmpty ? nil : block.resolve($0) }
    }
  }

  /// Text that must satisfy a condition.
  static func text(
    _ allowed: String, fault: String, remedy: String? = nil, if isRight: @escaping @Sendable (String) -> Bool
  ) -> Kind {
    Kind(allowed: allowed) { block, key in
      block.text(key).flatMap { isRight($0) ? $0 : block.refuse(key, fault, remedy: remedy) }
    }
  }
}

extension Kind {
  /// A block of keys that fill a value like `initial`.
  static func block(_ keys: Keys<Value>, from initial: Value) -> Kind where Value: Sendable {
    Kind(allowed: "see below") { block, key in
      guard let child = block.block(key, rows: keys.rows) else { return nil }
      var value = initial
      keys.read(child, into: &value)
      return value
    }
  }
}
