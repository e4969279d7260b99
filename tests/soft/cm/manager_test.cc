// What lies between connections: listeners, stale and unknown ones, limits,
// and which REQs are refused and why.
#include "soft/cm/manager.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "soft/cm/two_ends.h"

namespace nd::soft {
namespace {

class ManagerTest : public TwoEnds {
 protected:
  // A REQ like the client's, of another connection and QP.
  CmReq AnotherReq(uint32_t number) {
    CmReq other = req;
    other.local_id = CommId(0x1000 + number);
    other.qpn = Qpn(0x100 + number);
    return other;
  }
};

// Listening.

TEST_F(ManagerTest, RequestTellsWhoAskedForWhat) {
  Listen();
  ReachReqSent();
  SayToServer(req);
  const CmEvent event = server.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kConnectRequest);
  EXPECT_EQ(event.listener, listener);
  EXPECT_EQ(event.endpoints, ConnectOptions().endpoints);
  EXPECT_EQ(event.peer.qpn, kClientQpn);
  EXPECT_EQ(event.peer.responder_resources, 3);
  EXPECT_EQ(event.peer.initiator_depth, 4);
}

TEST_F(ManagerTest, OwnAddressIsPreferredToAll) {
  server.cm.Listen({.local = {.port = kPort}});
  server.cm.Listen({.local = {.ip = Ipv4(0), .port = kPort}});
  const CmHandle own =
      server.cm.Listen({.local = {.ip = kServerIp, .port = kPort}});
  server.cm.Listen({.local = {.port = kPort}});
  ReachReqSent();
  SayToServer(req);
  EXPECT_EQ(server.TakeEvent().listener, own);
}

TEST_F(ManagerTest, Ipv6OnlyDoesNotTakeIpv4) {
  server.cm.Listen({.local = {.port = kPort}, .ipv6_only = true});
  ReachReqSent();
  SayToServer(req);
  EXPECT_EQ(server.Take<CmRej>().reason, RejectReason::kConsumer);
}

TEST_F(ManagerTest, Ipv4WildcardDoesNotTakeIpv6) {
  constexpr Gid kAny4 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  server.cm.Listen({.local = {.ip = kAny4, .port = kPort}});
  CmConnectOptions options = ConnectOptions();
  options.endpoints.local.ip = Ipv6(1);
  options.endpoints.remote.ip = Ipv6(2);
  ASSERT_TRUE(client.cm.Connect(options, now, client.out).ok());
  Deliver(client, server);
  EXPECT_EQ(server.Take<CmRej>().reason, RejectReason::kConsumer);
  ReachReqSent();
  SayToServer(req);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

TEST_F(ManagerTest, PortSpacesAreApart) {
  server.cm.Listen({.space = PortSpace::kIb, .local = {.port = kPort}});
  ReachReqSent();
  SayToServer(req);
  EXPECT_EQ(server.Take<CmRej>().reason, RejectReason::kInvalidServiceId);
}

TEST_F(ManagerTest, UcConnectsToUc) {
  server.cm.Listen({.space = PortSpace::kIb,
                    .transport = CmTransport::kUc,
                    .local = {.port = kPort}});
  CmConnectOptions options = ConnectOptions();
  options.space = PortSpace::kIb;
  options.transport = CmTransport::kUc;
  ASSERT_TRUE(client.cm.Connect(options, now, client.out).ok());
  Deliver(client, server);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

TEST_F(ManagerTest, RequestsBeyondTheBacklogMustComeAgain) {
  Listen();
  ReachReqSent();
  SayToServer(req);
  acceptor = server.TakeEvent().handle;
  SayToServer(AnotherReq(1));
  server.TakeEvent();
  SayToServer(AnotherReq(2));
  EXPECT_TRUE(server.Silent());
  server.cm.RequestFetched(acceptor);
  SayToServer(AnotherReq(2));
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

TEST_F(ManagerTest, DestroyedRequestMakesRoomInTheBacklog) {
  Listen();
  ReachReqSent();
  SayToServer(req);
  acceptor = server.TakeEvent().handle;
  SayToServer(AnotherReq(1));
  server.TakeEvent();
  ASSERT_TRUE(server.cm.Destroy(acceptor, now, server.out).ok());
  server.Take<CmRej>();
  SayToServer(AnotherReq(2));
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

TEST_F(ManagerTest, BacklogIsAtMost1024) {
  server.cm.Listen({.local = {.port = kPort}, .backlog = 5000});
  ReachReqSent();
  for (uint32_t i = 0; i < 1100; ++i) SayToServer(AnotherReq(i));
  EXPECT_EQ(server.out.events.size(), 1024u);
}

TEST_F(ManagerTest, UnfetchedRequestsGoWithTheirListener) {
  Listen();
  ReachReqSent();
  SayToServer(req);
  acceptor = server.TakeEvent().handle;
  server.cm.RequestFetched(acceptor);
  SayToServer(AnotherReq(1));
  server.TakeEvent();
  ASSERT_TRUE(server.cm.Destroy(listener, now, server.out).ok());
  const auto rej = server.Take<CmRej>();
  EXPECT_EQ(rej.remote_id, AnotherReq(1).local_id);
  EXPECT_EQ(rej.reason, RejectReason::kConsumer);
  EXPECT_EQ(server.cm.size(), 1u);
  SayToServer(AnotherReq(2));
  EXPECT_EQ(server.Take<CmRej>().reason, RejectReason::kInvalidServiceId);
  EXPECT_TRUE(
      server.cm.Accept(acceptor, AcceptOptions(), now, server.out).ok());
}

// A flood.

TEST_F(ManagerTest, ConnectionsAreLimited) {
  End small(2, {.max_connections = 3}, 3);
  small.cm.Listen({.local = {.port = kPort}});
  ReachReqSent();
  for (uint32_t i = 0; i < 10; ++i) {
    small.cm.HandleMad({.source = kClientIp,
                        .destination = kServerIp,
                        .mad = {.message = AnotherReq(i)}},
                       now, small.out);
  }
  EXPECT_EQ(small.cm.size(), 3u);
  EXPECT_EQ(small.out.events.size(), 3u);
  EXPECT_EQ(small.cm.Connect(ConnectOptions(), now, small.out).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(ManagerTest, CommIdsStayInTheirRange) {
  End slot(1, {.comm_ids = {.first = 0xab000000, .bits = 24}}, 4);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(slot.cm.Connect(ConnectOptions(), now, slot.out).ok());
    EXPECT_EQ(ToUint(slot.Take<CmReq>().local_id) >> 24, 0xabu);
  }
}

TEST_F(ManagerTest, CommIdsAreApart) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    End small(1,
              {.comm_ids = {.first = 0x100, .bits = 2}, .max_connections = 3},
              seed);
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(small.cm.Connect(ConnectOptions(), now, small.out).ok());
    }
    EXPECT_EQ(small.cm.size(), 3u) << seed;
  }
}

TEST_F(ManagerTest, NoCommIdIsZero) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    End small(1, {.comm_ids = {.first = 0, .bits = 1}, .max_connections = 1},
              seed);
    ASSERT_TRUE(small.cm.Connect(ConnectOptions(), now, small.out).ok());
    EXPECT_EQ(small.Take<CmReq>().local_id, CommId(1)) << seed;
  }
}

TEST_F(ManagerTest, ConnectsToItself) {
  server.cm.Listen({.local = {.port = kPort}});
  CmConnectOptions options = ConnectOptions();
  options.endpoints.local.ip = kServerIp;
  requester = *server.cm.Connect(options, now, server.out);
  Deliver(server, server);
  acceptor = server.TakeEvent().handle;
  ASSERT_TRUE(
      server.cm.Accept(acceptor, AcceptOptions(), now, server.out).ok());
  Deliver(server, server);
  EXPECT_EQ(server.TakeEvent().handle, requester);
  ASSERT_TRUE(server.cm.Establish(requester, now, server.out).ok());
  Deliver(server, server);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kEstablished);
}

