// Both sides of a test over a session in one process, on a device.
#include "ndping/message/session_side.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <initializer_list>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/until_true.h"
#include "nd/reactor.h"
#include "nd/session.h"
#include "ndping/meeting.h"
#include "verbs/rdma_env.h"

namespace nd::ndping {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr uint64_t kMaxMemory = 256 << 20;

v1::TestSpec Spec(v1::TestKind kind, std::initializer_list<uint64_t> sizes) {
  v1::TestSpec spec;
  spec.set_kind(kind);
  for (const uint64_t size : sizes) spec.add_sizes(size);
  spec.set_iterations(50);
  spec.set_warmup(3);
  spec.set_qps(2);
  spec.set_depth(kind == v1::TEST_KIND_LATENCY ? 1 : 16);
  spec.set_cq_mode(v1::CQ_MODE_EVENT);
  spec.set_verify(true);
  v1::SessionOptions& session = *spec.mutable_session();
  session.set_stream_class(v1::STREAM_CLASS_BULK);
  session.set_connections(1);
  session.set_slots(16);
  session.set_slot_size(1024);
  session.set_eager_limit(992);
  return spec;
}

v1::TestSpec LoadSpec() {
  v1::TestSpec spec = Spec(v1::TEST_KIND_LATENCY, {64});
  v1::Load& load = *spec.mutable_session()->mutable_load();
  load.set_size(10'000);
  load.set_depth(4);
  load.set_stream_class(v1::STREAM_CLASS_BULK);
  spec.mutable_session()->set_stream_class(v1::STREAM_CLASS_LATENCY);
  return spec;
}

struct Outcome {
  absl::StatusOr<v1::PhaseReport> client = absl::UnknownError("not run");
  absl::StatusOr<v1::PhaseReport> server = absl::UnknownError("not run");
};

class SessionSideTest : public verbs::RdmaTest {
 protected:
  void Invite(const v1::TestSpec& spec) {
    spec_ = spec;
    auto invitation =
        SessionInvitation::Create({.host = verbs::PeerAddress(AF_INET).host(),
                                   .spec = spec,
                                   .max_memory = kMaxMemory});
    ASSERT_TRUE(invitation.ok()) << invitation.status();
    invitation_ = *std::move(invitation);
    address_ = verbs::PeerAddress(AF_INET, invitation_->port());
  }

  TestSide::Options OptionsOf(bool client) const {
    return {.spec = spec_, .client = client, .max_memory = kMaxMemory};
  }

  // `before`: while the server waits.
  void Connect(const std::function<void()>& before = nullptr) {
    absl::StatusOr<std::unique_ptr<TestSide>> server =
        absl::UnknownError("not accepted");
    std::thread acceptor([&] {
      server = invitation_->Accept(OptionsOf(false),
                                   Deadline::After(seconds(30)), nullptr);
    });
    if (before) before();
    auto client = ConnectSession(
        OptionsOf(true), address_, verbs::LocalAddress(AF_INET),
        invitation_->token(), Deadline::After(seconds(30)), nullptr);
    acceptor.join();
    ASSERT_TRUE(client.ok()) << client.status();
    ASSERT_TRUE(server.ok()) << server.status();
    client_ = *std::move(client);
    server_ = *std::move(server);
    ASSERT_TRUE(client_->SetPeerLayout(server_->layout()).ok());
  }

  Outcome Run(uint32_t client_index, uint32_t server_index,
              const std::function<void()>& meanwhile = nullptr) {
    meeting_ = std::make_unique<Meeting>();
    Outcome outcome;
    Control client(*meeting_, kClient);
    Control server(*meeting_, kServer);
    std::thread server_thread([&] {
      outcome.server = server_->Run(server_index, server, nullptr);
      if (!outcome.server.ok()) meeting_->cancel().Cancel();
    });
    std::thread client_thread([&] {
      Histogram latencies;
      outcome.client = client_->Run(client_index, client, &latencies);
      if (!outcome.client.ok()) meeting_->cancel().Cancel();
    });
    if (meanwhile) {
      EXPECT_TRUE(
          UntilTrue([&] { return client.messages > spec_.warmup(); }).ok());
      meanwhile();
    }
    client_thread.join();
    server_thread.join();
    return outcome;
  }

  void TearDown() override {
    std::thread leaver([this] {
      if (server_ != nullptr) server_->Disconnect();
    });
    if (client_ != nullptr) client_->Disconnect();
    leaver.join();
    client_.reset();
    server_.reset();
    invitation_.reset();
  }

  v1::TestSpec spec_;
  std::unique_ptr<SessionInvitation> invitation_;
  verbs::SocketAddress address_;
  std::unique_ptr<TestSide> client_, server_;
  std::unique_ptr<Meeting> meeting_;
};

TEST_F(SessionSideTest, EverySizeArrivesWholeInBothKindsOfTests) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    ASSERT_NO_FATAL_FAILURE(Invite(Spec(kind, {0, 1, 992, 993, 70'000})));
    ASSERT_NO_FATAL_FAILURE(Connect());
    for (uint32_t i = 0; i < 5; ++i) {
      const Outcome outcome = Run(i, i);
      ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
      ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
      EXPECT_EQ(outcome.client->messages(), 50u);
      EXPECT_EQ(outcome.server->received(), 53u);
      EXPECT_EQ(outcome.server->verified(), 53u);
      EXPECT_EQ(outcome.client->mismatched() + outcome.server->mismatched(),
                0u);
    }
    TearDown();
  }
}

// A client whose last answer is on its way still, for all the server knows.
TEST_F(SessionSideTest, AResponderIsNotDoneBeforeTheClientSaysSo) {
  ASSERT_NO_FATAL_FAILURE(Invite(Spec(v1::TEST_KIND_LATENCY, {64})));
  ASSERT_NO_FATAL_FAILURE(Connect());
  meeting_ = std::make_unique<Meeting>();
  class SlowControl final : public Control {
   public:
    SlowControl(Meeting& meeting, const Control& server)
        : Control(meeting, kClient), meeting_(meeting), server_(server) {}
    absl::StatusOr<v1::PhaseDone> ExchangeDone(
        const v1::PhaseDone& mine) override {
      EXPECT_TRUE(UntilTrue([&] {
                    return meeting_.is_done(kServer) || server_.awaits();
                  }).ok());
      EXPECT_FALSE(meeting_.is_done(kServer));
      return Control::ExchangeDone(mine);
    }

   private:
    Meeting& meeting_;
    const Control& server_;
  };
  Control server(*meeting_, kServer);
  SlowControl client(*meeting_, server);
  std::thread server_thread([&] {
    const auto report = server_->Run(0, server, nullptr);
    EXPECT_TRUE(report.ok()) << report.status();
  });
  Histogram latencies;
  const auto report = client_->Run(0, client, &latencies);
  server_thread.join();
  EXPECT_TRUE(report.ok()) << report.status();
}

// The client is in another phase than the server.
TEST_F(SessionSideTest, MessagesOfAnotherPatternAreNoticed) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    ASSERT_NO_FATAL_FAILURE(Invite(Spec(kind, {64, 64})));
    ASSERT_NO_FATAL_FAILURE(Connect());
    const Outcome outcome = Run(0, 1);
    ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
    EXPECT_EQ(outcome.server->mismatched(), 53u);
    EXPECT_THAT(outcome.server->first_mismatch(),
                HasSubstr("message 0, byte 0: "));
    TearDown();
  }
}

TEST_F(SessionSideTest, ALoadIsMeasuredAndCheckedToo) {
  ASSERT_NO_FATAL_FAILURE(Invite(LoadSpec()));
  ASSERT_NO_FATAL_FAILURE(Connect());
  const Outcome outcome = Run(0, 0);
  ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
  ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
  const v1::LoadReport& load = outcome.client->load();
  EXPECT_GT(load.messages(), 0u);
  EXPECT_EQ(load.bytes(), load.messages() * 10'000);
  EXPECT_GT(load.elapsed_ns(), 0u);
  EXPECT_EQ(outcome.client->mismatched() + outcome.server->mismatched(), 0u);
  EXPECT_EQ(outcome.server->verified(), 53u);
}

TEST_F(SessionSideTest, AWrongLoadIsNoticed) {
  v1::TestSpec spec = LoadSpec();
  spec.add_sizes(64);
  ASSERT_NO_FATAL_FAILURE(Invite(spec));
  ASSERT_NO_FATAL_FAILURE(Connect());
  const Outcome outcome = Run(0, 1);
  ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
  // Beside the test's own messages, which are of another phase, too.
  EXPECT_GT(outcome.server->mismatched(), 53u);
}

// Whoever finds the port is not who was invited.
TEST_F(SessionSideTest, AStrangerIsTurnedAwayAndTheClientIsLetIn) {
  ASSERT_NO_FATAL_FAILURE(Invite(Spec(v1::TEST_KIND_LATENCY, {64})));
  auto reactor = Reactor::Create({});
  ASSERT_TRUE(reactor.ok() && (*reactor)->Start().ok());
  absl::StatusOr<Session> stranger = absl::UnknownError("");
  absl::StatusOr<Stream> stream = absl::UnknownError("");
  ASSERT_NO_FATAL_FAILURE(Connect([&] {
    stranger =
        Session::Connect(**reactor, address_.ToString(), {}, seconds(20));
    ASSERT_TRUE(stranger.ok()) << stranger.status();
    stream = stranger->Open(StreamClass::kLatency, "token", seconds(5));
    ASSERT_TRUE(stream.ok()) << stream.status();
    const std::array<std::byte, 16> guess{};
    ASSERT_TRUE(stream->Send(guess, seconds(5)).ok());
    // It is not welcome.
    EXPECT_FALSE(stream->Receive(seconds(20)).ok());
  }));
  EXPECT_TRUE(UntilTrue([&] { return !stranger->status().ok(); }).ok());
  const Outcome outcome = Run(0, 0);
  EXPECT_TRUE(outcome.client.ok()) << outcome.client.status();
  EXPECT_EQ(outcome.client->messages(), 50u);
  stream = absl::UnknownError("");
  stranger = absl::UnknownError("");
}

TEST_F(SessionSideTest, CancellationEndsBothSides) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    for (const uint64_t size : {64, 70'000}) {
      v1::TestSpec spec = Spec(kind, {size});
      spec.set_iterations(100'000'000);
      ASSERT_NO_FATAL_FAILURE(Invite(spec));
      ASSERT_NO_FATAL_FAILURE(Connect());
      const Outcome outcome =
          Run(0, 0, [this] { meeting_->cancel().Cancel(); });
      EXPECT_TRUE(absl::IsCancelled(outcome.client.status()))
          << outcome.client.status();
      EXPECT_TRUE(absl::IsCancelled(outcome.server.status()))
          << outcome.server.status();
      // With everything under way.
      client_.reset();
      server_.reset();
      TearDown();
    }
  }
}

TEST_F(SessionSideTest, InterruptEndsAPhaseCleanly) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    v1::TestSpec spec = Spec(kind, {64, 64});
    spec.set_iterations(100'000'000);
    ASSERT_NO_FATAL_FAILURE(Invite(spec));
    ASSERT_NO_FATAL_FAILURE(Connect());
    for (const uint32_t phase : {0u, 1u}) {
      const Outcome outcome =
          Run(phase, phase, [this] { meeting_->Interrupt(); });
      ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
      ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
      EXPECT_GT(outcome.client->messages(), 0u);
      EXPECT_EQ(outcome.client->mismatched() + outcome.server->mismatched(),
                0u);
    }
    TearDown();
  }
}

TEST_F(SessionSideTest, ALostPeerIsNoticed) {
  ASSERT_NO_FATAL_FAILURE(Invite(Spec(v1::TEST_KIND_LATENCY, {64})));
  ASSERT_NO_FATAL_FAILURE(Connect());
  server_.reset();
  const absl::Status found =
      client_->WatchConnections(Deadline::After(seconds(30)), nullptr);
  EXPECT_TRUE(absl::IsUnavailable(found)) << found;
}

}  // namespace
}  // namespace nd::ndping
