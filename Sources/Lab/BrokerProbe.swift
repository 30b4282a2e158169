import Foundation
import NATS

/// What a broker said of itself when it was asked whether it is there.
package struct BrokerGreeting: Sendable, Equatable {
  /// Its version, such as `2.9.10`.
  package var version: String?
  /// The most bytes of a message.
  var maxPayload: Int
}

extension Broker {
  /// Asks a broker whether it is there and takes the credentials (the URL's own, else `auth`), over TLS where that is
  /// wanted. The errors name host and port, never what stands before an `@`.
  ///
  /// - Parameter timeout: for each address of the broker's name.
  @discardableResult
  package static func probe(
    url: String, auth: NATSAuth = NATSAuth(), tls: NATSTLS = NATSTLS(), timeout: Duration = .seconds(5)
  ) throws(LabError) -> BrokerGreeting {
    do {
      _ = try BrokerAddress(url)
    } catch {
      throw .invalid("\(error)", remedy: BrokerAddressError.remedy)
    }
    let security = try security(auth: auth, tls: tls, servers: [url])
    let servers: [BrokerServer]
    do {
      servers = try BrokerServer.all([url], security: security)
    } catch {
      throw .brokerUnreachable(address: error.server, why: error.why)
    }
    let wire = WireConnection(
      to: servers, first: 0,
      settings: WireSettings(
        name: "nylon-bench", subscriptions: [],
        limitNanoseconds: UInt64(max(0, timeout / .nanoseconds(1)))),
      epoll: WireConnection.noEpoll, place: 0, outBytes: 0)
    defer { wire.close() }
    do {
      try wire.connectFirst()
    } catch {
      throw LabError(error)
    }
    return BrokerGreeting(version: wire.greeting?.version, maxPayload: wire.longestPayload)
  }

  /// Reads the files of credentials and TLS, so that one that is missing or wrong is found before anything starts.
  package static func checkFiles(auth: NATSAuth, tls: NATSTLS, servers: [String]) throws(LabError) {
    _ = try security(auth: auth, tls: tls, servers: servers)
  }

  private static func security(
    auth: NATSAuth, tls: NATSTLS, servers: [String]
  ) throws(LabError) -> WireSecurity {
    do {
      return try WireSecurity(auth: auth, tls: tls, servers: servers)
    } catch {
      throw .unusableFile(error)
    }
  }
}

extension LabError {
  /// Why a broker does not take us.
  init(_ failure: LinkFailure) {
    self =
      switch failure.kind {
      case .credentials: .brokerRefusesCredentials(address: failure.server, why: failure.words)
      case .tls: .noTLS(address: failure.server, why: failure.why, remedy: failure.remedy)
      case .silence, .noBroker: .brokerUnreachable(address: failure.server, why: failure.why)
      }
  }
}
