// Server and client in one process over a real gRPC connection, with fake RDMA.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "base/wait.h"
#include "control/generic_call.h"
#include "control/grpc_channel.h"
#include "nd/log.h"
#include "nd/v1/harness.grpc.pb.h"
#include "ndping/cli/test_options.h"
#include "ndping/fake_rdma.h"
#include "ndping/harness/harness_internal.h"
#include "ndping/log_keeper.h"

namespace nd::ndping {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Remembers what it is told.
class Recorder final : public TestObserver {
 public:
  void OnPhaseStart(const v1::TestSpec&, uint32_t index) override {
    events.push_back(absl::StrCat("start ", index));
    if (on_start) on_start();
  }
  void OnMessage(uint64_t number, Duration latency) override {
    events.push_back(
        absl::StrCat("message ", number, ": ", latency.count(), " ns"));
  }
  void OnPhaseEnd(const PhaseResult& result) override {
    events.push_back(absl::StrCat("end ", result.size));
  }
  std::vector<std::string> events;
  std::function<void()> on_start;
};

v1::TestSpec SomeSpec() {
  v1::TestSpec spec;
  spec.set_kind(v1::TEST_KIND_LATENCY);
  spec.set_operation(v1::OPERATION_SEND);
  spec.add_sizes(64);
  spec.add_sizes(128);
  spec.set_iterations(3);
  spec.set_qps(1);
  spec.set_depth(1);
  spec.set_signal_every(1);
  spec.set_cq_mode(v1::CQ_MODE_EVENT);
  return spec;
}

v1::TestSpec ConnectSpec(uint64_t connections, bool hold) {
  v1::TestSpec spec;
  spec.set_kind(v1::TEST_KIND_CONNECT);
  spec.set_connections(connections);
  spec.set_hold(hold);
  return spec;
}

// No symptom waits for its cause, unless a test says so.
Timing QuickTiming() {
  Timing timing;
  timing.local_grace = Duration::zero();
  timing.peer_grace = Duration::zero();
  timing.tick = std::chrono::milliseconds(5);
  return timing;
}

// A call whose messages the test writes itself.
class RawCall {
 public:
  explicit RawCall(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(v1::Harness::NewStub(channel)), stream_(stub_->Run(&context_)) {}

  void Send(PeerMessage message) {
    stream_->Write(ToRequest(std::move(message)));
  }
  void SendOpen(const v1::TestSpec& spec) {
    v1::Open open;
    *open.mutable_spec() = spec;
    Send(std::move(open));
  }
  // Up to the point where phases begin.
  void SendOpenAndLayout() {
    SendOpen(SomeSpec());
    ExpectNext<v1::Opened>();
    v1::Layout layout;
    layout.add_queues()->mutable_data()->set_rkey(0x1234);
    Send(std::move(layout));
    ExpectNext<v1::Layout>();
  }
  void SendStartPhase(uint32_t index) {
    v1::StartPhase start;
    start.set_index(index);
    Send(std::move(start));
  }
  template <typename T>
  void ExpectNext() {
    v1::RunResponse response;
    ASSERT_TRUE(stream_->Read(&response));
    EXPECT_EQ(FromResponse(std::move(response)).index(),
              PeerMessage(T()).index());
  }
  void Close() { stream_->WritesDone(); }
  void Cancel() { context_.TryCancel(); }
  // Reads to the end.
  absl::Status End() {
    v1::RunResponse response;
    while (stream_->Read(&response)) continue;
    return control::FromGrpcStatus(stream_->Finish());
  }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<v1::Harness::Stub> stub_;
  const std::unique_ptr<
      grpc::ClientReaderWriter<v1::RunRequest, v1::RunResponse>>
      stream_;
};

class HarnessProtocolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SetLogSink(log_);
    SetLogLevel(LogLevel::kInfo);
    limits_.set_max_tests(2);
  }
  void TearDown() override {
    server_.reset();
    SetLogSink(nullptr);
    SetLogLevel(LogLevel::kWarning);
  }

