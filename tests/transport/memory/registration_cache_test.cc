#include "transport/memory/registration_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/allocations.h"
#include "base/random.h"
#include "transport/memory/fake_registrar.h"

namespace nd::transport {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Cache = RegistrationCache;

constexpr unsigned kLocal = IBV_ACCESS_LOCAL_WRITE;
constexpr unsigned kRemote = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;

struct CacheTest : ::testing::Test {
  void Make(const Cache::Options& options) {
    registrar = std::make_shared<FakeRegistrar>();
    cache.emplace(registrar, options);
  }
  // Bytes of an application's, never looked at.
  static std::span<std::byte> At(uint64_t begin, size_t size) {
    return {reinterpret_cast<std::byte*>(0x10000 + begin), size};
  }
  Cache::Use Acquire(uint64_t begin, size_t size, unsigned access = kLocal) {
    auto use = cache->Acquire(At(begin, size), access);
    if (!use.ok()) ADD_FAILURE() << use.status();
    return use.ok() ? *std::move(use) : Cache::Use();
  }
  // Which registration serves the range, by its lkey.
  uint32_t Serves(uint64_t begin, size_t size, unsigned access = kLocal) {
    return Acquire(begin, size, access).keys().lkey;
  }
  size_t Invalidate(uint64_t begin, size_t size) {
    return cache->Invalidate(At(begin, size).data(), size);
  }

