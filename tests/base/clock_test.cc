#include "base/clock.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>

#include "base/fake_clock.h"

namespace nd {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(Clock, MonotonicDoesNotGoBack) {
  const Instant first = Clock::Monotonic().Now();

  EXPECT_GE(Clock::Monotonic().Now(), first);
}

TEST(Deadline, PassesAtItsInstantAndNotBefore) {
  FakeClock clock;
  const Deadline deadline = Deadline::After(seconds(5), clock);

  clock.Advance(seconds(5) - nanoseconds(1));
  EXPECT_FALSE(deadline.Passed());
  clock.Advance(nanoseconds(1));
  EXPECT_TRUE(deadline.Passed());
}

TEST(Deadline, RemainingCountsDownToZeroAndStays) {
  FakeClock clock;
  const Deadline deadline = Deadline::After(seconds(5), clock);

  clock.Advance(seconds(2));
  EXPECT_EQ(deadline.Remaining(), seconds(3));
  clock.Advance(hours(1));
  EXPECT_EQ(deadline.Remaining(), Duration::zero());
}

TEST(Deadline, RemainingMillisRoundsUp) {
  FakeClock clock;

  EXPECT_EQ(Deadline::After(nanoseconds(1), clock).RemainingMillis(), 1);
  EXPECT_EQ(Deadline::After(milliseconds(7), clock).RemainingMillis(), 7);
  EXPECT_EQ(Deadline::After(milliseconds(7) + nanoseconds(1), clock)
                .RemainingMillis(),
            8);
}

TEST(Deadline, RemainingMillisIsZeroOncePassed) {
  FakeClock clock;
  const Deadline deadline = Deadline::After(milliseconds(7), clock);

  clock.Advance(seconds(1));

  EXPECT_EQ(deadline.RemainingMillis(), 0);
}

TEST(Deadline, RemainingMillisIsBoundedByInt) {
  FakeClock clock;
  constexpr int kMax = std::numeric_limits<int>::max();

  EXPECT_EQ(Deadline::After(milliseconds(kMax), clock).RemainingMillis(), kMax);
  EXPECT_EQ(Deadline::After(hours(24 * 365), clock).RemainingMillis(), kMax);
}

TEST(Deadline, LongestTimeoutIsNotLongPast) {
  FakeClock clock;
  const Deadline deadline = Deadline::After(Duration::max(), clock);

  EXPECT_FALSE(deadline.Passed());
  EXPECT_EQ(deadline.at(), Instant::max());
  EXPECT_EQ(deadline.RemainingMillis(), std::numeric_limits<int>::max());
}

TEST(Deadline, NegativeTimeoutHasPassedAlready) {
  FakeClock clock;
  const Deadline deadline = Deadline::After(Duration::min(), clock);

  EXPECT_TRUE(deadline.Passed());
  EXPECT_EQ(deadline.Remaining(), Duration::zero());
}

}  // namespace
}  // namespace nd