  void StartServer() {
    HarnessServer::Options options;
    options.address = "127.0.0.1";
    options.port = 0;
    options.limits = limits_;
    auto server = StartHarnessServer(
        options, std::make_unique<FakeReception>(wire_), server_timing_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    address_ = *control::ParsePeer("ipv4:" + server_->grpc_endpoint());
  }
  void StartBoth() {
    StartServer();
    HarnessClient::Options options;
    options.host = "127.0.0.1";
    options.port = address_.port();
    auto client = CreateHarnessClient(
        options, std::make_unique<FakeDialer>(wire_), client_timing_);
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }
  absl::StatusOr<TestResult> Run() {
    return client_->Run(SomeSpec(), interrupt_, recorder_);
  }
  std::string ServerName() { return "server " + server_->grpc_endpoint(); }
  std::shared_ptr<grpc::Channel> Channel() {
    return control::MakeChannel(address_);
  }

  const std::shared_ptr<LogKeeper> log_ = std::make_shared<LogKeeper>();
  v1::Limits limits_ = HarnessServer::DefaultLimits();
  Timing server_timing_ = QuickTiming();
  Timing client_timing_ = QuickTiming();
  FakeWire wire_;
  verbs::SocketAddress address_;
  Cancellation interrupt_ = *Cancellation::Create();
  Recorder recorder_;
  std::unique_ptr<HarnessServer> server_;
  std::unique_ptr<HarnessClient> client_;
};

absl::StatusOr<v1::PhaseReport> HangingRun(uint32_t, PhaseControl& control,
                                           Histogram*) {
  return UntilCancelled(control.cancellation());
}

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

TEST_F(HarnessProtocolTest, TwoPhasesRunInOrderAndReportBothSides) {
  StartBoth();
  const absl::StatusOr<TestResult> result = Run();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->server, server_->grpc_endpoint());
  EXPECT_EQ(result->server_version, ND_VERSION);
  ASSERT_EQ(result->phases.size(), 2u);
  EXPECT_EQ(result->phases[0].size, 64u);
  EXPECT_EQ(result->phases[1].size, 128u);
  EXPECT_EQ(result->phases[1].latencies.count(), 3u);
  EXPECT_EQ(result->phases[1].latencies.min(), 1001u);
  EXPECT_EQ(result->phases[1].client.received(), 3u);
  EXPECT_EQ(result->phases[1].server.received(), 3u);
  EXPECT_FALSE(result->phases[1].interrupted);
  EXPECT_THAT(recorder_.events,
              ElementsAre("start 0", "end 64", "start 1", "end 128"));
}

// As one of an earlier version is, which takes the test for one over verbs.
TEST_F(HarnessProtocolTest, ServerWithoutSessionsIsToldFromOneThatHasThem) {
  StartBoth();
  v1::TestSpec spec = SomeSpec();
  spec.clear_operation();
  spec.clear_signal_every();
  *spec.mutable_session() = SessionOf(TestOptions());
  const absl::Status status =
      client_->Run(spec, interrupt_, recorder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
  EXPECT_THAT(Message(status), HasSubstr("has no sessions"));
}

TEST_F(HarnessProtocolTest, ServerLogsStartAndEnd) {
  StartBoth();
  ASSERT_TRUE(Run().ok());
  const std::string log = log_->WaitFor("done");
  EXPECT_THAT(log, HasSubstr("test 1 of client 127.0.0.1:"));
  EXPECT_THAT(log,
              HasSubstr("lat send 64..128 bytes, 3 messages, 1 QP, event"));
  EXPECT_THAT(log, HasSubstr("done, phases: 2"));
}

TEST_F(HarnessProtocolTest, TestsFollowOneAnotherWithinALimitOfOne) {
  limits_.set_max_tests(1);
  StartBoth();
  for (int i = 0; i < 5; ++i) {
    const absl::Status status = Run().status();
    ASSERT_TRUE(status.ok()) << status;
  }
  const absl::StatusOr<v1::ServerInfo> info = client_->GetServerInfo();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->version(), ND_VERSION);
  EXPECT_EQ(info->tests_total(), 5u);
  EXPECT_EQ(info->tests_running(), 0u);
  EXPECT_EQ(info->rdma_endpoint(), "127.0.0.1:7471");
  EXPECT_EQ(info->requests_accepted(), 5u);
  EXPECT_EQ(info->requests_rejected(), 6u);
  EXPECT_EQ(info->limits().max_tests(), 1u);
}

