/// How a client proves who it is. Every value is a secret.
package struct NATSAuth: Codable, Sendable, Equatable {
  /// A token.
  package var token: String?
  /// A user name.
  package var user: String?
  /// Its password.
  package var password: String?
  /// Path of a credentials file.
  package var credentials: String?
  /// Path of an nkey seed file.
  package var nkey: String?

  /// Credentials.
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
  /// Path of the authorities' certificates.
  package var caFile: String?
  /// Path of the client's certificate.
  package var certFile: String?
  /// Path of the client's key.
  package var keyFile: String?

  /// Settings.
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

/// What connections to brokers need to be secure, read once from the files that the settings name.
///
/// Making one checks every file, so it also serves to find a missing or wrong file before anything starts.
package struct WireSecurity: Sendable {
  /// Token, or user and password. Secret.
  let auth: NATSAuth
  /// The nkey that signs the broker's nonce, with its JWT when there is one.
  let identity: SignedIdentity?
  /// Whether TLS is used even where the URL does not ask for it.
  let enablesTLS: Bool
  /// The TLS settings; nil when nothing asks for TLS so far.
  let tls: TLSContext?

  /// No credentials and no TLS settings.
  package init() {
    auth = NATSAuth()
    identity = nil
    enablesTLS = false
    tls = nil
  }

  /// Reads the files.
  ///
  /// - Parameter servers: the brokers' URLs; the TLS files count when `tls` is enabled or one of these is `tls://`.
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
  /// The authorities that the broker's certificate is checked against.
  case caFile = "tls.ca_file"
  /// The client's certificate.
  case certFile = "tls.cert_file"
  /// The client's key.
  case keyFile = "tls.key_file"
  /// A JWT with its seed.
  case credentials = "auth.credentials"
  /// An nkey's seed.
  case nkey = "auth.nkey"
}

/// Why a file for TLS or credentials cannot be used. Never holds what is in the file.
package struct SecurityFileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The setting that names it, as a scenario spells it.
  package let key: SecurityFileKey
  /// The file.
  package let path: String
  /// What is wrong with it.
  package let why: String
  /// What to do.
  package let remedy: String

  /// An error.
  package init(_ key: SecurityFileKey, _ path: String, why: String, remedy: String) {
    self.key = key
    self.path = path
    self.why = why
    self.remedy = remedy
  }

  /// All four.
  package var description: String {
    "The file '\(path)' of `\(key.rawValue)` cannot be used: \(why). \(remedy)"
  }
}
