/// One documented statement about behaviour, and the test that tries it.
public struct BehaviourSpec: Codable, Sendable, Equatable {
  /// Its name in claims.csv; unique among all claims.
  public var id: String
  /// The document's file name.
  public var document: String
  /// The line of the document, from 1.
  public var line: Int
  /// The words of the document.
  public var words: String
  /// The test's name; nil when it is not measured.
  public var test: String?
  /// Why it is not measured and what to install; nil when it is.
  public var notMeasured: String?

  /// A statement.
  public init(
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
