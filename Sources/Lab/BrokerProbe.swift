import Foundation
import NATSWire
import Scenario

/// What a broker said of itself when it was asked whether it is there.
public struct BrokerGreeting: Sendable, Equatable {
  /// Its version, such as `2.9.10`.
  public var version: String?
  /// The most bytes of a message.
  public var maxPayload: Int?
  /// True when credentials were checked: it answered PING after CONNECT. False when that would
  /// need TLS or a signature, and only its greeting (with `tls://` perhaps only TCP) was seen.
  public var isFullyChecked: Bool
}

extension Broker {
  /// Asks a broker whether it is there and takes the credentials (the URL's own, else `auth`).
  /// The errors name host and port, never what stands before an `@`.
  ///
  /// A broker that wants TLS, or credentials that need a signature (a credentials file or an nkey),
  /// is only checked up to its greeting.
  @discardableResult
  public static func probe(
    url: String, auth: NATSAuth = NATSAuth(), timeout: Duration = .seconds(5)
  ) throws(LabError) -> BrokerGreeting {
    let address: BrokerAddress
    do {
      address = try BrokerAddress(url)
    } catch {
      throw .invalid("\(error)", remedy: BrokerAddressError.remedy)
    }
    let used = address.auth == NATSAuth() ? auth : address.auth
    do {
      var connection = try Connection(host: address.host, port: address.port, until: .after(timeout))
      if address.usesTLS { return BrokerGreeting(isFullyChecked: false) }
      return try greet(&connection, address, used)
    } catch let refusal as LabError {
      throw refusal
    } catch let failure as Connection.Failure {
      throw .brokerUnreachable(address: address.shown, why: failure.why)
    } catch {
      throw .brokerUnreachable(address: address.shown, why: "of an unknown failure")
    }
  }

  private static func greet(
    _ connection: inout Connection, _ address: BrokerAddress, _ auth: NATSAuth
  ) throws -> BrokerGreeting {
    let line = try connection.line()
    guard line.hasPrefix("INFO "),
      let info = try? JSONDecoder().decode(Info.self, from: Data(line.dropFirst(5).utf8))
    else {
      throw LabError.brokerUnreachable(
        address: address.shown, why: "it does not greet as a NATS server does")
    }
    var greeting = BrokerGreeting(
      version: info.version, maxPayload: info.max_payload, isFullyChecked: false)
    if info.tls_required == true || auth.credentials != nil || auth.nkey != nil { return greeting }
    try connection.send("CONNECT \(connectJSON(auth))\r\nPING\r\n")
    while true {
      let answer = try answer(&connection, address, mayBeRefused: info.auth_required == true)
      if answer == "PONG" {
        greeting.isFullyChecked = true
        return greeting
      }
      guard !answer.hasPrefix("-ERR") else {
        throw LabError.brokerRefusesCredentials(
          address: address.shown, why: answer.dropFirst(4).trimmingCharacters(in: [" ", "'"]))
      }
    }
  }

  /// The next line; a broker may close before its `-ERR` is read.
  private static func answer(
    _ connection: inout Connection, _ address: BrokerAddress, mayBeRefused: Bool
  ) throws -> String {
    do {
      return try connection.line()
    } catch {
      guard mayBeRefused, error.why == "it closed the connection" else { throw error }
      throw LabError.brokerRefusesCredentials(address: address.shown, why: error.why)
    }
  }

  private static func connectJSON(_ auth: NATSAuth) throws -> String {
    let options = ConnectOptions(
      auth_token: auth.token, user: auth.user, pass: auth.password, name: "nylon-bench")
    return String(decoding: try JSONEncoder().encode(options), as: UTF8.self)
  }

  private struct Info: Decodable {
    var version: String?
    var max_payload: Int?
    var auth_required: Bool?
    var tls_required: Bool?
  }

  private struct ConnectOptions: Encodable {
    var auth_token: String?
    var user: String?
    var pass: String?
    var name: String
    var verbose = false
    var pedantic = false
    var lang = "swift"
    var version = "1"
  }
}
