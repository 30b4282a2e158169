import Results

extension ResultTables {
  /// A table for each ramp: what was asked step by step, and what came of it.
  package static func ramps(_ document: RunDocument) -> [ReportTable] {
    let columns: [Column<RampCourse.Step>] = [
      .other("from, s") { Number.text($0.startSeconds, digits: 2) },
      .grouped("asked, req/s", \.askedPerSecond), .grouped("reached", \.reachedPerSecond),
      .time("p50", \.p50Microseconds), .time("p99", \.p99Microseconds),
      .toned("failures") { Cell(Number.grouped($0.failed), $0.failed ?? 0 > 0 ? .bad : .plain) },
    ]
    return RampCourse.all(document).map { course in
      ReportTable(
        "Ramp of \(course.target), \(course.load)", columns, course.steps,
        notes: [course.sentence, RampCourse.caution])
    }
  }
}
