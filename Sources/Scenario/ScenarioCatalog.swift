import Foundation

/// The scenarios of a folder: what `nylon-bench scenarios` lists.
package enum ScenarioCatalog {
  /// One scenario that can be run.
  package struct Entry: Sendable, Equatable, Codable {
    /// The file's name without `.yaml`; the name to give on the command line.
    package var name: String
    /// The path of the file.
    package var file: String
    /// The first comment line; empty when there is none.
    package var summary: String
  }

  /// The file of the documented claims, which is no scenario.
  package static let claimsFileName = "claims.yaml"

  /// The folder `Scenarios` in `root`, or in the nearest folder above it.
  ///
  /// - Throws: ``ScenarioError`` when there is none.
  package static func folder(under root: String) throws(ScenarioError) -> String {
    var url = URL(fileURLWithPath: root).standardized
    while true {
      let candidate = url.appendingPathComponent("Scenarios").path
      var isFolder: ObjCBool = false
      if FileManager.default.fileExists(atPath: candidate, isDirectory: &isFolder), isFolder.boolValue {
        return candidate
      }
      let parent = url.deletingLastPathComponent().standardized
      if parent.path == url.path || url.path == "/" { break }
      url = parent
    }
    throw ScenarioError(problems: [
      ScenarioProblem(
        place: .file(root), message: "has no folder Scenarios in it or above it",
        remedy: "go to the folder of nylon-bench, or name a scenario by its path")
    ])
  }

  /// The scenarios of a folder by name; `claims.yaml` and files that cannot be read are left out.
  ///
  /// - Throws: ``ScenarioError`` when the folder cannot be read.
  package static func entries(in folder: String) throws(ScenarioError) -> [Entry] {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: folder)
    } catch {
      throw ScenarioError(problems: [
        ScenarioProblem(place: .file(folder), message: "cannot be read as a folder", remedy: "check the path")
      ])
    }
    return names.filter { $0.hasSuffix(".yaml") && $0 != claimsFileName && !$0.hasPrefix(".") }.sorted()
      .compactMap { name in
        let path = folder + "/" + name
        guard let file = try? SourceFile(path: path) else { return nil }
        return Entry(name: file.stem, file: path, summary: file.summary)
      }
  }
}
