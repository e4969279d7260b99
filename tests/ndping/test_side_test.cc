// Both sides of a test in one process, over two real devices.
#include "ndping/engine/test_side.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/sleeps.h"
#include "base/until_true.h"
#include "base/wait.h"
#include "control/connection_broker.h"
#include "ndping/engine/plan.h"
#include "ndping/meeting.h"
#include "verbs/rdma_env.h"

namespace nd::ndping {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr uint64_t kMaxMemory = 64 << 20;

v1::TestSpec Spec(v1::TestKind kind, v1::Operation operation,
                  std::initializer_list<uint64_t> sizes) {
  v1::TestSpec spec;
  spec.set_kind(kind);
  spec.set_operation(operation);
  for (const uint64_t size : sizes) spec.add_sizes(size);
  spec.set_iterations(50);
  spec.set_warmup(3);
  spec.set_qps(1);
  spec.set_depth(kind == v1::TEST_KIND_LATENCY ? 1 : 16);
  spec.set_signal_every(kind == v1::TEST_KIND_LATENCY ? 1 : 4);
  spec.set_inline_bytes(64);
  spec.set_cq_mode(v1::CQ_MODE_BUSY);
  spec.set_verify(true);
  spec.set_retry_count(7);
  spec.set_rnr_retry_count(7);
  return spec;
}

bool IsAtomicOperation(v1::Operation operation) {
  return FactsOf(operation).is_atomic;
}

struct Outcome {
  absl::StatusOr<v1::PhaseReport> client = absl::UnknownError("not run");
  absl::StatusOr<v1::PhaseReport> server = absl::UnknownError("not run");
  Histogram latencies;
  uint64_t paced_messages = 0;
};

class TestSideTest : public verbs::RdmaTest {
 protected:
  void Connect(const v1::TestSpec& spec) {
    spec_ = spec;
    auto broker = control::ConnectionBroker::Create(
        {.listener = {.address = verbs::PeerAddress(AF_INET)}});
    ASSERT_TRUE(broker.ok()) << broker.status();
    auto invitation = (*broker)->Invite(spec.qps());
    ASSERT_TRUE(invitation.ok()) << invitation.status();
    absl::StatusOr<std::unique_ptr<TestSide>> server =
        absl::UnknownError("not accepted");
    std::thread acceptor([&] {
      server = TestSide::Accept(OptionsOf(false), **invitation,
                                Deadline::After(seconds(20)), nullptr);
    });
    auto client = TestSide::Connect(
        OptionsOf(true), (*broker)->address(), verbs::LocalAddress(AF_INET),
        (*invitation)->token(), Deadline::After(seconds(20)), nullptr);
    acceptor.join();
    ASSERT_TRUE(client.ok()) << client.status();
    ASSERT_TRUE(server.ok()) << server.status();
    client_ = *std::move(client);
    server_ = *std::move(server);
    ASSERT_TRUE(client_->SetPeerLayout(server_->layout()).ok());
    ASSERT_TRUE(server_->SetPeerLayout(client_->layout()).ok());
  }

  void TearDown() override {
    std::thread leaver([this] {
      if (server_ != nullptr) server_->Disconnect();
    });
    if (client_ != nullptr) client_->Disconnect();
    leaver.join();
  }

  TestSide::Options OptionsOf(bool client) const {
    return {.spec = spec_, .client = client, .max_memory = kMaxMemory};
  }

  void Prepare(uint32_t index) {
    ASSERT_TRUE(client_->Prepare(index).ok());
    ASSERT_TRUE(server_->Prepare(index).ok());
    meeting_ = std::make_unique<Meeting>();
  }

