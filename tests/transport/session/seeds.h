// Simulated sessions by the seed.
//
// ND_SESSION_SEEDS=n and ND_SESSION_FIRST_SEED=n try others than the default.
#ifndef ND_TESTS_TRANSPORT_SESSION_SEEDS_H_
#define ND_TESTS_TRANSPORT_SESSION_SEEDS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "absl/strings/numbers.h"
#include "base/environment.h"
#include "base/random.h"
#include "transport/session/sim_world.h"

namespace nd::transport {

inline uint64_t SeedSetting(const char* name, uint64_t otherwise) {
  uint64_t value = 0;
  return absl::SimpleAtoi(Environment(name), &value) ? value : otherwise;
}

inline SimOptions RandomOptions(Random& random) {
  SimOptions options;
  SessionLayout& layout = options.layout;
  layout.latency_links = 1 + static_cast<uint32_t>(random.Below(2));
  layout.bulk_links = static_cast<uint32_t>(random.Below(4));
  layout.slots = 4 + static_cast<uint32_t>(random.Below(13));
  layout.slot_size = 512 << random.Below(3);
  layout.eager_limit = layout.slot_size - 32;
  layout.digest = random.OneIn(2);
  layout.ring = random.OneIn(3);
  layout.stream_window = 4096 << random.Below(3);
  layout.max_streams = 64;
  options.spare_slots = static_cast<uint32_t>(random.Below(8));
  options.depth = 8 + static_cast<uint32_t>(random.Below(17));
  options.budget = uint64_t{512} << 10;
  return options;
}

// one(random, seed) says what is wrong, or nothing.
template <typename One>
void ForEachSeed(One one) {
  const uint64_t first = SeedSetting("ND_SESSION_FIRST_SEED", 1);
  const uint64_t count = SeedSetting("ND_SESSION_SEEDS", 50);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SeededRandom random(seed);
    const std::string verdict = one(random, seed);
    ASSERT_EQ(verdict, "") << "seed " << seed;
  }
}

}  // namespace nd::transport

#endif  // ND_TESTS_TRANSPORT_SESSION_SEEDS_H_
