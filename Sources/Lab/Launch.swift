/// What is to be started, and with what.
package struct Launch: Sendable {
  /// A path, or a name to be found in PATH.
  package var program: String
  /// Its arguments, without its own name. They are public: no secrets here.
  package var arguments: [String]
  /// Environment on top of our own.
  package var environment: [String: String]
  /// What it reads from standard input; nil is `/dev/null`.
  package var input: [UInt8]?
  /// Open descriptors of ours that it gets as 3, 4, … (as 4, 5, … with `collectsDocument`).
  package var descriptors: [Int32]
  /// Whether it gets a pipe as descriptor 3, of which we keep everything that comes.
  package var collectsDocument: Bool
  /// The most bytes of a document.
  package var documentLimit: Int
  /// What must not be seen in its last words.
  package var secrets: [String]

  package init(
    _ program: String, _ arguments: [String] = [], environment: [String: String] = [:],
    input: [UInt8]? = nil, descriptors: [Int32] = [], collectsDocument: Bool = false,
    documentLimit: Int = 256 << 20, secrets: [String] = []
  ) {
    self.program = program
    self.arguments = arguments
    self.environment = environment
    self.input = input
    self.descriptors = descriptors
    self.collectsDocument = collectsDocument
    self.documentLimit = documentLimit
    self.secrets = secrets
  }
}