  // Runs a phase that is prepared. `meanwhile` runs beside it, once messages
  // have moved.
  Outcome RunPrepared(uint32_t index,
                      const std::function<void()>& meanwhile = nullptr,
                      uint32_t server_index = 0) {
    if (server_index == 0) server_index = index;
    Outcome outcome;
    Control client(*meeting_, kClient);
    Control server(*meeting_, kServer);
    std::thread server_thread([&] {
      outcome.server = server_->Run(server_index, server, nullptr);
      if (!outcome.server.ok()) meeting_->cancel().Cancel();
    });
    std::thread client_thread([&] {
      outcome.client = client_->Run(index, client, &outcome.latencies);
      if (!outcome.client.ok()) meeting_->cancel().Cancel();
    });
    if (meanwhile) {
      AwaitMessages(client);
      meanwhile();
    }
    client_thread.join();
    server_thread.join();
    outcome.paced_messages = client.paced_messages;
    return outcome;
  }

  // Until the client has seen messages of the measured part.
  void AwaitMessages(const Control& client) const {
    EXPECT_TRUE(
        UntilTrue([&] { return client.messages > spec_.warmup(); }).ok());
  }

  Outcome Run(uint32_t index) {
    Prepare(index);
    return RunPrepared(index);
  }

  // Connects and runs every phase; all data must be there and right.
  void ExpectPasses(const v1::TestSpec& spec) {
    SCOPED_TRACE(spec.ShortDebugString());
    ASSERT_NO_FATAL_FAILURE(Connect(spec));
    for (int i = 0; i < spec.sizes_size(); ++i) {
      SCOPED_TRACE(absl::StrCat("size ", spec.sizes(i)));
      const Outcome outcome = Run(static_cast<uint32_t>(i));
      ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
      ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
      ExpectAllRight(spec, outcome);
    }
    TearDown();
    client_.reset();
    server_.reset();
  }

  void ExpectAllRight(const v1::TestSpec& spec, const Outcome& outcome) {
    const v1::PhaseReport& client = *outcome.client;
    const v1::PhaseReport& server = *outcome.server;
    EXPECT_EQ(client.first_mismatch(), "");
    EXPECT_EQ(server.first_mismatch(), "");
    EXPECT_EQ(client.mismatched() + server.mismatched(), 0u);
    EXPECT_GT(client.elapsed_ns(), 0u);
    if (spec.iterations() > 0) {
      EXPECT_EQ(client.messages(), spec.iterations());
      EXPECT_EQ(server.received(), spec.iterations() + spec.warmup());
    } else {
      EXPECT_GT(client.messages(), 0u);
    }
    if (spec.bidirectional()) {
      EXPECT_EQ(client.received() > 0, true);
      EXPECT_GT(server.messages(), 0u);
    }
    if (spec.verify()) {
      EXPECT_GE(client.verified() + server.verified(),
                client.messages() + server.messages());
    }
    if (spec.kind() == v1::TEST_KIND_LATENCY) {
      EXPECT_EQ(outcome.latencies.count(), client.messages());
    }
  }

  // The bytes of the server that the client's operations name, in this very
  // process.
  std::span<std::byte> ServerData() {
    const v1::Layout::Region data = server_->layout().queues(0).data();
    return {reinterpret_cast<std::byte*>(data.address()),
            static_cast<size_t>(data.length())};
  }

