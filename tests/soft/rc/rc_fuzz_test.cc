// The fuzz target as a plain test; ./dev fuzz rc runs it for longer.
#include <gtest/gtest.h>

#include "fuzz/seeds.h"

namespace nd::soft {
namespace {

constexpr uint64_t kRuns = 2000;

TEST(RcFuzz, QueuePairsTakeAnyPackets) { RunMutations(RcSeeds(), kRuns); }

}  // namespace
}  // namespace nd::soft
