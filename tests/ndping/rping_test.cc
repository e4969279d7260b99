// Both sides of rping, krping and the register test, on real devices. That they
// speak rping's own protocol is what rping_interop.py shows.

#include "ndping/rping/rping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/until_true.h"
#include "ndping/local/registration.h"
#include "ndping/log_keeper.h"
#include "ndping/rping/krping.h"
#include "ndping/rping/rping_link.h"
#include "verbs/hand_pair.h"
#include "verbs/listener.h"
#include "verbs/rdma_env.h"

namespace nd::ndping {
namespace {

using ::testing::HasSubstr;
using verbs::LocalAddress;
using verbs::OrDie;
using verbs::PeerAddress;

struct Pings : RpingObserver {
  void OnPing(const RpingPing& ping) override {
    seen.push_back(ping);
    if (interrupt != nullptr && seen.size() == interrupt_after) {
      interrupt->Cancel();
    }
  }
  std::vector<RpingPing> seen;
  Cancellation* interrupt = nullptr;
  size_t interrupt_after = 0;
};

// Counts the pings of all of a server's connections.
class PingCount : public RpingObserver {
 public:
  void OnPing(const RpingPing&) override {
    absl::MutexLock lock(&mutex_);
    ++count_;
  }
  // Whether so many came before a long time passed.
  bool Reaches(int wanted) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&] { return count_ >= wanted; };
    return mutex_.AwaitWithTimeout(absl::Condition(&enough),
                                   absl::FromChrono(kLongTime));
  }

 private:
  absl::Mutex mutex_;
  int count_ = 0;
};

// A server in a thread of its own, stopped at the end. The log is its own.
class RunningServer {
 public:
  explicit RunningServer(
      RpingServer::Options options = {.address = PeerAddress(AF_INET)})
      : stop_(OrDie(Cancellation::Create())),
        server_(OrDie(RpingServer::Create(options))) {
    SetLogSink(log_);
    thread_ =
        std::jthread([this] { status_ = server_->Serve(stop_, &pings_); });
  }

  ~RunningServer() {
    Stop().IgnoreError();
    SetLogSink(nullptr);
  }

  // Stops it and returns how it ended.
  absl::Status Stop() {
    stop_.Cancel();
    if (thread_.joinable()) thread_.join();
    return status_;
  }

  verbs::SocketAddress address() const { return server_->address(); }
  RpingServer::Counters counters() const { return server_->counters(); }
  PingCount& pings() { return pings_; }

  // Until it has given up a client's connection, which is then counted.
  void AwaitFailure() const {
    EXPECT_THAT(log_->WaitFor("a client's connection ended"),
                HasSubstr("a client's connection ended"));
    EXPECT_EQ(counters().failed, 1u);
  }

 private:
  Cancellation stop_;
  PingCount pings_;
  const std::shared_ptr<LogKeeper> log_ = std::make_shared<LogKeeper>();
  std::unique_ptr<RpingServer> server_;
  absl::Status status_;
  std::jthread thread_;
};

RpingClientOptions ClientOf(const RunningServer& server, uint64_t count,
                            uint32_t size) {
  const int family = server.address().family();
  return {.server = server.address(),
          .from = LocalAddress(family),
          .count = count,
          .size = size,
          .validate = true};
}

RpingResult RunClient(const RpingClientOptions& options) {
  const Cancellation never = OrDie(Cancellation::Create());
  RpingObserver nobody;
  return RunRpingClient(options, never, nobody);
}

class Rping : public verbs::RdmaTest {};
class BadClient : public verbs::RdmaTest {};
class Krping : public verbs::RdmaTest {};
class RegisterTest : public verbs::RdmaTest {};

class RpingBySize : public verbs::RdmaTest,
                    public ::testing::WithParamInterface<
                        std::tuple<int, uint32_t, verbs::WaitMode>> {};

TEST_P(RpingBySize, EveryPingComesBackRight) {
  const auto [family, size, wait] = GetParam();
  RunningServer server({.address = PeerAddress(family), .wait = wait});
  RpingClientOptions options = ClientOf(server, 10, size);
  options.wait = wait;

  const RpingResult result = RunClient(options);

  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.transmitted, 10u);
  EXPECT_EQ(result.received, 10u);
  EXPECT_EQ(result.mismatched, 0u);
  EXPECT_EQ(result.round_trips.count(), 10u);
  EXPECT_GT(result.round_trips.min(), 0u);
  EXPECT_TRUE(server.Stop().ok());
  EXPECT_EQ(server.counters().pings, 10u);
  EXPECT_EQ(server.counters().failed, 0u);
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, RpingBySize,
    ::testing::Combine(::testing::Values(AF_INET, AF_INET6),
                       ::testing::Values(1u, 16u, 64u, 4097u, 65536u, 8u << 20),
                       ::testing::Values(verbs::WaitMode::kAdaptive)));
