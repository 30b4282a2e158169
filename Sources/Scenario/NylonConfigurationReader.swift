import Foundation
import NATS
import Nylon

/// Reads Nylon's `messaging:` and `plugins:` blocks and notes what is wrong with them.
struct NylonConfigurationReader {
  let problems: ProblemCollector
  /// The folder that relative paths start from.
  let folder: String
  /// True for Nylon's own file: keys that are not known are warnings, and other plugin types are let be.
  let lenient: Bool

  /// Adds the entries of both blocks to a configuration; names must be unique in the sum.
  func read(_ root: Block, into configuration: inout NylonConfiguration) {
    for (index, item) in (root.list("messaging", of: "brokers") ?? []).enumerated() {
      let path = "messaging.\(index)"
      guard
        let block = Block(
          item, path: path, keys: NylonConfiguration.messagingKeys, in: problems, lenient: lenient),
        let entry = messaging(block)
      else { continue }
      if configuration.messaging.contains(where: { $0.name == entry.name }) {
        block.fail("name", "is the name of an earlier messaging entry", remedy: "names are unique")
      } else {
        configuration.messaging.append(entry)
      }
    }
    for (index, item) in (root.list("plugins", of: "plugins") ?? []).enumerated() {
      guard
        let block = Block(
          item, path: "plugins.\(index)", keys: NylonConfiguration.pluginKeys, in: problems, lenient: lenient),
        let entry = plugin(block)
      else { continue }
      if configuration.plugins.contains(where: { $0.name == entry.name }) {
        block.fail("name", "is the name of an earlier plugin", remedy: "names are unique")
      } else {
        configuration.plugins.append(entry)
      }
    }
  }

  // MARK: messaging

  private func messaging(_ block: Block) -> NylonConfiguration.Messaging? {
    guard let name = block.required("name", "name the broker; plugins refer to it") else { return nil }
    var entry = NylonConfiguration.Messaging(name: name, maxInFlightKey: block.childPath("max_inflight"))
    if let type = block.text("type"), type != "nats" {
      block.fail(
        "type", "must be nats, the only broker", suggestion: Suggestion.nearest(to: type, among: ["nats"]))
    }
    entry.servers = servers(block)
    entry.hasServers = !(block.get("servers")?.items ?? []).isEmpty
    if let prefix = block.text("subject_prefix") {
      if Self.isSubject(prefix) {
        entry.subjectPrefix = prefix
      } else {
        block.fail("subject_prefix", "must be words joined by single dots, without spaces, '*' and '>'")
      }
    }
    entry.policy.timeoutMilliseconds = block.whole("request_timeout_ms", in: PolicyOverride.timeoutRange)
    entry.policy.readRetry(of: block, lenient: lenient)
    entry.maxInFlight = block.whole("max_inflight", in: TargetReader.inFlightRange) ?? entry.maxInFlight
    entry.overflow = block.choice("overflow_policy", of: OverflowPolicy.self) ?? entry.overflow
    entry.tls = tls(block)
    entry.auth = auth(block)
    return entry
  }

  private func servers(_ block: Block) -> [String] {
    var result: [String] = []
    for (index, item) in (block.list("servers", of: "broker URLs") ?? []).enumerated() {
      let path = block.childPath("servers.\(index)")
      guard let text = item.text else {
        problems.add(at: item.place, key: path, "is \(item.kind), not a URL")
        continue
      }
      switch Self.server(text) {
      case .success(let url): result.append(url)
      case .failure(let fault):
        problems.add(
          at: item.place, key: path, value: redactedURL(text), fault.message,
          remedy: "write for example nats://127.0.0.1:4222")
      }
    }
    return result
  }

  /// What is wrong with a URL.
  struct URLFault: Error { let message: String }

  /// A checked broker URL; `nats://` is put before a bare host.
  static func server(_ text: String) -> Result<String, URLFault> {
    let full = text.contains("://") ? text : "nats://" + text
    let scheme = full[..<(full.range(of: "://")?.lowerBound ?? full.startIndex)].lowercased()
    guard ["nats", "tls"].contains(scheme) else {
      return .failure(
        URLFault(message: "has the scheme '\(scheme)'; brokers are reached by nats:// or tls://"))
    }
    if text.contains(",") {
      return .failure(URLFault(message: "holds a comma; give each server its own item"))
    }
    guard !text.contains(where: \.isWhitespace) else { return .failure(URLFault(message: "holds a space")) }
    guard let parts = URLComponents(string: full), let host = parts.host, !host.isEmpty else {
      return .failure(
        URLFault(message: "names no host, or has a character in its user part that must be %-encoded"))
    }
    if let port = parts.port, !(1...65535).contains(port) {
      return .failure(URLFault(message: "has a port that is not from 1 to 65535"))
    }
    return .success(full)
  }

  private func tls(_ block: Block) -> NATSTLS {
    let keys = ["enabled", "ca_file", "cert_file", "key_file"]
    guard let tls = block.block("tls", keys: keys, lenient: lenient) else { return NATSTLS() }
    let files = keys.dropFirst().map { path(of: $0, in: tls) }
    if (tls.get("cert_file") == nil) != (tls.get("key_file") == nil) {
      let missing = tls.get("cert_file") == nil ? "cert_file" : "key_file"
      tls.fail(missing, "is missing", remedy: "a certificate and its key are given together")
    }
    return NATSTLS(
      enabled: tls.flag("enabled") ?? true, caFile: files[0], certFile: files[1], keyFile: files[2])
  }