  v1::TestSpec spec_;
  std::unique_ptr<TestSide> client_, server_;
  std::unique_ptr<Meeting> meeting_;
};

// Every operation in every CQ mode, each byte checked.
class EveryOperation
    : public TestSideTest,
      public ::testing::WithParamInterface<
          std::tuple<v1::TestKind, v1::Operation, v1::CqMode>> {};

TEST_P(EveryOperation, ArrivesWholeInEverySize) {
  const auto [kind, operation, mode] = GetParam();
  v1::TestSpec spec = Spec(kind, operation, {8});
  if (!IsAtomicOperation(operation)) {
    for (const uint64_t size : {1, 1023, 1024, 1025, 4096, 65536}) {
      spec.add_sizes(size);
    }
    // A WRITE of no bytes cannot be seen, so it has no latency.
    if (kind != v1::TEST_KIND_LATENCY || operation != v1::OPERATION_WRITE) {
      spec.add_sizes(0);
    }
  }
  spec.set_cq_mode(mode);
  for (const uint32_t qps : {1, 2}) {
    spec.set_qps(qps);
    ExpectPasses(spec);
  }
}

std::string NameOf(
    const ::testing::TestParamInfo<EveryOperation::ParamType>& info) {
  const auto [kind, operation, mode] = info.param;
  return absl::StrCat(v1::TestKind_Name(kind).substr(10), "_",
                      v1::Operation_Name(operation).substr(10), "_",
                      v1::CqMode_Name(mode).substr(8));
}

INSTANTIATE_TEST_SUITE_P(
    All, EveryOperation,
    ::testing::Combine(
        ::testing::Values(v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH),
        ::testing::Values(v1::OPERATION_SEND, v1::OPERATION_SEND_WITH_IMM,
                          v1::OPERATION_WRITE, v1::OPERATION_WRITE_WITH_IMM,
                          v1::OPERATION_READ, v1::OPERATION_COMPARE_SWAP,
                          v1::OPERATION_FETCH_ADD),
        ::testing::Values(v1::CQ_MODE_BUSY, v1::CQ_MODE_EVENT,
                          v1::CQ_MODE_ADAPTIVE)),
    NameOf);

// What does not depend on how a queue is waited for.
class OperationTest : public TestSideTest,
                      public ::testing::WithParamInterface<v1::Operation> {
 protected:
  v1::TestSpec SpecOf(v1::TestKind kind) {
    return Spec(kind, GetParam(), {IsAtomicOperation(GetParam()) ? 8u : 4096u});
  }
};

TEST_P(OperationTest, GoesBothWaysAtOnce) {
  v1::TestSpec spec = SpecOf(v1::TEST_KIND_BANDWIDTH);
  spec.set_bidirectional(true);
  spec.set_qps(2);
  spec.set_iterations(301);
  ExpectPasses(spec);
}

TEST_P(OperationTest, GoesBothWaysAtOnceInEventMode) {
  v1::TestSpec spec = SpecOf(v1::TEST_KIND_BANDWIDTH);
  spec.set_bidirectional(true);
  spec.set_cq_mode(v1::CQ_MODE_EVENT);
  ExpectPasses(spec);
}

TEST_P(OperationTest, RunsForAWhileInsteadOfACount) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    v1::TestSpec spec = SpecOf(kind);
    spec.set_iterations(0);
    spec.set_duration_ns(100'000'000);
    const Instant start = Clock::Monotonic().Now();
    ExpectPasses(spec);
    EXPECT_GE(Clock::Monotonic().Now() - start, milliseconds(100));
  }
}

TEST_P(OperationTest, RunsForAWhileBothWaysAtOnce) {
  v1::TestSpec spec = SpecOf(v1::TEST_KIND_BANDWIDTH);
  spec.set_bidirectional(true);
  spec.set_iterations(0);
  spec.set_duration_ns(100'000'000);
  ExpectPasses(spec);
}

TEST_P(OperationTest, ShallowAndDeepQueuesWork) {
  for (const uint32_t depth : {1, 2, 3, 64}) {
    v1::TestSpec spec = SpecOf(v1::TEST_KIND_BANDWIDTH);
    spec.set_depth(depth);
    spec.set_signal_every(depth);
    spec.set_iterations(150);
    ExpectPasses(spec);
    spec.set_verify(false);
    ExpectPasses(spec);
  }
}

