import Results

/// A file rendered from a run.
package struct RenderedFile: Sendable, Equatable {
  package let name: String
  package let contents: String
}

/// The formats of `export`, which measures nothing.
package enum ExportFormat: String, Sendable, CaseIterable {
  case csv, json, markdown, html, hgrm, hlog, openmetrics, readme, results

  /// All files of a run folder except `run.json`; the scenario is included if no other file has it.
  static func folderFiles(_ document: RunDocument) throws -> [RenderedFile] {
    let scenario = document.scenario.text.map { RenderedFile(name: RunFolder.scenarioName, contents: $0) }
    return try [csv, markdown, html, hlog].flatMap { try $0.render(document) } + [scenario].compactMap { $0 }
  }

  /// Renders the files, the main one first; none for `hgrm` of a run without measurements. Throws
  /// `RunFolderError` when a run has no JSON form.
  package func render(_ document: RunDocument) throws -> [RenderedFile] {
    let file: (name: String, contents: String)
    switch self {
    case .csv: return CSV.files(document).map { RenderedFile(name: $0.title, contents: CSV.render($0)) }
    case .hgrm: return HistogramFiles.percentileDistributions(document)
    case .json: file = ("run.json", try document.json())
    case .markdown: file = ("report.md", MarkdownReport.render(document))
    case .html: file = ("report.html", HTMLReport.render(document))
    case .hlog: file = ("histograms.hlog", HistogramFiles.log(document))
    case .openmetrics: file = ("openmetrics.txt", OpenMetrics.render(document))
    case .readme: file = ("readme.md", MarkdownReport.readme(document))
    case .results: file = ("results.md", MarkdownReport.results(document))
    }
    return [RenderedFile(name: file.name, contents: file.contents)]
  }
}
