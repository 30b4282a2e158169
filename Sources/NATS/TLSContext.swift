import COpenSSL
import Glibc

/// The TLS settings that connections share: the CAs, and the client's certificate and key.
///
/// `@unchecked`: OpenSSL reference-counts and locks its context, which is never changed after creation.
final class TLSContext: @unchecked Sendable {
  private let context: OpaquePointer

  /// Reads the files; without a CA file, the system's CAs are trusted.
  init(_ tls: NATSTLS) throws(SecurityFileError) {
    guard let context = SSL_CTX_new(TLS_client_method()),
      SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil) == 1
    else {
      throw SecurityFileError(
        key: .caFile, path: tls.caFile ?? "", why: "OpenSSL cannot be used (\(OpenSSLError.take()))",
        remedy: OpenSSLError.remedy)
    }
    self.context = context
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    copenssl_renegotiate_never(context)
    // Between two attempts to write the same bytes, the buffer may be moved and appended to.
    let mode = SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    SSL_CTX_ctrl(context, SSL_CTRL_MODE, Int(mode), nil)
    SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, Int(SSL_SESS_CACHE_OFF), nil)
    // Read many records with one recv, instead of each record's header and body separately.
    SSL_CTX_ctrl(context, SSL_CTRL_SET_READ_AHEAD, 1, nil)
    SSL_CTX_set_default_read_buffer_len(context, WireConnection.bufferBytes / 2)
    // Without this callback, OpenSSL would prompt on the terminal for the passphrase of an encrypted key.
    SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in 0 }
    if let path = tls.caFile {
      try SecurityFile(
        key: .caFile, path: path, remedy: "It must contain the certificates of the authorities in PEM."
      ).load("it contains no readable certificate") { SSL_CTX_load_verify_file(context, path) }
    } else {
      SSL_CTX_set_default_verify_paths(context)
    }
    try loadCertificate(tls)
  }

  deinit { SSL_CTX_free(context) }

  private func loadCertificate(_ tls: NATSTLS) throws(SecurityFileError) {
    guard let certificate = tls.certFile, let key = tls.keyFile else {
      guard let path = tls.certFile ?? tls.keyFile else { return }
      let hasKey = tls.certFile == nil
      throw SecurityFileError(
        key: hasKey ? .keyFile : .certFile, path: path,
        why: "`tls.\(hasKey ? "cert" : "key")_file` is not given",
        remedy: "A certificate and its key must be given together.")
    }
    try SecurityFile(
      key: .certFile, path: certificate, remedy: "It must contain the client's certificate in PEM."
    ).load("it contains no readable certificate") {
      SSL_CTX_use_certificate_chain_file(context, certificate)
    }
    try SecurityFile(
      key: .keyFile, path: key,
      remedy: "It must contain the key of the client's certificate in PEM, without a passphrase."
    ).load("it contains no readable key, or not that of `tls.cert_file`") {
      SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM)
    }
  }

  /// Creates the TLS side of a connected socket and verifies the broker's host name; nil when OpenSSL fails.
  func connection(on socket: Int32, host: String) -> OpaquePointer? {
    guard let tls = SSL_new(context) else { return nil }
    if let method = SocketMethod.shared, let bio = BIO_new(method) {
      SocketMethod.set(bio, socket)
      SSL_set_bio(tls, bio, bio)
      SSL_set_connect_state(tls)
      let rules = SSL_get0_param(tls)
      X509_VERIFY_PARAM_set_hostflags(rules, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
      if X509_VERIFY_PARAM_set1_ip_asc(rules, host) == 1 { return tls }
      ERR_clear_error()
      if X509_VERIFY_PARAM_set1_host(rules, host, 0) == 1, copenssl_set_server_name(tls, host) == 1 {
        return tls
      }
    }
    SSL_free(tls)
    return nil
  }
}

extension SecurityFile {
  /// Loads the file with an OpenSSL call that returns 1 on success.
  fileprivate func load(_ fault: String, _ call: () -> Int32) throws(SecurityFileError) {
    try check()
    ERR_clear_error()
    guard call() == 1 else { throw self.fault("\(fault) (\(OpenSSLError.take()))") }
  }
}

