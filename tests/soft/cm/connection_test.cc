// Both ends of a connection, state by state.
#include "soft/cm/connection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "soft/cm/two_ends.h"

namespace nd::soft {
namespace {

using std::chrono::milliseconds;

class ConnectionTest : public TwoEnds {
 protected:
  // `side`'s end of the connection is destroyed.
  void Destroy(End& side, CmHandle handle) {
    EXPECT_TRUE(side.cm.Destroy(handle, now, side.out).ok());
  }
};

// Connecting.

TEST_F(ConnectionTest, ParametersCross) {
  ReachEstablished();
  const auto a = *client.cm.QpParams(requester, QpStage::kRts);
  const auto b = *server.cm.QpParams(acceptor, QpStage::kRts);
  EXPECT_EQ(a.rq_psn, b.sq_psn);
  EXPECT_EQ(a.sq_psn, b.rq_psn);
  EXPECT_EQ(a.remote_qpn, kServerQpn);
  EXPECT_EQ(b.remote_qpn, kClientQpn);
  EXPECT_EQ(a.source, b.destination);
  EXPECT_EQ(a.destination, b.source);
  EXPECT_EQ(a.flow_label, b.flow_label);
  EXPECT_EQ(a.max_rd_atomic, 2);
  EXPECT_EQ(b.max_dest_rd_atomic, 2);
  EXPECT_EQ(a.max_dest_rd_atomic, 1);
  EXPECT_EQ(b.max_rd_atomic, 1);
  EXPECT_EQ(a.retry_count, 6);
  EXPECT_EQ(b.retry_count, 6);
  EXPECT_EQ(a.rnr_retry_count, 3);
  EXPECT_EQ(b.rnr_retry_count, 5);
  EXPECT_EQ(a.path_mtu, b.path_mtu);
}

TEST_F(ConnectionTest, AcceptorOffersNoMoreThanItWasAskedFor) {
  ReachReqReceived();
  CmAcceptOptions options = AcceptOptions();
  options.responder_resources = 200;
  options.initiator_depth = 200;
  ASSERT_TRUE(server.cm.Accept(acceptor, options, now, server.out).ok());
  const auto reply = server.Take<CmRep>();
  EXPECT_EQ(reply.responder_resources, req.initiator_depth);
  EXPECT_EQ(reply.initiator_depth, req.responder_resources);
}

TEST_F(ConnectionTest, NobodyServesMoreReadsThanTheDeviceCan) {
  ReachRepSent();
  rep.responder_resources = 255;
  rep.initiator_depth = 255;
  SayToClient(rep);
  const auto params = *client.cm.QpParams(requester, QpStage::kRts);
  EXPECT_EQ(params.max_rd_atomic, 128);
  EXPECT_EQ(params.max_dest_rd_atomic, 128);
}

TEST_F(ConnectionTest, NorDoesAnAcceptor) {
  Listen();
  ReachReqSent();
  req.responder_resources = 255;
  req.initiator_depth = 255;
  SayToServer(req);
  acceptor = server.TakeEvent().handle;
  const auto params = *server.cm.QpParams(acceptor, QpStage::kRts);
  EXPECT_EQ(params.max_rd_atomic, 128);
  EXPECT_EQ(params.max_dest_rd_atomic, 128);
}

TEST_F(ConnectionTest, WithoutDepthThereAreNoReadsAndAtomics) {
  Listen();
  ReachReqSent();
  req.initiator_depth = 0;
  SayToServer(req);
  const auto params =
      server.cm.QpParams(server.TakeEvent().handle, QpStage::kInit);
  ASSERT_TRUE(params.ok());
  EXPECT_FALSE(params->remote_read_and_atomic);
}

TEST_F(ConnectionTest, AckTimeoutIsTheRequestsAndNeverNone) {
  Listen();
  ReachReqSent();
  req.local_ack_timeout = 0;
  SayToServer(req);
  const CmHandle handle = server.TakeEvent().handle;
  EXPECT_EQ(server.cm.QpParams(handle, QpStage::kRts)->ack_timeout, 1);
}

TEST_F(ConnectionTest, RequesterKnowsOnlyInitBeforeTheReply) {
  ReachReqSent();
  EXPECT_TRUE(client.cm.QpParams(requester, QpStage::kInit).ok());
  EXPECT_FALSE(client.cm.QpParams(requester, QpStage::kRtr).ok());
  EXPECT_FALSE(client.cm.QpParams(requester, QpStage::kRts).ok());
}

TEST_F(ConnectionTest, QpParamsEndWithTheConnection) {
  ReachDreqSent();
  EXPECT_FALSE(client.cm.QpParams(requester, QpStage::kRts).ok());
}

// The REQ and its repeats.

TEST_F(ConnectionTest, RequestIsRepeatedUnchangedUntilUnreachable) {
  requester = *client.cm.Connect(ConnectOptions(), now, client.out);
  const CmMad first = client.TakeMad();
  for (int repeat = 0; repeat < 15; ++repeat) {
    EXPECT_EQ(WaitForTimer(client), milliseconds(6144));
    EXPECT_EQ(client.TakeMad(), first);
    EXPECT_TRUE(client.out.events.empty());
  }
  WaitForTimer(client);
  EXPECT_TRUE(client.out.datagrams.empty());
  const CmEvent event = client.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kUnreachable);
  EXPECT_EQ(event.handle, requester);
  EXPECT_TRUE(event.timed_out);
  EXPECT_FALSE(client.cm.NextDeadline());
}

TEST_F(ConnectionTest, RequestAgainIsAnsweredByMraWhileTheApplicationThinks) {
  ReachReqReceived();
  SayToServer(req);
  const auto mra = server.Take<CmMra>();
  EXPECT_EQ(mra.message, 0);
  EXPECT_EQ(mra.remote_id, req.local_id);
  EXPECT_EQ(mra.service_timeout, 24);
}

TEST_F(ConnectionTest, RequestAgainIsAnsweredByTheReplyOnceItIsSent) {
  ReachRepSent();
  SayToServer(req);
  EXPECT_EQ(server.Take<CmRep>(), rep);
}

TEST_F(ConnectionTest, RequestAgainIsIgnoredOnceEstablished) {
  ReachEstablished();
  SayToServer(req);
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, RequestAgainIsStaleInTimewait) {
  ReachTimewait();
  SayToServer(req);
  const auto rej = server.Take<CmRej>();
  EXPECT_EQ(rej.reason, RejectReason::kStaleConnection);
  EXPECT_EQ(rej.message, 0);
  EXPECT_EQ(rej.remote_id, req.local_id);
}

TEST_F(ConnectionTest, MraStretchesTheWaitForTheReply) {
  ReachReqSent();
  SayToClient(CmMra{
      .local_id = CommId(5), .remote_id = req.local_id, .service_timeout = 20});
  EXPECT_EQ(WaitForTimer(client), milliseconds(4096 + 2048));
  EXPECT_EQ(client.Take<CmReq>(), req);
}

TEST_F(ConnectionTest, SecondMraDoesNotStretchTheSameWait) {
  ReachReqSent();
  const CmMra mra{
      .local_id = CommId(5), .remote_id = req.local_id, .service_timeout = 20};
  SayToClient(mra);
  now += milliseconds(6000);
  SayToClient(mra);
  EXPECT_EQ(WaitForTimer(client), milliseconds(144));
}

TEST_F(ConnectionTest, NoMraMakesARequesterWaitForHours) {
  ReachReqSent();
  SayToClient(CmMra{
      .local_id = CommId(5), .remote_id = req.local_id, .service_timeout = 31});
  EXPECT_LE(WaitForTimer(client), std::chrono::seconds(70));
}

TEST_F(ConnectionTest, MraOfAnotherMessageIsIgnored) {
  ReachReqSent();
  SayToClient(CmMra{.local_id = CommId(5),
                    .remote_id = req.local_id,
                    .message = 1,
                    .service_timeout = 24});
  EXPECT_EQ(WaitForTimer(client), milliseconds(6144));
}

TEST_F(ConnectionTest, AcceptorIgnoresMraOfAnotherMessage) {
  ReachRepSent();
  SayToServer(CmMra{.local_id = req.local_id,
                    .remote_id = rep.local_id,
                    .message = kOfReq,
                    .service_timeout = 24});
  EXPECT_EQ(WaitForTimer(server), milliseconds(4096));
}

// The REP and its repeats.

TEST_F(ConnectionTest, ReplyIsRepeatedUntilUnreachable) {
  ReachRepSent();
  for (int repeat = 0; repeat < 15; ++repeat) {
    EXPECT_EQ(WaitForTimer(server), milliseconds(4096));
    EXPECT_EQ(server.Take<CmRep>(), rep);
  }
  WaitForTimer(server);
  const CmEvent event = server.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kUnreachable);
  EXPECT_TRUE(event.timed_out);
}

