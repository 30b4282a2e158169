import Foundation

/// The unit that a key's name ends with.
struct KeyUnit {
  /// The unit in words, such as `seconds`.
  let name: String
  /// What a suffix of a number is worth in the unit.
  let suffixes: [String: Double]

  private static let times: [String: Double] = [
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minutes": 60, "h": 3600,
  ]
  private static let sizes: [String: Double] = [
    "b": 1, "k": 1000, "kb": 1000, "kib": 1024, "m": 1e6, "mb": 1e6, "mib": 1_048_576,
  ]
  private static let rates: [String: Double] = [
    "k": 1000, "m": 1e6, "/s": 1, "rps": 1, "req/s": 1, "k/s": 1000, "krps": 1000, "k req/s": 1000,
  ]

  private static let bandwidths: [String: Double] = [
    "m": 1, "mbit": 1, "mbit/s": 1, "mbps": 1, "g": 1000, "gbit": 1000, "gbit/s": 1000, "gbps": 1000,
    "k": 1e-3, "kbit": 1e-3, "kbit/s": 1e-3,
  ]

  /// The unit of a key such as `measure_seconds`; nil when its name has none.
  init?(key: String) {
    if key.hasSuffix("_mbit_per_second") {
      (name, suffixes) = ("megabits a second", Self.bandwidths)
    } else if key.hasSuffix("_per_second") {
      (name, suffixes) = ("requests a second", Self.rates)
    } else if key.hasSuffix("_seconds") {
      (name, suffixes) = ("seconds", Self.times)
    } else if key.hasSuffix("_ms") || key.contains("_ms_") {
      (name, suffixes) = ("milliseconds", Self.times.mapValues { $0 * 1000 })
    } else if key.hasSuffix("_bytes") {
      (name, suffixes) = ("bytes", Self.sizes)
    } else {
      return nil
    }
  }
}

extension Block {
  /// A finite number in a range.
  func number(_ key: String, in range: ClosedRange<Double>) -> Double? {
    guard let child = get(key) else { return nil }
    let unit = KeyUnit(key: key)
    let allowed = "a number from \(Self.short(range.lowerBound)) to \(Self.short(range.upperBound))"
    let wanted = "must be \(allowed)" + (unit.map { " (\($0.name))" } ?? "")
    guard case .scalar(let text, let plain) = child.content else {
      fail(key, "is \(child.kind); \(wanted)")
      return nil
    }
    guard plain else {
      fail(key, "is quoted, so it is text; \(wanted)", remedy: "leave the quotes out")
      return nil
    }
    guard let number = Self.parse(text) else {
      fail(key, wanted, remedy: Self.unitRemedy(text, key: key, unit: unit))
      return nil
    }
    guard range.contains(number) else {
      fail(key, wanted)
      return nil
    }
    return number
  }

  /// A whole number in a range.
  func whole(_ key: String, in range: ClosedRange<Int>) -> Int? {
    guard let number = number(key, in: Double(range.lowerBound)...Double(range.upperBound)) else {
      return nil
    }
    guard number == number.rounded() else {
      fail(key, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
      return nil
    }
    return Int(number)
  }

  /// A decimal number as people write it in YAML; no infinity, no hexadecimal.
  static func parse(_ text: String) -> Double? {
    let digits = text.replacingOccurrences(of: "_", with: "")
    guard let first = digits.unicodeScalars.first, "+-.0123456789".unicodeScalars.contains(first),
      digits.unicodeScalars.allSatisfy({ "+-.eE0123456789".unicodeScalars.contains($0) }),
      let number = Double(digits), number.isFinite
    else { return nil }
    return number
  }

  /// A number without a trailing `.0`.
  static func short(_ number: Double) -> String {
    number == number.rounded() && abs(number) < 1e15 ? String(Int(number)) : String(number)
  }

  /// For `5s` or `44K`: says where the unit is and what to write instead.
  private static func unitRemedy(_ text: String, key: String, unit: KeyUnit?) -> String? {
    let digits = text.prefix(while: { $0.isNumber || "+-._".contains($0) })
    let suffix = text.dropFirst(digits.count).trimmingCharacters(in: .whitespaces).lowercased()
    guard !suffix.isEmpty, let number = parse(String(digits)) else { return nil }
    guard let unit else {
      guard let factor = ["k": 1000.0, "m": 1e6][suffix] else { return nil }
      return "write \(short(number * factor))"
    }
    let note = "the unit is in the key's name, \(unit.name)"
    guard let factor = unit.suffixes[suffix] else { return "\(note); write a number alone" }
    let exact = number * factor
    return "\(note): write \(key): \(short((exact * 1e9).rounded() / 1e9))"
  }
}
