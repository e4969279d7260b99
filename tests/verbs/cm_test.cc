// Connections through rdma_cm between two devices.
#include "verbs/cm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/sleeps.h"
#include "base/until_true.h"
#include "verbs/completion.h"
#include "verbs/listener.h"
#include "verbs/memory.h"
#include "verbs/rdma_env.h"

namespace nd::verbs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

Deadline Soon() { return Deadline::After(seconds(30)); }

std::vector<std::byte> Bytes(absl::string_view text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

// Private data without its padding.
std::string Text(const std::vector<std::byte>& data) {
  std::string text(reinterpret_cast<const char*>(data.data()), data.size());
  return text.substr(0, text.find_last_not_of('\0') + 1);
}

// A QP with all it needs, on the device of `id`.
struct Side {
  std::shared_ptr<Context> context;
  std::shared_ptr<ProtectionDomain> pd;
  std::shared_ptr<CompletionQueue> cq;
  std::unique_ptr<QueuePair> qp;

  explicit Side(const CmId& id) {
    context = Context::Open(id.device_name()).value();
    pd = ProtectionDomain::Create(context).value();
    cq = CompletionQueue::Create(context, 16, nullptr).value();
    qp = QueuePair::Create(pd, {.send_cq = cq,
                                .recv_cq = nullptr,
                                .srq = nullptr,
                                .max_send_wr = 4,
                                .max_recv_wr = 4})
             .value();
  }
};

std::unique_ptr<Listener> Listen(const SocketAddress& address,
                                 int backlog = 128) {
  auto listener = Listener::Create({.address = address,
                                    .backlog = backlog,
                                    .busy_private_data = Bytes("busy")});
  EXPECT_TRUE(listener.ok()) << listener.status();
  return *std::move(listener);
}

std::unique_ptr<CmId> Resolved(
    const SocketAddress& to,
    std::shared_ptr<CmEventChannel> channel = nullptr) {
  auto id = CmId::Create(std::move(channel)).value();
  const absl::Status status =
      id->Resolve(to, LocalAddress(to.family()), Soon(), nullptr);
  EXPECT_TRUE(status.ok()) << status;
  return id;
}

// Both ends of a connection: `client` first, for it is made first.
struct Connection {
  std::unique_ptr<CmId> client, server;
  std::unique_ptr<Side> client_side, server_side;
};

Connection Connect(Listener& listener) {
  Connection c;
  c.client = Resolved(listener.address());
  c.client_side = std::make_unique<Side>(*c.client);
  std::thread server([&] {
    auto request = listener.Next(Soon(), nullptr);
    ASSERT_TRUE(request.ok()) << request.status();
    c.server = std::move(request->request);
    c.server_side = std::make_unique<Side>(*c.server);
    const absl::Status accepted =
        c.server->Accept(*c.server_side->qp, {}, nullptr, Soon(), nullptr);
    EXPECT_TRUE(accepted.ok()) << accepted;
  });
  const auto connected =
      c.client->Connect(*c.client_side->qp, {}, nullptr, Soon(), nullptr);
  EXPECT_TRUE(connected.ok()) << connected.status();
  server.join();
  return c;
}

absl::Status TryConnect(const SocketAddress& to, const Deadline& deadline,
                        const Cancellation* cancel = nullptr) {
  auto id = Resolved(to);
  Side side(*id);
  return id->Connect(*side.qp, {}, nullptr, deadline, cancel).status();
}

void ExpectEvent(CmId& id, rdma_cm_event_type type) {
  const auto event = id.NextEvent(Soon(), nullptr);
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->type, type) << event->ToString();
}

class CmByFamily : public RdmaTest,
                   public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Ip, CmByFamily, ::testing::Values(AF_INET, AF_INET6),
                         [](const auto& tested) {
                           return tested.param == AF_INET ? "V4" : "V6";
                         });

class CmConnect : public RdmaTest {};
class CmRefusal : public RdmaTest {};
class CmSilence : public RdmaTest {};
class CmDestruction : public RdmaTest {};
class CmSharedChannel : public RdmaTest {};
class CmListener : public RdmaTest {};

