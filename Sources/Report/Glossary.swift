// Glossary of the terms in figures. A term that is also a column has the column's meaning.
import Results

enum Glossary {
  struct Term: Equatable {
    var word: String
    var meaning: String
  }

  static func loads(_ load: String?) -> [Term] {
    [Term.closed, .open, .ramp].filter { term in load.map { term.word.prefix(5) == $0.prefix(5) } ?? true }
  }

  static let comparison: [Term] =
    [
      Term(word: "replicate", meaning: "one measurement of a target under a load, with everything restarted"),
      Term(
        word: "interval",
        meaning: "where the median of all possible replicates lies, with at least 95 % confidence"),
    ]
    + [("ratio", "ratio"), ("noise floor", "noise_floor")].map { word, name in
      Term(word: word, meaning: ComparisonRow.columns.first { $0.name == name }?.meaning ?? "")
    }

  static let cpu: [Term] = [
    ("generator", "cpu_generator_us"), ("broker", "cpu_broker_us"), ("workers", "cpu_workers_us"),
  ].map { .column($0, $1) }
}

extension Glossary.Term {
  static let response = Self(
    word: "response time",
    meaning:
      "from when a request was due, or in a closed load from when it was sent, until it was done")
  static let percentile = Self(
    word: "p99", meaning: "percentile: 99 % of the requests were done within this time; p50 is the median")
  static let rate = column("req/s", "throughput_rps")
  static let closed = Self(
    word: "closed-N", meaning: "N requests in flight, each followed by the next; shows the highest throughput"
  )
  static let open = Self(
    word: "open-N", meaning: "N requests a second, sent on schedule; shows latency under load")
  static let ramp = Self(
    word: "ramp-A-B", meaning: "like open-N, at a rate that rises evenly from A to B requests a second"
  )
  static let window = Self(
    word: "interval of time", meaning: "an equal part of the measured time; requests count where they end")

  static func column(_ word: String, _ name: String) -> Self {
    Self(word: word, meaning: SummaryRow.column(name)?.meaning ?? "")
  }
}
