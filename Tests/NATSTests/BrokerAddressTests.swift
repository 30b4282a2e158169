import Testing

@testable import NATS

@Suite struct BrokerAddressTests {
  @Test func addressesAreTakenApart() throws {
    let plain = try BrokerAddress("nats://host.test:1234")
    #expect(plain.shown == "host.test:1234" && plain.auth == NATSAuth() && !plain.usesTLS)
    #expect(try BrokerAddress("localhost").shown == "localhost:4222")
    #expect(try BrokerAddress("tls://[::1]:5000/").shown == "[::1]:5000")
    #expect(try BrokerAddress("nats://tok%65n@h").auth == NATSAuth(token: "token"))
    let full = try BrokerAddress("nats://a:b@c/d@h:1/")
    #expect(full.auth == NATSAuth(user: "a", password: "b@c/d") && full.shown == "h:1")
  }

  @Test(arguments: [
    "", "nats://", "http://s3cret@h:1", "nats://s3cret@", "nats://s3cret@h:0", "s3cret@h:70000", "s3cret@h:x",
    "nats://s3cret@[::1]x", "nats://s3cret@a b", "nats://s3cret@h:", "a:s3cret://b@h",
    "s3cret@:1]:h:4222", "s3cret@[h:1", "s3cret@h]",
  ])
  func addressesThatCannotBeUsedAreToldWithoutSecrets(url: String) {
    #expect {
      try BrokerAddress(url)
    } throws: { error in
      guard let error = error as? BrokerError else { return false }
      return !"\(error)".contains("s3cret")
    }
  }
}