TEST_P(OperationTest, InterruptionEndsBothSidesCleanly) {
  for (const bool both_ways : {false, true}) {
    for (const v1::TestKind kind :
         {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
      if (both_ways && kind == v1::TEST_KIND_LATENCY) continue;
      v1::TestSpec spec = SpecOf(kind);
      spec.set_iterations(100'000'000);
      spec.set_bidirectional(both_ways);
      SCOPED_TRACE(spec.ShortDebugString());
      ASSERT_NO_FATAL_FAILURE(Connect(spec));
      Prepare(0);
      const Outcome outcome = RunPrepared(0, [this] { meeting_->Interrupt(); });
      ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
      ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
      EXPECT_EQ(outcome.client->mismatched() + outcome.server->mismatched(), 0u)
          << outcome.client->first_mismatch()
          << outcome.server->first_mismatch();
      EXPECT_GT(outcome.client->messages(), 0u);
      EXPECT_GE(outcome.server->received(), outcome.client->messages());
      TearDown();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, OperationTest,
    ::testing::Values(v1::OPERATION_SEND, v1::OPERATION_SEND_WITH_IMM,
                      v1::OPERATION_WRITE, v1::OPERATION_WRITE_WITH_IMM,
                      v1::OPERATION_READ, v1::OPERATION_COMPARE_SWAP,
                      v1::OPERATION_FETCH_ADD),
    [](const ::testing::TestParamInfo<v1::Operation>& info) {
      return v1::Operation_Name(info.param).substr(10);
    });

TEST_F(TestSideTest, RateLimitHolds) {
  v1::TestSpec spec =
      Spec(v1::TEST_KIND_BANDWIDTH, v1::OPERATION_WRITE, {1024});
  spec.set_iterations(200);
  spec.set_rate_limit(1'000'000);
  for (const v1::CqMode mode : {v1::CQ_MODE_BUSY, v1::CQ_MODE_EVENT}) {
    spec.set_cq_mode(mode);
    ASSERT_NO_FATAL_FAILURE(Connect(spec));
    const Outcome outcome = Run(0);
    ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
    EXPECT_GT(outcome.client->elapsed_ns(), 195'000'000u);
    TearDown();
  }
}

TEST_F(TestSideTest, IntervalPacesMessagesAndTellsOfEach) {
  v1::TestSpec spec = Spec(v1::TEST_KIND_LATENCY, v1::OPERATION_SEND, {64});
  spec.set_iterations(10);
  spec.set_warmup(0);
  spec.set_interval_ns(20'000'000);
  ASSERT_NO_FATAL_FAILURE(Connect(spec));
  const Outcome outcome = Run(0);
  ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
  EXPECT_GE(outcome.client->elapsed_ns(), 9u * 20'000'000);
  EXPECT_EQ(outcome.paced_messages, 10u);
}

TEST_F(TestSideTest, EventModeAndIntervalSleep) {
  v1::TestSpec spec = Spec(v1::TEST_KIND_LATENCY, v1::OPERATION_SEND, {64});
  spec.set_interval_ns(10'000'000);
  spec.set_iterations(20);
  spec.set_cq_mode(v1::CQ_MODE_EVENT);
  ASSERT_NO_FATAL_FAILURE(Connect(spec));
  const Outcome outcome = Run(0);
  ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
  ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
  EXPECT_LT(outcome.client->cpu_ns(), outcome.client->elapsed_ns() / 2);
  EXPECT_LT(outcome.server->cpu_ns(), outcome.server->elapsed_ns() / 2);
}

TEST_F(TestSideTest, SpinnersFinishOnOneProcessor) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  for (const v1::Operation operation :
       {v1::OPERATION_WRITE, v1::OPERATION_SEND}) {
    ExpectPasses(Spec(v1::TEST_KIND_LATENCY, operation, {64}));
  }
  sched_setaffinity(0, sizeof(before), &before);
}

TEST_F(TestSideTest, SixtyFourQpsWork) {
  for (const v1::Operation operation :
       {v1::OPERATION_SEND, v1::OPERATION_WRITE, v1::OPERATION_READ}) {
    v1::TestSpec spec = Spec(v1::TEST_KIND_BANDWIDTH, operation, {8, 4096});
    spec.set_qps(64);
    spec.set_iterations(640);
    ExpectPasses(spec);
  }
}

TEST_F(TestSideTest, OptionsOfThePathWork) {
  v1::TestSpec spec =
      Spec(v1::TEST_KIND_BANDWIDTH, v1::OPERATION_SEND, {10000});
  spec.set_mtu(256);
  spec.set_type_of_service(32);
  spec.set_service_level(3);
  spec.set_ack_timeout(14);
  ExpectPasses(spec);
}

// Bad cases.

TEST_F(TestSideTest, WrongRkeyIsToldWithWhatWasAsked) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    for (const v1::Operation operation :
         {v1::OPERATION_WRITE, v1::OPERATION_READ, v1::OPERATION_FETCH_ADD,
          v1::OPERATION_WRITE_WITH_IMM}) {
      v1::TestSpec spec = Spec(kind, operation, {8});
      spec.set_provoke(v1::PROVOKE_WRONG_RKEY);
      SCOPED_TRACE(spec.ShortDebugString());
      ASSERT_NO_FATAL_FAILURE(Connect(spec));
      const Outcome outcome = Run(0);
      EXPECT_EQ(outcome.client.status().code(),
                absl::StatusCode::kPermissionDenied)
          << outcome.client.status();
      const std::string message(outcome.client.status().message());
      EXPECT_THAT(message, HasSubstr("IBV_WC_REM_ACCESS_ERR"));
      EXPECT_THAT(message, HasSubstr(verbs::PeerAddress(AF_INET).host()));
      EXPECT_FALSE(outcome.server.ok());
      TearDown();
    }
  }
}