TEST_F(HarnessProtocolTest, InterruptEndsThePhaseOnBothSidesAndSkipsTheRest) {
  wire_.client.run =
      [](uint32_t index, PhaseControl& control,
         Histogram* latencies) -> absl::StatusOr<v1::PhaseReport> {
    const absl::Status waited = UntilTrue([&] { return control.interrupted(); },
                                          control.cancellation());
    if (!waited.ok()) return waited;
    return FakeBehaviour::GoodRun(index, control, latencies);
  };
  std::atomic<bool> server_was_told = false;
  wire_.server.run =
      [&](uint32_t index, PhaseControl& control,
          Histogram* latencies) -> absl::StatusOr<v1::PhaseReport> {
    const absl::Status waited =
        UntilTrue([&] { return control.peer_done(); }, control.cancellation());
    if (!waited.ok()) return waited;
    server_was_told = control.interrupted();
    return FakeBehaviour::GoodRun(index, control, latencies);
  };
  recorder_.on_start = [this] { interrupt_.Cancel(); };
  StartBoth();
  const absl::StatusOr<TestResult> result = Run();
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->phases.size(), 1u);
  EXPECT_TRUE(result->phases[0].interrupted);
  EXPECT_EQ(result->phases[0].latencies.count(), 3u);
  EXPECT_TRUE(server_was_told);
  EXPECT_THAT(log_->WaitFor("done"), HasSubstr("done, phases: 1"));
}

TEST_F(HarnessProtocolTest, EachPacedMessageIsToldByItsNumberInThePhase) {
  wire_.client.run = [](uint32_t index, PhaseControl& control,
                        Histogram* latencies) {
    control.OnMessage(500 + index);
    control.OnMessage(600 + index);
    return FakeBehaviour::GoodRun(index, control, latencies);
  };
  StartBoth();
  ASSERT_TRUE(Run().ok());
  EXPECT_THAT(recorder_.events,
              ElementsAre("start 0", "message 0: 500 ns", "message 1: 600 ns",
                          "end 64", "start 1", "message 0: 501 ns",
                          "message 1: 601 ns", "end 128"));
}

TEST_F(HarnessProtocolTest, InterruptWhileConnectingIsCancelled) {
  wire_.client.connect = [this](const Cancellation* cancel) {
    interrupt_.Cancel();
    return UntilCancelled(cancel);
  };
  wire_.server.connect = UntilCancelled;
  StartBoth();
  const absl::StatusOr<TestResult> result = Run();
  EXPECT_EQ(result.status(),
            absl::CancelledError("interrupted while connecting"));
  EXPECT_THAT(log_->WaitFor("failed"),
              HasSubstr("interrupted while connecting"));
}

TEST_F(HarnessProtocolTest, FailureOfTheServersDataReachesTheClient) {
  wire_.server.run = [](uint32_t, PhaseControl&, Histogram*) {
    return absl::StatusOr<v1::PhaseReport>(absl::AbortedError("qp 7: flushed"));
  };
  wire_.client.run = HangingRun;
  StartBoth();
  EXPECT_EQ(Run().status(),
            absl::AbortedError(ServerName() + ": qp 7: flushed"));
  EXPECT_THAT(log_->WaitFor("failed"),
              HasSubstr("failed: ABORTED: qp 7: flushed"));
}