TEST_F(ConnectionTest, PeersTimersAreMadeSane) {
  Listen();
  ReachReqSent();
  req.local_response_timeout = 0;
  req.max_cm_retries = 0;
  SayToServer(req);
  acceptor = server.TakeEvent().handle;
  ASSERT_TRUE(
      server.cm.Accept(acceptor, AcceptOptions(), now, server.out).ok());
  server.Take<CmRep>();
  EXPECT_EQ(WaitForTimer(server), milliseconds(256));
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kUnreachable);
}

TEST_F(ConnectionTest, ReplyAgainIsAnsweredByMraWhileTheApplicationThinks) {
  ReachRepReceived();
  SayToClient(rep);
  const auto mra = client.Take<CmMra>();
  EXPECT_EQ(mra.message, 1);
  EXPECT_EQ(mra.remote_id, rep.local_id);
  SayToServer(mra);
  EXPECT_EQ(WaitForTimer(server), milliseconds(65536 + 2048));
  EXPECT_EQ(server.Take<CmRep>(), rep);
}

TEST_F(ConnectionTest, ReplyAgainIsAnsweredByRtu) {
  ReachEstablished();
  SayToClient(rep);
  EXPECT_EQ(client.Take<CmRtu>(), rtu);
  EXPECT_TRUE(client.Silent());
}

