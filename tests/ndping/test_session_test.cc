#include "ndping/harness/test_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "base/until_true.h"

namespace nd::ndping {
namespace {

using ::testing::HasSubstr;

Timing QuickTiming() {
  Timing timing;
  timing.message = std::chrono::seconds(30);
  timing.local_grace = Duration::zero();
  timing.idle_grace = Duration::zero();
  timing.end = Duration::zero();
  timing.tick = std::chrono::milliseconds(1);
  return timing;
}

const absl::Status kLost = absl::UnavailableError("qp 0: disconnected");

class TestSessionTest : public ::testing::Test {
 protected:
  void BringToIdle() {
    session_->OnMessage(v1::Open());
    session_->OnMessage(v1::Layout());
    ASSERT_TRUE(session_->Receive<v1::Open>(kWait).ok());
    ASSERT_TRUE(session_->Receive<v1::Layout>(kWait).ok());
  }
  std::string Cause() {
    return session_->Cause(absl::UnknownError("none")).ToString();
  }

  static constexpr Duration kWait = std::chrono::seconds(30);
  const std::unique_ptr<TestSession> session_ =
      *TestSession::Create("client C", QuickTiming());
};

TEST_F(TestSessionTest, MessagesThatCameEarlyAreKept) {
  session_->OnMessage(v1::Open());
  session_->OnMessage(v1::Layout());
  session_->OnMessage(v1::StartPhase());
  EXPECT_TRUE(session_->Receive<v1::Open>(kWait).ok());
  EXPECT_TRUE(session_->Receive<v1::Layout>(kWait).ok());
  EXPECT_TRUE((*session_->NextPhase()).has_value());
}

TEST_F(TestSessionTest, DoneBeforeThePhaseIsReadyIsRefused) {
  BringToIdle();
  session_->OnMessage(v1::StartPhase());
  session_->OnMessage(v1::PhaseDone());
  EXPECT_THAT(Cause(), HasSubstr("sent PhaseDone before the phase was ready"));
  EXPECT_TRUE(session_->cancellation()->cancelled());
}

TEST_F(TestSessionTest, CloseBetweenPhasesIsTheEnd) {
  BringToIdle();
  session_->OnClosed();
  const auto next = session_->NextPhase();
  ASSERT_TRUE(next.ok());
  EXPECT_FALSE(next->has_value());
}

TEST_F(TestSessionTest, DisconnectBeforeTheCloseIsStillTheEnd) {
  BringToIdle();
  session_->OnConnectionLost(kLost);
  session_->OnClosed();
  const auto next = session_->NextPhase();
  ASSERT_TRUE(next.ok());
  EXPECT_FALSE(next->has_value());
}

TEST_F(TestSessionTest, DisconnectWithoutACloseIsAFailure) {
  BringToIdle();
  session_->OnConnectionLost(kLost);
  EXPECT_FALSE(session_->NextPhase().ok());
  EXPECT_EQ(session_->Cause(absl::UnknownError("")), kLost);
}

TEST_F(TestSessionTest, CloseAfterAFailureIsNotAGoodEnd) {
  BringToIdle();
  v1::Failure failure;
  failure.set_code(static_cast<int>(absl::StatusCode::kDataLoss));
  failure.set_message("byte 7");
  session_->OnMessage(failure);
  session_->OnClosed();
  EXPECT_FALSE(session_->NextPhase().ok());
  EXPECT_EQ(session_->Cause(absl::UnknownError("")),
            absl::DataLossError("client C: byte 7"));
}

TEST_F(TestSessionTest, DisconnectAfterThePeerWasToldIsNotTheCause) {
  BringToIdle();
  absl::Status failed = absl::AbortedError("qp 0: remote access error");
  const absl::Status status =
      session_->Perform({.doing = "phase 0", .limit = kWait, .check = nullptr},
                        [&] { return failed; });
  EXPECT_EQ(session_->LocalCause(), failed);
  session_->OnConnectionLost(kLost);
  EXPECT_EQ(session_->Cause(status), failed);
}

TEST_F(TestSessionTest, JobIsCancelledByAFindingAndIsNotItsCause) {
  BringToIdle();
  const absl::Status status = session_->Perform(
      {.doing = "waiting", .limit = kWait, .check = nullptr}, [&] {
        session_->OnVanished("");
        return session_->cancellation()->cancelled()
                   ? absl::CancelledError("")
                   : absl::InternalError("not cancelled");
      });
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Cause(), HasSubstr("client C vanished"));
}

TEST_F(TestSessionTest, JobThatTakesTooLongIsCancelled) {
  const absl::Status status =
      session_->Perform({.doing = "waiting",
                         .limit = std::chrono::milliseconds(5),
                         .check = nullptr},
                        [&] {
                          return WaitReadable(session_->cancellation()->fd(),
                                              Deadline::After(kWait), nullptr)
                                         .ok()
                                     ? absl::CancelledError("")
                                     : absl::InternalError("not cancelled");
                        });
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Cause(), HasSubstr("waiting took longer than 5.00 ms"));
}