INSTANTIATE_TEST_SUITE_P(
    Modes, RpingBySize,
    ::testing::Combine(::testing::Values(AF_INET), ::testing::Values(64u),
                       ::testing::Values(verbs::WaitMode::kBusy,
                                         verbs::WaitMode::kEvent)));

TEST_F(Rping, TheObserverSeesEachPingWithItsText) {
  RunningServer server;
  RpingClientOptions options = ClientOf(server, 2, 32);
  options.want_text = true;
  Pings pings;
  const Cancellation never = OrDie(Cancellation::Create());

  const RpingResult result = RunRpingClient(options, never, pings);

  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(pings.seen.size(), 2u);
  EXPECT_EQ(pings.seen[1].sequence, 1u);
  EXPECT_EQ(pings.seen[1].bytes, 32u);
  EXPECT_EQ(pings.seen[1].text, "rdma-ping-1: BCDEFGHIJKLMNOPQRS");
}

TEST_F(Rping, AnInterruptEndsAnEndlessClientAndTheServerGoesOn) {
  RunningServer server;
  Cancellation interrupt = OrDie(Cancellation::Create());
  Pings pings;
  pings.interrupt = &interrupt;
  pings.interrupt_after = 3;
  RpingClientOptions options = ClientOf(server, 0, 64);
  options.interval = std::chrono::milliseconds(10);

  const RpingResult result = RunRpingClient(options, interrupt, pings);

  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(result.interrupted);
  EXPECT_EQ(result.received, 3u);
  EXPECT_TRUE(RunClient(ClientOf(server, 1, 64)).status.ok());
  EXPECT_TRUE(server.Stop().ok());
  EXPECT_EQ(server.counters().failed, 0u);
}

TEST_F(Rping, PingsKeepTheirInterval) {
  RunningServer server;
  RpingClientOptions options = ClientOf(server, 4, 64);
  options.interval = std::chrono::milliseconds(100);
  const Instant start = Clock::Monotonic().Now();
  ASSERT_TRUE(RunClient(options).status.ok());
  EXPECT_GE(Clock::Monotonic().Now() - start, std::chrono::milliseconds(300));
}

TEST_F(Rping, ServesManyClientsAtOnce) {
  RunningServer server;
  constexpr int kClients = 6;
  std::vector<std::future<RpingResult>> clients;
  clients.reserve(kClients);
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::async(std::launch::async, [&] {
      return RunClient(ClientOf(server, 20, 1024));
    }));
  }
  for (auto& client : clients) {
    const RpingResult result = client.get();
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.received, 20u);
  }
  EXPECT_TRUE(server.Stop().ok());
  EXPECT_EQ(server.counters().pings, 120u);
}

TEST_F(Rping, ClientsBeyondTheBoundAreRejected) {
  RunningServer server({.address = PeerAddress(AF_INET), .max_clients = 1});
  const Deadline deadline = Deadline::After(std::chrono::seconds(20));
  auto first = OrDie(RpingLink::Connect({.address = server.address()},
                                        RpingLink::Options(), deadline));
  const RpingResult second = RunClient(ClientOf(server, 1, 64));
  EXPECT_EQ(second.status.code(), absl::StatusCode::kAborted) << second.status;
  EXPECT_EQ(second.transmitted, 0u);
  EXPECT_EQ(server.counters().rejected, 1u);

  first.reset();
  // The server notices within its interval of looking.
  const Deadline retry = Deadline::After(std::chrono::seconds(20));
  while (!RunClient(ClientOf(server, 1, 64)).status.ok()) {
    ASSERT_FALSE(retry.Passed()) << "the place was not given back";
  }
}

TEST_F(Rping, NobodyListeningIsSaidSo) {
  RpingClientOptions options{.server = PeerAddress(AF_INET, 9),
                             .from = LocalAddress(AF_INET),
                             .count = 1};
  const RpingResult result = RunClient(options);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("10.98.0.2:9"));
}

