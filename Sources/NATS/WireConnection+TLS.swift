import COpenSSL
import Glibc

/// A connection over TLS: the handshake, and what replaces the plain `send` and `recv`.
extension WireConnection {
  // MARK: Handshake

  /// Begins TLS on the socket, after the broker's greeting; throws when OpenSSL cannot.
  func beginTLS() throws(LinkFailure) {
    let dialer = dialer.takeUnretainedValue()
    let server = dialer.servers[dialer.server]
    guard let context = dialer.tlsContext(of: server),
      let tls = context.connection(on: state.pointee.socket, host: server.host)
    else {
      throw tlsFailure(
        "OpenSSL cannot be used (\(OpenSSLError.take()))", "Check OpenSSL's own configuration.")
    }
    state.pointee.tls = tls
    try shakeHands()
  }

  /// Goes on with the handshake, as far as the socket lets it.
  func shakeHands() throws(LinkFailure) {
    guard let tls = state.pointee.tls else { return }
    ERR_clear_error()
    let outcome = SSL_do_handshake(tls)
    if outcome == 1 {
      wantRoom(false)
      try introduce()
      // The broker's first words may have been read together with the end of the handshake.
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

  private func handshakeFailure(_ tls: OpaquePointer) -> LinkFailure {
    let verdict = SSL_get_verify_result(tls)
    if verdict != Int(X509_V_OK) { return distrust(verdict) }
    let code = ERR_get_error()
    ERR_clear_error()
    guard code != 0 else {
      return tlsFailure(
        "it closed the connection during the TLS handshake", "Does the broker speak TLS there?")
    }
    return alert(code)
  }

  /// The broker's certificate is not one that we accept.
  private func distrust(_ verdict: Int) -> LinkFailure {
    let reason = X509_verify_cert_error_string(verdict).map { String(cString: $0) } ?? "error \(verdict)"
    let dialer = dialer.takeUnretainedValue()
    let host = dialer.servers[dialer.server].host
    switch Int32(verdict) {
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
      return tlsFailure(
        "its certificate is not for '\(host)' (\(reason))",
        "Name the broker in `servers` as its certificate does, or give it a certificate for that name.")
    case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID:
      return tlsFailure(
        "its certificate is not trusted (\(reason))", "Renew the certificate, or set the clock right.")
    default:
      return tlsFailure(
        "its certificate is not trusted (\(reason))",
        "Name the authority that signed it in `ca_file` of the `tls:` block.")
    }
  }

  /// What the broker, or OpenSSL itself, objects to.
  private func alert(_ code: UInt) -> LinkFailure {
    let reason = OpenSSLError.text(code)
    guard reason.contains(" alert ") else {
      return tlsFailure(
        "the TLS handshake failed (\(reason))", "Check the `tls:` block and the broker's own.")
    }
    return tlsFailure(
      "the broker refuses TLS with us (\(reason))",
      "Check `cert_file` and `key_file` of the `tls:` block: the broker may want a client's certificate by an "
        + "authority that it knows.")
  }

  private func tlsFailure(_ why: String, _ remedy: String) -> LinkFailure {
    LinkFailure(server: server, why: why, remedy: remedy, kind: .tls)
  }

  /// The broker has closed a connection after its handshake: by TLS 1.3 a client hears only then that its
  /// certificate is refused. nil when TLS did not end it.
  func tlsRefusal() -> LinkFailure? {
    let code = state.pointee.tlsError
    guard code != 0 else { return nil }
    return OpenSSLError.text(code).contains(" alert ") ? alert(code) : nil
  }

  /// Frees what OpenSSL keeps for the connection.
  func endTLS() {
    if let tls = state.pointee.tls { SSL_free(tls) }
    state.pointee.tls = nil
    state.pointee.tlsError = 0
    state.pointee.holdsMore = false
  }

  // MARK: Bytes

  /// `send` over TLS, record by record.
  @usableFromInline
  func sendSecured(_ tls: OpaquePointer) -> Sent {
    // Nothing goes out before the handshake is done, and it tells epoll itself what it waits for.
    guard state.pointee.stage != .securing else { return .some }
    guard state.pointee.outStart < state.pointee.outEnd else { return .nothing }
    while state.pointee.outStart < state.pointee.outEnd {
      ERR_clear_error()
      var count = 0
      let outcome = SSL_write_ex(
        tls, state.pointee.out + state.pointee.outStart, state.pointee.outEnd &- state.pointee.outStart,
        &count)
      if outcome == 1 {
        state.pointee.written &+= UInt64(count)
        state.pointee.outStart &+= count
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
    state.pointee.outStart = 0
    state.pointee.outEnd = 0
    return .all
  }

  /// `fill` over TLS: reads until the socket has no more or the buffer is full, since epoll does not know what
  /// OpenSSL has read already. When the buffer was full, `holdsMore` says that there may be more to read.
  @usableFromInline
  func fillSecured(_ tls: OpaquePointer) -> Int {
    let before = state.pointee.inEnd
    state.pointee.holdsMore = false
    while state.pointee.inEnd < state.pointee.inCapacity {
      ERR_clear_error()
      var count = 0
      let outcome = SSL_read_ex(
        tls, state.pointee.input + state.pointee.inEnd, state.pointee.inCapacity &- state.pointee.inEnd,
        &count)
      if outcome == 1 {
        state.pointee.inEnd &+= count
        continue
      }
      switch SSL_get_error(tls, outcome) {
      case SSL_ERROR_WANT_READ: return state.pointee.inEnd &- before
      case SSL_ERROR_WANT_WRITE where waitForRoomBriefly(): continue
      default:
        noteError()
        // What came before the end is handled first; the end is found again by the next call.
        state.pointee.holdsMore = state.pointee.inEnd > before
        return state.pointee.inEnd > before ? state.pointee.inEnd &- before : -1
      }
    }
    state.pointee.holdsMore = true
    return state.pointee.inEnd &- before
  }

  private func noteError() {
    let code = ERR_get_error()
    ERR_clear_error()
    if code != 0 { state.pointee.tlsError = code }
  }

  /// Reading wants to write only when the broker asks for new keys while the socket is full, which is too rare for
  /// a state of its own: waits here, a second at most; false when there is no room even then.
  private func waitForRoomBriefly() -> Bool {
    var entry = pollfd(fd: state.pointee.socket, events: Int16(POLLOUT), revents: 0)
    return Glibc.poll(&entry, 1, 1000) > 0
  }
}
