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
    _ = try address(url)
    let security = try security(auth: auth, tls: tls, servers: [url])
    do {
      let wire = WireConnection(
        to: try BrokerServer.all([url], security: security),
        limitNanoseconds: UInt64(max(0, timeout / .nanoseconds(1))))
      defer { wire.close() }
      try wire.connectFirst()
      return BrokerGreeting(version: wire.greeting?.version, maxPayload: wire.longestPayload)
    } catch {
      throw LabError(error)
    }
  }

  /// A broker's URL, taken apart.
  static func address(_ url: String) throws(LabError) -> BrokerAddress {
    do {
      return try BrokerAddress(url)
    } catch {
      throw .invalid("The broker URL '\(error.server)' cannot be used: \(error.why)", remedy: error.remedy)
    }
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
  init(_ failure: BrokerError) {
    self =
      switch failure.kind {
      case .credentials: .brokerRefusesCredentials(address: failure.server, why: failure.words)
      case .tls: .noTLS(address: failure.server, why: failure.why, remedy: failure.remedy)
      case .silence, .noBroker: .brokerUnreachable(address: failure.server, why: failure.why)
      }
  }
}