// The depths are powers of two because rxe rounds them up to one.
TEST_P(CmByFamily, PrivateDataTravelsBothWays) {
  auto listener = Listen(PeerAddress(GetParam()));
  auto client = Resolved(listener->address());
  Side client_side(*client);
  const auto question = Bytes("question"), answer = Bytes("answer");

  std::thread server([&] {
    auto request = listener->Next(Soon(), nullptr);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->private_data.size(), kMaxConnectData);
    EXPECT_EQ(Text(request->private_data), "question");
    EXPECT_EQ(request->responder_resources, 4);  // what the client sends
    EXPECT_EQ(request->initiator_depth, 8);      // what the client serves
    CmId& id = *request->request;
    EXPECT_EQ(id.local(), listener->address());
    EXPECT_EQ(id.peer().host(), LocalAddress(GetParam()).host());
    Side side(id);
    const absl::Status accepted = id.Accept(*side.qp,
                                            {.private_data = answer,
                                             .responder_resources = 2,
                                             .initiator_depth = 16},
                                            nullptr, Soon(), nullptr);
    EXPECT_TRUE(accepted.ok()) << accepted;
    ExpectEvent(id, RDMA_CM_EVENT_DISCONNECTED);
    const auto attr =
        side.qp->Query(IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MAX_QP_RD_ATOMIC);
    EXPECT_EQ(attr->max_dest_rd_atomic, 2);
    EXPECT_EQ(attr->max_rd_atomic, 8);
  });
  const auto response = client->Connect(*client_side.qp,
                                        {.private_data = question,
                                         .responder_resources = 8,
                                         .initiator_depth = 4},
                                        nullptr, Soon(), nullptr);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->private_data.size(), kMaxAcceptData);
  EXPECT_EQ(Text(response->private_data), "answer");
  EXPECT_EQ(client->peer(), listener->address());
  const auto attr = client_side.qp->Query(
      IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MAX_QP_RD_ATOMIC | IBV_QP_STATE |
      IBV_QP_MIN_RNR_TIMER | IBV_QP_ACCESS_FLAGS);
  ASSERT_TRUE(attr.ok()) << attr.status();
  EXPECT_EQ(attr->qp_state, IBV_QPS_RTS);
  EXPECT_EQ(attr->max_dest_rd_atomic, 8);
  EXPECT_EQ(attr->max_rd_atomic, 2);
  EXPECT_EQ(attr->min_rnr_timer, 12);
  EXPECT_EQ(attr->qp_access_flags & IBV_ACCESS_REMOTE_WRITE,
            IBV_ACCESS_REMOTE_WRITE);
  client.reset();
  server.join();
}

TEST_P(CmByFamily, DisconnectIsSeenByBothSides) {
  auto listener = Listen(PeerAddress(GetParam()));
  Connection c = Connect(*listener);

  EXPECT_TRUE(c.client->Disconnect().ok());
  ExpectEvent(*c.server, RDMA_CM_EVENT_DISCONNECTED);
  EXPECT_TRUE(c.server->Disconnect().ok());
  ExpectEvent(*c.client, RDMA_CM_EVENT_DISCONNECTED);
  EXPECT_TRUE(c.client->Disconnect().ok());
  ExpectEvent(*c.client, RDMA_CM_EVENT_TIMEWAIT_EXIT);
}

