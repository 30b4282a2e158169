import COpenSSL
import Glibc

/// The TLS settings that connections share: authorities, the client's certificate and key.
///
/// `@unchecked`: OpenSSL counts references to its context and locks it; nothing here changes it once it is made.
final class TLSContext: @unchecked Sendable {
  private let context: OpaquePointer

  /// Reads the files; without a CA file the system's authorities count.
  init(_ tls: NATSTLS) throws(SecurityFileError) {
    guard let context = SSL_CTX_new(TLS_client_method()), copenssl_at_least_tls12(context) == 1 else {
      throw SecurityFileError(
        .caFile, tls.caFile ?? "", why: "OpenSSL cannot be used (\(OpenSSLError.take()))",
        remedy: "Check OpenSSL's own configuration.")
    }
    self.context = context
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    copenssl_renegotiate_never(context)
    // A buffer may move, and grow behind what OpenSSL is about to write, between two attempts to write it.
    copenssl_set_mode(context, Int(SSL_MODE_ENABLE_PARTIAL_WRITE) | Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER))
    copenssl_cache_no_sessions(context)
    // One recv takes many records, not each record's head and body on their own.
    copenssl_read_ahead(context)
    SSL_CTX_set_default_read_buffer_len(context, WireConnection.bufferBytes / 2)
    // Without this OpenSSL would ask at the terminal for the passphrase of an encrypted key.
    SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in 0 }
    try loadAuthorities(tls)
    try loadCertificate(tls)
  }

  deinit { SSL_CTX_free(context) }

  private func loadAuthorities(_ tls: NATSTLS) throws(SecurityFileError) {
    guard let path = tls.caFile else {
      SSL_CTX_set_default_verify_paths(context)
      return
    }
    try SecurityFile.check(.caFile, path)
    ERR_clear_error()
    guard SSL_CTX_load_verify_file(context, path) == 1 else {
      throw SecurityFileError(
        .caFile, path, why: "it holds no certificate that can be read (\(OpenSSLError.take()))",
        remedy: "It must hold the certificates of the authorities in PEM.")
    }
  }

  private func loadCertificate(_ tls: NATSTLS) throws(SecurityFileError) {
    guard tls.certFile != nil || tls.keyFile != nil else { return }
    let together = "A certificate and its key are given together."
    guard let certificate = tls.certFile else {
      throw SecurityFileError(
        .keyFile, tls.keyFile ?? "", why: "`tls.cert_file` is not given", remedy: together)
    }
    guard let key = tls.keyFile else {
      throw SecurityFileError(.certFile, certificate, why: "`tls.key_file` is not given", remedy: together)
    }
    try SecurityFile.check(.certFile, certificate)
    ERR_clear_error()
    guard SSL_CTX_use_certificate_chain_file(context, certificate) == 1 else {
      throw SecurityFileError(
        .certFile, certificate, why: "it holds no certificate that can be read (\(OpenSSLError.take()))",
        remedy: "It must hold the client's certificate in PEM.")
    }
    try SecurityFile.check(.keyFile, key)
    ERR_clear_error()
    guard SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 else {
      throw SecurityFileError(
        .keyFile, key,
        why: "it holds no key that can be read, or not that of `tls.cert_file` (\(OpenSSLError.take()))",
        remedy: "It must hold the key of the client's certificate in PEM, without a passphrase.")
    }
  }

  /// The TLS side of a connected socket, which checks that the broker is who the URL says; nil when OpenSSL fails.
  func connection(on socket: Int32, host: String) -> OpaquePointer? {
    guard let tls = SSL_new(context) else { return nil }
    guard let method = SocketMethod.shared, let bio = BIO_new(method) else {
      SSL_free(tls)
      return nil
    }
    SocketMethod.set(bio, socket)
    SSL_set_bio(tls, bio, bio)
    SSL_set_connect_state(tls)
    let rules = SSL_get0_param(tls)
    X509_VERIFY_PARAM_set_hostflags(rules, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
    if X509_VERIFY_PARAM_set1_ip_asc(rules, host) == 1 { return tls }
    ERR_clear_error()
    guard X509_VERIFY_PARAM_set1_host(rules, host, 0) == 1, copenssl_set_server_name(tls, host) == 1 else {
      SSL_free(tls)
      return nil
    }
    return tls
  }
}

/// How OpenSSL reads and writes a socket.
///
/// Its own way writes with `write(2)`: a connection that the broker has closed would end the process by SIGPIPE,
/// and the process may be anybody's who uses the plugin library.
private enum SocketMethod {
  /// Made once and never changed or freed.
  nonisolated(unsafe) static let shared: OpaquePointer? = {
    guard let method = BIO_meth_new(BIO_get_new_index() | Int32(BIO_TYPE_SOURCE_SINK), "nylon socket") else {
      return nil
    }
    BIO_meth_set_write(method) { bio, bytes, count in
      copenssl_clear_retry(bio)
      let written = Glibc.send(SocketMethod.socket(bio), bytes, Int(count), Int32(MSG_NOSIGNAL))
      if written < 0, SocketMethod.mayTryAgain(errno) { copenssl_retry_write(bio) }
      return Int32(written)
    }
    BIO_meth_set_read(method) { bio, bytes, count in
      copenssl_clear_retry(bio)
      let read = Glibc.recv(SocketMethod.socket(bio), bytes, Int(count), 0)
      if read < 0, SocketMethod.mayTryAgain(errno) { copenssl_retry_read(bio) }
      return Int32(read)
    }
    BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
    return method
  }()

  static func set(_ bio: OpaquePointer, _ socket: Int32) {
    BIO_set_data(bio, UnsafeMutableRawPointer(bitPattern: Int(socket) + 1))
    BIO_set_init(bio, 1)
  }

  private static func socket(_ bio: OpaquePointer?) -> Int32 {
    Int32(Int(bitPattern: BIO_get_data(bio)) - 1)
  }

  private static func mayTryAgain(_ number: Int32) -> Bool {
    number == EAGAIN || number == EWOULDBLOCK || number == EINTR
  }
}

/// What OpenSSL says went wrong on this thread.
enum OpenSSLError {
  /// The first reason, and forgets all; the later ones are those of outer calls.
  static func take() -> String {
    let code = ERR_get_error()
    ERR_clear_error()
    return text(code)
  }

  static func text(_ code: UInt) -> String {
    guard code != 0, let reason = ERR_reason_error_string(code) else { return "no reason is given" }
    return String(cString: reason)
  }
}
