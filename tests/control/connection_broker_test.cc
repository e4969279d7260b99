// The broker between two RDMA devices; whom it lets in is admission_test's.
#include "control/connection_broker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/until_true.h"
#include "control/rejection.h"
#include "verbs/completion.h"
#include "verbs/memory.h"
#include "verbs/rdma_env.h"

namespace nd::control {
namespace {

using ::testing::HasSubstr;

Deadline Soon() { return Deadline::After(std::chrono::seconds(30)); }

// An end of a connection.
struct End {
  std::unique_ptr<verbs::CmId> id;
  std::unique_ptr<verbs::QueuePair> qp;
};

std::unique_ptr<verbs::QueuePair> QpFor(const verbs::CmId& id) {
  auto context = verbs::Context::Open(id.device_name()).value();
  auto pd = verbs::ProtectionDomain::Create(context).value();
  auto cq = verbs::CompletionQueue::Create(context, 16, nullptr).value();
  return verbs::QueuePair::Create(pd, {.send_cq = cq,
                                       .recv_cq = nullptr,
                                       .srq = nullptr,
                                       .max_send_wr = 2,
                                       .max_recv_wr = 1})
      .value();
}

absl::Status Connect(const verbs::SocketAddress& server,
                     std::span<const std::byte> private_data) {
  End end{.id = verbs::CmId::Create().value(), .qp = nullptr};
  absl::Status resolved = end.id->Resolve(
      server, verbs::LocalAddress(server.family()), Soon(), nullptr);
  if (!resolved.ok()) return resolved;
  end.qp = QpFor(*end.id);
  verbs::ConnectParams params;
  params.private_data = private_data;
  return ExplainRejection(
      end.id->Connect(*end.qp, params, nullptr, Soon(), nullptr).status());
}

absl::Status ConnectWith(const verbs::SocketAddress& server, const Token& token,
                         uint32_t index) {
  return Connect(server, ConnectHello{.token = token, .index = index}.Encode());
}

class ConnectionBrokerTest : public verbs::RdmaTest {
 protected:
  void SetUp() override {
    RdmaTest::SetUp();
    if (HasFatalFailure()) return;
    ConnectionBroker::Options options;
    options.listener.address = verbs::PeerAddress(AF_INET);
    options.on_link = [this](ConnectionBroker::LinkRequest request) {
      MutexLock lock(&mutex_);
      links_.push_back(std::move(request));
    };
    auto broker = ConnectionBroker::Create(options);
    ASSERT_TRUE(broker.ok()) << broker.status();
    broker_ = *std::move(broker);
  }
  void ExpectRefused(const absl::Status& status, const std::string& reason) {
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(reason));
  }

  absl::Status ConnectLink(const Token& token, uint64_t session, LinkId link) {
    return Connect(
        broker_->address(),
        LinkHello{.token = token, .session = session, .link = link}.Encode());
  }
  absl::StatusOr<ConnectionBroker::LinkRequest> NextLink() {
    ND_RETURN_IF_ERROR(UntilTrue([this] {
      MutexLock lock(&mutex_);
      return !links_.empty();
    }));
    MutexLock lock(&mutex_);
    ConnectionBroker::LinkRequest request = std::move(links_.back());
    links_.pop_back();
    return request;
  }

  absl::Mutex mutex_;
  std::vector<ConnectionBroker::LinkRequest> links_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<ConnectionBroker> broker_;  // ends first
};

TEST_F(ConnectionBrokerTest, GuestIsHandedToHisInvitation) {
  const auto invitation = broker_->Invite(3).value();
  absl::Status connected;
  std::thread client([&] {
    connected = ConnectWith(broker_->address(), invitation->token(), 2);
  });
  auto request = invitation->Next(Soon(), nullptr);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->index, 2u);
  const auto qp = QpFor(*request->event.request);
  EXPECT_TRUE(
      request->event.request->Accept(*qp, {}, nullptr, Soon(), nullptr).ok());
  client.join();
  EXPECT_TRUE(connected.ok()) << connected;
  EXPECT_EQ(broker_->accepted(), 1u);
  EXPECT_EQ(broker_->rejected(), 0u);
}