TEST_F(Rping, AServerThatStopsEndsItsClients) {
  RunningServer server;
  auto client = std::async(std::launch::async,
                           [&] { return RunClient(ClientOf(server, 0, 64)); });
  ASSERT_TRUE(server.pings().Reaches(4));
  EXPECT_TRUE(server.Stop().ok());
  const RpingResult result = client.get();
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable)
      << result.status;
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("disconnected"));
}

TEST_F(Rping, ASilentServerIsNamedWithTheStepThatDidNotCome) {
  auto listener =
      OrDie(verbs::Listener::Create({.address = PeerAddress(AF_INET)}));
  std::unique_ptr<RpingLink> silent;
  std::jthread acceptor([&] {
    const Deadline deadline = Deadline::After(std::chrono::seconds(20));
    auto event = OrDie(listener->Next(deadline, nullptr));
    silent = OrDie(RpingLink::Accept(std::move(event.request),
                                     RpingLink::Options(), deadline));
  });
  const RpingResult result =
      RunClient({.server = listener->address(),
                 .from = LocalAddress(AF_INET),
                 .count = 1,
                 .step_timeout = std::chrono::milliseconds(300)});
  EXPECT_EQ(result.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(result.status.message()),
              HasSubstr("the go-ahead after the READ of ping 0"));
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("10.98.0.2:"));
  EXPECT_EQ(result.transmitted, 1u);
  EXPECT_EQ(result.received, 0u);
}

// Sends one advert and expects the server to end this connection alone.
void ExpectTurnedAway(const RpingAdvert& advert, const RunningServer& server) {
  const RpingLink::Step step{.what = "the server's answer",
                             .timeout = std::chrono::seconds(20)};
  auto link = OrDie(
      RpingLink::Connect({.address = server.address()}, RpingLink::Options(),
                         Deadline::After(std::chrono::seconds(20))));
  ASSERT_TRUE(link->SendAdvert(advert, step).ok());
  EXPECT_FALSE(link->ReceiveAdvert(step).ok());
  server.AwaitFailure();
  EXPECT_TRUE(RunClient(ClientOf(server, 3, 64)).status.ok());
}

TEST_F(BadClient, AnAdvertOfNothingEndsItsConnectionOnly) {
  const RunningServer server;
  ExpectTurnedAway({.address = 4096, .rkey = 1, .size = 0}, server);
}

TEST_F(BadClient, AHugeAdvertEndsItsConnectionOnly) {
  const RunningServer server;
  ExpectTurnedAway({.address = 4096, .rkey = 1, .size = ~uint32_t{0}}, server);
}

TEST_F(BadClient, AnAdvertAboveTheServersLimitEndsItsConnectionOnly) {
  const RunningServer server({.address = PeerAddress(AF_INET), .max_size = 64});
  ExpectTurnedAway({.address = 4096, .rkey = 1, .size = 65}, server);
}

TEST_F(BadClient, AWrongKeyEndsItsConnectionOnly) {
  const RunningServer server;
  ExpectTurnedAway({.address = 4096, .rkey = 0xdeadbeef, .size = 64}, server);
}

TEST_F(BadClient, AMessageOfAnotherLengthEndsItsConnectionOnly) {
  const RunningServer server;
  auto id = OrDie(verbs::CmId::Create());
  const Deadline deadline = Deadline::After(std::chrono::seconds(20));
  ASSERT_TRUE(
      id->Resolve(server.address(), LocalAddress(AF_INET), deadline, nullptr)
          .ok());
  auto context = OrDie(verbs::Context::Open(id->device_name()));
  auto pd = OrDie(verbs::ProtectionDomain::Create(context));
  auto cq = OrDie(verbs::CompletionQueue::Create(context, 8, nullptr));
  auto qp = OrDie(verbs::QueuePair::Create(pd, {.send_cq = cq}));
  ASSERT_TRUE(id->Connect(*qp, {}, nullptr, deadline, nullptr).ok());

  ASSERT_TRUE(qp->Post({.flags = IBV_SEND_SIGNALED}).ok());  // 0 bytes

  server.AwaitFailure();
  EXPECT_TRUE(RunClient(ClientOf(server, 3, 64)).status.ok());
}

TEST_F(BadClient, ASilentOneIsLeftAfterTheIdleTime) {
  const RunningServer server({.address = PeerAddress(AF_INET),
                              .idle_timeout = std::chrono::milliseconds(200)});
  auto link = OrDie(
      RpingLink::Connect({.address = server.address()}, RpingLink::Options(),
                         Deadline::After(std::chrono::seconds(20))));
  server.AwaitFailure();
}

