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

// Behind one that waits for its grant, on a stream that is closed.
TEST(SessionFuzz, ASendEndsWithASessionThatFailed) {
  const FuzzInput input = {0x2b, 0x00, 0x00, 0x01, 0xe2, 0xb1,
                           0xba, 0x37, 0x96, 0x00, 0x90, 0x61};
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace
}  // namespace nd::soft
