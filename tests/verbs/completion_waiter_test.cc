#include "verbs/completion_waiter.h"

#include <gtest/gtest.h>
#include <time.h>

#include <chrono>
#include <memory>

#include "base/fake_clock.h"
#include "verbs/fake_verbs.h"
#include "verbs/queue_pair.h"
#include "verbs/wr_id.h"

namespace nd::verbs {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A completion that needs no QP.
ibv_wc SharedReceive(uint64_t wr_id) {
  ibv_wc wc{};
  wc.wr_id = kSharedReceiveWrId | wr_id;
  wc.opcode = IBV_WC_RECV;
  return wc;
}

Duration ThreadCpuTime() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

class CompletionWaiterTest : public ::testing::Test {
 protected:
  CompletionWaiterTest() { fake_.Reset(); }

  CompletionWaiter Make(CompletionWaiter::Options options) {
    auto context = Context::Open("fake0").value();
    auto channel = CompletionChannel::Create(context).value();
    auto cq = CompletionQueue::Create(context, 16, channel).value();
    return CompletionWaiter::Create(std::move(cq), options).value();
  }

  FakeVerbs& fake_ = FakeVerbs::Get();
  Completion out_[4];
};

TEST_F(CompletionWaiterTest, CompletionBetweenLastPollAndArmingIsNotLost) {
  CompletionWaiter waiter = Make({.mode = WaitMode::kEvent});
  // The queue is not armed yet, so this completion makes no event.
  fake_.before_arming = [&] { fake_.Complete(SharedReceive(7)); };

  const auto count = waiter.Wait(out_, Deadline::After(seconds(0)), nullptr);

  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(*count, 1u);
  EXPECT_EQ(out_[0].wr_id, 7u);
  EXPECT_EQ(waiter.sleeps(), 0u);
}

TEST_F(CompletionWaiterTest, CompletionAfterArmingWakesTheSleeper) {
  CompletionWaiter waiter = Make({.mode = WaitMode::kEvent});
  ASSERT_EQ(
      waiter.Wait(out_, Deadline::After(seconds(0)), nullptr).status().code(),
      absl::StatusCode::kDeadlineExceeded);
  fake_.Complete(SharedReceive(8));

  const auto count = waiter.Wait(out_, Deadline::After(seconds(60)), nullptr);

  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(out_[0].wr_id, 8u);
}

TEST_F(CompletionWaiterTest, EventModeArmsOnceForOneEvent) {
  CompletionWaiter waiter = Make({.mode = WaitMode::kEvent});
  for (int i = 0; i < 3; ++i) {
    ASSERT_FALSE(waiter.Wait(out_, Deadline::After(seconds(0)), nullptr).ok());
  }
  EXPECT_EQ(fake_.armings, 1);
}

TEST_F(CompletionWaiterTest, EventModeUsesNoCpuWhileItSleeps) {
  CompletionWaiter waiter = Make({.mode = WaitMode::kEvent});
  const Duration before = ThreadCpuTime();

  const auto count =
      waiter.Wait(out_, Deadline::After(milliseconds(500)), nullptr);

  EXPECT_EQ(count.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(waiter.sleeps(), 1u);
  EXPECT_LE(fake_.polls, 2);
  EXPECT_LT(ThreadCpuTime() - before, milliseconds(100));
}

TEST_F(CompletionWaiterTest, BusyModeNeverArms) {
  FakeClock clock;
  CompletionWaiter waiter = Make({.mode = WaitMode::kBusy, .clock = &clock});
  fake_.Complete(SharedReceive(9));

  EXPECT_TRUE(
      waiter.Wait(out_, Deadline::After(seconds(1), clock), nullptr).ok());
  EXPECT_EQ(waiter.Wait(out_, Deadline::After(seconds(0), clock), nullptr)
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);

  EXPECT_EQ(fake_.armings, 0);
}

TEST_F(CompletionWaiterTest, AdaptiveModeSpinsItsTimeAndThenSleeps) {
  CompletionWaiter waiter =
      Make({.mode = WaitMode::kAdaptive, .spin = microseconds(0)});
  EXPECT_FALSE(waiter.Wait(out_, Deadline::After(seconds(0)), nullptr).ok());
  EXPECT_EQ(fake_.armings, 1);
  EXPECT_GE(fake_.polls, 64);
}

TEST_F(CompletionWaiterTest, AdaptiveModeTakesWhatComesWhileItSpins) {
  FakeClock clock;
  CompletionWaiter waiter =
      Make({.mode = WaitMode::kAdaptive, .clock = &clock});
  fake_.Complete(SharedReceive(10));
  EXPECT_TRUE(
      waiter.Wait(out_, Deadline::After(seconds(1), clock), nullptr).ok());
  EXPECT_EQ(fake_.armings, 0);
}

TEST_F(CompletionWaiterTest, CancellationEndsEveryMode) {
  auto cancel = Cancellation::Create();
  ASSERT_TRUE(cancel.ok());
  cancel->Cancel();
  for (const WaitMode mode :
       {WaitMode::kBusy, WaitMode::kEvent, WaitMode::kAdaptive}) {
    CompletionWaiter waiter = Make({.mode = mode});
    EXPECT_EQ(waiter.Wait(out_, Deadline::After(seconds(60)), &*cancel)
                  .status()
                  .code(),
              absl::StatusCode::kCancelled)
        << ToString(mode);
  }
}

TEST_F(CompletionWaiterTest, EveryEventIsAcknowledgedBeforeTheQueueGoes) {
  {
    CompletionWaiter waiter = Make({.mode = WaitMode::kEvent});
    for (uint64_t i = 0; i < 70; ++i) {
      (void)waiter.Wait(out_, Deadline::After(seconds(0)), nullptr);
      fake_.Complete(SharedReceive(i));
      ASSERT_TRUE(
          waiter.Wait(out_, Deadline::After(seconds(60)), nullptr).ok());
      // The event of a completion that the first poll found is still there.
      (void)waiter.Wait(out_, Deadline::After(seconds(0)), nullptr);
    }
    EXPECT_LT(fake_.events_acked, fake_.events_taken);
  }
  EXPECT_EQ(fake_.events_acked, fake_.events_taken);
  EXPECT_EQ(fake_.live_objects, 0);
}

TEST_F(CompletionWaiterTest, SleepingModesNeedAChannel) {
  auto context = Context::Open("fake0").value();
  auto cq = CompletionQueue::Create(context, 16, nullptr).value();
  EXPECT_EQ(
      CompletionWaiter::Create(cq, {.mode = WaitMode::kEvent}).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST(WaitMode, NamesAreParsedBack) {
  for (const WaitMode mode :
       {WaitMode::kBusy, WaitMode::kEvent, WaitMode::kAdaptive}) {
    EXPECT_EQ(ParseWaitMode(ToString(mode)).value(), mode);
  }
  EXPECT_FALSE(ParseWaitMode("lazy").ok());
}

}  // namespace
}  // namespace nd::verbs
