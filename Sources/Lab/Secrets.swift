import Foundation

/// Takes secrets out of text that goes to people or files.
package struct Secrets: Sendable {
  /// What is replaced, the longest first.
  private let words: [String]
  /// Length of the longest secret, bytes.
  var longest: Int { words.first?.utf8.count ?? 0 }

  /// Takes these words, and their percent-encoded forms, out of texts.
  package init(_ secrets: [String]) {
    let encoded = secrets.compactMap { $0.addingPercentEncoding(withAllowedCharacters: .alphanumerics) }
    words = Set(secrets + encoded).subtracting([""])
      .sorted { ($0.utf8.count, $0) > ($1.utf8.count, $1) }
  }

  /// The text without the secrets, and without what stands before the `@` of any URL.
  package func scrub(_ text: String) -> String {
    words.reduce(text) { $0.replacingOccurrences(of: $1, with: "***") }
      .replacingOccurrences(of: "://[^/@\\s]+@", with: "://***@", options: .regularExpression)
  }
}