TEST_F(ConnectionTest, AcceptorIgnoresReplies) {
  ReachEstablished();
  std::swap(rep.local_id, rep.remote_id);
  SayToServer(rep);
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, NoPeersDelayMakesAQpWaitForHours) {
  ReachRepSent();
  rep.target_ack_delay = 31;
  SayToClient(rep);
  EXPECT_EQ(client.cm.QpParams(requester, QpStage::kRts)->ack_timeout, 21);
}

TEST_F(ConnectionTest, RtuAgainIsIgnored) {
  ReachEstablished();
  SayToServer(rtu);
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, FirstPacketCountsAsRtu) {
  ReachRtuSent();
  server.cm.NotifyFirstPacket(kServerQpn, now, server.out);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kEstablished);
  EXPECT_FALSE(server.cm.NextDeadline());
  server.cm.NotifyFirstPacket(kServerQpn, now, server.out);
  SayToServer(rtu);
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, ApplicationMaySayThatAPacketCame) {
  ReachRtuSent();
  server.cm.NotifyEstablished(acceptor, now, server.out);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kEstablished);
}

TEST_F(ConnectionTest, FirstPacketAfterMraCountsAsRtu) {
  ReachRepReceived();
  SayToClient(rep);
  SayToServer(client.Take<CmMra>());
  server.cm.NotifyFirstPacket(kServerQpn, now, server.out);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kEstablished);
}

// Rejecting.

TEST_F(ConnectionTest, RejectedRequest) {
  ReachReqReceived();
  const std::vector<uint8_t> why(148, 9);
  ASSERT_TRUE(server.cm.Reject(acceptor, why, now, server.out).ok());
  Deliver(server, client);
  const CmEvent event = client.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kRejected);
  EXPECT_EQ(event.reason, RejectReason::kConsumer);
  EXPECT_EQ(event.private_data, why);
  EXPECT_FALSE(client.cm.NextDeadline());
  EXPECT_FALSE(client.cm.HoldsQpn(kClientQpn));
}

TEST_F(ConnectionTest, RejectionMayComeAfterAnMra) {
  ReachReqReceived();
  SayToServer(req);
  Deliver(server, client);
  ASSERT_TRUE(server.cm.Reject(acceptor, {}, now, server.out).ok());
  Deliver(server, client);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kRejected);
}