TEST_F(CmConnect, DataSentRightAfterAcceptMeetsAReceivePostedBeforeConnect) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto client = Resolved(listener->address());
  Side client_side(*client);
  std::array<std::byte, 8> received{}, sent{};
  sent.fill(std::byte{42});
  auto receive_mr =
      MemoryRegion::Register(client_side.pd, received, IBV_ACCESS_LOCAL_WRITE)
          .value();
  ASSERT_TRUE(client->PrepareQp(*client_side.qp).ok());
  const ibv_sge into = receive_mr->Sge(0, received.size());
  ASSERT_TRUE(client_side.qp->PostReceive(1, {&into, 1}).ok());

  std::thread server([&] {
    auto request = listener->Next(Soon(), nullptr);
    ASSERT_TRUE(request.ok()) << request.status();
    Side side(*request->request);
    auto mr = MemoryRegion::Register(side.pd, sent, 0).value();
    ASSERT_TRUE(
        request->request->Accept(*side.qp, {}, nullptr, Soon(), nullptr).ok());
    const ibv_sge from = mr->Sge(0, sent.size());
    ASSERT_TRUE(
        side.qp->Post({.opcode = IBV_WR_SEND, .sges = {&from, 1}}).ok());
    ExpectEvent(*request->request, RDMA_CM_EVENT_DISCONNECTED);
  });
  ASSERT_TRUE(
      client->Connect(*client_side.qp, {}, nullptr, Soon(), nullptr).ok());
  Completion completion;
  for (size_t polled = 0; polled == 0;) {
    polled = client_side.cq->Poll({&completion, 1}).value();
  }
  EXPECT_EQ(completion.status, IBV_WC_SUCCESS);
  EXPECT_EQ(received, sent);
  EXPECT_TRUE(client->Disconnect().ok());
  server.join();
}

TEST_F(CmConnect, TuneChangesEachStep) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto client = Resolved(listener->address());
  Side client_side(*client);
  std::vector<ibv_qp_state> steps;
  const CmId::Tune tune = [&](ibv_qp_state to, ibv_qp_attr& attr) {
    steps.push_back(to);
    if (to == IBV_QPS_INIT) attr.qp_access_flags = IBV_ACCESS_REMOTE_READ;
    if (to == IBV_QPS_RTR) attr.path_mtu = IBV_MTU_512;
    if (to == IBV_QPS_RTS) attr.timeout = 9;
  };
  std::thread server([&] {
    auto request = listener->Next(Soon(), nullptr);
    ASSERT_TRUE(request.ok()) << request.status();
    Side side(*request->request);
    request->request->Accept(*side.qp, {}, nullptr, Soon(), nullptr)
        .IgnoreError();
  });
  ASSERT_TRUE(client->Connect(*client_side.qp, {}, tune, Soon(), nullptr).ok());
  EXPECT_EQ(steps, (std::vector{IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS}));
  const auto attr = client_side.qp->Query(IBV_QP_ACCESS_FLAGS |
                                          IBV_QP_PATH_MTU | IBV_QP_TIMEOUT);
  EXPECT_EQ(attr->path_mtu, IBV_MTU_512);
  EXPECT_EQ(attr->timeout, 9);
  EXPECT_EQ(attr->qp_access_flags & IBV_ACCESS_REMOTE_WRITE, 0u);
  server.join();
}

TEST_F(CmConnect, QpThatCannotBeMovedRejectsThePeer) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto client = Resolved(listener->address());
  Side client_side(*client);
  auto accepted = std::async(std::launch::async, [&] {
    auto request = listener->Next(Soon(), nullptr).value();
    Side side(*request.request);
    return request.request->Accept(*side.qp, {}, nullptr, Soon(), nullptr);
  });
  const auto break_rtr = [](ibv_qp_state to, ibv_qp_attr& attr) {
    if (to == IBV_QPS_RTR) attr.path_mtu = static_cast<ibv_mtu>(77);
  };
  const absl::Status connected =
      client->Connect(*client_side.qp, {}, break_rtr, Soon(), nullptr).status();
  EXPECT_THAT(std::string(connected.message()),
              HasSubstr("ibv_modify_qp to RTR"));
  const auto rejection = RejectionOf(accepted.get());
  ASSERT_TRUE(rejection.has_value());
  EXPECT_EQ(rejection->reason, 28);
}

