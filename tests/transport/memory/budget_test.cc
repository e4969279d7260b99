#include "transport/memory/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/random.h"

namespace nd::transport {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Budget, GivesUpToTheLimitAndNoMore) {
  Budget budget("sends", 100);
  EXPECT_TRUE(budget.TryTake(60));
  EXPECT_FALSE(budget.TryTake(41));
  EXPECT_TRUE(budget.TryTake(40));
  EXPECT_FALSE(budget.TryTake(1));
  EXPECT_TRUE(budget.TryTake(0));
  EXPECT_EQ(budget.used(), 100u);
  budget.Give(100);
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_EQ(budget.peak(), 100u);
}

TEST(Budget, HugeRequestDoesNotWrapAround) {
  Budget budget("sends", 100);
  ASSERT_TRUE(budget.TryTake(50));
  EXPECT_FALSE(budget.TryTake(SIZE_MAX));
  EXPECT_FALSE(budget.TryTake(SIZE_MAX - 49));
  budget.Give(50);
}

TEST(Budget, ChildTakesFromItsParentToo) {
  const auto process = std::make_shared<Budget>("process", 100);
  Budget one("session 1", 80, process), two("session 2", 80, process);
  ASSERT_TRUE(one.TryTake(70));
  EXPECT_EQ(process->used(), 70u);
  EXPECT_FALSE(two.TryTake(31));
  EXPECT_EQ(two.used(), 0u) << "what the parent refused was kept";
  EXPECT_EQ(two.peak(), 0u);
  EXPECT_TRUE(two.TryTake(30));
  one.Give(70);
  two.Give(30);
  EXPECT_EQ(process->used(), 0u);
}

TEST(Budget, ErrorNamesWhoRefusesAndItsUse) {
  const auto process = std::make_shared<Budget>("the process", 100);
  Budget session("session 7", 80, process);
  ASSERT_TRUE(process->TryTake(33));
  const absl::Status by_parent = session.Take(77);
  EXPECT_TRUE(absl::IsResourceExhausted(by_parent));
  EXPECT_THAT(by_parent.message(),
              AllOf(HasSubstr("the process"), HasSubstr("77"), HasSubstr("33"),
                    HasSubstr("100")));
  const absl::Status by_child = session.Take(81);
  EXPECT_TRUE(absl::IsResourceExhausted(by_child));
  EXPECT_THAT(by_child.message(),
              AllOf(HasSubstr("session 7"), HasSubstr("budget of 80")));
  process->Give(33);
}

TEST(Budget, ShareGivesBackOnce) {
  Budget budget("sends", 100);
  {
    Budget::Share first = budget.TryTakeShare(30);
    EXPECT_EQ(first.bytes(), 30u);
    Budget::Share moved = std::move(first);
    // NOLINTNEXTLINE(bugprone-use-after-move, clang-analyzer-*): it is empty
    EXPECT_EQ(first.bytes(), 0u);
    EXPECT_EQ(budget.used(), 30u);
    Budget::Share assigned = budget.TryTakeShare(50);
    assigned = std::move(moved);
    EXPECT_EQ(assigned.bytes(), 30u);
    EXPECT_EQ(budget.used(), 30u) << "what it had goes at once";
    assigned = {};
    EXPECT_EQ(budget.used(), 0u);
    assigned = budget.TryTakeShare(7);
  }
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_EQ(budget.TryTakeShare(101).bytes(), 0u);
  EXPECT_TRUE(absl::IsResourceExhausted(budget.TakeShare(101).status()));
}

TEST(Budget, ThreadsTogetherNeverExceedIt) {
  constexpr size_t kProcess = 1000, kSession = 600;
  const auto process = std::make_shared<Budget>("process", kProcess);
  Budget one("session 1", kSession, process),
      two("session 2", kSession, process);
  std::atomic<size_t> out{0}, most{0}, taken{0};
  const auto run = [&](Budget& budget, uint64_t seed) {
    SeededRandom random(seed);
    for (int i = 0; i < 20'000; ++i) {
      const size_t bytes = 1 + random.Below(400);
      if (!budget.TryTake(bytes)) continue;
      const size_t now = out.fetch_add(bytes) + bytes;
      size_t before = most.load();
      while (before < now && !most.compare_exchange_weak(before, now)) continue;
      taken.fetch_add(1);
      out.fetch_sub(bytes);
      budget.Give(bytes);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      threads.emplace_back(run, std::ref(seed % 2 == 0 ? one : two), seed);
    }
  }
  EXPECT_GT(taken.load(), 0u);
  EXPECT_LE(most.load(), kProcess);
  EXPECT_LE(process->peak(), kProcess);
  EXPECT_LE(one.peak(), kSession);
  EXPECT_EQ(process->used(), 0u);
  EXPECT_EQ(one.used(), 0u);
  EXPECT_EQ(two.used(), 0u);
}

}  // namespace
}  // namespace nd::transport
