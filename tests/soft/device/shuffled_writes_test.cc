#include "soft/device/shuffled_writes.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace nd::soft {
namespace {

constexpr Rkey kKey{7};
constexpr Psn kFirst{0xffffff};  // the next one wraps
constexpr size_t kMtu = 256;

class FlatMemory final : public RemoteMemory {
 public:
  std::optional<std::span<std::byte>> Find(const MemoryClaim& claim) override {
    if (claim.rkey != kKey || claim.access != IBV_ACCESS_REMOTE_WRITE ||
        claim.address + claim.length > bytes.size()) {
      return std::nullopt;
    }
    return std::span(bytes).subspan(claim.address, claim.length);
  }
  bool Invalidate(Rkey) override { return false; }
  ptrdiff_t Placed(size_t from, size_t count) const {
    const auto begin = bytes.begin() + static_cast<ptrdiff_t>(from);
    return std::count(begin, begin + static_cast<ptrdiff_t>(count),
                      std::byte{1});
  }
  alignas(64) std::array<std::byte, 4096> bytes{};
};

class ShuffledWritesTest : public testing::Test {
 protected:
  Packet Write(Opcode opcode, uint32_t index) {
    Packet packet{.bth = {.opcode = opcode, .psn = kFirst + index},
                  .payload = payload_};
    packet.reth = {.address = 0, .rkey = kKey, .length = 3 * kMtu};
    return packet;
  }
  bool Hold(const Packet& packet) {
    return shuffled_.Hold({.path = {}, .packet = packet}, memory_, random_);
  }

  const std::vector<std::byte> payload_ =
      std::vector<std::byte>(kMtu, std::byte{1});
  SeededRandom random_{1};
  FlatMemory memory_;
  ShuffledWrites shuffled_;
};

TEST_F(ShuffledWritesTest, CacheLinesArePlacedAsPacketsCome) {
  const Packet first = Write(Opcode::kRcWriteFirst, 0);
  shuffled_.Begin(first, Instant());
  EXPECT_TRUE(Hold(first));
  EXPECT_TRUE(Hold(Write(Opcode::kRcWriteMiddle, 1)));
  EXPECT_TRUE(Hold(Write(Opcode::kRcWriteLast, 2)));
  ptrdiff_t placed = 0;
  for (size_t line = 0; line < 3 * kMtu; line += 64) {
    const ptrdiff_t here = memory_.Placed(line, 64);
    EXPECT_TRUE(here == 0 || here == 64) << "line at " << line;
    placed += here;
  }
  EXPECT_GT(placed, 0);
  EXPECT_LT(placed, 3 * static_cast<ptrdiff_t>(kMtu));
  EXPECT_EQ(memory_.Placed(3 * kMtu, kMtu), 0);
  EXPECT_EQ(shuffled_.until(), Instant() + ShuffledWrites::kHeldFor);
  const auto held = shuffled_.Take();
  ASSERT_EQ(held.size(), 3u);
  EXPECT_EQ(held[2].packet.bth.psn, kFirst + 2);
  EXPECT_EQ(held[2].payload, payload_);
  EXPECT_FALSE(shuffled_.holding());
}

// Once it is placed in its turn, it must not come back.
TEST_F(ShuffledWritesTest, WhatDoesNotGoOnWithTheWriteIsNotPlaced) {
  const Packet first = Write(Opcode::kRcWriteFirst, 0);
  shuffled_.Begin(first, Instant());
  ASSERT_TRUE(Hold(first));
  memory_.bytes = {};
  ASSERT_TRUE(Hold(first));
  ASSERT_TRUE(Hold(Write(Opcode::kRcWriteMiddle, 1)));
  EXPECT_EQ(memory_.Placed(0, 4096), 0);
}

TEST_F(ShuffledWritesTest, NothingIsPlacedBehindTheLengthOrWithoutAKey) {
  Packet first = Write(Opcode::kRcWriteFirst, 0);
  first.reth.length = kMtu - 1;
  shuffled_.Begin(first, Instant());
  ASSERT_TRUE(Hold(first));
  (void)shuffled_.Take();
  first = Write(Opcode::kRcWriteFirst, 0);
  first.reth.rkey = Rkey(8);
  shuffled_.Begin(first, Instant());
  ASSERT_TRUE(Hold(first));
  EXPECT_EQ(memory_.Placed(0, 4096), 0);
}

TEST_F(ShuffledWritesTest, WhatFollowsPacketsThatCameTogetherIsPlacedToo) {
  Packet first = Write(Opcode::kRcWriteFirst, 0);
  first.packets = 2;
  shuffled_.Begin(first, Instant());
  ASSERT_TRUE(Hold(first));
  const ptrdiff_t placed = memory_.Placed(0, 4096);
  ASSERT_TRUE(Hold(Write(Opcode::kRcWriteLast, 2)));
  EXPECT_GT(memory_.Placed(0, 4096), placed);
}

TEST_F(ShuffledWritesTest, WhatIsHeldIsBounded) {
  const Packet first = Write(Opcode::kRcWriteFirst, 0);
  shuffled_.Begin(first, Instant());
  for (size_t i = 1; i < ShuffledWrites::kMaxHeld; ++i) {
    ASSERT_TRUE(Hold(first));
  }
  EXPECT_FALSE(Hold(first));
}

}  // namespace
}  // namespace nd::soft