TEST_F(ConnectionTest, RejectedReply) {
  ReachRepReceived();
  ASSERT_TRUE(client.cm.Reject(requester, {}, now, client.out).ok());
  const auto rej = client.Take<CmRej>();
  EXPECT_EQ(rej.message, 1);
  SayToServer(rej);
  EXPECT_EQ(server.TakeEvent().reason, RejectReason::kConsumer);
  EXPECT_FALSE(server.cm.NextDeadline());
}

TEST_F(ConnectionTest, RejectionOfAnEstablishedConnectionEndsIt) {
  ReachRtuSent();
  SayToClient(CmRej{.local_id = rep.local_id,
                    .remote_id = req.local_id,
                    .message = 2,
                    .reason = RejectReason::kConsumer});
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kRejected);
  EXPECT_EQ(WaitForTimer(client), milliseconds(2048));
  EXPECT_TRUE(client.Silent());
}

TEST_F(ConnectionTest, RequestGivenUpByItsRequesterIsRejected) {
  ReachReqReceived();
  Destroy(client, requester);
  Deliver(client, server);
  const CmEvent event = server.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kRejected);
  EXPECT_EQ(event.handle, acceptor);
  EXPECT_EQ(event.reason, RejectReason::kTimeout);
  EXPECT_FALSE(
      server.cm.Accept(acceptor, AcceptOptions(), now, server.out).ok());
}

// Disconnecting.

TEST_F(ConnectionTest, DisconnectsAndWaits) {
  ReachTimewait();
  EXPECT_TRUE(client.cm.HoldsQpn(kClientQpn));
  EXPECT_TRUE(server.cm.HoldsQpn(kServerQpn));
  EXPECT_EQ(WaitForTimer(client), milliseconds(2048));
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kTimewaitExit);
  EXPECT_FALSE(client.cm.HoldsQpn(kClientQpn));
  server.cm.Expire(now, server.out);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kTimewaitExit);
  EXPECT_FALSE(server.cm.HoldsQpn(kServerQpn));
}

TEST_F(ConnectionTest, AcceptorDisconnects) {
  ReachEstablished();
  ASSERT_TRUE(server.cm.Disconnect(acceptor, {}, now, server.out).ok());
  const auto request = server.Take<CmDreq>();
  EXPECT_EQ(request.remote_qpn, kClientQpn);
  SayToClient(request);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kDisconnected);
  ASSERT_TRUE(client.cm.Disconnect(requester, {}, now, client.out).ok());
  SayToServer(client.Take<CmDrep>());
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kDisconnected);
}

TEST_F(ConnectionTest, BothDisconnectAtOnce) {
  ReachDreqSent();
  ASSERT_TRUE(server.cm.Disconnect(acceptor, {}, now, server.out).ok());
  SayToClient(server.Take<CmDreq>());
  SayToServer(dreq);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kDisconnected);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kDisconnected);
  SayToServer(client.Take<CmDrep>());
  SayToClient(server.Take<CmDrep>());
  EXPECT_TRUE(client.Silent());
  EXPECT_TRUE(server.Silent());
  EXPECT_EQ(WaitForTimer(client), milliseconds(2048));
}

TEST_F(ConnectionTest, DreqCarriesPrivateData) {
  ReachEstablished();
  const std::vector<uint8_t> bye(220, 3);
  ASSERT_TRUE(client.cm.Disconnect(requester, bye, now, client.out).ok());
  Deliver(client, server);
  EXPECT_EQ(server.TakeEvent().private_data, bye);
}

TEST_F(ConnectionTest, DreqIsRepeatedAndThenTheConnectionIsOver) {
  ReachDreqSent();
  for (int repeat = 0; repeat < 15; ++repeat) {
    EXPECT_EQ(WaitForTimer(client), milliseconds(6144));
    EXPECT_EQ(client.Take<CmDreq>(), dreq);
  }
  WaitForTimer(client);
  const CmEvent event = client.TakeEvent();
  EXPECT_EQ(event.type, CmEventType::kDisconnected);
  EXPECT_TRUE(event.timed_out);
  WaitForTimer(client);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kTimewaitExit);
}

TEST_F(ConnectionTest, DreqAgainWaitsForTheApplication) {
  ReachDreqReceived();
  SayToServer(dreq);
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, DreqAgainIsAnsweredInTimewait) {
  ReachTimewait();
  SayToServer(dreq);
  EXPECT_EQ(server.Take<CmDrep>().remote_id, dreq.local_id);
}

