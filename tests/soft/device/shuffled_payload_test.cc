#include "soft/device/shuffled_payload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace nd::soft {
namespace {

constexpr Rkey kKey{7};
constexpr Psn kFirst{0xffffff};  // the next one wraps
constexpr size_t kMtu = 256;

class ShuffledPayloadTest : public testing::Test {
 protected:
  Packet Write(Opcode opcode, uint32_t index) {
    Packet packet{.bth = {.opcode = opcode, .psn = kFirst + index},
                  .payload = payload_};
    packet.reth = {.address = 0, .rkey = kKey, .length = 3 * kMtu};
    return packet;
  }
  // Where a message of three packets is to go.
  Slice Place() const {
    return {
        .segments = segments_, .offset = shuffled_.arrived(), .length = kMtu};
  }
  bool Hold(const Packet& packet) {
    return shuffled_.Hold({.path = {}, .packet = packet}, Place(), random_);
  }
  ptrdiff_t Placed(size_t from, size_t count) const {
    const auto begin = memory_.begin() + static_cast<ptrdiff_t>(from);
    return std::count(begin, begin + static_cast<ptrdiff_t>(count),
                      std::byte{1});
  }

  const std::vector<std::byte> payload_ =
      std::vector<std::byte>(kMtu, std::byte{1});
  SeededRandom random_{1};
  alignas(64) std::array<std::byte, 4096> memory_{};
  std::vector<Segment> segments_{std::span(memory_).first(3 * kMtu)};
  ShuffledPayload shuffled_;
};

TEST_F(ShuffledPayloadTest, CacheLinesArePlacedAsPacketsCome) {
  const Packet first = Write(Opcode::kRcWriteFirst, 0);
  shuffled_.Begin(first, Instant());
  EXPECT_TRUE(Hold(first));
  EXPECT_TRUE(Hold(Write(Opcode::kRcWriteMiddle, 1)));
  EXPECT_TRUE(Hold(Write(Opcode::kRcWriteLast, 2)));
  ptrdiff_t placed = 0;
  for (size_t line = 0; line < 3 * kMtu; line += 64) {
    const ptrdiff_t here = Placed(line, 64);
    EXPECT_TRUE(here == 0 || here == 64) << "line at " << line;
    placed += here;
  }
  EXPECT_GT(placed, 0);
  EXPECT_LT(placed, 3 * static_cast<ptrdiff_t>(kMtu));
  EXPECT_EQ(Placed(3 * kMtu, kMtu), 0);
  EXPECT_EQ(shuffled_.until(), Instant() + ShuffledPayload::kHeldFor);
  const auto held = shuffled_.Take();
  ASSERT_EQ(held.size(), 3u);
  EXPECT_EQ(held[2].packet.bth.psn, kFirst + 2);
  EXPECT_EQ(held[2].payload, payload_);
  EXPECT_FALSE(shuffled_.holding());
}

// Once it is placed in its turn, it must not come back.
TEST_F(ShuffledPayloadTest, WhatDoesNotGoOnWithTheWriteIsNotPlaced) {
  const Packet first = Write(Opcode::kRcWriteFirst, 0);
  shuffled_.Begin(first, Instant());
  ASSERT_TRUE(Hold(first));
  memory_ = {};
  ASSERT_TRUE(Hold(first));
  ASSERT_TRUE(Hold(Write(Opcode::kRcWriteMiddle, 1)));
  EXPECT_EQ(Placed(0, 4096), 0);
}

TEST_F(ShuffledPayloadTest, NothingIsPlacedBehindTheLengthOfAWrite) {
  Packet first = Write(Opcode::kRcWriteFirst, 0);
  first.reth.length = kMtu - 1;
  shuffled_.Begin(first, Instant());
  EXPECT_FALSE(shuffled_.GoesOn(first));
  ASSERT_TRUE(Hold(first));
  EXPECT_EQ(Placed(0, 4096), 0);
}

TEST_F(ShuffledPayloadTest, NothingIsPlacedWithoutAPlace) {
  const Packet first = Write(Opcode::kRcWriteFirst, 0);
  shuffled_.Begin(first, Instant());
  ASSERT_TRUE(shuffled_.Hold({.path = {}, .packet = first}, {}, random_));
  EXPECT_EQ(Placed(0, 4096), 0);
  EXPECT_EQ(shuffled_.Take().size(), 1u);
}

// As receives and READs have it; the second packet crosses two borders.
TEST_F(ShuffledPayloadTest, ItIsPlacedInPieces) {
  const auto all = std::span(memory_);
  segments_ = {all.subspan(1024, kMtu + 10), all.subspan(0, 20), Segment(),
               all.subspan(2048, 2 * kMtu - 30)};
  for (int round = 0; round < 20; ++round) {
    const Packet first = Write(Opcode::kRcSendFirst, 0);
    shuffled_.Begin(first, Instant());
    ASSERT_TRUE(Hold(first));
    ASSERT_TRUE(Hold(Write(Opcode::kRcSendMiddle, 1)));
    ASSERT_TRUE(Hold(Write(Opcode::kRcSendLast, 2)));
    (void)shuffled_.Take();
  }
  // Each piece had 20 chances.
  EXPECT_EQ(Placed(0, 4096), 3 * static_cast<ptrdiff_t>(kMtu));
  EXPECT_EQ(Placed(1024, kMtu + 10), static_cast<ptrdiff_t>(kMtu) + 10);
  EXPECT_EQ(Placed(0, 20), 20);
  EXPECT_EQ(Placed(2048, 2 * kMtu - 30), 2 * static_cast<ptrdiff_t>(kMtu) - 30);
}

TEST_F(ShuffledPayloadTest, OnlyTheSameKindGoesOn) {
  shuffled_.Begin(Write(Opcode::kRcSendFirst, 0), Instant());
  EXPECT_TRUE(shuffled_.GoesOn(Write(Opcode::kRcSendFirst, 0)));
  EXPECT_FALSE(shuffled_.GoesOn(Write(Opcode::kRcReadResponseFirst, 0)));
  EXPECT_FALSE(shuffled_.GoesOn(Write(Opcode::kRcWriteFirst, 0)));
}

TEST_F(ShuffledPayloadTest, WhatFollowsPacketsThatCameTogetherIsPlacedToo) {
  Packet first = Write(Opcode::kRcWriteFirst, 0);
  first.packets = 2;
  shuffled_.Begin(first, Instant());
  ASSERT_TRUE(Hold(first));
  const ptrdiff_t placed = Placed(0, 4096);
  ASSERT_TRUE(Hold(Write(Opcode::kRcWriteLast, 2)));
  EXPECT_GT(Placed(0, 4096), placed);
}

TEST_F(ShuffledPayloadTest, WhatIsHeldIsBounded) {
  const Packet first = Write(Opcode::kRcWriteFirst, 0);
  shuffled_.Begin(first, Instant());
  for (size_t i = 1; i < ShuffledPayload::kMaxHeld; ++i) {
    ASSERT_TRUE(Hold(first));
  }
  EXPECT_FALSE(Hold(first));
}

}  // namespace
}  // namespace nd::soft
