extension Unicode.Scalar {
  /// Whether it could command a terminal, end a line, or turn the direction in which a line is read.
  package var isSteering: Bool {
    switch properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator: true
    default: properties.isBidiControl
    }
  }
}

extension String {
  /// The text with `substitute` for each character that could steer a terminal, those in `kept` apart.
  package func harmless(
    keeping kept: Set<Unicode.Scalar> = [], else substitute: Unicode.Scalar = " "
  ) -> String {
    String(UnicodeScalarView(unicodeScalars.map { $0.isSteering && !kept.contains($0) ? substitute : $0 }))
  }

  /// The text with each of these characters replaced, wherever it stands: a `Character` may be one of them with marks
  /// on it, which no comparison of characters finds.
  package func replacing(scalars marks: [Unicode.Scalar: String]) -> String {
    unicodeScalars.map { marks[$0] ?? String($0) }.joined()
  }
}
