import FoundationEssentials

/// The JSON that a plugin is initialized with.
public struct PluginConfiguration: Sendable {
  /// The bytes, empty when nothing is configured.
  public let json: [UInt8]

  /// A configuration.
  public init(json: [UInt8] = []) { self.json = json }

  /// The configuration as a value; nil when nothing is configured. Throws
  /// `PluginError.badConfiguration`.
  public func decoded<Value: Decodable>(as type: Value.Type) throws(PluginError) -> Value? {
    if json.isEmpty { return nil }
    do {
      return try JSONDecoder().decode(type, from: Data(json))
    } catch let error as DecodingError {
      throw .badConfiguration(reason: Self.reason(error))
    } catch {
      throw .badConfiguration(reason: "not JSON")
    }
  }

  /// Key and reason without the value, which may be a secret.
  private static func reason(_ error: DecodingError) -> String {
    switch error {
    case .typeMismatch(let type, let context):
      "'\(path(context))' is not of type \(type)"
    case .valueNotFound(let type, let context):
      "'\(path(context))' is null, a \(type) is wanted"
    case .keyNotFound(let key, _):
      "'\(key.stringValue)' is missing"
    case .dataCorrupted(let context):
      context.codingPath.isEmpty ? "not JSON" : "'\(path(context))' is not valid"
    @unknown default:
      "not as wanted"
    }
  }

  private static func path(_ context: DecodingError.Context) -> String {
    context.codingPath.map(\.stringValue).joined(separator: ".")
  }
}