TEST_F(CmConnect, RequestThatCannotBeServedIsRejected) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto connected = std::async(std::launch::async, [&] {
    return TryConnect(listener->address(), Soon());
  });
  auto request = listener->Next(Soon(), nullptr).value();
  Side side(*request.request);
  const auto break_rtr = [](ibv_qp_state to, ibv_qp_attr& attr) {
    if (to == IBV_QPS_RTR) attr.path_mtu = static_cast<ibv_mtu>(77);
  };
  const absl::Status accepted =
      request.request->Accept(*side.qp, {}, break_rtr, Soon(), nullptr);
  EXPECT_THAT(std::string(accepted.message()),
              HasSubstr("ibv_modify_qp to RTR"));
  EXPECT_EQ(connected.get().code(), absl::StatusCode::kUnavailable);
}

TEST_F(CmConnect, LimitsAreChecked) {
  auto client = CmId::Create().value();
  EXPECT_EQ(client->SetAckTimeout(32).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(client->SetAckTimeout(14).ok());
  EXPECT_TRUE(client->SetTypeOfService(0x68).ok());
  EXPECT_EQ(client
                ->Resolve(PeerAddress(AF_INET), LocalAddress(AF_INET6), Soon(),
                          nullptr)
                .code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(client
                  ->Resolve(PeerAddress(AF_INET, 1), LocalAddress(AF_INET),
                            Soon(), nullptr)
                  .ok());
  Side side(*client);
  const std::vector<std::byte> long_data(kMaxConnectData + 1);
  EXPECT_EQ(client
                ->Connect(*side.qp, {.private_data = long_data}, nullptr,
                          Soon(), nullptr)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(client->Disconnect().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(CmConnect, QpOfAnotherDeviceIsRefused) {
  auto client = Resolved(PeerAddress(AF_INET, 1));
  auto other = CmId::Create().value();
  ASSERT_TRUE(other
                  ->Resolve(LocalAddress(AF_INET, 1), PeerAddress(AF_INET),
                            Soon(), nullptr)
                  .ok());
  Side side(*other);
  EXPECT_EQ(
      client->Connect(*side.qp, {}, nullptr, Soon(), nullptr).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(CmConnect, AddressWithoutAnRdmaDeviceFailsThePrecondition) {
  auto client = CmId::Create().value();
  const absl::Status status =
      client->Resolve(SocketAddress::Parse("127.0.0.1", 9999).value(),
                      std::nullopt, Soon(), nullptr);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

TEST_F(CmConnect, AddressWithoutARouteIsUnavailable) {
  auto client = CmId::Create().value();
  const absl::Status status =
      client->Resolve(SocketAddress::Parse("192.0.2.1", 9999).value(),
                      std::nullopt, Soon(), nullptr);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("192.0.2.1:9999"));
}

TEST_F(CmRefusal, ApplicationsAnswerReachesTheClient) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto connected = std::async(std::launch::async, [&] {
    return TryConnect(listener->address(), Soon());
  });
  auto request = listener->Next(Soon(), nullptr).value();
  ASSERT_TRUE(request.request->Reject(Bytes("bad token")).ok());

  const absl::Status status = connected.get();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the application there said no"));
  const auto rejection = RejectionOf(status);
  ASSERT_TRUE(rejection.has_value());
  EXPECT_EQ(rejection->reason, 28);
  EXPECT_EQ(Text(rejection->private_data), "bad token");
}

TEST_F(CmRefusal, NobodyListening) {
  const absl::Status status = TryConnect(PeerAddress(AF_INET, 9), Soon());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("nobody listens at that port"));
  EXPECT_EQ(RejectionOf(status)->reason, 8);
}

TEST_F(CmRefusal, LongPrivateDataIsInvalid) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto connected = std::async(std::launch::async, [&] {
    return TryConnect(listener->address(), Soon());
  });
  auto request = listener->Next(Soon(), nullptr).value();
  EXPECT_EQ(request.request->Reject(std::vector<std::byte>(kMaxRejectData + 1))
                .code(),
            absl::StatusCode::kInvalidArgument);
  request.request.reset();
  EXPECT_EQ(connected.get().code(), absl::StatusCode::kUnavailable);
}

TEST_F(CmRefusal, BurstBeyondTheBacklogIsToldThatTheServerIsBusy) {
  constexpr int kClients = 64;
  auto listener = Listen(PeerAddress(AF_INET), 4);
  std::vector<std::atomic<pid_t>> connecting(kClients);
  // Kept: a client that goes at once can be gone before Accept has returned.
  std::vector<std::unique_ptr<CmId>> ids;
  ids.reserve(kClients);
  for (int i = 0; i < kClients; ++i)
    ids.push_back(Resolved(listener->address()));
  std::vector<std::future<absl::Status>> clients;
  clients.reserve(kClients);
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::async(std::launch::async, [&connecting, &ids, i] {
      Side side(*ids[i]);
      connecting[i] = gettid();
      return ids[i]->Connect(*side.qp, {}, nullptr, Soon(), nullptr).status();
    }));
  }
  // Who has sent its REQ sleeps, for nobody answers yet.
  const auto waits = [](pid_t thread) { return thread != 0 && Sleeps(thread); };
  EXPECT_TRUE(
      UntilTrue([&] { return std::ranges::all_of(connecting, waits); }).ok());

  int accepted = 0;
  for (;;) {
    auto request = listener->Next(Deadline::After(milliseconds(500)), nullptr);
    if (absl::IsDeadlineExceeded(request.status())) break;
    ASSERT_TRUE(request.ok()) << request.status();
    Side side(*request->request);
    const absl::Status status =
        request->request->Accept(*side.qp, {}, nullptr, Soon(), nullptr);
    EXPECT_TRUE(status.ok()) << status;
    ++accepted;
  }
  int connected = 0, busy = 0;
  for (auto& client : clients) {
    const absl::Status status = client.get();
    if (status.ok()) ++connected;
    const auto rejection = RejectionOf(status);
    if (rejection.has_value() && Text(rejection->private_data) == "busy") {
      ++busy;
    }
  }
  EXPECT_GE(connected, 4);
  EXPECT_EQ(connected, accepted);
  EXPECT_EQ(connected + busy, kClients);
  EXPECT_EQ(listener->refused(), static_cast<uint64_t>(busy));
}

// Whether the address is looked for when it is resolved, or the connection is
// asked for in vain, is the device's affair.
absl::Status ConnectToNobody(const Deadline& deadline,
                             const Cancellation* cancel = nullptr) {
  auto id = CmId::Create().value();
  absl::Status resolved =
      id->Resolve(SilentAddress(9999), std::nullopt, deadline, cancel);
  if (!resolved.ok()) return resolved;
  Side side(*id);
  return id->Connect(*side.qp, {}, nullptr, deadline, cancel).status();
}

TEST_F(CmSilence, AddressThatNobodyHasEndsAtTheDeadline) {
  const absl::Status status =
      ConnectToNobody(Deadline::After(milliseconds(300)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status))
      << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(SilentAddress(9999).ToString()));
}

TEST_F(CmSilence, ServerThatDoesNotAnswerEndsAtTheDeadline) {
  auto listener = Listen(PeerAddress(AF_INET));
  const absl::Status status =
      TryConnect(listener->address(), Deadline::After(milliseconds(300)));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rdma_connect"));
}

TEST_F(CmSilence, AddressThatNobodyHasIsCancelledFromAnotherThread) {
  auto cancel = Cancellation::Create();
  std::jthread canceller([&] {
    std::this_thread::sleep_for(milliseconds(100));
    cancel->Cancel();
  });
  const absl::Status status = ConnectToNobody(Soon(), &*cancel);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(SilentAddress(9999).ToString()));
}