// The responder, which sees first that it refused, ends and has the client
// cancelled, here as early as can be.
TEST_F(TestSideTest, WrongRkeyIsToldThoughTheTestWasCancelledMeanwhile) {
  for (const v1::CqMode mode :
       {v1::CQ_MODE_BUSY, v1::CQ_MODE_EVENT, v1::CQ_MODE_ADAPTIVE}) {
    v1::TestSpec spec =
        Spec(v1::TEST_KIND_BANDWIDTH, v1::OPERATION_WRITE_WITH_IMM, {8});
    spec.set_provoke(v1::PROVOKE_WRONG_RKEY);
    spec.set_cq_mode(mode);
    SCOPED_TRACE(spec.ShortDebugString());
    ASSERT_NO_FATAL_FAILURE(Connect(spec));
    Prepare(0);
    meeting_->cancel().Cancel();
    Control control(*meeting_, kClient);
    const absl::Status ran = client_->Run(0, control, nullptr).status();
    EXPECT_TRUE(absl::IsPermissionDenied(ran)) << ran;
    EXPECT_THAT(std::string(ran.message()), HasSubstr("IBV_WC_REM_ACCESS_ERR"));
    TearDown();
  }
}

TEST_F(TestSideTest, MissingReceivesAreToldAsReceiverNotReady) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    for (const v1::Operation operation :
         {v1::OPERATION_SEND, v1::OPERATION_WRITE_WITH_IMM}) {
      v1::TestSpec spec = Spec(kind, operation, {8});
      spec.set_provoke(v1::PROVOKE_NO_RECEIVES);
      SCOPED_TRACE(spec.ShortDebugString());
      ASSERT_NO_FATAL_FAILURE(Connect(spec));
      const Outcome outcome = Run(0);
      EXPECT_THAT(std::string(outcome.client.status().message()),
                  HasSubstr("IBV_WC_RNR_RETRY_EXC_ERR"));
      TearDown();
    }
  }
}

TEST_F(TestSideTest, TooLittleMemoryIsSaidBeforeAnythingIsMade) {
  spec_ = Spec(v1::TEST_KIND_LATENCY, v1::OPERATION_SEND, {kMaxMemory});
  const auto side = TestSide::Connect(
      OptionsOf(true), verbs::PeerAddress(AF_INET, 1), std::nullopt,
      control::Token(), Deadline::After(seconds(1)), nullptr);
  EXPECT_TRUE(absl::IsResourceExhausted(side.status())) << side.status();
}

