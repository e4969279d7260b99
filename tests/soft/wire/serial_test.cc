#include "soft/wire/serial.h"

#include <gtest/gtest.h>

namespace nd::soft {
namespace {

TEST(Psn, WrapsAt24Bits) {
  EXPECT_EQ(Psn(0xffffff) + 1, Psn(0));
  EXPECT_EQ(Psn(0) - 1, Psn(0xffffff));
  EXPECT_EQ(Psn(0x1000001), Psn(1));
  Psn psn(0xffffff);
  EXPECT_EQ(++psn, Psn(0));
}

TEST(Psn, DistanceIsSignedAcrossTheWrap) {
  EXPECT_EQ(Psn(2) - Psn(0xfffffe), 4);
  EXPECT_EQ(Psn(0xfffffe) - Psn(2), -4);
  EXPECT_EQ(Psn(7) - Psn(7), 0);
}

// The captures' probe R03: 2^23 - 1 ahead is ahead, 2^23 away is behind.
TEST(Psn, HalfOfTheSpaceIsAheadAndHalfBehind) {
  EXPECT_EQ(Psn(0x100 + 0x7fffff) - Psn(0x100), 0x7fffff);
  EXPECT_EQ(Psn(0x100 + 0x800000) - Psn(0x100), -0x800000);
}

}  // namespace
}  // namespace nd::soft
