import Foundation
import Testing

@testable import NATS

/// In which order servers are tried.
@Suite struct WireDialerTests {
  private func dialer(_ ports: [Int]) throws -> WireDialer {
    let urls = ports.map { "nats://127.0.0.1:\($0)" }
    let security = try WireSecurity(auth: NATSAuth(), tls: NATSTLS(), servers: urls)
    let servers = try BrokerServer.all(urls, security: security)
    return WireDialer(
      name: "test", subscriptions: "", limitNanoseconds: 1, restNanoseconds: 1,
      targets: servers.flatMap { server in server.addresses.map { (server, $0.family, $0.bytes) } })
  }

  /// The ports of the servers that one round tries.
  private func round(_ dialer: inout WireDialer) -> [UInt16] {
    var ports: [UInt16] = []
    while dialer.nextAddress() != nil { ports.append(dialer.current.address.port) }
    return ports
  }

  @Test func roundsGoThroughAllServersInTheOrderInWhichTheyAreNamed() throws {
    var dialer = try dialer([1, 2, 3])
    #expect(round(&dialer) == [1, 2, 3])
    #expect(round(&dialer) == [1, 2, 3])
  }

  @Test func behindALostServerTheNextOneIsTriedAndThatOneLast() throws {
    var dialer = try dialer([1, 2, 3])
    _ = dialer.nextAddress()
    _ = dialer.nextAddress()
    dialer.startBehind()
    #expect(round(&dialer) == [3, 1, 2])
    #expect(round(&dialer) == [3, 1, 2])
  }

  @Test func whoeverTakesAConnectionsPlaceBeginsBehindItsServer() throws {
    var dialer = try dialer([1, 2, 3])
    _ = dialer.nextAddress()
    var successor = dialer.successor(subscriptions: "SUB a 1\r\n")
    #expect(round(&successor) == [2, 3, 1])
    #expect(successor.subscriptions == "SUB a 1\r\n")
  }

  @Test func aServerThatIsNamedTwiceIsNoOther() throws {
    #expect(try dialer([1]).hasOthers == false)
    #expect(try dialer([1, 1]).hasOthers == false)
    #expect(try dialer([1, 2]).hasOthers)
  }
}
