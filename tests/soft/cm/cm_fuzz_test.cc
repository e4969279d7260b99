// The fuzz target as a plain test; ./dev fuzz cm runs it for longer.
#include <gtest/gtest.h>

#include "fuzz/seeds.h"

namespace nd::soft {
namespace {

constexpr uint64_t kRuns = 4000;

TEST(CmFuzz, ManagersTakeAnyMessages) { RunMutations(CmSeeds(), kRuns); }

}  // namespace
}  // namespace nd::soft