  std::shared_ptr<FakeRegistrar> registrar;
  std::optional<Cache> cache;
};

TEST_F(CacheTest, WithoutThePromiseARegistrationEndsWithItsLastUse) {
  Make({});
  {
    const Cache::Use one = Acquire(0, 100), two = Acquire(0, 100);
    EXPECT_EQ(one.keys(), two.keys());
    EXPECT_EQ(registrar->current, 1u);
    EXPECT_EQ(registrar->last_memory.data(), At(0, 100).data());
    EXPECT_EQ(registrar->last_memory.size(), 100u);
    EXPECT_EQ(registrar->last_access, kLocal);
  }
  EXPECT_EQ(registrar->current, 0u);
  EXPECT_EQ(Serves(0, 100), 2u);
  EXPECT_EQ(cache->statistics().entries, 0u);
  EXPECT_EQ(cache->statistics().bytes, 0u);
}

// The part keeps a wider entry alive, of which the application may have freed
// the rest when the wider use was over.
TEST_F(CacheTest, WithoutThePromiseAPartIsNotServedByAWiderEntry) {
  Make({});
  std::optional<Cache::Use> wide = Acquire(0, 1000);
  const Cache::Use part = Acquire(0, 100);
  EXPECT_EQ(part.keys().lkey, 2u);
  wide.reset();
  EXPECT_EQ(registrar->current, 1u);
  EXPECT_EQ(Serves(500, 100), 3u);
}

TEST_F(CacheTest, KeptEntryServesAllWithinIt) {
  Make({.keep = Cache::Keep::kLocal});
  EXPECT_EQ(Serves(1000, 500), 1u);
  EXPECT_EQ(Serves(1000, 500), 1u);
  EXPECT_EQ(Serves(1000, 1), 1u);
  EXPECT_EQ(Serves(1499, 1), 1u);
  EXPECT_EQ(Serves(1200, 100), 1u);
  EXPECT_EQ(cache->statistics().hits, 4u);
  EXPECT_EQ(cache->statistics().misses, 1u);
}

TEST_F(CacheTest, HitTakesNothingFromTheHeap) {
  Make({.keep = Cache::Keep::kLocal});
  for (uint64_t i = 0; i < 100; ++i) Serves(i * 100, 50);
  const uint64_t before = AllocationsOfThisThread();
  for (uint64_t i = 0; i < 100; ++i) {
    const auto use = cache->Acquire(At(i * 100 + 10, 20), kLocal);
    if (use->keys().lkey != i + 1) ADD_FAILURE() << i;
  }
  EXPECT_EQ(AllocationsOfThisThread(), before);
}

// The registrar's own is not the cache's to save.
TEST_F(CacheTest, OnceWarmOnlyTheRegistrarTakesFromTheHeap) {
  Make({.keep = Cache::Keep::kLocal, .max_entries = 8});
  const auto round = [this] {
    for (uint64_t i = 0; i < 100; ++i) {
      const Cache::Use peers = Acquire(i * 100, 50, kRemote);
      const Cache::Use ours = Acquire(i * 100, 50);
      Invalidate((i - 3) * 100, 50);
    }
  };
  for (int i = 0; i < 2; ++i) round();
  const uint64_t before = AllocationsOfThisThread();
  const uint32_t registered = registrar->made;
  round();
  const uint64_t taken = AllocationsOfThisThread() - before;
  EXPECT_EQ(taken, registrar->made - registered);
  EXPECT_GT(taken, 150u);
}

TEST_F(CacheTest, WhatReachesBeyondAnEntryIsAnEntryOfItsOwn) {
  Make({.keep = Cache::Keep::kLocal});
  EXPECT_EQ(Serves(1000, 500), 1u);
  EXPECT_EQ(Serves(999, 500), 2u);
  EXPECT_EQ(Serves(1001, 500), 3u);
  EXPECT_EQ(Serves(1500, 1), 3u);
  EXPECT_EQ(Serves(999, 1), 2u);
  EXPECT_EQ(Serves(1501, 1), 4u);
  EXPECT_EQ(cache->statistics().entries, 4u);
  EXPECT_EQ(cache->statistics().bytes, 1501u);
}

TEST_F(CacheTest, EntryServesItsOwnAccessOnly) {
  Make({.keep = Cache::Keep::kLocal});
  EXPECT_EQ(Serves(0, 100, kLocal), 1u);
  EXPECT_EQ(Serves(0, 100, 0), 2u);
  EXPECT_EQ(Serves(0, 100, kLocal), 1u);
  EXPECT_EQ(Serves(0, 100, 0), 2u);
  EXPECT_EQ(Serves(200, 100, 0), 3u);
  EXPECT_EQ(Serves(200, 100, kLocal), 4u);
}

TEST_F(CacheTest, WiderEntryReplacesThoseWithinIt) {
  Make({.keep = Cache::Keep::kLocal});
  EXPECT_EQ(Serves(100, 100), 1u);
  EXPECT_EQ(Serves(300, 100), 2u);
  EXPECT_EQ(Serves(350, 200), 3u);
  std::optional<Cache::Use> in_use = Acquire(300, 100);
  EXPECT_EQ(Serves(100, 300), 4u);
  EXPECT_EQ(Serves(100, 100), 4u);
  EXPECT_EQ(Serves(350, 200), 3u) << "it reaches further";
  EXPECT_EQ(cache->statistics().entries, 3u) << "one of them is in use";
  in_use.reset();
  EXPECT_EQ(cache->statistics().entries, 2u);
  EXPECT_EQ(registrar->current, 2u);
  EXPECT_EQ(cache->statistics().bytes, 500u);
}

TEST_F(CacheTest, PeersKeyIsOfTheVeryRangeAndEndsWithItsUse) {
  Make({.keep = Cache::Keep::kLocal});
  {
    const Cache::Use wide = Acquire(0, 1000, kRemote);
    EXPECT_EQ(wide.keys().rkey, 1001u);
    EXPECT_EQ(Serves(0, 1000, kRemote), 1u);
    EXPECT_EQ(Serves(0, 999, kRemote), 2u);
    EXPECT_EQ(Serves(0, 1001, kRemote), 3u);
    EXPECT_EQ(registrar->current, 1u);
  }
  EXPECT_EQ(registrar->current, 0u);
}

TEST_F(CacheTest, PeersKeysAreKeptWherePeersAreTrusted) {
  Make({.keep = Cache::Keep::kAll});
  EXPECT_EQ(Serves(0, 1000, kRemote), 1u);
  EXPECT_EQ(Serves(0, 999, kRemote), 2u);
  EXPECT_EQ(Serves(0, 1000, kRemote), 1u);
  EXPECT_EQ(Serves(0, 999, kRemote), 2u);
  EXPECT_EQ(registrar->current, 2u);
}

TEST_F(CacheTest, LeastRecentlyUsedGoesFirst) {
  Make({.keep = Cache::Keep::kLocal, .max_entries = 3});
  EXPECT_EQ(Serves(0, 10), 1u);
  EXPECT_EQ(Serves(100, 10), 2u);
  EXPECT_EQ(Serves(200, 10), 3u);
  EXPECT_EQ(Serves(0, 10), 1u);  // now 100 is the oldest
  EXPECT_EQ(Serves(300, 10), 4u);
  EXPECT_EQ(registrar->current, 3u);
  EXPECT_EQ(Serves(0, 10), 1u);
  EXPECT_EQ(Serves(200, 10), 3u);
  EXPECT_EQ(Serves(100, 10), 5u) << "it had gone";
  EXPECT_EQ(Serves(300, 10), 6u) << "the oldest then";
  EXPECT_EQ(cache->statistics().evictions, 3u);
}

TEST_F(CacheTest, BytesAreBoundedToo) {
  Make({.keep = Cache::Keep::kLocal, .max_bytes = 1000});
  EXPECT_EQ(Serves(0, 400), 1u);
  EXPECT_EQ(Serves(1000, 400), 2u);
  EXPECT_EQ(Serves(2000, 201), 3u);
  EXPECT_EQ(cache->statistics().bytes, 601u);
  EXPECT_EQ(Serves(1000, 400), 2u);
  EXPECT_EQ(Serves(5000, 1000), 4u);
  EXPECT_EQ(cache->statistics().entries, 1u);
}

TEST_F(CacheTest, WhatIsInUseIsNeverEvicted) {
  Make({.keep = Cache::Keep::kLocal, .max_entries = 2});
  std::optional<Cache::Use> one = Acquire(0, 10), two = Acquire(100, 10);
  const auto status = cache->Acquire(At(200, 10), kLocal).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("20 bytes in 2 in use"), HasSubstr("in 2")));
  EXPECT_EQ(registrar->current, 2u);
  EXPECT_EQ(Serves(100, 10), 2u) << "what is registered still serves";
  one.reset();
  EXPECT_EQ(Serves(200, 10), 3u);
  EXPECT_EQ(Serves(100, 10), 2u);
}

