#include "base/asymmetric_barrier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>

namespace nd {
namespace {

// The two threads' variables, each on a cache line of its own. They meet before
// each round and behind it.
struct Exchange {
  static constexpr int kRounds = 100'000;

  void Meet(int thread, uint64_t round) {
    met_[thread].store(round, std::memory_order_release);
    while (met_[1 - thread].load(std::memory_order_acquire) < round) {
      // Where both share a processor.
      if (++looks_[thread] % 1024 == 0) std::this_thread::yield();
    }
  }

  alignas(64) std::atomic<int> first{0};
  alignas(64) std::atomic<int> second{0};

 private:
  alignas(64) std::atomic<uint64_t> met_[2];
  uint64_t looks_[2]{};
};

int Round(std::atomic<int>& mine, const std::atomic<int>& theirs,
          void (*barrier)()) {
  mine.store(1, std::memory_order_relaxed);
  barrier();
  return theirs.load(std::memory_order_relaxed);
}

// How often neither thread saw what the other had stored.
int NeitherSaw() {
  Exchange exchange;
  std::atomic<int>& first = exchange.first;
  std::atomic<int>& second = exchange.second;
  int seen[2]{};
  int neither = 0;
  std::thread thread([&] {
    for (uint64_t round = 0; round < Exchange::kRounds; ++round) {
      exchange.Meet(1, 2 * round + 1);
      seen[1] = Round(second, first, HeavyBarrier);
      exchange.Meet(1, 2 * round + 2);
    }
  });
  for (uint64_t round = 0; round < Exchange::kRounds; ++round) {
    first.store(0);
    second.store(0);
    exchange.Meet(0, 2 * round + 1);
    seen[0] = Round(first, second, LightBarrier);
    exchange.Meet(0, 2 * round + 2);
    if (seen[0] == 0 && seen[1] == 0) ++neither;
  }
  thread.join();
  return neither;
}

TEST(AsymmetricBarrier, OneOfTwoSeesTheOthersStore) {
  EXPECT_EQ(NeitherSaw(), 0);
}

TEST(AsymmetricBarrier, OneOfTwoSeesTheOthersStoreWhereTheKernelHasNone) {
  const bool reaches = barrier_internal::g_reaches_others.exchange(false);
  EXPECT_EQ(NeitherSaw(), 0);
  barrier_internal::g_reaches_others = reaches;
}

}  // namespace
}  // namespace nd
