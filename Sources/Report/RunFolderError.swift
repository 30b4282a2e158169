/// Why a run folder could not be read or written.
public struct RunFolderError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What sort of trouble, for the exit code.
  public enum Kind: String, Sendable, Equatable {
    /// There is no such run, or it may not be read.
    case missing
    /// It is there and is not a run that this version reads.
    case invalid
    /// The place cannot be written.
    case unwritable
    /// The disk or the quota is full.
    case full
  }

  /// The sort.
  public var kind: Kind
  /// The file or folder.
  public var path: String
  /// What is wrong, with key and value where there are any.
  public var problem: String
  /// What can be done.
  public var remedy: String

  /// An error.
  public init(kind: Kind, path: String, problem: String, remedy: String) {
    self.kind = kind
    self.path = path
    self.problem = problem
    self.remedy = remedy
  }

  /// One line: path, problem, remedy.
  public var description: String { "\(path): \(problem); \(remedy)" }
}
