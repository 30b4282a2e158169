import Engine
import Foundation
import NATS
import Report
import Results
import Scenario

/// What reads files and settings.
extension Readers {
  /// A histogram as text, as JSON, and as what the text unpacks to.
  static func histogram(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let text = try? LatencyHistogram(hdrBase64: String(decoding: bytes, as: UTF8.self))
    let stored = try? JSONDecoder().decode(LatencyHistogram.self, from: Data(bytes))
    let plain = try? LatencyHistogram(plain: Array(bytes))
    for histogram in [text, plain].compactMap({ $0 }) {
      let again = try? LatencyHistogram(hdrBase64: histogram.hdrBase64())
      promise(again == histogram, "a histogram comes back as another one")
      _ = histogram.printableValue(atPercentile: 99)
    }
    return text != nil || stored != nil || plain != nil
  }

  /// A stored run, and everything that is made from it.
  static func run(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let document = try? RunDocument(json: Data(bytes), path: "run.json") else { return false }
    for format in ExportFormat.allCases {
      let files = try? format.render(document)
      promise(files != nil, "a run that was read is not rendered as \(format.rawValue)")
    }
    let again = (try? document.json()).flatMap { try? RunDocument(json: Data($0.utf8), path: "run.json") }
    promise(again != nil, "a run is not read again")
    _ = Answer.text(document, folder: "results", colour: false)
    let rows = Comparison.rows(document, document, equivalence: 0.1)
    let gate = Gate(document, document, comparisons: rows, margin: 0.05)
    _ = StoredComparison(older: document, newer: document, rows: rows, gate: gate, notes: []).answer(
      colour: false)
    return true
  }

  private static let options = ScenarioLoader.Options(metrics: SummaryRow.numericColumns)

  static func scenario(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let path = file.path(holding: bytes)
    do throws(ScenarioError) {
      _ = try ScenarioLoader.load(path: path, options: options).redacted()
      return true
    } catch {
      tell(error)
      return false
    }
  }

  static func nylonConfiguration(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let path = file.path(holding: bytes)
    do throws(ScenarioError) {
      return try !ScenarioLoader.plugins(ofNylon: path).isEmpty
    } catch {
      tell(error)
      return false
    }
  }

  static func claims(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let path = file.path(holding: bytes)
    do throws(ScenarioError) {
      _ = try ClaimsFile(path: path, metrics: SummaryRow.numericColumns)
      return true
    } catch {
      tell(error)
      return false
    }
  }

  private static func tell(_ error: ScenarioError) {
    promise(!error.problems.isEmpty, "it does not say what is wrong")
    let commands = error.description.unicodeScalars.contains { $0.isSteering && $0 != "\n" }
    promise(!commands, "an error commands the terminal")
  }

  /// A broker's URL; what is read of it is read again from what is shown of it.
  static func url(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let text = String(decoding: bytes, as: UTF8.self)
    _ = (BrokerAddress.redacted(text), Redaction.redactedURL(text), Redaction.argument(text))
    do throws(BrokerError) {
      let address = try BrokerAddress(text)
      let again = try? BrokerAddress(address.shown)
      promise(
        again?.host == address.host && again?.port == address.port, "'\(address.shown)' is another address")
      return true
    } catch {
      promise(!error.description.isEmpty, "it does not say why")
      return false
    }
  }

  /// A credentials file, or a file with a seed.
  static func credentials(_ bytes: UnsafeRawBufferPointer) -> Bool {
    let path = file.path(holding: bytes)
    var isTaken = false
    for auth in [NATSAuth(credentials: path), NATSAuth(nkey: path)] {
      do throws(SecurityFileError) {
        _ = try WireSecurity(auth: auth, tls: NATSTLS(), servers: [])
        isTaken = true
      } catch {
        let secret = bytes.prefix { $0 > 32 }
        let isShown = secret.count > 24 && error.description.utf8.contains(secret)
        promise(!isShown, "an error shows what is in the file")
      }
    }
    return isTaken
  }

  private static let file = NamelessFile()
}

/// A file for the readers of paths, gone with the process.
private final class NamelessFile: Sendable {
  private let descriptor: Int32

  init() {
    var template = Array("\(NSTemporaryDirectory())/nylon-fuzz-XXXXXX".utf8CString)
    descriptor = mkstemp(&template)
    guard descriptor >= 0 else { fatalError("no file can be made in \(NSTemporaryDirectory())") }
    unlink(template)
  }

  /// Its path, now that it has these bytes and no others. For one reader at a time.
  func path(holding bytes: UnsafeRawBufferPointer) -> String {
    guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, bytes.baseAddress, bytes.count, 0) == bytes.count
    else { fatalError("\(bytes.count) bytes cannot be written: \(String(cString: strerror(errno)))") }
    return "/proc/self/fd/\(descriptor)"
  }
}