  private func auth(_ block: Block) -> NATSAuth {
    let keys = ["enabled", "token", "user", "password", "credentials", "nkey"]
    guard let auth = block.block("auth", keys: keys, lenient: lenient) else { return NATSAuth() }
    let result = NATSAuth(
      token: auth.text("token"), user: auth.text("user"), password: auth.text("password"),
      credentials: path(of: "credentials", in: auth), nkey: path(of: "nkey", in: auth))
    guard auth.flag("enabled") ?? true else { return NATSAuth() }
    if keys.dropFirst().allSatisfy({ auth.get($0) == nil }) {
      auth.fail("enabled", "is true, but no token, user, credentials or nkey is given")
    }
    if (auth.get("user") == nil) != (auth.get("password") == nil) {
      let missing = auth.get("user") == nil ? "user" : "password"
      auth.fail(missing, "is missing", remedy: "user and password are given together")
    }
    return result
  }

  private func path(of key: String, in block: Block) -> String? {
    block.text(key).flatMap { $0.isEmpty ? nil : Self.resolve($0, from: folder) }
  }

  // MARK: plugins

  private func plugin(_ block: Block) -> NylonConfiguration.Plugin? {
    guard let name = block.required("name", "name the plugin; targets refer to it") else { return nil }
    var plugin = NylonConfiguration.Plugin(
      name: name, place: block.get("messaging")?.place ?? block.value.place,
      messagingPath: block.childPath("messaging"), kind: .broken)
    plugin.entryPoint = block.text("entry_point")
    plugin.perPhase = PolicyOverride.readPerPhase(of: block, lenient: lenient)
    switch block.text("type") ?? (block.get("messaging") == nil ? nil : "messaging") {
    case "ffi": plugin.kind = ffi(block, perPhase: plugin.perPhase)
    case "messaging": plugin.kind = pool(block, name: name)
    case nil where block.get("type") == nil:
      block.fail(
        "type", "is missing", remedy: "write type: ffi with a file, or messaging: with a broker's name")
    case let other?:
      if lenient { plugin.kind = .other(other) } else { refuse(type: other, block) }
    case nil: break
    }
    return plugin
  }

  private func refuse(type: String, _ block: Block) {
    block.fail(
      "type", "must be ffi or messaging",
      suggestion: Suggestion.nearest(to: type, among: ["ffi", "messaging"]))
  }

  private func ffi(_ block: Block, perPhase: [Phase: PolicyOverride]) -> NylonConfiguration.Kind {
    for key in ["messaging", "group"] where block.get(key) != nil && !lenient {
      block.fail(key, "is for plugins of type messaging, this one is ffi")
    }
    for (phase, override) in perPhase.sorted(by: { $0.key < $1.key })
    where override.onError == .retry || override.attempts ?? 1 > 1 {
      let message =
        "asks for retries, which an in-process plugin does not get; a failed phase ends the session"
      let key = block.childPath("per_phase.\(phase.subjectFragment)")
      let place = block.get("per_phase")?[phase.subjectFragment]?.place ?? block.value.place
      problems.add(lenient ? .warning : .error, at: place, key: key, message, remedy: "leave them out")
    }
    guard let file = block.required("file", "name the shared library, or a product such as ExamplePlugin")
    else { return .broken }
    let bare = !file.contains("/") && !file.contains(".")
    if bare, !NylonConfiguration.products.contains(file),
      let near = Suggestion.nearest(to: file, among: NylonConfiguration.products)
    {
      block.fail("file", "is neither a path nor a product of this package", suggestion: near)
      return .broken
    }
    guard let config = configJSON(block) else { return .broken }
    let isProduct = NylonConfiguration.products.contains(file)
    return .ffi(
      file: isProduct ? file : Self.resolve(file, from: folder),
      configJSON: config)
  }

  /// The plugin's own configuration as JSON text, empty when there is none.
  private func configJSON(_ block: Block) -> String? {
    guard let config = block.get("config") else { return "" }
    guard config.entries != nil else {
      block.fail("config", "is \(config.kind), not a mapping")
      return nil
    }
    return JSONText.write(config)
  }

  private func pool(_ block: Block, name: String) -> NylonConfiguration.Kind {
    if block.get("file") != nil, !lenient {
      block.fail("file", "is for plugins of type ffi, this one is reached by messaging")
    }
    if !Self.isSubject(name) {
      block.fail("name", "is part of NATS subjects: words joined by single dots, without spaces, '*' and '>'")
    }
    let group = block.text("group") ?? "default"
    if group.isEmpty || group.contains(where: \.isWhitespace) {
      block.fail("group", "must be a word without spaces: the queue group of the workers")
    }
    guard let broker = block.required("messaging", "name an entry of messaging:"),
      let config = configJSON(block)
    else { return .broken }
    return .messaging(name: broker, group: group, configJSON: config)
  }

  // MARK: Helpers

  /// True for words joined by single dots, fit for a NATS subject.
  static func isSubject(_ text: String) -> Bool {
    !text.isEmpty
      && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { word in
        !word.isEmpty && !word.contains(where: { $0.isWhitespace || $0 == "*" || $0 == ">" })
      }
  }

  /// An absolute path as it is; a relative one from the folder of the file that names it.
  static func resolve(_ path: String, from folder: String) -> String {
    if path.hasPrefix("/") { return path }
    return URL(fileURLWithPath: folder).appendingPathComponent(path).standardized.path
  }
}
