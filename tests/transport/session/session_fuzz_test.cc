// The fuzz target as a plain test; ./dev fuzz session runs it for longer.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "base/random.h"
#include "fuzz/seeds.h"

namespace nd::soft {
namespace {

TEST(SessionFuzz, NeitherPeerNorApplicationCanHangOrBreakASession) {
  SeededRandom random(1);
  for (int run = 0; run < 3000; ++run) {
    FuzzInput input(random.Below(2000));
    random.Fill(std::as_writable_bytes(std::span(input)));
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
}

}  // namespace
}  // namespace nd::soft