/// The socket I/O that OpenSSL uses.
///
/// OpenSSL's own socket BIO uses `write(2)`: writing to a connection that the broker has closed would raise
/// SIGPIPE and end the process, which may be any process that uses the plugin library.
private enum SocketMethod {
  /// Made once and never changed or freed.
  nonisolated(unsafe) static let shared: OpaquePointer? = {
    guard let method = BIO_meth_new(BIO_get_new_index() | Int32(BIO_TYPE_SOURCE_SINK), "nylon socket") else {
      return nil
    }
    BIO_meth_set_write(method) { bio, bytes, count in
      let written = Glibc.send(SocketMethod.socket(bio), bytes, Int(count), Int32(MSG_NOSIGNAL))
      return SocketMethod.told(bio, written, BIO_FLAGS_WRITE)
    }
    BIO_meth_set_read(method) { bio, bytes, count in
      let read = Glibc.recv(SocketMethod.socket(bio), bytes, Int(count), 0)
      return SocketMethod.told(bio, read, BIO_FLAGS_READ)
    }
    BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
    return method
  }()

  /// Returns the result of a socket call, and tells OpenSSL whether to retry once the socket is ready.
  private static func told(_ bio: OpaquePointer?, _ count: Int, _ direction: Int32) -> Int32 {
    BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY)
    if count < 0, BIO_sock_should_retry(-1) == 1 { BIO_set_flags(bio, direction | BIO_FLAGS_SHOULD_RETRY) }
    return Int32(count)
  }

  static func set(_ bio: OpaquePointer, _ socket: Int32) {
    BIO_set_data(bio, UnsafeMutableRawPointer(bitPattern: Int(socket) + 1))
    BIO_set_init(bio, 1)
  }

  private static func socket(_ bio: OpaquePointer?) -> Int32 {
    Int32(Int(bitPattern: BIO_get_data(bio)) - 1)
  }
}

/// OpenSSL's error queue of the current thread.
enum OpenSSLError {
  static let remedy = "Check OpenSSL's own configuration."

  /// Returns the first error code and clears the queue; the later codes come from outer calls.
  static func takeCode() -> UInt {
    defer { ERR_clear_error() }
    return ERR_get_error()
  }

  static func take() -> String { text(takeCode()) }

  static func text(_ code: UInt) -> String {
    guard code != 0, let reason = ERR_reason_error_string(code) else { return "no reason is given" }
    return String(cString: reason)
  }
}

/// TLS connections: the handshake, and the replacements for plain `send` and `recv`.
extension WireConnection {
  /// Starts TLS on the socket after the broker's `INFO`; throws when OpenSSL cannot.
  func beginTLS() throws(BrokerError) {
    let server = dialer.pointee.current
    guard let context = dialer.pointee.tlsContext(),
      let tls = context.connection(on: state.pointee.socket, host: server.address.host)
    else { throw failure("OpenSSL cannot be used (\(OpenSSLError.take()))", OpenSSLError.remedy, .tls) }
    state.pointee.tls = tls
    try shakeHands()
  }

  /// Continues the handshake as far as the socket allows.
  func shakeHands() throws(BrokerError) {
    guard let tls = state.pointee.tls else { return }
    ERR_clear_error()
    let outcome = SSL_do_handshake(tls)
    if outcome == 1 {
      wantRoom(false)
      try introduce()
      // The broker's first messages may have been read together with the end of the handshake.
      if fill() < 0 { throw closed() }
      try answerGreeting()
      return
    }
    switch SSL_get_error(tls, outcome) {
    case SSL_ERROR_WANT_READ: wantRoom(false)
    case SSL_ERROR_WANT_WRITE: wantRoom(true)
    default: throw handshakeFailure(tls)
    }
  }

  private func handshakeFailure(_ tls: OpaquePointer) -> BrokerError {
    let verdict = SSL_get_verify_result(tls)
    if verdict != Int(X509_V_OK) { return distrust(verdict) }
    let code = OpenSSLError.takeCode()
    guard code != 0 else {
      return failure(
        "it closed the connection during the TLS handshake", "Does the broker speak TLS there?", .tls)
    }
    return alert(code)
      ?? failure(
        "the TLS handshake failed (\(OpenSSLError.text(code)))",
        "Check the `tls:` block and the broker's own.", .tls)
  }

