import CNats
import NATS
import Scenario

extension BrokerError {
  /// What libnats says.
  init(server: String, status: natsStatus) {
    let remedy =
      switch status {
      case NATS_NO_SERVER, NATS_IO_ERROR:
        "Is a broker running there? Start one (nats-server), or leave `servers` empty."
      case NATS_CONNECTION_AUTH_FAILED, NATS_NOT_PERMITTED: "Check the `auth:` block of the messaging entry."
      case NATS_SSL_ERROR, NATS_SECURE_CONNECTION_WANTED, NATS_SECURE_CONNECTION_REQUIRED:
        "Check the `tls:` block of the messaging entry."
      case NATS_TIMEOUT:
        "The broker did not answer in time: is it overloaded, or something else listening there?"
      default: "Check `servers`, `auth` and `tls` of the messaging entry."
      }
    self.init(server: server, why: String(cString: natsStatus_GetText(status)), remedy: remedy)
  }

  /// A request is longer than the broker lets through.
  static func tooLong(servers: [String], request: Int, most: Int) -> BrokerError {
    BrokerError(
      server: servers.map(redactedURL).joined(separator: ", "),
      why: "a request has \(request) bytes, it takes \(most) at most",
      remedy: "Lower `request.body_bytes`, or raise `max_payload` of the broker.")
  }
}
