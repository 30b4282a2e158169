import Foundation

/// How a client proves who it is. Every value is a secret.
package struct NATSAuth: Codable, Sendable, Equatable {
  package var token: String?
  package var user: String?
  package var password: String?
  /// Paths of a credentials file and of an nkey's seed file.
  package var credentials: String?
  package var nkey: String?

  package init(
    token: String? = nil, user: String? = nil, password: String? = nil, credentials: String? = nil,
    nkey: String? = nil
  ) {
    self.token = token
    self.user = user
    self.password = password
    self.credentials = credentials
    self.nkey = nkey
  }
}

/// Transport security of a broker connection.
package struct NATSTLS: Codable, Sendable, Equatable {
  /// Whether TLS is used. A `tls://` URL or a broker that requires TLS switches it on as well.
  package var enabled: Bool
  /// Paths of the authorities' certificates, and of the client's certificate and its key.
  package var caFile: String?
  package var certFile: String?
  package var keyFile: String?

  package init(
    enabled: Bool = false, caFile: String? = nil, certFile: String? = nil, keyFile: String? = nil
  ) {
    self.enabled = enabled
    self.caFile = caFile
    self.certFile = certFile
    self.keyFile = keyFile
  }

  /// Whether connections to these servers use TLS from the start, whatever the broker says.
  package func isUsed(for servers: [String]) -> Bool {
    enabled || servers.contains { (try? BrokerAddress($0))?.usesTLS ?? false }
  }
}

/// What connections to brokers need to be secure. Making one reads every file, so it also serves to find a missing or
/// wrong one before anything starts.
package struct WireSecurity: Sendable {
  /// Token, or user and password. Secret.
  let auth: NATSAuth
  /// The nkey that signs the broker's nonce, with its JWT when there is one.
  let identity: SignedIdentity?
  /// Whether TLS is used even where the URL does not ask for it.
  let enablesTLS: Bool
  /// The TLS settings; nil when nothing asks for TLS so far.
  let tls: TLSContext?

  /// The TLS files count when `tls` is enabled or one of the brokers' URLs is `tls://`.
  package init(auth: NATSAuth, tls: NATSTLS, servers: [String]) throws(SecurityFileError) {
    self.auth = NATSAuth(token: auth.token, user: auth.user, password: auth.password)
    if let path = auth.credentials {
      identity = try SignedIdentity(credentialsFile: path)
    } else if let path = auth.nkey {
      identity = try SignedIdentity(seedFile: path)
    } else {
      identity = nil
    }
    enablesTLS = tls.enabled
    self.tls = tls.isUsed(for: servers) ? try TLSContext(tls) : nil
  }
}

/// A setting that names a file for TLS or credentials.
package enum SecurityFileKey: String, Sendable {
  case caFile = "tls.ca_file"
  case certFile = "tls.cert_file"
  case keyFile = "tls.key_file"
  case credentials = "auth.credentials"
  case nkey = "auth.nkey"
}

/// Why a file for TLS or credentials cannot be used. Never holds what is in the file.
package struct SecurityFileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The setting that names it, as a scenario spells it.
  package let key: SecurityFileKey
  package let path: String
  package let why: String
  package let remedy: String

  package var description: String {
    "The file '\(path)' of `\(key.rawValue)` cannot be used: \(why). \(remedy)"
  }
}

/// A file of `auth:` or `tls:`.
struct SecurityFile {
  /// More than any file of keys or certificates has.
  private static let mostBytes = 16 << 20

  let key: SecurityFileKey
  let path: String
  /// What to do when it does not hold what it is to hold.
  let remedy: String

  func fault(_ why: String, remedy: String? = nil) -> SecurityFileError {
    SecurityFileError(key: key, path: path, why: why, remedy: remedy ?? self.remedy)
  }

  /// Makes sure that the file is there and can be read.
  func check() throws(SecurityFileError) {
    var facts = stat()
    guard stat(path, &facts) == 0, access(path, R_OK) == 0 else {
      throw fault(
        String(cString: strerror(errno)),
        remedy: "Correct the path, or make the file readable for the user who runs this.")
    }
    guard facts.st_mode & S_IFMT != S_IFDIR, facts.st_size <= Self.mostBytes else {
      throw fault(
        facts.st_mode & S_IFMT == S_IFDIR ? "it is a folder" : "it is too large",
        remedy: "Name the file itself.")
    }
  }

  /// Those that are not blank, without the space around them.
  func lines() throws(SecurityFileError) -> [String] {
    try check()
    guard let data = FileManager.default.contents(atPath: path) else {
      throw fault("it cannot be read", remedy: "Correct the path.")
    }
    return String(decoding: data, as: UTF8.self).split(whereSeparator: \.isNewline)
      .map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
  }
}