TEST_F(HarnessProtocolTest, FailureOfTheClientsDataReachesTheServer) {
  wire_.client.run = [](uint32_t, PhaseControl&, Histogram*) {
    return absl::StatusOr<v1::PhaseReport>(absl::AbortedError("qp 7: flushed"));
  };
  wire_.server.run = HangingRun;
  StartBoth();
  EXPECT_EQ(Run().status(), absl::AbortedError("qp 7: flushed"));
  EXPECT_THAT(log_->WaitFor("failed"),
              ::testing::ContainsRegex(
                  "failed: ABORTED: client 127.0.0.1:[0-9]+: qp 7: flushed"));
}

TEST_F(HarnessProtocolTest, WhatBothSidesFoundIsToldTogether) {
  server_timing_.peer_grace = kLongTime;
  absl::Notification failed;
  wire_.client.run = [&](uint32_t, PhaseControl&, Histogram*) {
    failed.Notify();
    return absl::StatusOr<v1::PhaseReport>(absl::AbortedError("qp 7: flushed"));
  };
  wire_.server.run = HangingRun;
  wire_.server.watch = [&](const Cancellation*) {
    failed.WaitForNotificationWithTimeout(absl::FromChrono(kLongTime));
    return absl::UnavailableError("rxe1 was removed");
  };
  StartBoth();
  EXPECT_EQ(Run().status(),
            absl::AbortedError(absl::StrCat("qp 7: flushed; ", ServerName(),
                                            " says: rxe1 was removed")));
  EXPECT_THAT(log_->WaitFor("failed"),
              ::testing::ContainsRegex("rxe1 was removed; client [0-9.:]+ "
                                       "says: qp 7: flushed"));
}

TEST_F(HarnessProtocolTest, LostConnectionOfTheServerEndsTheClient) {
  wire_.server.run = HangingRun;
  wire_.client.run = HangingRun;
  absl::Notification running;
  recorder_.on_start = [&] { running.Notify(); };
  wire_.server.watch = [&](const Cancellation*) {
    running.WaitForNotificationWithTimeout(absl::FromChrono(kLongTime));
    return absl::UnavailableError("rxe1 was removed");
  };
  server_timing_.idle_grace = Duration::zero();
  StartBoth();
  EXPECT_EQ(Run().status(),
            absl::UnavailableError(ServerName() + ": rxe1 was removed"));
}

TEST_F(HarnessProtocolTest, LostConnectionOfTheClientEndsTheServer) {
  wire_.server.run = HangingRun;
  wire_.client.run = HangingRun;
  absl::Notification running;
  recorder_.on_start = [&] { running.Notify(); };
  wire_.client.watch = [&](const Cancellation*) {
    running.WaitForNotificationWithTimeout(absl::FromChrono(kLongTime));
    return absl::UnavailableError("rxe0 was removed");
  };
  StartBoth();
  EXPECT_EQ(Run().status(), absl::UnavailableError("rxe0 was removed"));
  EXPECT_THAT(log_->WaitFor("failed"), HasSubstr(": rxe0 was removed"));
}

TEST_F(HarnessProtocolTest, FailureToPrepareReachesTheOtherSide) {
  wire_.server.prepare = [](uint32_t index) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", index));
  };
  StartBoth();
  EXPECT_EQ(Run().status(),
            absl::ResourceExhaustedError(ServerName() + ": no memory for 0"));
}

TEST_F(HarnessProtocolTest, FailureToConnectEndsTheServersWait) {
  wire_.client.connect = [](const Cancellation*) {
    return absl::NotFoundError("no route to 127.0.0.1:7471");
  };
  wire_.server.connect = UntilCancelled;
  StartBoth();
  EXPECT_EQ(Run().status(), absl::NotFoundError("no route to 127.0.0.1:7471"));
  EXPECT_THAT(log_->WaitFor("failed"), HasSubstr(": no route to 127.0.0.1"));
}

