/// A client as the broker's monitoring shows it.
public struct BrokerClient: Sendable, Equatable {
  /// The broker's number for the connection; a client that connects again gets another.
  public var id: UInt64
  /// The name that it gave itself; empty when it gave none.
  public var name: String
  /// Messages that it sent.
  public var sentMessages: UInt64
  /// Messages that were delivered to it.
  public var deliveredMessages: UInt64
}

/// A subscription as the broker's monitoring shows it.
public struct BrokerSubscription: Sendable, Hashable {
  /// The subject, perhaps with wildcards.
  public var subject: String
  /// The queue group; nil when there is none.
  public var group: String?
  /// The client's number.
  public var clientID: UInt64

  /// A subscription.
  public init(subject: String, group: String? = nil, clientID: UInt64) {
    self.subject = subject
    self.group = group
    self.clientID = clientID
  }
}

extension BrokerMonitor {
  /// All clients that are connected now, from `/connz`.
  public func clients(timeout: Duration = .seconds(3)) throws(LabError) -> [BrokerClient] {
    let page = try decode(ClientPage.self, path: "/connz?limit=100000", until: .after(timeout))
    return page.connections.map {
      BrokerClient(
        id: $0.cid, name: $0.name ?? "", sentMessages: $0.in_msgs, deliveredMessages: $0.out_msgs)
    }
  }

  /// All subscriptions of clients now, from `/subsz`.
  public func subscriptions(timeout: Duration = .seconds(3)) throws(LabError) -> [BrokerSubscription] {
    let page = try decode(SubscriptionPage.self, path: "/subsz?subs=1&limit=100000", until: .after(timeout))
    return (page.subscriptions_list ?? []).map {
      BrokerSubscription(subject: $0.subject, group: $0.qgroup, clientID: $0.cid)
    }
  }

  private struct ClientPage: Decodable {
    struct Row: Decodable {
      var cid: UInt64
      var name: String?
      var in_msgs: UInt64
      var out_msgs: UInt64
    }
    var connections: [Row]
  }

  private struct SubscriptionPage: Decodable {
    struct Row: Decodable {
      var subject: String
      var qgroup: String?
      var cid: UInt64
    }
    var subscriptions_list: [Row]?
  }
}
