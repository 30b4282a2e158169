import Results
import Foundation
import Lab
import Scenario

/// Files that come with this package.
enum PackageFiles {
  /// The folder Scenarios/: below the current folder, else above the built command.
  static func scenarios() throws -> String {
    var folder = FileManager.default.currentDirectoryPath
    if let found = try? ScenarioCatalog.folder(under: folder) { return found }
    folder = Executables.ownFolder
    while folder != "/", !folder.isEmpty {
      if let found = try? ScenarioCatalog.folder(under: folder) { return found }
      folder = (folder as NSString).deletingLastPathComponent
    }
    return try ScenarioCatalog.folder(under: FileManager.default.currentDirectoryPath)
  }

  /// The path of an FFI plugin: as written, or a product of this package.
  static func plugin(_ file: String) throws(LabError) -> String {
    if file.contains("/") { return file }
    if let path = Executables.library(file) { return path }
    if FileManager.default.fileExists(atPath: file) {
      return FileManager.default.currentDirectoryPath + "/" + file
    }
    throw .missing(
      "The plugin '\(file)'",
      remedy:
        "It is neither a product of this package (build them: swift build -c release) nor a file; write a path with a slash, such as ./\(file)."
    )
  }
}