TEST_F(CacheTest, WhatIsTooLargeForTheRestEvictsNothing) {
  Make({.keep = Cache::Keep::kLocal, .max_bytes = 1000});
  const Cache::Use held = Acquire(0, 600);
  EXPECT_EQ(Serves(1000, 300), 2u);
  EXPECT_FALSE(cache->Acquire(At(2000, 401), kLocal).ok());
  EXPECT_FALSE(cache->Acquire(At(2000, SIZE_MAX / 2), kLocal).ok());
  EXPECT_EQ(cache->statistics().entries, 2u);
  EXPECT_EQ(Serves(2000, 400), 3u);
}

TEST_F(CacheTest, DeviceWithLessRoomThanOursGetsItsRoom) {
  Make({.keep = Cache::Keep::kLocal});
  registrar->max_current = 2;
  EXPECT_EQ(Serves(0, 10), 1u);
  EXPECT_EQ(Serves(100, 10), 2u);
  EXPECT_EQ(Serves(200, 10), 3u);
  const Cache::Use one = Acquire(200, 10), two = Acquire(300, 10);
  EXPECT_TRUE(
      absl::IsResourceExhausted(cache->Acquire(At(400, 10), kLocal).status()));
  EXPECT_EQ(cache->statistics().entries, 2u);
}

TEST_F(CacheTest, NoBytesAreNoRegistration) {
  Make({});
  EXPECT_TRUE(
      absl::IsInvalidArgument(cache->Acquire(At(0, 0), kLocal).status()));
}

TEST_F(CacheTest, InvalidatedMemoryIsNotFoundAgain) {
  Make({.keep = Cache::Keep::kAll});
  EXPECT_EQ(Serves(0, 100), 1u);
  EXPECT_EQ(Serves(200, 100), 2u);
  EXPECT_EQ(Serves(200, 100, kRemote), 3u);
  EXPECT_EQ(Serves(400, 100), 4u);
  EXPECT_EQ(Invalidate(100, 100), 0u);
  EXPECT_EQ(registrar->current, 4u) << "it touches neither neighbour";
  EXPECT_EQ(Invalidate(299, 101), 0u);
  EXPECT_EQ(registrar->current, 2u);
  EXPECT_EQ(cache->statistics().invalidated, 2u);
  EXPECT_EQ(Serves(0, 100), 1u);
  EXPECT_EQ(Serves(200, 100), 5u);
  EXPECT_EQ(Invalidate(0, SIZE_MAX), 0u);
  EXPECT_EQ(registrar->current, 0u);
}

TEST_F(CacheTest, InvalidatedInUseGoesWithItsLastUse) {
  Make({.keep = Cache::Keep::kLocal});
  std::optional<Cache::Use> one = Acquire(0, 100), two = Acquire(0, 50);
  EXPECT_EQ(Invalidate(10, 1), 1u);
  EXPECT_EQ(registrar->current, 1u);
  const Cache::Use anew = Acquire(0, 100);
  EXPECT_EQ(anew.keys().lkey, 2u);
  one.reset();
  EXPECT_EQ(Invalidate(10, 1), 2u);
  two.reset();
  EXPECT_EQ(registrar->current, 1u);
  EXPECT_EQ(Invalidate(10, 1), 1u);
}

