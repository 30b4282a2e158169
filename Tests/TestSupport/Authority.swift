import COpenSSL
import Foundation

/// A certificate authority for one test, and the certificates that it signs; nothing but OpenSSL's library is needed.
public final class Authority {
  private let key: OpaquePointer
  private let certificate: OpaquePointer
  private let folder: String
  private var serial = 1
  /// The authority's certificate, PEM.
  public let file: String

  /// A new authority, whose files go into that folder.
  public init(_ name: String, in folder: String) throws {
    self.folder = folder
    key = try Self.makeKey()
    certificate = try Self.certificate(of: key, name: name, serial: 1)
    try Self.extend(certificate, by: certificate, NID_basic_constraints, "critical,CA:TRUE")
    try Self.extend(certificate, by: certificate, NID_key_usage, "critical,keyCertSign,cRLSign")
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate))
    guard X509_sign(certificate, key, EVP_sha256()) > 0 else { throw OpenSSLFault("sign the authority") }
    file = "\(folder)/\(name).pem"
    try Self.write(certificate, to: file)
  }

  deinit {
    X509_free(certificate)
    EVP_PKEY_free(key)
  }

  /// A certificate and its key.
  public struct Pair {
    /// The certificate, PEM.
    public let certificate: String
    /// Its key, PEM.
    public let key: String
  }

  /// Signs a certificate for these names, such as `DNS:localhost,IP:127.0.0.1`, for servers and clients.
  public func issue(_ name: String, for names: String = "DNS:localhost,IP:127.0.0.1") throws -> Pair {
    serial += 1
    let own = try Self.makeKey()
    defer { EVP_PKEY_free(own) }
    let made = try Self.certificate(of: own, name: name, serial: serial)
    defer { X509_free(made) }
    X509_set_issuer_name(made, X509_get_subject_name(certificate))
    try Self.extend(made, by: certificate, NID_subject_alt_name, names)
    try Self.extend(made, by: certificate, NID_ext_key_usage, "serverAuth,clientAuth")
    guard X509_sign(made, key, EVP_sha256()) > 0 else { throw OpenSSLFault("sign \(name)") }
    let pair = Pair(certificate: "\(folder)/\(name).pem", key: "\(folder)/\(name)-key.pem")
    try Self.write(made, to: pair.certificate)
    guard let bio = BIO_new_file(pair.key, "w"),
      PEM_write_bio_PrivateKey(bio, own, nil, nil, 0, nil, nil) == 1
    else { throw OpenSSLFault("write \(pair.key)") }
    BIO_free(bio)
    return pair
  }

  private static func makeKey() throws -> OpaquePointer {
    let context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nil)
    defer { EVP_PKEY_CTX_free(context) }
    var key: OpaquePointer?
    guard EVP_PKEY_keygen_init(context) == 1,
      EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) == 1,
      EVP_PKEY_generate(context, &key) == 1, let key
    else { throw OpenSSLFault("make a key") }
    return key
  }

  /// Valid from an hour ago for a day.
  private static func certificate(of key: OpaquePointer, name: String, serial: Int) throws -> OpaquePointer {
    guard let made = X509_new() else { throw OpenSSLFault("make a certificate") }
    X509_set_version(made, 2)
    ASN1_INTEGER_set(X509_get_serialNumber(made), serial)
    X509_gmtime_adj(X509_getm_notBefore(made), -3600)
    X509_gmtime_adj(X509_getm_notAfter(made), 86_400)
    X509_set_pubkey(made, key)
    let text = Array(name.utf8)
    X509_NAME_add_entry_by_txt(
      X509_get_subject_name(made), "CN", MBSTRING_FLAG | 1, text, Int32(text.count), -1, 0)
    return made
  }

  private static func extend(
    _ certificate: OpaquePointer, by issuer: OpaquePointer, _ kind: Int32, _ value: String
  ) throws {
    var context = X509V3_CTX()
    X509V3_set_ctx(&context, issuer, certificate, nil, nil, 0)
    guard let extra = X509V3_EXT_conf_nid(nil, &context, kind, value) else {
      throw OpenSSLFault("add \(value) to a certificate")
    }
    X509_add_ext(certificate, extra, -1)
    X509_EXTENSION_free(extra)
  }

  private static func write(_ certificate: OpaquePointer, to path: String) throws {
    guard let bio = BIO_new_file(path, "w"), PEM_write_bio_X509(bio, certificate) == 1 else {
      throw OpenSSLFault("write \(path)")
    }
    BIO_free(bio)
  }
}

/// OpenSSL failed at something that a test needs.
public struct OpenSSLFault: Error {
  let what: String
  init(_ what: String) { self.what = what }
}
