/// A plugin of a Nylon configuration, for commands that need no scenario.
package struct ConfiguredPlugin: Sendable, Equatable {
  package var name: String
  /// `ffi`, `messaging`, or a type that cannot be loaded.
  package var type: String
  /// Its file, or its subject and its brokers, without secrets; empty where it has neither.
  package var place = ""
  /// The handlers that the configuration names: its `entry_point`, then what middleware and services call.
  package var handlers: [String]
  /// The most requests in flight that the configuration allows; nil where it does not say.
  package var maxInFlight: Int?
  /// Why it cannot be measured as it stands; nil when it can.
  package var obstacle: String?
}

extension ConfiguredPlugin {
  init(_ plugin: NylonConfiguration.Plugin, of configuration: NylonConfiguration) {
    let handlers = [plugin.entryPoint].compactMap { $0 } + configuration.entries[plugin.name, default: []]
    var seen: Set<String> = []
    self.init(name: plugin.name, type: "", handlers: handlers.filter { seen.insert($0).inserted })
    switch plugin.kind {
    case .ffi: (type, place) = ("ffi", plugin.file)
    case .messaging:
      type = "messaging"
      guard let broker = configuration.messaging.first(where: { $0.name == plugin.messaging }) else { break }
      let servers = broker.servers.map(Redaction.redactedURL).joined(separator: ", ")
      maxInFlight = plugin.maxInFlight ?? broker.maxInFlight
      place = "\(broker.subjectPrefix).\(plugin.name) at \(servers.isEmpty ? "no server" : servers)"
      obstacle = servers.isEmpty ? "its messaging: names no servers; name one with --server" : nil
    case .other(let other): (type, obstacle) = (other, "its type cannot be loaded")
    case .broken: obstacle = "it has errors"
    }
  }
}
