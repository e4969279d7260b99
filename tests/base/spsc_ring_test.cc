#include "base/spsc_ring.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "base/random.h"

namespace nd {
namespace {

TEST(SpscRing, PopAfterPushReturnsElementsInOrder) {
  SpscRing<int> ring(4);
  ASSERT_TRUE(ring.TryPush(1));
  ASSERT_TRUE(ring.TryPush(2));

  EXPECT_EQ(ring.TryPop(), 1);
  EXPECT_EQ(ring.TryPop(), 2);
  EXPECT_EQ(ring.TryPop(), std::nullopt);
}

TEST(SpscRing, CapacityIsRoundedUpToAPowerOfTwo) {
  EXPECT_EQ(SpscRing<int>(0).capacity(), 1u);
  EXPECT_EQ(SpscRing<int>(1).capacity(), 1u);
  EXPECT_EQ(SpscRing<int>(5).capacity(), 8u);
  EXPECT_EQ(SpscRing<int>(8).capacity(), 8u);
}

TEST(SpscRing, PushIntoAFullRingFailsAndLeavesTheValue) {
  SpscRing<std::unique_ptr<int>> ring(1);
  ASSERT_TRUE(ring.TryPush(std::make_unique<int>(1)));
  auto value = std::make_unique<int>(2);

  EXPECT_FALSE(ring.TryPush(std::move(value)));
  ASSERT_NE(value, nullptr);
  EXPECT_EQ(**ring.TryPop(), 1);
  EXPECT_TRUE(ring.TryPush(std::move(value)));
  EXPECT_EQ(**ring.TryPop(), 2);
}

TEST(SpscRing, SizeCountsWhatIsInIt) {
  SpscRing<int> ring(2);

  EXPECT_TRUE(ring.empty());
  ASSERT_TRUE(ring.TryPush(1));
  EXPECT_EQ(ring.size(), 1u);
  ASSERT_TRUE(ring.TryPush(2));
  EXPECT_EQ(ring.size(), 2u);
  ASSERT_TRUE(ring.TryPop());
  EXPECT_EQ(ring.size(), 1u);
  EXPECT_FALSE(ring.empty());
}

TEST(SpscRing, DestroysWhatWasNotPopped) {
  const auto value = std::make_shared<int>(1);
  {
    SpscRing<std::shared_ptr<int>> ring(4);
    ASSERT_TRUE(ring.TryPush(value));
    ASSERT_TRUE(ring.TryPush(value));
    ASSERT_TRUE(ring.TryPop());
    EXPECT_EQ(value.use_count(), 2);
  }
  EXPECT_EQ(value.use_count(), 1);
}

TEST(SpscRing, HoldsTypesWithoutADefaultConstructor) {
  struct Named {
    explicit Named(int id) : id(id) {}
    int id;
  };
  SpscRing<Named> ring(2);

  ASSERT_TRUE(ring.TryPush(Named(3)));
  EXPECT_EQ(ring.TryPop()->id, 3);
}

TEST(SpscRing, BehavesLikeABoundedDeque) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SeededRandom random(seed);
    SpscRing<uint64_t> ring(random.Below(9));
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
    }
  }
}

TEST(SpscRing, CarriesEverythingInOrderFromOneThreadToAnother) {
  constexpr int kCount = 50'000;
  SpscRing<std::unique_ptr<int>> ring(64);

  std::jthread producer([&ring] {
    for (int i = 0; i < kCount; ++i) {
      auto value = std::make_unique<int>(i);
      while (!ring.TryPush(std::move(value))) std::this_thread::yield();
    }
  });

  for (int i = 0; i < kCount; ++i) {
    std::optional<std::unique_ptr<int>> value;
    while (!(value = ring.TryPop())) std::this_thread::yield();
    ASSERT_EQ(**value, i);
    ASSERT_LE(ring.size(), ring.capacity());
  }
  EXPECT_TRUE(ring.empty());
}

}  // namespace
}  // namespace nd
