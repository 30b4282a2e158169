/// One documented statement about behaviour, and the test that tries it.
package struct BehaviourSpec: Codable, Sendable, Equatable {
  /// Its name in claims.csv; unique among all claims.
  package var id: String
  /// The document's file name.
  package var document: String
  /// The line of the document, from 1.
  package var line: Int
  /// The words of the document.
  package var words: String
  /// The test's name; nil when it is not measured.
  package var test: String?
  /// Why it is not measured and what to install; nil when it is.
  package var notMeasured: String?

  /// A statement.
  package init(
    id: String, document: String, line: Int, words: String, test: String? = nil, notMeasured: String? = nil
  ) {
    self.id = id
    self.document = document
    self.line = line
    self.words = words
    self.test = test
    self.notMeasured = notMeasured
  }
}