TEST_F(CmSilence, ConnectIsCancelledWhileTheServerThinks) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto cancel = Cancellation::Create();
  auto connected = std::async(std::launch::async, [&] {
    return TryConnect(listener->address(), Soon(), &*cancel);
  });
  auto request = listener->Next(Soon(), nullptr).value();
  cancel->Cancel();
  EXPECT_EQ(connected.get().code(), absl::StatusCode::kCancelled);
}

TEST_F(CmDestruction, ClientThatGivesUpLeavesAnAcceptThatFails) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto cancel = Cancellation::Create();
  auto connected = std::async(std::launch::async, [&] {
    return TryConnect(listener->address(), Soon(), &*cancel);
  });
  auto request = listener->Next(Soon(), nullptr).value();
  cancel->Cancel();
  connected.wait();
  std::this_thread::sleep_for(milliseconds(300));  // the REJ is under way

  Side side(*request.request);
  const absl::Status accepted =
      request.request->Accept(*side.qp, {}, nullptr, Soon(), nullptr);
  EXPECT_EQ(accepted.code(), absl::StatusCode::kUnavailable) << accepted;
  EXPECT_THAT(std::string(accepted.message()), HasSubstr("took it back"));
}

TEST_F(CmDestruction, UnansweredRequestIsARejection) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto connected = std::async(std::launch::async, [&] {
    return TryConnect(listener->address(), Soon());
  });
  listener->Next(Soon(), nullptr).value().request.reset();
  const absl::Status status = connected.get();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(RejectionOf(status)->reason, 28);
}

