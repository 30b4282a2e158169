import Results

/// A file that was rendered from a run.
package struct RenderedFile: Sendable, Equatable {
  /// Its name within a folder.
  package let name: String
  package let contents: String
}

/// A format of `export`; each is a file of its own that adds one to `all`.
package struct ExportFormat: Sendable, RawRepresentable, CaseIterable {
  static let all = [csv, json, markdown, html, hgrm, hlog, readme, results]

  package let rawValue: String
  /// Whether every run folder has its files.
  let isInRunFolder: Bool
  let render: @Sendable (RunDocument) throws -> [RenderedFile]

  init(
    _ name: String, isInRunFolder: Bool = false,
    render: @escaping @Sendable (RunDocument) throws -> [RenderedFile]
  ) {
    rawValue = name
    self.isInRunFolder = isInRunFolder
    self.render = render
  }

  package init?(rawValue: String) {
    guard let format = Self.all.first(where: { $0.rawValue == rawValue }) else { return nil }
    self = format
  }

  package static var allCases: [ExportFormat] { all }

  /// For a help text, such as `csv, json or html`.
  package static var names: String {
    all.dropLast().map(\.rawValue).joined(separator: ", ") + " or " + all[all.count - 1].rawValue
  }

  static let json = ExportFormat("json") { [RenderedFile(name: "run.json", contents: try $0.json())] }
}

/// Renders runs; nothing is measured.
package enum Exporter {
  /// The files of a format, the one to print first; none for `hgrm` of a run without measurements.
  /// Throws `RunFolderError` when a run has no JSON form.
  package static func render(_ document: RunDocument, format: ExportFormat) throws -> [RenderedFile] {
    try format.render(document)
  }

  /// All files of a run folder but `run.json`.
  static func folderFiles(_ document: RunDocument) throws -> [RenderedFile] {
    try ExportFormat.all.filter(\.isInRunFolder).flatMap { try $0.render(document) }
  }
}