TEST_F(ConnectionTest, DrepHasTheTransactionOfItsDreq) {
  ReachDreqReceived();
  ASSERT_TRUE(server.cm.Disconnect(acceptor, {}, now, server.out).ok());
  EXPECT_EQ(server.TakeMad().transaction_id, kTransaction);
}

TEST_F(ConnectionTest, DreqMayOvertakeTheRtu) {
  ReachRtuSent();
  ASSERT_TRUE(client.cm.Disconnect(requester, {}, now, client.out).ok());
  Deliver(client, server);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kDisconnected);
  SayToServer(rtu);
  EXPECT_TRUE(server.Silent());
  EXPECT_EQ(server.cm.NextDeadline(), std::nullopt);
  ASSERT_TRUE(server.cm.Disconnect(acceptor, {}, now, server.out).ok());
  server.Take<CmDrep>();
}

TEST_F(ConnectionTest, DreqForAnotherQpIsIgnored) {
  ReachDreqSent();
  dreq.remote_qpn = Qpn(0x99);
  SayToServer(dreq);
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, DisconnectingTwiceIsFine) {
  ReachDreqSent();
  EXPECT_TRUE(client.cm.Disconnect(requester, {}, now, client.out).ok());
  EXPECT_TRUE(client.Silent());
}

// Destroying.

TEST_F(ConnectionTest, DestroyedRequestIsGivenUpWithTheGuid) {
  ReachReqSent();
  Destroy(client, requester);
  const auto rej = client.Take<CmRej>();
  EXPECT_EQ(rej.reason, RejectReason::kTimeout);
  EXPECT_EQ(rej.local_id, req.local_id);
  EXPECT_EQ(rej.remote_id, CommId{});
  EXPECT_EQ(rej.message, 2);
  EXPECT_EQ(rej.information_length, 8);
  EXPECT_EQ(ByteReader(std::span<const uint8_t>(rej.information)).ReadBe64(),
            req.ca_guid);
  EXPECT_EQ(client.cm.size(), 0u);
}

TEST_F(ConnectionTest, DestroyedUnansweredRequestIsRejected) {
  ReachReqReceived();
  Destroy(server, acceptor);
  const auto rej = server.Take<CmRej>();
  EXPECT_EQ(rej.reason, RejectReason::kConsumer);
  EXPECT_EQ(rej.message, 0);
  EXPECT_EQ(server.cm.size(), 0u);
}

TEST_F(ConnectionTest, DestroyedResponseIsRejected) {
  ReachRepReceived();
  Destroy(client, requester);
  const auto rej = client.Take<CmRej>();
  EXPECT_EQ(rej.reason, RejectReason::kConsumer);
  EXPECT_EQ(rej.message, 1);
  EXPECT_EQ(client.cm.size(), 0u);
}

TEST_F(ConnectionTest, DestroyedAcceptorRejectsAndMakesSureOfIt) {
  ReachRepSent();
  Destroy(server, acceptor);
  const auto rej = server.Take<CmRej>();
  EXPECT_EQ(rej.reason, RejectReason::kConsumer);
  EXPECT_EQ(rej.message, 2);
  EXPECT_EQ(rej.local_id, rep.local_id);
  // The REJ is lost.
  SayToClient(rep);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kConnectResponse);
  ASSERT_TRUE(client.cm.Establish(requester, now, client.out).ok());
  Deliver(client, server);
  WaitForTimer(server);
  Deliver(server, client);
  EXPECT_EQ(client.TakeEvent().type, CmEventType::kDisconnected);
  ASSERT_TRUE(client.cm.Disconnect(requester, {}, now, client.out).ok());
  Deliver(client, server);
  EXPECT_EQ(WaitForTimer(server), milliseconds(2048));
  EXPECT_EQ(server.cm.size(), 0u);
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, DestroyedConnectionSendsDreqUntilItIsAnswered) {
  ReachEstablished();
  Destroy(client, requester);
  dreq = client.Take<CmDreq>();
  WaitForTimer(client);
  EXPECT_EQ(client.Take<CmDreq>(), dreq);
  SayToServer(dreq);
  EXPECT_EQ(server.TakeEvent().type, CmEventType::kDisconnected);
  Destroy(server, acceptor);
  Deliver(server, client);
  EXPECT_TRUE(client.Silent());
  EXPECT_TRUE(client.cm.HoldsQpn(kClientQpn));
  WaitForTimer(client);
  WaitForTimer(server);
  EXPECT_EQ(client.cm.size(), 0u);
  EXPECT_EQ(server.cm.size(), 0u);
  EXPECT_TRUE(client.Silent());
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, DestroyedInTimewaitStillHoldsItsQpn) {
  ReachTimewait();
  Destroy(client, requester);
  EXPECT_TRUE(client.Silent());
  EXPECT_TRUE(client.cm.HoldsQpn(kClientQpn));
  WaitForTimer(client);
  EXPECT_TRUE(client.Silent());
  EXPECT_EQ(client.cm.size(), 0u);
}