// What the control plane does when the watch finds a loss: it cancels.
TEST_F(TestSideTest, PeerThatVanishesMidTestIsNoticed) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    v1::TestSpec spec = Spec(kind, v1::OPERATION_WRITE, {4096});
    spec.set_verify(kind == v1::TEST_KIND_LATENCY);
    spec.set_iterations(0);
    spec.set_duration_ns(30'000'000'000);
    ASSERT_NO_FATAL_FAILURE(Connect(spec));
    Prepare(0);
    Control control(*meeting_, kClient);
    absl::Status ran;
    std::thread runner(
        [&] { ran = client_->Run(0, control, nullptr).status(); });
    std::thread killer([&] {
      EXPECT_TRUE(UntilTrue([&] { return control.running(); }).ok());
      server_.reset();
    });
    const Instant start = Clock::Monotonic().Now();
    const absl::Status found =
        client_->WatchConnections(Deadline::After(seconds(20)), nullptr);
    EXPECT_LT(Clock::Monotonic().Now() - start, seconds(10));
    meeting_->cancel().Cancel();
    runner.join();
    killer.join();
    EXPECT_TRUE(absl::IsUnavailable(found)) << found;
    EXPECT_THAT(std::string(found.message()),
                HasSubstr(verbs::PeerAddress(AF_INET).host()));
    EXPECT_FALSE(ran.ok());
    TearDown();
    client_.reset();
  }
}

TEST_F(TestSideTest, WatchEndsWhenCancelled) {
  ASSERT_NO_FATAL_FAILURE(
      Connect(Spec(v1::TEST_KIND_LATENCY, v1::OPERATION_SEND, {8})));
  Cancellation cancel = Cancellation::Create().value();
  const pid_t watcher = gettid();
  std::thread canceller([&] {
    EXPECT_TRUE(UntilTrue([&] { return Sleeps(watcher); }).ok());
    cancel.Cancel();
  });
  EXPECT_TRUE(absl::IsCancelled(
      server_->WatchConnections(Deadline::After(seconds(20)), &cancel)));
  canceller.join();
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      server_->WatchConnections(Deadline::After(milliseconds(10)), nullptr)));
}

