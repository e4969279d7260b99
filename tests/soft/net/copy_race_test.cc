#include "soft/net/copy_race.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

namespace nd::soft {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr size_t kBurst = size_t{16} << 10;

// A stream, as fast as either way is.
class CopyRaceTest : public testing::Test {
 protected:
  void Send(size_t bytes) {
    for (size_t sent = 0; sent < bytes; sent += kBurst) {
      now_ += race_.lends() ? lent_ : copied_;
      race_.OnSent(kBurst, now_);
    }
  }
  void TryBothWays() {
    EXPECT_FALSE(race_.lends());
    Send(CopyRace::kTrialBytes);
    EXPECT_TRUE(race_.lends());
    Send(CopyRace::kTrialBytes);
  }

  // A burst.
  Duration copied_ = nanoseconds(1000);
  Duration lent_ = nanoseconds(500);
  Instant now_ = Instant() + milliseconds(1);
  CopyRace race_;
};

TEST_F(CopyRaceTest, TheFasterWayIsTaken) {
  TryBothWays();
  EXPECT_TRUE(race_.lends());
}

TEST_F(CopyRaceTest, PayloadIsCopiedWhereThatIsAboutAsFast) {
  lent_ = nanoseconds(970);
  TryBothWays();
  EXPECT_FALSE(race_.lends());
}

TEST_F(CopyRaceTest, BothAreTriedAgainEachTimeLater) {
  size_t run = CopyRace::kFirstRunBytes;
  for (int i = 0; i < 6; ++i) {
    TryBothWays();
    Send(run - kBurst);
    EXPECT_TRUE(race_.lends());
    Send(kBurst);
    run = std::min(2 * run, CopyRace::kRunBytes);
  }
}

TEST_F(CopyRaceTest, WhatWasFasterOnceIsNotForEver) {
  TryBothWays();
  Send(CopyRace::kFirstRunBytes);
  lent_ = 2 * copied_;
  TryBothWays();
  EXPECT_FALSE(race_.lends());
}

// What is slow at first, for want of what the cache will hold.
TEST_F(CopyRaceTest, TheBeginningOfATrialIsNotTimed) {
  Send(CopyRace::kTrialBytes);
  lent_ = 10 * copied_;
  Send(CopyRace::kUntimedBytes);
  lent_ = copied_ / 2;
  Send(CopyRace::kTrialBytes - CopyRace::kUntimedBytes);
  EXPECT_TRUE(race_.lends());
}

TEST_F(CopyRaceTest, ShortStreamsAreCopied) {
  for (int i = 0; i < 10; ++i) {
    Send(CopyRace::kTrialBytes - kBurst);
    EXPECT_FALSE(race_.lends());
    now_ += CopyRace::kPause;
  }
}

TEST_F(CopyRaceTest, APauseIsNotSlow) {
  Send(CopyRace::kTrialBytes);
  Send(CopyRace::kTrialBytes / 2);
  now_ += milliseconds(100);
  Send(CopyRace::kTrialBytes);
  EXPECT_TRUE(race_.lends());
  // Nor does it end what the race has found.
  now_ += milliseconds(100);
  Send(kBurst);
  race_.Disturb();
  EXPECT_TRUE(race_.lends());
  Send(CopyRace::kFirstRunBytes - kBurst);
  EXPECT_FALSE(race_.lends());
}

TEST_F(CopyRaceTest, ATrialThatIsDisturbedBeginsAnew) {
  Send(CopyRace::kTrialBytes - kBurst);
  race_.Disturb();
  Send(CopyRace::kTrialBytes - kBurst);
  EXPECT_FALSE(race_.lends());
  Send(kBurst);
  EXPECT_TRUE(race_.lends());
}

}  // namespace
}  // namespace nd::soft
