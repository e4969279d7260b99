#include "control/set_up_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/until_true.h"

namespace nd::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Deadline Soon() { return Deadline::After(kLongTime); }
Deadline Now() { return Deadline::After(Duration::zero()); }

TEST(SetUpLimit, GivesOutSoManyAndNoMore) {
  SetUpLimit limit(2);
  auto first = limit.Acquire(Now(), nullptr);
  auto second = limit.Acquire(Now(), nullptr);
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status third = limit.Acquire(Now(), nullptr).status();
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(third.message()), HasSubstr("2 sessions"));
  *first = SetUpLimit::Permit();
  EXPECT_TRUE(limit.Acquire(Now(), nullptr).ok());
}

TEST(SetUpLimit, PermitThatMovesIsGivenBackOnce) {
  SetUpLimit limit(1);
  {
    SetUpLimit::Permit permit = *limit.Acquire(Now(), nullptr);
    const SetUpLimit::Permit moved = std::move(permit);
    EXPECT_FALSE(limit.Acquire(Now(), nullptr).ok());
  }
  const auto again = limit.Acquire(Now(), nullptr);
  EXPECT_TRUE(again.ok());
  EXPECT_FALSE(limit.Acquire(Now(), nullptr).ok());
}

TEST(SetUpLimit, WhoWaitsIsServedInTurn) {
  SetUpLimit limit(1);
  auto held = limit.Acquire(Now(), nullptr);
  absl::Mutex mutex;
  std::vector<int> served;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      const auto permit = limit.Acquire(Soon(), nullptr);
      MutexLock lock(&mutex);
      served.push_back(permit.ok() ? i : -1);
    });
    ASSERT_TRUE(
        UntilTrue([&] { return limit.waiting() == size_t(i) + 1; }).ok());
  }
  *held = SetUpLimit::Permit();
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(served, ElementsAre(0, 1, 2));
  EXPECT_TRUE(limit.Acquire(Now(), nullptr).ok());
}

TEST(SetUpLimit, WaitThatIsCancelledLeavesTheQueue) {
  SetUpLimit limit(1);
  auto held = limit.Acquire(Now(), nullptr);
  Cancellation cancel = *Cancellation::Create();
  absl::Status waited;
  std::thread waiter([&] { waited = limit.Acquire(Soon(), &cancel).status(); });
  ASSERT_TRUE(UntilTrue([&] { return limit.waiting() == 1; }).ok());
  cancel.Cancel();
  waiter.join();
  EXPECT_TRUE(absl::IsCancelled(waited));
  EXPECT_EQ(limit.waiting(), 0u);
  *held = SetUpLimit::Permit();
  EXPECT_TRUE(limit.Acquire(Now(), nullptr).ok());
}

}  // namespace
}  // namespace nd::control