// However long messages take to make and to check: on a slow processor a full
// window of large ones takes longer than a peer may be silent.
TEST_F(TestSideTest, InterruptDoesNotWaitForManyVerifiedMessages) {
  constexpr uint64_t kSize = 1 << 18;
  for (const v1::Operation operation :
       {v1::OPERATION_SEND, v1::OPERATION_WRITE, v1::OPERATION_READ}) {
    for (const v1::TestKind kind :
         {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
      const bool bandwidth = kind == v1::TEST_KIND_BANDWIDTH;
      v1::TestSpec spec = Spec(kind, operation, {kSize});
      SCOPED_TRACE(spec.ShortDebugString());
      spec.set_iterations(100'000'000);
      spec.set_warmup(0);
      if (bandwidth) spec.set_depth(64);
      ASSERT_NO_FATAL_FAILURE(Connect(spec));
      Prepare(0);
      meeting_->Interrupt();
      const Outcome outcome = RunPrepared(0);
      ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
      ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
      EXPECT_LE(outcome.client->messages(), bandwidth ? (1 << 20) / kSize : 1);
      EXPECT_EQ(outcome.client->mismatched() + outcome.server->mismatched(),
                0u);
      TearDown();
    }
  }
}

TEST_F(TestSideTest, CancellationEndsBothSides) {
  for (const v1::Operation operation :
       {v1::OPERATION_SEND, v1::OPERATION_WRITE, v1::OPERATION_READ}) {
    for (const v1::TestKind kind :
         {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
      v1::TestSpec spec = Spec(kind, operation, {64});
      spec.set_iterations(100'000'000);
      ASSERT_NO_FATAL_FAILURE(Connect(spec));
      Prepare(0);
      const Outcome outcome =
          RunPrepared(0, [this] { meeting_->cancel().Cancel(); });
      EXPECT_TRUE(absl::IsCancelled(outcome.client.status()))
          << outcome.client.status();
      EXPECT_TRUE(absl::IsCancelled(outcome.server.status()))
          << outcome.server.status();
      TearDown();
    }
  }
}

TEST_F(TestSideTest, LayoutThatDoesNotFitIsRefused) {
  ASSERT_NO_FATAL_FAILURE(
      Connect(Spec(v1::TEST_KIND_BANDWIDTH, v1::OPERATION_WRITE, {64})));
  v1::Layout layout = server_->layout();
  layout.mutable_queues(0)->mutable_data()->set_length(1);
  EXPECT_TRUE(absl::IsFailedPrecondition(client_->SetPeerLayout(layout)));
  layout.clear_queues();
  EXPECT_TRUE(absl::IsFailedPrecondition(client_->SetPeerLayout(layout)));
}

// Wrong data is noticed: the server's memory is spoiled behind its back.

TEST_F(TestSideTest, ReadOfAWrongByteIsNoticed) {
  for (const v1::TestKind kind :
       {v1::TEST_KIND_LATENCY, v1::TEST_KIND_BANDWIDTH}) {
    ASSERT_NO_FATAL_FAILURE(Connect(Spec(kind, v1::OPERATION_READ, {4096})));
    Prepare(0);
    ServerData()[1234] ^= std::byte{0x40};
    const Outcome outcome = RunPrepared(0);
    ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
    EXPECT_GT(outcome.client->mismatched(), 0u);
    EXPECT_THAT(outcome.client->first_mismatch(),
                HasSubstr("qp 0, message 0, byte 1234: "));
    TearDown();
  }
}

TEST_F(TestSideTest, AtomicOnAWrongValueIsNoticedByBothSides) {
  for (const v1::Operation operation :
       {v1::OPERATION_FETCH_ADD, v1::OPERATION_COMPARE_SWAP}) {
    ASSERT_NO_FATAL_FAILURE(
        Connect(Spec(v1::TEST_KIND_BANDWIDTH, operation, {8})));
    Prepare(0);
    ServerData()[5] ^= std::byte{1};
    const Outcome outcome = RunPrepared(0);
    ASSERT_TRUE(outcome.client.ok()) << outcome.client.status();
    ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
    EXPECT_THAT(outcome.client->first_mismatch(),
                HasSubstr("qp 0, message 0: fetched 0x"));
    EXPECT_THAT(outcome.server->first_mismatch(),
                HasSubstr("qp 0, after 53 atomics: 0x"));
    TearDown();
  }
}

// The client is in another phase than the server, so its messages are of
// another pattern. (A WRITE's latency cannot be tested so: it is seen by the
// pattern.)
TEST_F(TestSideTest, MessagesOfAnotherPatternAreNoticed) {
  const std::vector<std::pair<v1::TestKind, v1::Operation>> cases = {
      {v1::TEST_KIND_LATENCY, v1::OPERATION_SEND},
      {v1::TEST_KIND_LATENCY, v1::OPERATION_WRITE_WITH_IMM},
      {v1::TEST_KIND_BANDWIDTH, v1::OPERATION_SEND},
      {v1::TEST_KIND_BANDWIDTH, v1::OPERATION_WRITE},
      {v1::TEST_KIND_BANDWIDTH, v1::OPERATION_WRITE_WITH_IMM}};
  for (const auto& [kind, operation] : cases) {
    const v1::TestSpec spec = Spec(kind, operation, {64, 64});
    SCOPED_TRACE(spec.ShortDebugString());
    ASSERT_NO_FATAL_FAILURE(Connect(spec));
    meeting_ = std::make_unique<Meeting>();
    ASSERT_TRUE(client_->Prepare(0).ok());
    ASSERT_TRUE(server_->Prepare(1).ok());
    const Outcome outcome = RunPrepared(0, nullptr, /*server_index=*/1);
    ASSERT_TRUE(outcome.server.ok()) << outcome.server.status();
    EXPECT_EQ(outcome.server->mismatched(), 53u);
    EXPECT_EQ(outcome.server->verified(), 53u);
    EXPECT_THAT(outcome.server->first_mismatch(),
                HasSubstr("qp 0, message 0, byte 0: "));
    TearDown();
  }
}

}  // namespace
}  // namespace nd::ndping
