import Foundation

/// The credentials of a client. Every value is a secret.
package struct NATSAuth: Codable, Sendable, Equatable {
  package var token: String?
  package var user: String?
  package var password: String?
  /// Paths of a credentials file and of an nkey seed file.
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
  /// Paths of the CA certificates, and of the client's certificate and private key.
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

  /// Whether connections to these servers use TLS regardless of what the broker says.
  package func isUsed(for servers: [String]) -> Bool {
    enabled || servers.contains { (try? BrokerAddress($0))?.usesTLS ?? false }
  }
}

/// The security settings of broker connections. The initializer reads every file, so a missing or invalid
/// file is found before anything starts.
package struct WireSecurity: Sendable {
  /// A token, or a user and password. Secret.
  let auth: NATSAuth
  /// The nkey that signs the broker's nonce, with its JWT if there is one.
  let identity: SignedIdentity?
  /// Whether TLS is used even where the URL does not ask for it.
  let enablesTLS: Bool
  /// The TLS settings; nil when neither the configuration nor a URL asks for TLS.
  let tls: TLSContext?

  /// Reads the TLS files when `tls` is enabled or a broker's URL is `tls://`.
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

/// A setting that names a TLS or credentials file.
package enum SecurityFileKey: String, Sendable {
  case caFile = "tls.ca_file"
  case certFile = "tls.cert_file"
  case keyFile = "tls.key_file"
  case credentials = "auth.credentials"
  case nkey = "auth.nkey"
}

/// The reason why a TLS or credentials file cannot be used. Never contains the file's content.
package struct SecurityFileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The setting that names the file, as spelled in a scenario.
  package let key: SecurityFileKey
  package let path: String
  package let why: String
  package let remedy: String

  package var description: String {
    "The file '\(path)' of `\(key.rawValue)` cannot be used: \(why). \(remedy)"
  }
}

/// A file that `auth:` or `tls:` names.
struct SecurityFile {
  /// Larger than any real key or certificate file.
  private static let mostBytes = 16 << 20

  let key: SecurityFileKey
  let path: String
  /// The advice to give when the file does not contain what it should.
  let remedy: String

  func fault(_ why: String, remedy: String? = nil) -> SecurityFileError {
    SecurityFileError(key: key, path: path, why: why, remedy: remedy ?? self.remedy)
  }

  /// Checks that the file exists and is readable.
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

  /// The non-blank lines, trimmed.
  func lines() throws(SecurityFileError) -> [String] {
    try check()
    guard let data = FileManager.default.contents(atPath: path) else {
      throw fault("it cannot be read", remedy: "Correct the path.")
    }
    return String(decoding: data, as: UTF8.self).split(whereSeparator: \.isNewline)
      .map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
  }
}