TEST_F(HarnessProtocolTest, FailureToAcceptEndsTheClientsWait) {
  wire_.client.connect = UntilCancelled;
  wire_.server.connect = [](const Cancellation*) {
    return absl::ResourceExhaustedError("no more QPs");
  };
  StartBoth();
  EXPECT_EQ(Run().status(),
            absl::ResourceExhaustedError(ServerName() + ": no more QPs"));
}

TEST_F(HarnessProtocolTest, ClientThatCancelsHasVanished) {
  StartServer();
  RawCall call(Channel());
  call.SendOpenAndLayout();
  call.Cancel();
  EXPECT_EQ(call.End().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(log_->WaitFor("vanished"),
              ::testing::ContainsRegex("client 127.0.0.1:[0-9]+ vanished"));
}

TEST_F(HarnessProtocolTest, ClientThatVanishesInAPhaseEndsItAtOnce) {
  server_timing_.local_grace = kLongTime;
  wire_.server.run = HangingRun;
  StartServer();
  RawCall call(Channel());
  call.SendOpenAndLayout();
  call.SendStartPhase(0);
  call.ExpectNext<v1::PhaseReady>();
  call.Cancel();
  EXPECT_THAT(log_->WaitFor("failed"),
              ::testing::ContainsRegex("client 127.0.0.1:[0-9]+ vanished"));
}

TEST_F(HarnessProtocolTest, ShutdownEndsTestsWithThatCause) {
  wire_.server.run = HangingRun;
  wire_.client.run = HangingRun;
  Cancellation stop = *Cancellation::Create();
  recorder_.on_start = [&] { stop.Cancel(); };
  StartBoth();
  absl::Status served;
  std::thread serving([&] { served = server_->Serve(stop); });
  const absl::Status status = Run().status();
  serving.join();
  EXPECT_TRUE(served.ok()) << served;
  EXPECT_EQ(status, absl::UnavailableError(ServerName() +
                                           ": the server is shutting down"));
}

TEST_F(HarnessProtocolTest, ServerOverItsLimitOfTestsSaysSo) {
  limits_.set_max_tests(1);
  StartBoth();
  RawCall call(Channel());
  call.SendOpenAndLayout();
  const absl::Status status = Run().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), StartsWith(ServerName()));
  EXPECT_THAT(Message(status), HasSubstr("runs 1 tests already"));
  call.Close();
  EXPECT_TRUE(call.End().ok());
}

TEST_F(HarnessProtocolTest, ClientChecksAgainstTheServersLimits) {
  limits_.set_max_size(100);
  StartBoth();
  const absl::Status status = Run().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("128 bytes is larger than 100"));
  EXPECT_EQ(client_->GetServerInfo()->tests_total(), 0u);
}

TEST_F(HarnessProtocolTest, ServerChecksForItself) {
  limits_.set_max_size(100);
  StartServer();
  RawCall call(Channel());
  call.SendOpen(SomeSpec());
  const absl::Status status = call.End();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("128 bytes is larger than 100"));
}

TEST_F(HarnessProtocolTest, UnknownEnumValuesAreInvalid) {
  StartServer();
  v1::TestSpec spec = SomeSpec();
  spec.set_operation(static_cast<v1::Operation>(99));
  RawCall call(Channel());
  call.SendOpen(spec);
  EXPECT_EQ(call.End(), absl::InvalidArgumentError(
                            "operation: 99 is none that this version knows"));
}

class WrongOrder : public HarnessProtocolTest {
 protected:
  void ExpectRefused(RawCall& call, absl::string_view part) {
    const absl::Status status = call.End();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Message(status), HasSubstr(std::string(part)));
  }
};

TEST_F(WrongOrder, StartPhaseFirst) {
  StartServer();
  RawCall call(Channel());
  call.SendStartPhase(0);
  ExpectRefused(call, "sent StartPhase after nothing");
}

TEST_F(WrongOrder, OpenTwice) {
  StartServer();
  RawCall call(Channel());
  call.SendOpenAndLayout();
  call.SendOpen(SomeSpec());
  ExpectRefused(call, "sent Open after Layout");
}

