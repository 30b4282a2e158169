import Engine
import Lab
import Results

/// A file that was rendered from a run.
package struct RenderedFile: Sendable, Equatable {
  /// Its name within a folder.
  package var name: String
  package var contents: String
}

/// The formats of `export`.
package enum ExportFormat: String, Sendable, CaseIterable {
  /// The five CSV files, and `parts.csv` of a decomposed run.
  case csv
  case json
  case markdown
  case html
  /// HdrHistogram percentile distributions, a file for each target, load, phase and metric.
  case hgrm
  case hlog
}

/// Renders runs; nothing is measured.
package enum Exporter {
  /// The files of a format, in the order in which they are to be printed; never empty but for
  /// `hgrm` of a run without measurements. Throws `RunFolderError` when a run has no JSON form.
  package static func render(_ document: RunDocument, format: ExportFormat) throws -> [RenderedFile] {
    switch format {
    case .csv: csv(document)
    case .json: [RenderedFile(name: "run.json", contents: try document.json())]
    case .markdown: [RenderedFile(name: "report.md", contents: MarkdownReport.render(document))]
    case .html: [RenderedFile(name: "report.html", contents: HTMLReport.render(document))]
    case .hgrm: distributions(document)
    case .hlog: [RenderedFile(name: "histograms.hlog", contents: HistogramFiles.log(document))]
    }
  }

  /// All files of a run folder but `run.json`.
  static func folderFiles(_ document: RunDocument) -> [RenderedFile] {
    csv(document) + [
      RenderedFile(name: "report.md", contents: MarkdownReport.render(document)),
      RenderedFile(name: "report.html", contents: HTMLReport.render(document)),
      RenderedFile(name: "histograms.hlog", contents: HistogramFiles.log(document)),
    ]
  }

  private static func csv(_ document: RunDocument) -> [RenderedFile] {
    let isDecomposed = document.measurements.contains { $0.scopes.contains { $0.decomposition != nil } }
    return [
      RenderedFile(name: "summary.csv", contents: CSV.summary(document)),
      RenderedFile(name: "percentiles.csv", contents: CSV.percentiles(document)),
      RenderedFile(name: "timeline.csv", contents: CSV.timeline(document)),
      RenderedFile(name: "comparison.csv", contents: CSV.comparison(document)),
      RenderedFile(name: "claims.csv", contents: CSV.claims(document)),
    ] + (isDecomposed ? [RenderedFile(name: "parts.csv", contents: CSV.parts(document))] : [])
  }

  private static func distributions(_ document: RunDocument) -> [RenderedFile] {
    MeasurementGroup.all(document).flatMap { group in
      group.scopeNames.flatMap { scope in
        HistogramKind.allCases.compactMap { kind -> RenderedFile? in
          let histogram = group.merged(scope: scope, kind: kind)
          guard !histogram.isEmpty else { return nil }
          let name = [group.target, group.load, scope, kind.rawValue].map(HistogramFiles.oneWord)
          return RenderedFile(
            name: name.joined(separator: ".") + ".hgrm",
            contents: HistogramFiles.percentileDistribution(histogram))
        }
      }
    }
  }
}