// Connections that one side has lost.

TEST_F(ManagerTest, AnotherConnectionOfTheSameRemoteQpIsStale) {
  ReachEstablished();
  CmReq other = AnotherReq(1);
  other.qpn = kClientQpn;
  SayToServer(other);
  ASSERT_EQ(server.out.datagrams.size(), 2u);
  const auto rej = std::get<CmRej>(server.out.datagrams[0].mad.message);
  EXPECT_EQ(rej.reason, RejectReason::kStaleConnection);
  EXPECT_EQ(rej.remote_id, other.local_id);
  EXPECT_EQ(rej.local_id, CommId{});
  const auto request = std::get<CmDreq>(server.out.datagrams[1].mad.message);
  EXPECT_EQ(request.remote_id, req.local_id);
  EXPECT_TRUE(server.out.events.empty());
}

TEST_F(ManagerTest, RemoteQpMayConnectAgainAfterTheEnd) {
  ReachTimewait();
  CmReq other = AnotherReq(1);
  other.qpn = kClientQpn;
  SayToServer(other);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

TEST_F(ManagerTest, NewConnectionOutlivesTheTimewaitOfTheOldOne) {
  ReachTimewait();
  CmReq other = AnotherReq(1);
  other.qpn = kClientQpn;
  SayToServer(other);
  const CmHandle second = server.TakeEvent().handle;
  ASSERT_TRUE(server.cm.Accept(second, AcceptOptions(), now, server.out).ok());
  server.Take<CmRep>();
  // The old one had the same QPNs on both ends.
  server.cm.NotifyFirstPacket(kServerQpn, now, server.out);
  EXPECT_EQ(server.TakeEvent().handle, second);
  WaitForTimer(server);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kTimewaitExit);
  CmReq third = AnotherReq(2);
  third.qpn = kClientQpn;
  SayToServer(third);
  ASSERT_FALSE(server.out.datagrams.empty());
  const CmMad mad = server.out.datagrams.front().mad;
  const auto* const rej = std::get_if<CmRej>(&mad.message);
  ASSERT_NE(rej, nullptr);
  EXPECT_EQ(rej->reason, RejectReason::kStaleConnection);
}