TEST_F(WrongOrder, EmptyMessage) {
  StartServer();
  RawCall call(Channel());
  call.Send(PeerMessage());
  ExpectRefused(call, "sent an unknown message after nothing");
}

TEST_F(WrongOrder, DoneTwice) {
  wire_.server.run = HangingRun;
  StartServer();
  RawCall call(Channel());
  call.SendOpenAndLayout();
  call.SendStartPhase(0);
  call.ExpectNext<v1::PhaseReady>();
  call.Send(v1::PhaseDone());
  call.Send(v1::PhaseDone());
  ExpectRefused(call, "sent PhaseDone after PhaseDone");
}

TEST_F(WrongOrder, SecondPhaseFirst) {
  StartServer();
  RawCall call(Channel());
  call.SendOpenAndLayout();
  call.SendStartPhase(1);
  ExpectRefused(call, "starts phase 1; the next is 0 of 2");
}

TEST_F(WrongOrder, EndBeforeTheLayout) {
  StartServer();
  RawCall call(Channel());
  call.SendOpen(SomeSpec());
  call.ExpectNext<v1::Opened>();
  call.Close();
  ExpectRefused(call, "closed the call too early");
}

TEST_F(WrongOrder, EndInAPhase) {
  wire_.server.run = HangingRun;
  StartServer();
  RawCall call(Channel());
  call.SendOpenAndLayout();
  call.SendStartPhase(0);
  call.ExpectNext<v1::PhaseReady>();
  call.Close();
  ExpectRefused(call, "closed the call too early: while this side was phase 0");
}

TEST_F(WrongOrder, LayoutInAConnectTest) {
  StartServer();
  RawCall call(Channel());
  call.SendOpen(ConnectSpec(1, false));
  call.ExpectNext<v1::Opened>();
  {
    absl::MutexLock lock(&wire_.mutex);
    wire_.requests.push_back(std::make_shared<FakeWire::Link>());
    wire_.requests.back()->disconnected.Notify();
  }
  call.Send(v1::Layout());
  ExpectRefused(call, "sent Layout where the end of the call was expected");
}

TEST_F(WrongOrder, LayoutThatDoesNotFit) {
  StartServer();
  RawCall call(Channel());
  call.SendOpen(SomeSpec());
  call.ExpectNext<v1::Opened>();
  call.Send(v1::Layout());
  EXPECT_EQ(call.End(),
            absl::InvalidArgumentError("the layout has not one queue"));
}

TEST_F(HarnessProtocolTest, SilentClientIsNamed) {
  server_timing_.message = std::chrono::milliseconds(20);
  StartServer();
  RawCall call(Channel());
  const absl::Status status = call.End();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Message(status), ::testing::ContainsRegex(
                                   "client 127.0.0.1:[0-9]+ is silent: no Open "
                                   "came within 20.0 ms"));
}

TEST_F(HarnessProtocolTest, PhaseWithoutAMessageSaysWhoIsSilent) {
  client_timing_.silence = std::chrono::milliseconds(20);
  wire_.client.run = HangingRun;
  wire_.server.run = HangingRun;
  StartBoth();
  const absl::Status status = Run().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Message(status),
              HasSubstr(absl::StrCat("phase 0 (64 bytes): ", ServerName(),
                                     " is silent: no message in 20.0 ms")));
  EXPECT_THAT(log_->WaitFor("failed"), HasSubstr("is silent: no message"));
}

TEST_F(HarnessProtocolTest, PeerThatIsNeverDoneIsNamed) {
  client_timing_.silence = std::chrono::milliseconds(20);
  wire_.server.run = HangingRun;
  StartBoth();
  const absl::Status status = Run().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Message(status),
              HasSubstr("it did not say that it is done within 20.0 ms"));
}

