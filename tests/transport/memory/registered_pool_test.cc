#include "transport/memory/registered_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/config.h"
#include "base/allocations.h"
#include "base/random.h"
#include "transport/memory/fake_registrar.h"

namespace nd::transport {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr size_t kMiB = size_t{1} << 20;

// A pool, with what it stands on.
struct PoolTest : ::testing::Test {
  void Make(size_t budget_bytes, RegisteredPool::Options options = {}) {
    registrar = std::make_shared<FakeRegistrar>();
    budget = std::make_shared<Budget>("test memory", budget_bytes);
    pool.emplace(registrar, budget, options);
  }
  Buffer Allocate(size_t size) {
    auto buffer = pool->Allocate(size);
    if (!buffer.ok()) ADD_FAILURE() << size << ": " << buffer.status();
    return buffer.ok() ? *std::move(buffer) : Buffer();
  }

  std::shared_ptr<FakeRegistrar> registrar;
  std::shared_ptr<Budget> budget;
  std::optional<RegisteredPool> pool;
};

TEST_F(PoolTest, BufferIsOfItsSizeAlignedAndRegistered) {
  Make(64 * kMiB, {.access = IBV_ACCESS_LOCAL_WRITE});
  for (const size_t size : {0, 1, 63, 64, 65, 4096, 100'000, 3'000'001}) {
    const Buffer buffer = Allocate(size);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(buffer.size(), size);
    EXPECT_EQ(buffer.address() % RegisteredPool::kAlignment, 0u);
    EXPECT_GE(buffer.data(), registrar->last_memory.data());
    EXPECT_LE(buffer.data() + size,
              registrar->last_memory.data() + registrar->last_memory.size());
    EXPECT_EQ(buffer.lkey(), 1u);
    EXPECT_EQ(buffer.rkey(), 1001u);
    std::ranges::fill(buffer.bytes(), std::byte{0x5a});
  }
  EXPECT_EQ(registrar->last_access, unsigned{IBV_ACCESS_LOCAL_WRITE});
  EXPECT_EQ(registrar->made, 1u) << "one region holds them all";
}

TEST_F(PoolTest, BufferGoesBackOnceHoweverItMoves) {
  Make(8 * kMiB);
  {
    Buffer first = Allocate(1000);
    const Buffer second = Allocate(1000);
    Buffer moved = std::move(first);
    // NOLINTNEXTLINE(bugprone-use-after-move): it is empty then
    EXPECT_FALSE(first);
    EXPECT_TRUE(moved);
    EXPECT_EQ(pool->statistics().buffers, 2u);
    moved = Allocate(500);
    EXPECT_EQ(pool->statistics().buffers, 2u);
    Buffer third = Allocate(1);
    moved = std::move(third);
    EXPECT_EQ(pool->statistics().buffers, 2u) << "what it had goes at once";
    moved = Buffer();
    EXPECT_EQ(pool->statistics().buffers, 1u);
  }
  EXPECT_EQ(pool->statistics().buffers, 0u);
  EXPECT_EQ(pool->statistics().bytes_in_use, 0u);
  EXPECT_GE(pool->statistics().peak_bytes_in_use, 2000u);
}

TEST_F(PoolTest, MemoryOfTheBudgetIsGivenBack) {
  Make(8 * kMiB, {.region_bytes = 2 * kMiB});
  {
    const Buffer one = Allocate(2 * kMiB), two = Allocate(1);
    EXPECT_EQ(budget->used(), 4 * kMiB);
    EXPECT_EQ(pool->statistics().region_bytes, 4 * kMiB);
    EXPECT_EQ(registrar->current, 2u);
    pool->ReleaseUnused();
    EXPECT_EQ(registrar->current, 2u) << "in use";
  }
  EXPECT_EQ(registrar->current, 2u) << "kept for the next";
  pool->ReleaseUnused();
  EXPECT_EQ(registrar->current, 0u);
  EXPECT_EQ(budget->used(), 0u);
  EXPECT_EQ(pool->statistics().regions, 0u);
  EXPECT_EQ(pool->statistics().region_bytes, 0u);
  EXPECT_TRUE(Allocate(100));
  pool.reset();
  EXPECT_EQ(registrar->current, 0u);
  EXPECT_EQ(budget->used(), 0u);
}

TEST_F(PoolTest, ExhaustedBudgetIsNamedWithItsUse) {
  Make(1 * kMiB);
  const Buffer all = Allocate(1 * kMiB);
  const absl::Status status = pool->Allocate(100).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("test memory"), HasSubstr("1048576 in use"),
                    HasSubstr("budget of 1048576")));
  EXPECT_TRUE(absl::IsResourceExhausted(pool->Allocate(SIZE_MAX).status()));
  EXPECT_TRUE(
      absl::IsResourceExhausted(pool->Allocate(SIZE_MAX - 64).status()));
  EXPECT_FALSE(pool->TryAllocate(SIZE_MAX));
  EXPECT_EQ(pool->statistics().failures, 3u);
}

