// The fuzz target as a plain test; ./dev fuzz frames runs it for longer.
#include <gtest/gtest.h>

#include <cstdint>

#include "fuzz/seeds.h"

namespace nd::soft {
namespace {

constexpr uint64_t kRuns = 20000;

TEST(FramesFuzz, TheReaderTakesAnyBytes) { RunMutations(FrameSeeds(), kRuns); }

}  // namespace
}  // namespace nd::soft
