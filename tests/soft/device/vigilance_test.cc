#include "soft/device/vigilance.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

namespace nd::soft {
namespace {

using std::chrono::microseconds;

constexpr Duration kMoment = microseconds(1);
constexpr Duration kLong = std::chrono::seconds(1);

// Until its naps are the longest.
Vigilance OfOneThatServesItself() {
  Vigilance vigilance;
  while (vigilance.nap() < Vigilance::kLongestNap) vigilance.Relax();
  return vigilance;
}

TEST(Vigilance, NapsGrowWhileTheApplicationServesItself) {
  Vigilance vigilance;
  EXPECT_EQ(vigilance.nap(), Vigilance::kWatchfulNap);
  vigilance.Relax();
  EXPECT_EQ(vigilance.nap(), 2 * Vigilance::kWatchfulNap);
  EXPECT_FALSE(vigilance.ShouldLook(0, kMoment));
  EXPECT_EQ(vigilance.nap(), 4 * Vigilance::kWatchfulNap);
  vigilance = OfOneThatServesItself();
  vigilance.Relax();
  EXPECT_EQ(vigilance.nap(), Vigilance::kLongestNap);
}

TEST(Vigilance, OnlyTheLongestNapsWaitForATick) {
  EXPECT_EQ(Vigilance().slack(), Duration{});
  EXPECT_EQ(OfOneThatServesItself().slack(), Vigilance::kTick);
}

TEST(Vigilance, WhatWasLeftBehindMakesTheNextNapShort) {
  Vigilance vigilance = OfOneThatServesItself();
  EXPECT_TRUE(vigilance.ShouldLook(0, microseconds(20)));
  vigilance.Found();
  EXPECT_EQ(vigilance.nap(), Vigilance::kShortestNap);
  EXPECT_FALSE(vigilance.ShouldLook(0, Duration{}));
  EXPECT_EQ(vigilance.nap(), 2 * Vigilance::kShortestNap);
}

TEST(Vigilance, OneThatPollsNowAndThenIsWatched) {
  Vigilance vigilance = OfOneThatServesItself();
  EXPECT_TRUE(vigilance.ShouldLook(0, Vigilance::kPresence));
  EXPECT_EQ(vigilance.nap(), Vigilance::kWatchfulNap);
}

TEST(Vigilance, OneThatPolledAllTheTimeWasThere) {
  Vigilance vigilance = OfOneThatServesItself();
  EXPECT_FALSE(vigilance.ShouldLook(500, kLong));
  EXPECT_EQ(vigilance.nap(), Vigilance::kLongestNap);
  // As many since the last nap.
  EXPECT_FALSE(vigilance.ShouldLook(1000, kLong));
  EXPECT_TRUE(vigilance.ShouldLook(1499, kLong));
}

TEST(Vigilance, PollsAreCountedBeyondTheGreatestNumberOfThem) {
  Vigilance vigilance = OfOneThatServesItself();
  EXPECT_FALSE(vigilance.ShouldLook(UINT32_MAX - 9, kLong));
  EXPECT_FALSE(vigilance.ShouldLook(490, kLong));
  EXPECT_TRUE(vigilance.ShouldLook(490, kLong));
}

TEST(Vigilance, OneThatIsAboutToSleepIsWatchedWhenItPollsAgain) {
  Vigilance vigilance = OfOneThatServesItself();
  vigilance.Interrupt();
  EXPECT_EQ(vigilance.nap(), Vigilance::kWatchfulNap);
  EXPECT_TRUE(vigilance.ShouldLook(0, microseconds(20)));
  vigilance.Found();
  vigilance.Interrupt();
  EXPECT_EQ(vigilance.nap(), Vigilance::kShortestNap);
}

}  // namespace
}  // namespace nd::soft
