// Where the time of a phase went: its service time cut into parts that follow on each other.

/// One part of the service time of a phase.
package struct PhasePart: Codable, Sendable, Equatable {
  /// What it is called in files, such as `handler`.
  package var name: String
  /// How long it took in each phase request.
  package var time: LatencyHistogram

  /// A part.
  package init(name: String, time: LatencyHistogram) {
    self.name = name
    self.time = time
  }
}

/// The service time of a phase in parts.
///
/// The parts of one phase request add up to its service time, to the nanosecond. Only answered ones (ok)
/// are cut up, so as many values are in each part as were answered, without those counted here.
package struct Decomposition: Codable, Sendable, Equatable {
  /// The parts in their order in time.
  package var parts: [PhasePart]
  /// Answers that brought no stamps: the worker knows nothing of them.
  package var withoutStamps: UInt64
  /// Answers whose stamps did not lie between sent and done: another machine, another clock.
  package var impossibleStamps: UInt64

  /// Parts.
  package init(parts: [PhasePart], withoutStamps: UInt64 = 0, impossibleStamps: UInt64 = 0) {
    self.parts = parts
    self.withoutStamps = withoutStamps
    self.impossibleStamps = impossibleStamps
  }

  /// The sum of the parts' means, nanoseconds; nil when nothing was cut up.
  package var meanNanoseconds: Double? {
    guard let first = parts.first, !first.time.isEmpty else { return nil }
    return parts.reduce(0) { $0 + ($1.time.meanNanoseconds ?? 0) }
  }
}

extension Measurement {
  /// What is worth a warning about answers that could not be cut up.
  package var decompositionWarnings: [String] {
    let all = scopes.compactMap(\.decomposition)
    let without = all.reduce(0) { $0 + $1.withoutStamps }
    let impossible = all.reduce(0) { $0 + $1.impossibleStamps }
    var warnings: [String] = []
    if without > 0 {
      warnings.append(
        "\(without) answers had no stamps of the worker, so it is not known where their time went; "
          + "decompose: wants workers that stamp, such as nylon-worker")
    }
    if impossible > 0 {
      warnings.append(
        "\(impossible) answers had stamps that do not lie between sent and done, so they are not used; "
          + "decompose: wants workers on the same machine, with the same monotonic clock")
    }
    return warnings
  }
}

/// Where one load thread records the parts of phases. Recording does not allocate.
package struct PartRecorder: @unchecked Sendable {
  // @unchecked: one thread writes; readers tolerate counters of different age.

  /// The first histogram's words.
  package let histograms: UnsafeMutablePointer<UInt64>
  /// Parts of each phase.
  package let count: Int

  /// The histogram of a part, from 0, of a phase; scope 1 is the first.
  @inline(__always)
  package func part(_ part: Int, scope: Int) -> RawHistogram {
    RawHistogram(words: histograms + ((scope &- 1) &* count &+ part) &* RawHistogram.wordCount)
  }
}

extension RecordingArea {
  /// Where a load thread records parts; nil when the load is not decomposed.
  package func partRecorder(_ thread: Int) -> PartRecorder? {
    guard !layout.parts.isEmpty else { return nil }
    let first = RawHistogram.wordCount * layout.plainHistogramsPerThread
    return PartRecorder(histograms: threadRecorder(thread).histograms + first, count: layout.parts.count)
  }
}