TEST_F(ConnectionBrokerTest, RefusedClientsLearnWhyAndAreCounted) {
  const auto invitation = broker_->Invite(1).value();
  const verbs::SocketAddress server = broker_->address();
  ExpectRefused(ConnectWith(server, Token(), 0), "never given out");
  ExpectRefused(ConnectWith(server, invitation->token(), 1),
                "more connections than were agreed");
  ExpectRefused(Connect(server, {}), "no token");
  EXPECT_EQ(broker_->rejected(), 3u);
  EXPECT_EQ(broker_->accepted(), 0u);
}

TEST_F(ConnectionBrokerTest, LinkOfASessionIsHandedOver) {
  const std::vector<LinkId> links = {{0, 0}, {1, 4}};
  const LinkPass pass = broker_->InviteLinks(77, links).value();
  EXPECT_EQ(pass.endpoint, broker_->address());
  EXPECT_EQ(pass.links, links);
  absl::Status connected;
  std::thread client([&] { connected = ConnectLink(pass.token, 77, {1, 4}); });
  auto request = NextLink();
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->session, 77u);
  EXPECT_EQ(request->link, (LinkId{1, 4}));
  const auto qp = QpFor(*request->event.request);
  EXPECT_TRUE(
      request->event.request->Accept(*qp, {}, nullptr, Soon(), nullptr).ok());
  client.join();
  EXPECT_TRUE(connected.ok()) << connected;
  EXPECT_EQ(broker_->accepted(), 1u);
}

TEST_F(ConnectionBrokerTest, RefusedLinksLearnWhyAndAreCounted) {
  const std::vector<LinkId> links = {{0, 0}};
  const Token first = broker_->InviteLinks(77, links)->token;
  ExpectRefused(ConnectLink(first, 78, {0, 0}), "another session");
  const std::vector<LinkId> next = {{0, 1}};
  ASSERT_TRUE(broker_->InviteLinks(77, next).ok());
  ExpectRefused(ConnectLink(first, 77, {0, 0}), "a later token");
  broker_->WithdrawLinks(77);
  ExpectRefused(ConnectLink(first, 77, {0, 0}), "never given out");
  EXPECT_EQ(broker_->rejected(), 3u);
}

TEST_F(ConnectionBrokerTest, WithoutATakerThereAreNoLinks) {
  ConnectionBroker::Options options;
  options.listener.address = verbs::PeerAddress(AF_INET);
  const auto broker = ConnectionBroker::Create(options);
  ASSERT_TRUE(broker.ok()) << broker.status();
  const std::vector<LinkId> links = {{0, 0}};
  EXPECT_TRUE(
      absl::IsFailedPrecondition((*broker)->InviteLinks(77, links).status()));
}

TEST_F(ConnectionBrokerTest, EndedInvitationLetsNobodyIn) {
  auto invitation = broker_->Invite(1).value();
  const Token token = invitation->token();
  invitation.reset();
  ExpectRefused(ConnectWith(broker_->address(), token, 0), "never given out");
}

TEST_F(ConnectionBrokerTest, RequestThatNobodyTookIsRejected) {
  auto invitation = broker_->Invite(1).value();
  absl::Status connected;
  std::thread client([&] {
    connected = ConnectWith(broker_->address(), invitation->token(), 0);
  });
  const Deadline deadline = Soon();
  while (broker_->accepted() == 0 && !deadline.Passed()) {
    std::this_thread::yield();
  }
  // The destructor alone: the token stays readable for the client until then.
  broker_.reset();
  client.join();
  EXPECT_FALSE(connected.ok());
  EXPECT_EQ(invitation->Next(Soon(), nullptr).status(),
            absl::UnavailableError("the server is shutting down"));
}

TEST_F(ConnectionBrokerTest, WaitThatIsCancelledEnds) {
  const auto invitation = broker_->Invite(1).value();
  Cancellation cancel = *Cancellation::Create();
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(invitation->Next(Soon(), &cancel).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      invitation->Next(Deadline::After(Duration::zero()), nullptr).status()));
}

TEST_F(ConnectionBrokerTest, TakenPortIsAnErrorThatNamesIt) {
  ConnectionBroker::Options options;
  options.listener.address = broker_->address();
  const auto second = ConnectionBroker::Create(options);
  ASSERT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(broker_->address().ToString()));
}

}  // namespace
}  // namespace nd::control