TEST_F(CacheTest, UseMoves) {
  Make({});
  Cache::Use one = Acquire(0, 100);
  Cache::Use moved = std::move(one);
  EXPECT_EQ(moved.keys().lkey, 1u);
  EXPECT_EQ(registrar->current, 1u);
  Cache::Use other = Acquire(200, 100);
  moved = std::move(other);
  EXPECT_EQ(moved.keys().lkey, 2u);
  EXPECT_EQ(registrar->current, 1u);
}

class RandomCacheUse : public CacheTest,
                       public ::testing::WithParamInterface<uint64_t> {};

// Each address has an age, which grows when it is invalidated: what serves a
// range must be as young as all of it.
TEST_P(RandomCacheUse, ServesTheRangeNeverStaleWithinItsBounds) {
  SeededRandom random(GetParam());
  constexpr size_t kSpace = 64;
  const Cache::Options options{
      .keep = static_cast<Cache::Keep>(random.Below(3)),
      .max_entries = 1 + random.Below(12),
      .max_bytes = 10 + random.Below(200)};
  Make(options);
  struct Made {
    uint64_t begin, end;
    unsigned access;
    std::vector<int> ages;
  };
  std::map<uint32_t, Made> made;  // by lkey
  std::vector<int> ages(kSpace);
  std::deque<Cache::Use> uses;
  for (int step = 0; step < 2'000; ++step) {
    const uint64_t begin = random.Below(kSpace);
    const size_t size = 1 + random.Below(kSpace - begin);
    if (random.OneIn(10)) {
      Invalidate(begin, size);
      for (size_t i = 0; i < size; ++i) ++ages[begin + i];
    } else if (!uses.empty() && random.OneIn(2)) {
      std::swap(uses[random.Below(uses.size())], uses.back());
      uses.pop_back();
    } else {
      const unsigned access = std::array{0u, kLocal, kRemote}[random.Below(3)];
      auto use = cache->Acquire(At(begin, size), access);
      const auto statistics = cache->statistics();
      if (!use.ok()) {
        ASSERT_TRUE(statistics.entries_in_use == options.max_entries ||
                    statistics.bytes_in_use + size > options.max_bytes);
        continue;
      }
      const uint32_t key = use->keys().lkey;
      if (!made.contains(key)) {
        made[key] = {begin, begin + size, access, ages};
      }
      const Made& one = made[key];
      ASSERT_EQ(one.access, access);
      ASSERT_LE(one.begin, begin);
      ASSERT_GE(one.end, begin + size);
      if (access == kRemote || options.keep == Cache::Keep::kNothing) {
        ASSERT_EQ(one.end - one.begin, size) << "more than the peer may have";
      }
      for (uint64_t at = begin; at < begin + size; ++at) {
        ASSERT_EQ(one.ages[at], ages[at]) << "stale";
      }
      uses.push_back(*std::move(use));
    }
    const auto statistics = cache->statistics();
    ASSERT_LE(statistics.entries, options.max_entries);
    ASSERT_LE(statistics.bytes, options.max_bytes);
    ASSERT_EQ(statistics.entries, registrar->current);
    if (options.keep == Cache::Keep::kNothing) {
      ASSERT_EQ(statistics.entries, statistics.entries_in_use);
    }
  }
  uses.clear();
  EXPECT_EQ(cache->statistics().entries_in_use, 0u);
  EXPECT_EQ(cache->statistics().bytes_in_use, 0u);
  EXPECT_EQ(Invalidate(0, kSpace), 0u);
  EXPECT_EQ(registrar->current, 0u);
}

INSTANTIATE_TEST_SUITE_P(RegistrationCache, RandomCacheUse,
                         ::testing::Range<uint64_t>(0, 60));

TEST_F(CacheTest, OtherThreadsMayInvalidate) {
  Make({.keep = Cache::Keep::kLocal, .max_entries = 8});
  std::jthread other([this](const std::stop_token& stop) {
    SeededRandom random(1);
    while (!stop.stop_requested()) {
      Invalidate(random.Below(100), 1 + random.Below(50));
      (void)cache->statistics();
    }
  });
  SeededRandom random(2);
  std::deque<Cache::Use> uses;
  for (int step = 0; step < 5'000; ++step) {
    uses.push_back(Acquire(random.Below(100), 1 + random.Below(50)));
    EXPECT_NE(uses.back().keys().lkey, 0u);
    if (uses.size() > 4) uses.pop_front();
  }
}

}  // namespace
}  // namespace nd::transport