TEST_F(TestSessionTest, FailedCheckEndsTheJob) {
  const absl::Status status = session_->Perform(
      {.doing = "waiting",
       .limit = kWait,
       .check = [] { return absl::CancelledError("interrupted"); }},
      [&] {
        WaitReadable(session_->cancellation()->fd(), Deadline::After(kWait),
                     nullptr)
            .IgnoreError();
        return absl::CancelledError("");
      });
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Cause(), HasSubstr("interrupted"));
}

TEST_F(TestSessionTest, CloseMayEndAJobThatSaysSo) {
  BringToIdle();
  const absl::Status status =
      session_->Perform({.doing = "accepting",
                         .limit = kWait,
                         .check = nullptr,
                         .may_close = true},
                        [&] {
                          session_->OnClosed();
                          return absl::CancelledError("");
                        });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(session_->AwaitClose(kWait).ok());
}

// A side whose phase is what the test says.
class ScriptedSide final : public TestSide {
 public:
  using Script = std::function<absl::Status(PhaseControl&)>;
  explicit ScriptedSide(Script script) : script_(std::move(script)) {}

  v1::Layout layout() const override { return {}; }
  absl::Status SetPeerLayout(const v1::Layout&) override { return {}; }
  absl::Status Prepare(uint32_t) override { return {}; }
  absl::StatusOr<v1::PhaseReport> Run(uint32_t, PhaseControl& control,
                                      Histogram*) override {
    const absl::Status status = script_(control);
    if (!status.ok()) return status;
    return v1::PhaseReport();
  }
  absl::Status WatchConnections(const Deadline&, const Cancellation*) override {
    return {};
  }
  void Disconnect() override {}

 private:
  const Script script_;
};

class TestSessionPhase : public TestSessionTest {
 protected:
  absl::Status RunPhase(ScriptedSide::Script script) {
    BringToIdle();
    session_->OnMessage(v1::StartPhase());
    session_->ArmPhase();
    ScriptedSide side(std::move(script));
    TestSession::PhaseOptions options;
    options.silence = options.longest = kWait;
    options.on_tick = [this](uint64_t, Duration) { ++ticks_; };
    return session_->RunPhase(side, options, nullptr).status();
  }

  // How often the test's thread has looked at the phase.
  std::atomic<int> ticks_{0};
};

long SleepsOfThisThread() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

TEST_F(TestSessionPhase, WhoWaitsForThePeerToBeDoneSleepsAllTheWhile) {
  const absl::Status status = RunPhase([&](PhaseControl& control) {
    std::thread peer([&] {
      const int start = ticks_;
      EXPECT_TRUE(UntilTrue([&] { return ticks_ > start + 100; }).ok());
      session_->OnMessage(v1::PhaseDone());
    });
    const long before = SleepsOfThisThread();
    absl::Status waited = control.AwaitPeerDone();
    EXPECT_LT(SleepsOfThisThread() - before, 10);
    EXPECT_TRUE(control.peer_done());
    peer.join();
    return waited;
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(TestSessionPhase, WhoWaitsForThePeerToBeDoneHearsThatTheTestEnds) {
  const absl::Status status = RunPhase([&](PhaseControl& control) {
    std::thread peer([&] { session_->OnVanished(""); });
    absl::Status waited = control.AwaitPeerDone();
    peer.join();
    EXPECT_TRUE(absl::IsCancelled(waited)) << waited;
    return waited;
  });
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Cause(), HasSubstr("client C vanished"));
}

}  // namespace
}  // namespace nd::ndping
