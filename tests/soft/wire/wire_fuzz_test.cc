// The fuzz target as a plain test; ./dev fuzz wire runs it for longer.
#include <gtest/gtest.h>

#include "fuzz/seeds.h"

namespace nd::soft {
namespace {

constexpr uint64_t kRuns = 20000;

TEST(WireFuzz, ParsersTakeAnyBytes) { RunMutations(WireSeeds(), kRuns); }

}  // namespace
}  // namespace nd::soft
