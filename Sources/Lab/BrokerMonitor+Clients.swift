/// A client as the broker's monitoring shows it.
package struct BrokerClient: Sendable, Equatable {
  /// The broker's number for the connection; a client that connects again gets another.
  package var id: UInt64
  /// The name that it gave itself; empty when it gave none.
  package var name: String
  /// Messages that it sent.
  package var sentMessages: UInt64
  /// Messages that were delivered to it.
  package var deliveredMessages: UInt64
}

/// A subscription as the broker's monitoring shows it.
package struct BrokerSubscription: Sendable, Hashable {
  /// The subject, perhaps with wildcards.
  package var subject: String
  /// The queue group; nil when there is none.
  package var group: String?
  package var clientID: UInt64

  package init(subject: String, group: String? = nil, clientID: UInt64) {
    self.subject = subject
    self.group = group
    self.clientID = clientID
  }
}

extension BrokerMonitor {
  /// All clients that are connected now, from `/connz`.
  package func clients(timeout: Duration = .seconds(3)) throws(LabError) -> [BrokerClient] {
    let page = try decode(ClientPage.self, path: "/connz?limit=100000", until: .after(timeout))
    return page.connections.map {
      BrokerClient(
        id: $0.cid, name: $0.name ?? "", sentMessages: $0.in_msgs, deliveredMessages: $0.out_msgs)
    }
  }

  /// All subscriptions of clients now, from `/subsz`.
  package func subscriptions(timeout: Duration = .seconds(3)) throws(LabError) -> [BrokerSubscription] {
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
