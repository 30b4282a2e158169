import Foundation

/// Takes secrets out of text that goes to people or files.
package struct Secrets: Sendable {
  /// What is replaced, the longest first.
  private let words: [String]
  /// Length of the longest secret, bytes.
  let longest: Int

  /// Takes these words, and their percent-encoded forms, out of texts.
  package init(_ secrets: [String]) {
    var all: Set<String> = []
    for secret in secrets where !secret.isEmpty {
      all.insert(secret)
      if let encoded = secret.addingPercentEncoding(withAllowedCharacters: .alphanumerics) {
        all.insert(encoded)
      }
    }
    words = all.sorted { ($0.utf8.count, $0) > ($1.utf8.count, $1) }
    longest = words.first?.utf8.count ?? 0
  }

  /// The text without the secrets, and without what stands before the `@` of any URL.
  package func scrub(_ text: String) -> String {
    var result = text
    for word in words {
      result = result.replacingOccurrences(of: word, with: "***")
    }
    return result.replacingOccurrences(
      of: "://[^/@\\s]+@", with: "://***@", options: .regularExpression)
  }
}
