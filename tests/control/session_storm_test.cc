// A thousand sessions are asked for at once, over real gRPC.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/fake_clock.h"
#include "base/until_true.h"
#include "control/fake_host.h"
#include "control/grpc_channel.h"
#include "control/grpc_server.h"
#include "control/session_client.h"
#include "control/session_service.h"

namespace nd::control {
namespace {

using ::testing::HasSubstr;

constexpr size_t kSessions = 1000;
constexpr size_t kChannels = 16;
constexpr size_t kSetUps = 16;  // at a time, at the server

class SessionStormTest : public ::testing::Test {
 protected:
  using Opened = absl::StatusOr<std::unique_ptr<SessionClient>>;

  SessionStormTest() {
    SessionService::Options options;
    options.clock = &clock_;
    options.sessions.max_set_ups = kSetUps;
    service_ = SessionService::Create(options, inviter_, host_).value();
    GrpcServer::Options server;
    server.address = *verbs::SocketAddress::Parse("127.0.0.1", 0);
    server.services = {service_->service()};
    server_ = GrpcServer::Start(server).value();
    for (size_t i = 0; i < kChannels; ++i) {
      channels_.push_back(MakeChannel(server_->address()));
    }
  }
  ~SessionStormTest() override {
    service_->Close();
    server_.reset();
  }

  SessionClient::Options ClientOptions(size_t i, Random& random) {
    SessionClient::Options options;
    options.channel = channels_[i % kChannels];
    options.server = server_->address();
    options.name = absl::StrCat("client ", i);
    options.set_ups = &set_ups_;
    options.random = &random;
    return options;
  }

  // Makes the links: the REQs, then the exchanges.
  absl::Status MakeLinks(SessionClient& client) {
    const LinkLayout layout{
        .send_depth = 16, .receive_depth = 256, .path_mtu = 1024};
    for (const LinkId link : client.pass().links) {
      const std::string answer =
          inviter_.Connect(client.pass().token, client.id(), link);
      if (answer != "let in") return absl::PermissionDeniedError(answer);
      ND_RETURN_IF_ERROR(client.ExchangeLayout(
          link, layout, Deadline::After(kLongTime), nullptr));
    }
    return absl::OkStatus();
  }

  FakeClock clock_;
  // As many as there are set-ups: the tokens of sessions that are set up are
  // used up.
  FakeInviter inviter_{clock_, kSetUps};
  FakeHost host_;
  SetUpLimit set_ups_{kSessions + kSetUps};
  std::unique_ptr<SessionService> service_;
  std::unique_ptr<GrpcServer> server_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
};

TEST_F(SessionStormTest, AllGetThere) {
  SystemRandom system;
  // All places are taken until a hundred have been refused.
  std::vector<std::unique_ptr<SessionClient>> first;
  for (size_t i = 0; i < kSetUps; ++i) {
    first.push_back(SessionClient::Open(ClientOptions(i, system), {},
                                        Deadline::After(kLongTime), nullptr)
                        .value());
  }
  std::vector<Opened> opened(kSessions);
  std::vector<absl::Status> made(kSessions);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kSessions; ++i) {
    threads.emplace_back([&, i] {
      SeededRandom random(i);
      opened[i] = SessionClient::Open(ClientOptions(i, random), {},
                                      Deadline::After(4 * kLongTime), nullptr);
      made[i] = opened[i].ok() ? MakeLinks(**opened[i]) : opened[i].status();
    });
  }
  EXPECT_TRUE(
      UntilTrue([&] { return service_->statistics().refused >= 100; }).ok());
  for (const auto& client : first) EXPECT_TRUE(MakeLinks(*client).ok());
  for (std::thread& thread : threads) thread.join();

  std::map<std::string, int> outcomes;
  for (const absl::Status& status : made) ++outcomes[status.ToString()];
  EXPECT_THAT(outcomes, ::testing::ElementsAre(::testing::Pair("OK", 1000)));
  const SessionService::Statistics statistics = service_->statistics();
  EXPECT_EQ(statistics.sessions, kSessions + kSetUps);
  EXPECT_EQ(statistics.set_ups, 0u);
  EXPECT_EQ(statistics.most_set_ups, kSetUps);
}

TEST_F(SessionStormTest, WhereThereIsNoPlaceAllHearSo) {
  SystemRandom system;
  std::vector<std::unique_ptr<SessionClient>> first;
  for (size_t i = 0; i < kSetUps; ++i) {
    first.push_back(SessionClient::Open(ClientOptions(i, system), {},
                                        Deadline::After(kLongTime), nullptr)
                        .value());
  }
  std::vector<absl::Status> opened(kSessions);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kSessions; ++i) {
    threads.emplace_back([&, i] {
      SeededRandom random(i);
      FakeClock clock;
      SessionClient::Options options = ClientOptions(i, random);
      options.backoff = {.first = kLongTime, .longest = kLongTime};
      options.pause = [&clock](Duration, const Cancellation*) {
        clock.Advance(2 * kLongTime);
        return absl::OkStatus();
      };
      opened[i] =
          SessionClient::Open(options, {},
                              Deadline::After(3 * kLongTime, clock), nullptr)
              .status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : opened) {
    ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    ASSERT_THAT(std::string(status.message()),
                HasSubstr("sets up 16 sessions, which is its limit at a time"));
  }
  EXPECT_EQ(service_->statistics().sessions, kSetUps);
}

}  // namespace
}  // namespace nd::control