TEST_F(ManagerTest, RequestsOfOtherListenersStay) {
  Listen();
  const CmHandle other =
      server.cm.Listen({.space = PortSpace::kIb, .local = {.port = kPort}});
  ReachReqSent();
  SayToServer(req);
  acceptor = server.TakeEvent().handle;
  ASSERT_TRUE(server.cm.Destroy(other, now, server.out).ok());
  EXPECT_TRUE(server.Silent());
  EXPECT_TRUE(
      server.cm.Accept(acceptor, AcceptOptions(), now, server.out).ok());
}

TEST_F(ManagerTest, RemoteQpMayConnectAgainWhileItsOldEndIsBeingDestroyed) {
  ReachEstablished();
  ASSERT_TRUE(server.cm.Destroy(acceptor, now, server.out).ok());
  server.Take<CmDreq>();
  CmReq other = AnotherReq(1);
  other.qpn = kClientQpn;
  SayToServer(other);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

TEST_F(ManagerTest, ReplyOfAQpThatIsConnectedIsStale) {
  ReachEstablished();
  CmConnectOptions options = ConnectOptions();
  options.qpn = Qpn(0x12);
  const CmHandle second = *client.cm.Connect(options, now, client.out);
  const auto second_req = client.Take<CmReq>();
  CmRep stale = rep;
  stale.local_id = CommId(0x9999);
  stale.remote_id = second_req.local_id;
  SayToClient(stale);
  const CmEvent event = client.TakeEvent();
  EXPECT_EQ(event.handle, second);
  EXPECT_EQ(event.type, CmEventType::kRejected);
  EXPECT_EQ(event.reason, RejectReason::kStaleConnection);
  ASSERT_EQ(client.out.datagrams.size(), 2u);
  const auto rej = std::get<CmRej>(client.out.datagrams[0].mad.message);
  EXPECT_EQ(rej.message, 1);
  EXPECT_EQ(rej.remote_id, CommId(0x9999));
  EXPECT_TRUE(
      std::holds_alternative<CmDreq>(client.out.datagrams[1].mad.message));
}

TEST_F(ManagerTest, SameIdOfAnotherDeviceIsAnotherConnection) {
  ReachEstablished();
  req.ca_guid = 5;
  SayToServer(req);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

// Messages for nobody.

TEST_F(ManagerTest, DreqForUnknownIdsIsAnswered) {
  SayToServer(CmDreq{.local_id = CommId(0x1234), .remote_id = CommId(0x5678)});
  EXPECT_EQ(server.Take<CmDrep>(),
            (CmDrep{.local_id = CommId(0x5678), .remote_id = CommId(0x1234)}));
}

TEST_F(ManagerTest, DreqBeforeTheReplyIsForUnknownIds) {
  ReachReqSent();
  SayToClient(CmDreq{.local_id = CommId(1),
                     .remote_id = req.local_id,
                     .remote_qpn = kClientQpn});
  EXPECT_EQ(client.Take<CmDrep>(),
            (CmDrep{.local_id = req.local_id, .remote_id = CommId(1)}));
}

// Ids of acceptors and requesters are of one range.
TEST_F(ManagerTest, RequestIsNotTakenForItsOwnAcceptors) {
  ReachEstablished();
  CmReq other = req;
  other.local_id = rep.local_id;
  other.ca_guid = rep.ca_guid;
  other.qpn = Qpn(0x33);
  SayToClient(other);
  EXPECT_EQ(client.Take<CmRej>().reason, RejectReason::kInvalidServiceId);
}

TEST_F(ManagerTest, OthersForUnknownIdsAreIgnored) {
  SayToServer(CmMra{.local_id = CommId(1), .remote_id = CommId(2)});
  SayToServer(CmRej{.local_id = CommId(1), .remote_id = CommId(2)});
  rep.local_id = CommId(1);
  rep.remote_id = CommId(2);
  SayToServer(rep);
  SayToServer(CmRtu{.local_id = CommId(1), .remote_id = CommId(2)});
  SayToServer(CmDrep{.local_id = CommId(1), .remote_id = CommId(2)});
  SayToServer(CmSidrRep{.request_id = CommId(1)});
  EXPECT_TRUE(server.Silent());
}

TEST_F(ManagerTest, NobodySpeaksForAnotherAddress) {
  ReachRtuSent();
  constexpr Gid kStranger = Ipv4(66);
  SayToServer(rtu, kStranger);
  SayToServer(CmRej{.local_id = rtu.local_id, .remote_id = rtu.remote_id},
              kStranger);
  SayToClient(rep, kStranger);
  EXPECT_TRUE(server.Silent());
  EXPECT_TRUE(client.Silent());
}

TEST_F(ManagerTest, NobodyAsksForAnotherAddress) {
  Listen();
  ReachReqSent();
  SayToServer(req, Ipv4(66));
  EXPECT_EQ(server.Take<CmRej>().reason, RejectReason::kConsumer);
}

TEST_F(ManagerTest, NobodyElseGivesARequestUp) {
  ReachReqReceived();
  ASSERT_TRUE(client.cm.Destroy(requester, now, client.out).ok());
  SayToServer(client.Take<CmRej>(), Ipv4(66));
  EXPECT_TRUE(server.Silent());
}

TEST_F(ManagerTest, RtuMustHaveBothIds) {
  ReachRtuSent();
  rtu.local_id = CommId(1);
  SayToServer(rtu);
  EXPECT_TRUE(server.Silent());
}

// What Linux wants of a REQ, and what it takes: one field at a time.
struct ReqCase {
  std::string name;
  std::function<void(CmReq&)> change;
  RejectReason refused{};  // 0: taken
};

void ChangeHeader(CmReq& req,
                  const std::function<void(RdmaCmHeader&)>& change) {
  const std::span<uint8_t, CmReq::kPrivateBytes> data(req.private_data);
  const auto bytes = data.first<RdmaCmHeader::kSize>();
  RdmaCmHeader header = RdmaCmHeader::Read(bytes);
  change(header);
  header.Write(bytes);
}

class ReqCases : public TwoEnds, public ::testing::WithParamInterface<ReqCase> {
 public:
  static std::vector<ReqCase> All() {
    using enum RejectReason;
    constexpr RejectReason kTaken{};
    return {
        {"Unchanged", [](CmReq&) {}, kTaken},
        {"Lids", [](CmReq& r) { r.local_lid = r.remote_lid = 0; }, kTaken},
        {"HopLimit", [](CmReq& r) { r.hop_limit = 0; }, kTaken},
        {"FlowLabel", [](CmReq& r) { r.flow_label = 0xfffff; }, kTaken},
        {"CmTimeouts",
         [](CmReq& r) {
           r.local_response_timeout = r.remote_response_timeout = 0;
         },
         kTaken},
        {"LimitedPkey", [](CmReq& r) { r.pkey = 0x7fff; }, kTaken},
        {"Pkey", [](CmReq& r) { r.pkey = 0x1234; }, kInvalidGid},
        {"NoGuid", [](CmReq& r) { r.ca_guid = 0; }, kTaken},
        {"NoQpn", [](CmReq& r) { r.qpn = Qpn{}; }, kTaken},
        {"NoCommId", [](CmReq& r) { r.local_id = CommId{}; }, kTaken},
        {"Depths",
         [](CmReq& r) { r.responder_resources = r.initiator_depth = 255; },
         kTaken},
        {"Mtu256", [](CmReq& r) { r.path_mtu = 1; }, kTaken},
        {"Mtu4096", [](CmReq& r) { r.path_mtu = 5; }, kTaken},
        {"Mtu0", [](CmReq& r) { r.path_mtu = 0; }, kInvalidMtu},
        {"Mtu6", [](CmReq& r) { r.path_mtu = 6; }, kInvalidMtu},
        {"Uc", [](CmReq& r) { r.transport = 1; }, kConsumer},
        {"Transport2", [](CmReq& r) { r.transport = 2; }, kConsumer},
        {"Port", [](CmReq& r) { ++r.service_id; }, kInvalidServiceId},
        {"UdpPortSpace",
         [](CmReq& r) { r.service_id = ServiceId(PortSpace::kUdp, kPort); },
         kInvalidServiceId},
        {"RemoteGid", [](CmReq& r) { r.remote_gid = Ipv4(9); }, kInvalidGid},
        {"NoGids", [](CmReq& r) { r.local_gid = r.remote_gid = {}; },
         kInvalidGid},
        {"LocalGid", [](CmReq& r) { r.local_gid = Ipv4(9); }, kConsumer},
        {"NoHeader", [](CmReq& r) { r.private_data = {}; }, kConsumer},
        {"HeaderVersion",
         [](CmReq& r) {
           ChangeHeader(r, [](RdmaCmHeader& h) { h.version = 0x10; });
         },
         kConsumer},
        {"HeaderIpVersion",
         [](CmReq& r) {
           ChangeHeader(r, [](RdmaCmHeader& h) { h.ip_version = 6; });
         },
         kConsumer},
        {"HeaderOfNoIpVersion",
         [](CmReq& r) {
           ChangeHeader(r, [](RdmaCmHeader& h) { h.ip_version = 5; });
         },
         kConsumer},
        {"HeaderSource",
         [](CmReq& r) {
           ChangeHeader(r, [](RdmaCmHeader& h) { h.source[15] = 9; });
         },
         kConsumer},
        {"HeaderDestination",
         [](CmReq& r) {
           ChangeHeader(r, [](RdmaCmHeader& h) { h.destination[15] = 9; });
         },
         kConsumer},
        {"UnusedBytesOfHeader",
         [](CmReq& r) {
           ChangeHeader(r, [](RdmaCmHeader& h) {
             h.source[0] = h.destination[3] = 0xee;
           });
         },
         kTaken},
    };
  }
};

TEST_P(ReqCases, IsTakenOrRefused) {
  Listen();
  ReachReqSent();
  GetParam().change(req);
  SayToServer(req);
  if (GetParam().refused == RejectReason{}) {
    EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
    EXPECT_TRUE(server.Silent());
    return;
  }
  EXPECT_TRUE(server.out.events.empty());
  const CmMad mad = server.TakeMad();
  EXPECT_EQ(mad.transaction_id, kTransaction);
  const auto& rej = std::get<CmRej>(mad.message);
  EXPECT_EQ(rej.reason, GetParam().refused);
  EXPECT_EQ(rej.message, 0);
  EXPECT_EQ(rej.local_id, CommId{});
  EXPECT_EQ(rej.remote_id, req.local_id);
  EXPECT_EQ(server.cm.size(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Fields, ReqCases, ::testing::ValuesIn(ReqCases::All()),
                         [](const auto& each) { return each.param.name; });

TEST_F(ManagerTest, InvalidGidIsRefusedWithOneThatWouldDo) {
  Listen();
  ReachReqSent();
  req.remote_gid = Ipv4(9);
  SayToServer(req);
  const auto rej = server.Take<CmRej>();
  ASSERT_EQ(rej.information_length, 16);
  EXPECT_TRUE(
      std::equal(kServerIp.begin(), kServerIp.end(), rej.information.begin()));
}

TEST_F(ManagerTest, InvalidMtuIsRefusedWithTheLargest) {
  Listen();
  ReachReqSent();
  req.path_mtu = 6;
  SayToServer(req);
  const auto rej = server.Take<CmRej>();
  ASSERT_EQ(rej.information_length, 1);
  EXPECT_EQ(rej.information[0], 5);
}

TEST_F(ManagerTest, NewAddressIsListenedOn) {
  Listen();
  ReachReqSent();
  server.cm.set_gids({Ipv4(9)});
  SayToServer(req);
  EXPECT_EQ(server.Take<CmRej>().reason, RejectReason::kInvalidGid);
  server.cm.set_gids({Ipv4(9), kServerIp});
  SayToServer(req);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kConnectRequest);
}

bool Everyone(const Gid&, CommId) { return true; }

TEST_F(ManagerTest, PeerThatIsGoneEndsAConnection) {
  ReachEstablished();
  client.cm.HandleGonePeers(Everyone, now, client.out);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kDisconnected);
  server.cm.HandleGonePeers(Everyone, now, server.out);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kDisconnected);
  // The application's answer, to nobody.
  EXPECT_TRUE(client.cm.Disconnect(requester, {}, now, client.out).ok());
}

TEST_F(ManagerTest, PeerThatIsGoneBeforeItHasConnectedRejects) {
  ReachReqReceived();
  server.cm.HandleGonePeers(Everyone, now, server.out);
  const CmEvent event = server.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kRejected);
  EXPECT_EQ(event.reason, RejectReason::kTimeout);
}

TEST_F(ManagerTest, PeerThatIsGoneBeforeItIsReadyRejects) {
  ReachRepReceived();
  client.cm.HandleGonePeers(Everyone, now, client.out);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kRejected);
  server.cm.HandleGonePeers(Everyone, now, server.out);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kRejected);
}

TEST_F(ManagerTest, PeerThatIsGoneIsNotWaitedForToDisconnect) {
  ReachDreqSent();
  client.cm.HandleGonePeers(Everyone, now, client.out);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kDisconnected);
}

TEST_F(ManagerTest, OnlyWhoIsGoneIsTakenToBe) {
  ReachEstablished();
  client.cm.HandleGonePeers(
      [this](const Gid& address, CommId id) {
        EXPECT_EQ(address, kServerIp);
        EXPECT_EQ(id, rep.local_id);
        return false;
      },
      now, client.out);
  EXPECT_TRUE(client.Silent());
}

}  // namespace
}  // namespace nd::soft