TEST_F(ConnectionTest, DestroyedHandleIsUnknown) {
  ReachEstablished();
  Destroy(client, requester);
  EXPECT_EQ(client.cm.Destroy(requester, now, client.out).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(client.cm.Disconnect(requester, {}, now, client.out).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(client.cm.QpParams(requester, QpStage::kInit).status().code(),
            absl::StatusCode::kNotFound);
}

// Commands.

TEST_F(ConnectionTest, CommandsAtTheWrongTimeDoNothing) {
  constexpr auto kWrong = absl::StatusCode::kFailedPrecondition;
  ReachReqReceived();
  EXPECT_EQ(client.cm.Establish(requester, now, client.out).code(), kWrong);
  EXPECT_EQ(client.cm.Accept(requester, {}, now, client.out).code(), kWrong);
  EXPECT_EQ(client.cm.Reject(requester, {}, now, client.out).code(), kWrong);
  EXPECT_EQ(client.cm.Disconnect(requester, {}, now, client.out).code(),
            kWrong);
  EXPECT_EQ(server.cm.Establish(acceptor, now, server.out).code(), kWrong);
  EXPECT_EQ(server.cm.Disconnect(acceptor, {}, now, server.out).code(), kWrong);
  EXPECT_TRUE(client.Silent());
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, AcceptsOnce) {
  ReachRepSent();
  EXPECT_FALSE(
      server.cm.Accept(acceptor, AcceptOptions(), now, server.out).ok());
  EXPECT_TRUE(server.Silent());
}

TEST_F(ConnectionTest, TooMuchPrivateDataIsRefused) {
  constexpr auto kTooMuch = absl::StatusCode::kInvalidArgument;
  const std::vector<uint8_t> data(512);
  const auto bytes = [&data](size_t n) {
    return PrivateDataView(data).first(n);
  };
  CmConnectOptions connect = ConnectOptions();
  connect.private_data = bytes(57);
  EXPECT_EQ(client.cm.Connect(connect, now, client.out).status().code(),
            kTooMuch);
  EXPECT_EQ(client.cm.size(), 0u);
  ReachReqReceived();
  CmAcceptOptions accept = AcceptOptions();
  accept.private_data = bytes(197);
  EXPECT_EQ(server.cm.Accept(acceptor, accept, now, server.out).code(),
            kTooMuch);
  EXPECT_EQ(server.cm.Reject(acceptor, bytes(149), now, server.out).code(),
            kTooMuch);
  ASSERT_TRUE(
      server.cm.Accept(acceptor, AcceptOptions(), now, server.out).ok());
  EXPECT_EQ(server.cm.Disconnect(acceptor, bytes(221), now, server.out).code(),
            kTooMuch);
}

TEST_F(ConnectionTest, PrivateDataArrivesAtFullSize) {
  Listen();
  CmConnectOptions options = ConnectOptions();
  const std::vector<uint8_t> hello = {1, 2, 3};
  options.private_data = hello;
  ASSERT_TRUE(client.cm.Connect(options, now, client.out).ok());
  Deliver(client, server);
  std::vector<uint8_t> expected(56);
  std::ranges::copy(hello, expected.begin());
  EXPECT_EQ(server.TakeEvent().private_data, expected);
}

}  // namespace
}  // namespace nd::soft