TEST_F(HarnessProtocolTest, PhaseThatMovesButNeverEndsHitsTheLimit) {
  limits_.set_max_duration_ns(1'000'000);
  server_timing_.silence = std::chrono::milliseconds(20);
  wire_.client.run = HangingRun;
  wire_.server.run = [](uint32_t, PhaseControl& control,
                        Histogram*) -> absl::StatusOr<v1::PhaseReport> {
    // A message a millisecond, until it is cancelled.
    absl::Status waited;
    do {
      ++control.messages;
      waited =
          WaitReadable(control.cancellation()->fd(),
                       Deadline::After(std::chrono::milliseconds(1)), nullptr);
    } while (absl::IsDeadlineExceeded(waited));
    return absl::CancelledError("");
  };
  StartBoth();
  const absl::Status status = Run().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Message(status),
              HasSubstr("phase 0 (64 bytes) took longer than 61.0 ms"));
}

TEST_F(HarnessProtocolTest, ConnectionsAreMadeOneAfterAnother) {
  StartBoth();
  const auto result =
      client_->RunConnect(ConnectSpec(20, false), interrupt_, recorder_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->connections, 20u);
  EXPECT_EQ(result->latencies.count(), 20u);
  EXPECT_GT(result->elapsed_ns, 0u);
  EXPECT_FALSE(result->interrupted);
  EXPECT_EQ(wire_.open, 0);
}

TEST_F(HarnessProtocolTest, ConnectionsAreHeldAtOnce) {
  StartBoth();
  const auto result =
      client_->RunConnect(ConnectSpec(20, true), interrupt_, recorder_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->connections, 20u);
  EXPECT_GE(wire_.most_open, 20);
  EXPECT_EQ(wire_.open, 0);
}

TEST_F(HarnessProtocolTest, RefusedConnectionIsNumberedAndEndsTheServer) {
  wire_.refuse_from = 2;
  wire_.refuse = absl::PermissionDeniedError("the token was used");
  StartBoth();
  const auto result =
      client_->RunConnect(ConnectSpec(20, false), interrupt_, recorder_);
  EXPECT_EQ(result.status(),
            absl::PermissionDeniedError("connection 2: the token was used"));
  EXPECT_THAT(log_->WaitFor("failed"), HasSubstr("the token was used"));
}

TEST_F(HarnessProtocolTest, InterruptedConnectTestKeepsItsResults) {
  interrupt_.Cancel();
  StartBoth();
  const auto result =
      client_->RunConnect(ConnectSpec(20, false), interrupt_, recorder_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->interrupted);
  EXPECT_EQ(result->connections, 0u);
}

TEST_F(HarnessProtocolTest, HealthIsServingAndReflectionListsTheHarness) {
  StartServer();
  EXPECT_EQ(control::CheckHealth(Channel(), "").value_or("none"),
            control::kServing);
  EXPECT_EQ(control::CheckHealth(Channel(), "nd.v1.Harness").value_or("none"),
            control::kServing);
  EXPECT_THAT(control::ListServices(Channel()).value_or("none"),
              HasSubstr("nd.v1.Harness"));
}

TEST_F(HarnessProtocolTest, TwoServersOnOnePortAreAnError) {
  StartServer();
  HarnessServer::Options options;
  options.address = "127.0.0.1";
  options.port = address_.port();
  const auto second = StartHarnessServer(
      options, std::make_unique<FakeReception>(wire_), Timing());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(Message(second.status()), HasSubstr(server_->grpc_endpoint()));
}

TEST_F(HarnessProtocolTest, NobodyAtThePortIsAnErrorThatNamesIt) {
  StartServer();
  HarnessClient::Options options;
  options.host = "127.0.0.1";
  options.port = address_.port();
  const std::string name = ServerName();
  server_.reset();
  const auto client = CreateHarnessClient(
      options, std::make_unique<FakeDialer>(wire_), Timing());
  EXPECT_EQ(client.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(client.status()), StartsWith(name));
  EXPECT_THAT(Message(client.status()), HasSubstr("Connection refused"));
  EXPECT_THAT(Message(client.status()), HasSubstr("does `ndping server` run"));
}

}  // namespace
}  // namespace nd::ndping