TEST_F(PoolTest, BoundlessBudgetDoesNotOverflow) {
  Make(SIZE_MAX);
  for (const size_t size : {SIZE_MAX, SIZE_MAX / 2, size_t{1} << 47}) {
    EXPECT_TRUE(absl::IsResourceExhausted(pool->Allocate(size).status()));
  }
  EXPECT_EQ(budget->used(), 0u);
}

TEST_F(PoolTest, OneBufferMayHaveAllOfTheBudget) {
  // Of 100 pages, and of sizes that are no class.
  for (const size_t budget_bytes :
       {size_t{409'600}, 1000 * kMiB / 8, 33 * kMiB + 3 * size_t{4096}}) {
    Make(budget_bytes, {.region_bytes = 2 * kMiB});
    for (int round = 0; round < 3; ++round) {
      {
        const Buffer first = Allocate(100), second = Allocate(budget_bytes / 3);
      }
      const Buffer all = Allocate(budget_bytes);
      EXPECT_EQ(all.size(), budget_bytes);
      EXPECT_EQ(pool->statistics().regions, 1u);
    }
    const Buffer nearly = Allocate(budget_bytes - 1);
    EXPECT_TRUE(nearly);
  }
}

TEST_F(PoolTest, RegionIsSmallerWhereTheBudgetHasNoMore) {
  Make(3 * kMiB, {.region_bytes = 2 * kMiB});
  const Buffer first = Allocate(2 * kMiB);
  std::vector<Buffer> slots;
  slots.reserve(256);
  for (int i = 0; i < 256; ++i) slots.push_back(Allocate(4096));
  EXPECT_EQ(pool->statistics().regions, 2u);
  EXPECT_EQ(budget->used(), 3 * kMiB);
}

TEST_F(PoolTest, UnusedRegionsMakeRoomForALargerOne) {
  Make(8 * kMiB, {.region_bytes = 2 * kMiB});
  {
    const Buffer one = Allocate(2 * kMiB), two = Allocate(2 * kMiB),
                 three = Allocate(2 * kMiB);
  }
  const Buffer small = Allocate(100);
  const Buffer large = Allocate(6 * kMiB);
  EXPECT_EQ(pool->statistics().regions, 2u);
  EXPECT_EQ(registrar->current, 2u);
  std::ranges::fill(large.bytes(), std::byte{1});
  std::ranges::fill(small.bytes(), std::byte{2});
}

TEST_F(PoolTest, SeveralPoolsShareABudget) {
  Make(4 * kMiB, {.region_bytes = 2 * kMiB});
  RegisteredPool other(registrar, budget, {.region_bytes = 2 * kMiB});
  const Buffer mine = Allocate(2 * kMiB);
  EXPECT_FALSE(other.Allocate(2 * kMiB + 1).ok());
  EXPECT_TRUE(other.Allocate(2 * kMiB).ok());
}

TEST_F(PoolTest, RefusedRegistrationLeavesNothingBehind) {
  Make(8 * kMiB);
  registrar->max_current = 0;
  const absl::Status status = pool->Allocate(100).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(status.message(), AllOf(HasSubstr("registered memory"),
                                      HasSubstr("no more regions")));
  EXPECT_EQ(budget->used(), 0u);
  EXPECT_EQ(pool->statistics().regions, 0u);
  registrar->max_current = 1;
  EXPECT_TRUE(Allocate(100));
}

TEST_F(PoolTest, TryAllocateGivesOnlyWhatIsThere) {
  Make(8 * kMiB, {.region_bytes = 1 * kMiB});
  EXPECT_FALSE(pool->TryAllocate(0));
  EXPECT_EQ(pool->statistics().grown, 0u);
  { const Buffer warm = Allocate(100); }
  EXPECT_TRUE(pool->TryAllocate(1 * kMiB));
  EXPECT_FALSE(pool->TryAllocate(1 * kMiB + 1));
  EXPECT_FALSE(pool->TryAllocate(SIZE_MAX));
  EXPECT_EQ(pool->statistics().grown, 1u);
  EXPECT_EQ(pool->statistics().failures, 0u);
}

// The second round finds all that the first one left.
TEST_F(PoolTest, WarmPoolAsksNeitherTheHeapNorTheSystem) {
  Make(16 * kMiB, {.region_bytes = 4 * kMiB});
  std::vector<Buffer> buffers(600);
  uint64_t allocations = 0, grown = 0;
  for (int round = 0; round < 2; ++round) {
    allocations = AllocationsOfThisThread();
    grown = pool->statistics().grown;
    for (int part = 0; part < 3; ++part) {
      for (size_t i = 0; i < buffers.size(); ++i) {
        buffers[i] = *pool->Allocate(1 + (i * 7919 + part) % 20'000);
      }
      for (size_t i = 0; i < buffers.size(); i += 1 + part) buffers[i] = {};
    }
    for (Buffer& buffer : buffers) buffer = {};
  }
  EXPECT_EQ(AllocationsOfThisThread(), allocations);
  EXPECT_EQ(pool->statistics().grown, grown);
}

TEST_F(PoolTest, StatisticsCountHugePagesAndNodes) {
  Make(8 * kMiB, {.region_bytes = 2 * kMiB,
                  .memory = {.huge_pages = false, .numa_node = -1}});
  EXPECT_TRUE(Allocate(1));
  EXPECT_EQ(pool->statistics().regions_of_reserved_huge_pages, 0u);
  EXPECT_EQ(pool->statistics().regions_on_node, 0u);
}

class RandomPoolUse : public PoolTest,
                      public ::testing::WithParamInterface<uint64_t> {};

// Each buffer has a pattern of its own, which must still be there in the end.
TEST_P(RandomPoolUse, BuffersAreApartWithinTheBudgetAndComeBackWhole) {
  SeededRandom random(GetParam());
  const size_t limit = (1 + random.Below(1000)) * MappedMemory::PageSize();
  Make(limit, {.access = IBV_ACCESS_REMOTE_WRITE * unsigned(random.Below(2)),
               .region_bytes = 1 + random.Below(limit)});
  struct Held {
    Buffer buffer;
    uint8_t pattern;
  };
  std::vector<Held> held;
  const auto whole = [](const Held& one) {
    return std::ranges::all_of(one.buffer.bytes(), [&](std::byte byte) {
      return byte == std::byte{one.pattern};
    });
  };
  const size_t most = 1 + random.Below(limit);
  for (int step = 0; step < 400; ++step) {
    if (!held.empty() && random.WithProbability(0.45)) {
      std::swap(held[random.Below(held.size())], held.back());
      ASSERT_TRUE(whole(held.back())) << step;
      held.pop_back();
    } else if (random.OneIn(50)) {
      pool->ReleaseUnused();
    } else {
      const size_t size =
          random.Below(1 + (random.OneIn(4) ? most : most / 50));
      auto buffer = pool->Allocate(size);
      if (!buffer.ok()) {
        ASSERT_TRUE(absl::IsResourceExhausted(buffer.status()));
        continue;
      }
      const auto pattern = static_cast<uint8_t>(random.Next());
      std::ranges::fill(buffer->bytes(), std::byte{pattern});
      held.push_back({*std::move(buffer), pattern});
    }
    ASSERT_LE(budget->used(), limit);
    ASSERT_EQ(budget->used(), pool->statistics().region_bytes);
    ASSERT_LE(pool->statistics().bytes_in_use, pool->statistics().region_bytes);
    ASSERT_EQ(pool->statistics().buffers, held.size());
    ASSERT_EQ(registrar->current, pool->statistics().regions);
  }
  for (const Held& one : held) ASSERT_TRUE(whole(one));
  held.clear();
  EXPECT_EQ(pool->statistics().bytes_in_use, 0u);
  EXPECT_EQ(Allocate(limit).size(), limit) << "all is one again";
}

INSTANTIATE_TEST_SUITE_P(RegisteredPool, RandomPoolUse,
                         ::testing::Range<uint64_t>(0, 15));

#ifdef ABSL_HAVE_ADDRESS_SANITIZER
TEST_F(PoolTest, AddressSanitizerSeesUseOfWhatIsNotHandedOut) {
  Make(8 * kMiB);
  Buffer buffer = Allocate(100);
  std::byte* const data = buffer.data();
  EXPECT_DEATH(data[104] = std::byte{1}, "use-after-poison");
  buffer = Buffer();
  EXPECT_DEATH(data[0] = std::byte{1}, "use-after-poison");
}
#endif

}  // namespace
}  // namespace nd::transport