// Runs krping's two sides with the same options, and returns what they print.
struct KrpingRun {
  absl::Status server, client;
  std::string server_out, client_out;
};
KrpingRun RunBothKrping(const std::string& options) {
  const Cancellation never = OrDie(Cancellation::Create());
  const std::string common = ",addr=10.98.0.2,port=7999," + options;
  KrpingRun run;
  std::ostringstream server_out, client_out;
  std::jthread server([&] {
    run.server = RunKrping(OrDie(ParseKrpingOptions("server" + common)), never,
                           server_out);
  });
  // The client finds nobody until the server listens.
  const Deadline deadline = Deadline::After(std::chrono::seconds(20));
  do {
    run.client = RunKrping(OrDie(ParseKrpingOptions("client" + common)), never,
                           client_out);
  } while (absl::IsUnavailable(run.client) && client_out.str().empty() &&
           !deadline.Passed());
  server.join();
  run.server_out = server_out.str();
  run.client_out = client_out.str();
  return run;
}

void ExpectRuns(const std::string& options, const std::string& client_prints,
                const std::string& server_prints) {
  const KrpingRun run = RunBothKrping(options);
  EXPECT_TRUE(run.server.ok()) << run.server;
  EXPECT_TRUE(run.client.ok()) << run.client;
  EXPECT_THAT(run.client_out, HasSubstr(client_prints));
  EXPECT_THAT(run.server_out, HasSubstr(server_prints));
}

TEST_F(Krping, PingsShowTheirDataAtBothEnds) {
  ExpectRuns("count=5,size=20,verbose,validate",
             "krping: ping data (64B max): |rdma-ping-4: EFGHIJ|",
             "krping: server ping data (64B max): |rdma-ping-4: EFGHIJ|");
}

TEST_F(Krping, PingsByPolling) {
  ExpectRuns("count=5,size=65536,validate,poll", "5 pings of 65536 bytes",
             "krping: 5 pings served");
}

TEST_F(Krping, WriteLatencyRunsAtBothEnds) {
  ExpectRuns("count=300,size=64,wlat", "iter 300 size 64 cycle_iters 300",
             "iter 300 size 64 cycle_iters 300");
}

TEST_F(Krping, ReadLatencyRunsAtTheClient) {
  ExpectRuns("count=50,size=4096,rlat", "iter 50 size 4096", "waiting");
}

TEST_F(Krping, ReadLatencyByPolling) {
  ExpectRuns("count=50,size=64,rlat,poll", "iter 50 size 64", "waiting");
}

TEST_F(Krping, BandwidthRunsAtTheClient) {
  ExpectRuns("count=200,size=65536,bw,txdepth=8", "iter 200 size 65536",
             "waiting");
}

TEST_F(Krping, BandwidthRunsBothWaysWhenDuplex) {
  ExpectRuns("count=200,size=4096,bw,duplex", "GB/s", "GB/s");
}

TEST_F(RegisterTest, MeasuresEveryStepOfEverySize) {
  const Cancellation never = OrDie(Cancellation::Create());
  RegisterObserver nobody;
  const auto result = RunRegisterTest(
      {.sizes = {4096, 5000, 1 << 20}, .iterations = 20}, never, nobody);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rows.size(), 3u * kRegisterSteps);
  for (const RegisterRow& row : result->rows) {
    const std::string what = absl::StrCat(row.size, " ", ToString(row.step));
    // rxe has windows of both types.
    EXPECT_TRUE(row.status.ok()) << what << ": " << row.status;
    EXPECT_GE(row.times.count(), 3u) << what;
    EXPECT_GT(row.times.min(), 0u) << what;
  }
}

TEST_F(RegisterTest, ASizeThatDoesNotFitIsNoFailure) {
  const Cancellation never = OrDie(Cancellation::Create());
  RegisterObserver nobody;
  const auto result = RunRegisterTest(
      {.sizes = {kMaxRegisterSize}, .iterations = 1}, never, nobody);
  ASSERT_TRUE(result.ok()) << result.status();
  for (const RegisterRow& row : result->rows) {
    EXPECT_EQ(row.status.code(), absl::StatusCode::kResourceExhausted);
  }
}

TEST_F(RegisterTest, AnUnknownDeviceIsNamed) {
  const Cancellation never = OrDie(Cancellation::Create());
  RegisterObserver nobody;
  const auto result =
      RunRegisterTest({.device = "rxe9", .sizes = {64}}, never, nobody);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("rxe9"));
}

}  // namespace
}  // namespace nd::ndping