  /// The failure for a broker certificate that verification rejects.
  private func distrust(_ verdict: Int) -> BrokerError {
    let reason = X509_verify_cert_error_string(verdict).map { String(cString: $0) } ?? "error \(verdict)"
    let notTrusted = "its certificate is not trusted (\(reason))"
    switch Int32(verdict) {
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
      return failure(
        "its certificate is not for '\(dialer.pointee.current.address.host)' (\(reason))",
        "Name the broker in `servers` as its certificate does, or give it a certificate for that name.", .tls)
    case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID:
      return failure(notTrusted, "Renew the certificate, or set the clock right.", .tls)
    default:
      return failure(
        notTrusted, "Name the authority that signed it in `ca_file` of the `tls:` block.", .tls)
    }
  }

  /// The failure for a TLS alert from the broker; nil when OpenSSL's code is not an alert.
  private func alert(_ code: UInt) -> BrokerError? {
    let reason = OpenSSLError.text(code)
    guard reason.contains(" alert ") else { return nil }
    return failure(
      "the broker refused the TLS connection (\(reason))",
      "Check `cert_file` and `key_file` of the `tls:` block: the broker may require a client certificate "
        + "from an authority that it trusts.", .tls)
  }

  /// The failure for a connection that the broker closed after the handshake: with TLS 1.3, a client learns
  /// only then that its certificate is rejected. nil when TLS did not end the connection.
  func tlsRefusal() -> BrokerError? { alert(state.pointee.tlsError) }

  /// Frees OpenSSL's state of the connection.
  func endTLS() {
    if let tls = state.pointee.tls { SSL_free(tls) }
    state.pointee.tls = nil
    state.pointee.tlsError = 0
    state.pointee.holdsMore = false
  }

  /// Replaces `send` over TLS, writing record by record.
  @usableFromInline
  func sendSecured(_ tls: OpaquePointer) -> Sent {
    // Nothing is sent before the handshake is done, and the handshake sets its own epoll events.
    guard state.pointee.stage != .securing else { return .some }
    guard unsentBytes > 0 else { return .nothing }
    while unsentBytes > 0 {
      ERR_clear_error()
      var count = 0
      let outcome = SSL_write_ex(
        tls, state.pointee.out.bytes + state.pointee.out.start, unsentBytes, &count)
      if outcome == 1 {
        state.pointee.written &+= UInt64(count)
        state.pointee.out.start &+= count
        continue
      }
      switch SSL_get_error(tls, outcome) {
      case SSL_ERROR_WANT_WRITE:
        wantRoom(true)
        return .some
      default:
        noteError()
        return .broken
      }
    }
    state.pointee.out.clear()
    return .all
  }

  /// Replaces `fill` over TLS. It reads until the socket is drained or the buffer is full, because epoll does
  /// not report data that OpenSSL has already read. When the buffer is full, `holdsMore` is true.
  @usableFromInline
  func fillSecured(_ tls: OpaquePointer) -> Int {
    let before = state.pointee.input.end
    var new: Int { state.pointee.input.end &- before }
    state.pointee.holdsMore = false
    while state.pointee.input.end < state.pointee.input.capacity {
      ERR_clear_error()
      var count = 0
      let outcome = SSL_read_ex(
        tls, state.pointee.input.bytes + state.pointee.input.end,
        state.pointee.input.capacity &- state.pointee.input.end, &count)
      if outcome == 1 {
        state.pointee.input.end &+= count
        continue
      }
      switch SSL_get_error(tls, outcome) {
      case SSL_ERROR_WANT_READ: return new
      // The broker requests a key update while the socket is full: too rare for a state of its own.
      case SSL_ERROR_WANT_WRITE where waitForRoom(milliseconds: 1000): continue
      default:
        noteError()
        // Handle the bytes before the end first; the next call finds the end again.
        state.pointee.holdsMore = new > 0
        return new > 0 ? new : -1
      }
    }
    state.pointee.holdsMore = true
    return new
  }

  private func noteError() {
    let code = OpenSSLError.takeCode()
    if code != 0 { state.pointee.tlsError = code }
  }
}
