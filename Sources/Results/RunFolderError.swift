import Engine

/// Why a run folder could not be read or written.
package struct RunFolderError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What sort of trouble, for the exit code.
  package enum Kind: String, Sendable, Equatable {
    /// There is no such run, or it may not be read.
    case missing
    /// It is there and is not a run that this version reads.
    case invalid
    /// The place cannot be written.
    case unwritable
    /// The disk or the quota is full.
    case full
  }

  package var kind: Kind
  /// The file or folder.
  package var path: String
  /// What is wrong, with key and value where there are any.
  package var problem: String
  /// What can be done.
  package var remedy: String

  package init(kind: Kind, path: String, problem: String, remedy: String) {
    self.kind = kind
    self.path = path
    self.problem = problem
    self.remedy = remedy
  }

  /// One line: path, problem, remedy.
  package var description: String { "\(path): \(problem); \(remedy)" }
}