TEST_F(CmDestruction, ListenerTakesItsUnreadRequestsWithIt) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto connected = std::async(
      std::launch::async,
      [address = listener->address()] { return TryConnect(address, Soon()); });
  ASSERT_TRUE(WaitReadable(listener->fd(), Soon(), nullptr).ok());
  listener.reset();
  EXPECT_EQ(connected.get().code(), absl::StatusCode::kUnavailable);
}

TEST_F(CmDestruction, EstablishedClientWithoutDisconnect) {
  auto listener = Listen(PeerAddress(AF_INET));
  Connection c = Connect(*listener);
  c.client.reset();
  ExpectEvent(*c.server, RDMA_CM_EVENT_DISCONNECTED);
}

TEST_F(CmDestruction, EstablishedServerWithoutDisconnect) {
  auto listener = Listen(PeerAddress(AF_INET));
  Connection c = Connect(*listener);
  c.server.reset();
  ExpectEvent(*c.client, RDMA_CM_EVENT_DISCONNECTED);
}

TEST_F(CmDestruction, ConnectionOutlivesItsListener) {
  auto listener = Listen(PeerAddress(AF_INET));
  Connection c = Connect(*listener);
  listener.reset();
  EXPECT_TRUE(c.server->Disconnect().ok());
  ExpectEvent(*c.client, RDMA_CM_EVENT_DISCONNECTED);
}

TEST_F(CmDestruction, UnreadEventsHoldNothingUp) {
  auto listener = Listen(PeerAddress(AF_INET));
  Connection qp_first = Connect(*listener), id_first = Connect(*listener);
  EXPECT_TRUE(qp_first.client->Disconnect().ok());
  EXPECT_TRUE(id_first.client->Disconnect().ok());
  ASSERT_TRUE(WaitReadable(qp_first.server->fd(), Soon(), nullptr).ok());
  ASSERT_TRUE(WaitReadable(id_first.server->fd(), Soon(), nullptr).ok());
  qp_first.server_side.reset();
  qp_first.client_side.reset();
  qp_first.server.reset();
  qp_first.client.reset();
  id_first.server.reset();
  id_first.client.reset();
  id_first.client_side.reset();
  id_first.server_side.reset();
}

TEST_F(CmDestruction, UnusedAndResolvedIdsGoQuietly) {
  auto unused = CmId::Create().value();
  auto resolved = Resolved(PeerAddress(AF_INET, 9));
  auto resolving = CmId::Create().value();
  resolving
      ->Resolve(SilentAddress(9999), std::nullopt,
                Deadline::After(milliseconds(1)), nullptr)
      .IgnoreError();
}

