#include "base/mpsc_ring.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/random.h"

namespace nd {
namespace {

TEST(MpscRing, PopAfterPushReturnsElementsInOrder) {
  MpscRing<int> ring(4);
  ASSERT_TRUE(ring.TryPush(1));
  ASSERT_TRUE(ring.TryPush(2));

  EXPECT_EQ(ring.TryPop(), 1);
  EXPECT_EQ(ring.TryPop(), 2);
  EXPECT_EQ(ring.TryPop(), std::nullopt);
}

TEST(MpscRing, CapacityIsAPowerOfTwoAndAtLeastTwo) {
  EXPECT_EQ(MpscRing<int>(0).capacity(), 2u);
  EXPECT_EQ(MpscRing<int>(1).capacity(), 2u);
  EXPECT_EQ(MpscRing<int>(5).capacity(), 8u);
  EXPECT_EQ(MpscRing<int>(8).capacity(), 8u);
}

TEST(MpscRing, PushIntoAFullRingFailsAndLeavesTheValue) {
  MpscRing<std::unique_ptr<int>> ring(2);
  ASSERT_TRUE(ring.TryPush(std::make_unique<int>(1)));
  ASSERT_TRUE(ring.TryPush(std::make_unique<int>(2)));
  auto value = std::make_unique<int>(3);

  EXPECT_FALSE(ring.TryPush(std::move(value)));
  ASSERT_NE(value, nullptr);
  EXPECT_EQ(**ring.TryPop(), 1);
  EXPECT_TRUE(ring.TryPush(std::move(value)));
}

TEST(MpscRing, DestroysWhatWasNotPopped) {
  const auto value = std::make_shared<int>(1);
  {
    MpscRing<std::shared_ptr<int>> ring(4);
    auto first = value, second = value;
    ASSERT_TRUE(ring.TryPush(std::move(first)));
    ASSERT_TRUE(ring.TryPush(std::move(second)));
    ASSERT_TRUE(ring.TryPop());
    EXPECT_EQ(value.use_count(), 2);
  }
  EXPECT_EQ(value.use_count(), 1);
}

TEST(MpscRing, BehavesLikeABoundedDeque) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SeededRandom random(seed);
    MpscRing<uint64_t> ring(random.Below(9));
    std::deque<uint64_t> model;
    for (int step = 0; step < 300; ++step) {
      if (random.OneIn(2)) {
        const uint64_t value = random.Next();
        const bool fits = model.size() < ring.capacity();
        ASSERT_EQ(ring.TryPush(value), fits) << "seed " << seed;
        if (fits) model.push_back(value);
      } else if (model.empty()) {
        ASSERT_EQ(ring.TryPop(), std::nullopt) << "seed " << seed;
      } else {
        ASSERT_EQ(ring.TryPop(), model.front()) << "seed " << seed;
        model.pop_front();
      }
      ASSERT_EQ(ring.size(), model.size()) << "seed " << seed;
      ASSERT_EQ(ring.empty(), model.empty()) << "seed " << seed;
    }
  }
}

TEST(MpscRing, CarriesEverythingFromFourThreadsEachInItsOrder) {
  struct Item {
    int producer;
    std::unique_ptr<int> number;
  };
  constexpr int kProducers = 4;
  constexpr int kEach = 10'000;
  MpscRing<Item> ring(64);

  std::vector<std::jthread> producers;
  producers.reserve(kProducers);
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&ring, p] {
      for (int i = 0; i < kEach; ++i) {
        Item item{p, std::make_unique<int>(i)};
        // NOLINTNEXTLINE(bugprone-use-after-move): a full ring leaves it alone
        while (!ring.TryPush(std::move(item))) std::this_thread::yield();
      }
    });
  }

  std::array<int, kProducers> next{};
  for (int popped = 0; popped < kProducers * kEach; ++popped) {
    std::optional<Item> item;
    while (!(item = ring.TryPop())) std::this_thread::yield();
    ASSERT_EQ(*item->number, next[item->producer]++);
    ASSERT_LE(ring.size(), ring.capacity());
  }
  EXPECT_TRUE(ring.empty());
}

}  // namespace
}  // namespace nd