TEST_F(CmSharedChannel, EachWaiterGetsTheEventsOfItsOwnId) {
  auto listener = Listen(PeerAddress(AF_INET));
  std::shared_ptr<CmEventChannel> channel = CmEventChannel::Create().value();
  std::jthread server([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      auto request =
          listener->Next(Deadline::After(milliseconds(100)), nullptr);
      if (request.ok()) {
        request->request->Reject(request->private_data).IgnoreError();
      }
    }
  });
  std::vector<std::thread> clients;
  for (const std::string name : {"a", "b", "c", "d"}) {
    clients.emplace_back([&channel, &listener, name] {
      for (int i = 0; i < 5; ++i) {
        auto id = Resolved(listener->address(), channel);
        Side side(*id);
        const auto data = Bytes(name);
        const absl::Status status =
            id->Connect(*side.qp, {.private_data = data}, nullptr, Soon(),
                        nullptr)
                .status();
        const auto rejection = RejectionOf(status);
        ASSERT_TRUE(rejection.has_value()) << status;
        EXPECT_EQ(Text(rejection->private_data), name);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(CmSharedChannel, IdsAreDestroyedWhileAnotherThreadDispatches) {
  auto listener = Listen(PeerAddress(AF_INET));
  std::shared_ptr<CmEventChannel> channel = CmEventChannel::Create().value();
  std::jthread dispatcher([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      ASSERT_TRUE(channel->Dispatch().ok());
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 30; ++i) {
    auto id = Resolved(listener->address(), channel);
    Side side(*id);
    EXPECT_FALSE(id->Connect(*side.qp, {}, nullptr,
                             Deadline::After(milliseconds(i % 5)), nullptr)
                     .ok());
  }
}

TEST_F(CmSharedChannel, MigratedIdIsReadFromItsNewChannel) {
  auto listener = Listen(PeerAddress(AF_INET));
  Connection c = Connect(*listener);
  std::shared_ptr<CmEventChannel> other = CmEventChannel::Create().value();
  EXPECT_TRUE(c.server->Disconnect().ok());
  ASSERT_TRUE(WaitReadable(c.client->fd(), Soon(), nullptr).ok());
  ASSERT_TRUE(c.client->Migrate(other).ok());
  EXPECT_EQ(c.client->fd(), other->fd());
  ExpectEvent(*c.client, RDMA_CM_EVENT_DISCONNECTED);
}

TEST_F(CmListener, SecondOneOnAPortOfAllAddressesIsRefused) {
  auto first = Listen(PeerAddress(AF_INET));
  const auto second = Listener::Create(
      {.address =
           SocketAddress::Parse("0.0.0.0", first->address().port()).value()});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("another server listens there"));
}

TEST_F(CmListener, SecondOneOnAPortIsRefused) {
  auto first = Listen(PeerAddress(AF_INET));
  const auto second = Listener::Create({.address = first->address()});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("another server listens there"));
}

TEST_F(CmListener, AddressOfNobodyHereIsRefused) {
  EXPECT_EQ(Listener::Create({.address = SilentAddress(0)}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(CmListener, PortZeroTakesAFreeOne) {
  auto first = Listen(PeerAddress(AF_INET)),
       second = Listen(PeerAddress(AF_INET));
  EXPECT_NE(first->address().port(), 0);
  EXPECT_NE(first->address().port(), second->address().port());
}

TEST_F(CmListener, WildcardServesEachDevice) {
  auto listener = Listen(SocketAddress());
  const uint16_t port = listener->address().port();
  std::jthread server([&] {
    for (int i = 0; i < 2; ++i) {
      listener->Next(Soon(), nullptr)
          ->request->Reject(Bytes("here"))
          .IgnoreError();
    }
  });
  EXPECT_EQ(TryConnect(PeerAddress(AF_INET, port), Soon()).code(),
            absl::StatusCode::kAborted);
  auto back = CmId::Create().value();
  ASSERT_TRUE(back->Resolve(LocalAddress(AF_INET, port), PeerAddress(AF_INET),
                            Soon(), nullptr)
                  .ok());
  Side side(*back);
  EXPECT_EQ(
      back->Connect(*side.qp, {}, nullptr, Soon(), nullptr).status().code(),
      absl::StatusCode::kAborted);
}

TEST_F(CmListener, Ipv6WildcardServesIpv4Too) {
  auto listener = Listen(SocketAddress::Parse("::", 0).value());
  const uint16_t port = listener->address().port();
  std::jthread server([&] {
    for (int i = 0; i < 2; ++i) {
      listener->Next(Soon(), nullptr)
          ->request->Reject(Bytes("here"))
          .IgnoreError();
    }
  });
  EXPECT_EQ(TryConnect(PeerAddress(AF_INET, port), Soon()).code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(TryConnect(PeerAddress(AF_INET6, port), Soon()).code(),
            absl::StatusCode::kAborted);
}

TEST_F(CmListener, SurvivesAClientThatDiesAfterItsRequest) {
  auto listener = Listen(PeerAddress(AF_INET));
  EXPECT_FALSE(
      TryConnect(listener->address(), Deadline::After(milliseconds(200))).ok());
  auto dead = listener->Next(Soon(), nullptr);
  ASSERT_TRUE(dead.ok()) << dead.status();
  Connection alive = Connect(*listener);
  EXPECT_TRUE(alive.client->Disconnect().ok());
}

TEST_F(CmListener, WaitEndsAtTheDeadlineAndByCancellation) {
  auto listener = Listen(PeerAddress(AF_INET));
  auto cancel = Cancellation::Create();
  EXPECT_EQ(listener->Next(Deadline::After(milliseconds(20)), nullptr).status(),
            absl::DeadlineExceededError(""));
  cancel->Cancel();
  EXPECT_EQ(listener->Next(Soon(), &*cancel).status(), absl::CancelledError());
}

// Devices of the test's own, which can go away; needs root. The kernel ends the
// removal of an rxe device only when no process has it open, and librdmacm
// closes nothing, so a device does not come back under its name: another one
// gets its address.
class CmDeviceRemoval : public RdmaTest {
 protected:
  static void Run(const std::string& command) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc's is for threads
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  static void AddDevice(const std::string& name, const std::string& address) {
    Run(absl::StrCat("ip link add ", name, " type dummy && ip link set ", name,
                     " up && ip addr add ", address, "/24 dev ", name,
                     " && rdma link add rxe_", name, " type rxe netdev ",
                     name));
  }
  static void RemoveDevice(const std::string& name,
                           const std::string& address) {
    Run(absl::StrCat("ip addr del ", address, "/24 dev ", name));
    Run(absl::StrCat("setsid sh -c 'rdma link delete rxe_", name,
                     "; ip link del ", name, "' > /dev/null 2>&1 &"));
  }
};

TEST_F(CmDeviceRemoval, ListenerListensAgainWhenItsAddressIsBack) {
  AddDevice("ndone", "10.97.1.1");
  auto listener = Listen(SocketAddress::Parse("10.97.1.1", 0).value());
  const SocketAddress address = listener->address();
  RemoveDevice("ndone", "10.97.1.1");
  const absl::Status away =
      listener->Next(Deadline::After(seconds(2)), nullptr).status();
  EXPECT_EQ(away.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(away.message()), HasSubstr("not listening"));
  AddDevice("ndtwo", "10.97.1.1");

  const absl::Status back =
      listener->Next(Deadline::After(seconds(5)), nullptr).status();
  EXPECT_EQ(back, absl::DeadlineExceededError(""));
  EXPECT_EQ(listener->address(), address);
  RemoveDevice("ndtwo", "10.97.1.1");
}

TEST_F(CmDeviceRemoval, ResolvedIdIsTold) {
  AddDevice("ndthree", "10.97.3.1");
  auto id = CmId::Create().value();
  const SocketAddress address = SocketAddress::Parse("10.97.3.1", 9).value();
  const absl::Status resolved = id->Resolve(address, address, Soon(), nullptr);
  EXPECT_TRUE(resolved.ok()) << resolved;
  RemoveDevice("ndthree", "10.97.3.1");
  ExpectEvent(*id, RDMA_CM_EVENT_DEVICE_REMOVAL);
  EXPECT_FALSE(id->Disconnect().ok());
}

}  // namespace
}  // namespace nd::verbs
