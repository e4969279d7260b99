#include "ndping/engine/pacer.h"

#include <gtest/gtest.h>

#include "base/fake_clock.h"

namespace nd::ndping {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kMessage = 1000;

// Sends as soon as it may for a second, in steps of 10 us.
uint64_t BytesInASecond(uint64_t rate, uint64_t size) {
  FakeClock clock;
  Pacer pacer({.bytes_per_second = rate}, clock);
  uint64_t sent = 0;
  const Instant end = clock.Now() + seconds(1);
  for (; clock.Now() < end; clock.Advance(microseconds(10))) {
    const uint64_t count = pacer.Allowed(size, 16);
    pacer.Spend(count * size);
    sent += count * size;
  }
  return sent;
}

TEST(Pacer, KeepsTheRateForSmallAndLargeMessages) {
  for (const uint64_t size : {1, 64, 1000, 65536}) {
    EXPECT_NEAR(static_cast<double>(BytesInASecond(1'000'000, size)), 1e6,
                1e4 + static_cast<double>(size))
        << size;
  }
  EXPECT_NEAR(static_cast<double>(BytesInASecond(100'000'000, 64)), 1e8, 1e6);
}

TEST(Pacer, WithoutALimitAllowsEverything) {
  FakeClock clock;
  Pacer pacer({}, clock);
  EXPECT_FALSE(pacer.limits());
  EXPECT_EQ(pacer.Allowed(kMessage, 99), 99u);
  pacer.Spend(99 * kMessage);
  EXPECT_EQ(pacer.Allowed(kMessage, 99), 99u);
  EXPECT_EQ(pacer.Wait(), Duration::zero());
}

TEST(Pacer, SaysHowLongToWait) {
  FakeClock clock;
  Pacer pacer({.bytes_per_second = 1'000'000}, clock);
  EXPECT_EQ(pacer.Allowed(kMessage, 5), 1u);
  pacer.Spend(kMessage);
  EXPECT_EQ(pacer.Allowed(kMessage, 5), 0u);
  EXPECT_EQ(pacer.Wait(), milliseconds(1));
  clock.Advance(pacer.Wait());
  EXPECT_EQ(pacer.Allowed(kMessage, 5), 1u);
  EXPECT_EQ(pacer.Wait(), Duration::zero());
}

TEST(Pacer, CatchesUpNoMoreThanItsBurst) {
  FakeClock clock;
  Pacer pacer({.bytes_per_second = 1'000'000, .burst = milliseconds(4)}, clock);
  pacer.Spend(kMessage);
  clock.Advance(seconds(10));
  EXPECT_EQ(pacer.Allowed(kMessage, 100), 5u);
  pacer.Spend(5 * kMessage);
  EXPECT_EQ(pacer.Allowed(kMessage, 100), 0u);
}

TEST(Pacer, CountsEmptyMessagesAsNothing) {
  FakeClock clock;
  Pacer pacer({.bytes_per_second = 1}, clock);
  pacer.Spend(kMessage);
  EXPECT_EQ(pacer.Allowed(0, 7), 7u);
}

TEST(SleepTowards, EndsAtTheInstantOrBefore) {
  const Instant start = Clock::Monotonic().Now();
  EXPECT_TRUE(SleepTowards(start + microseconds(200), nullptr).ok());
  EXPECT_GE(Clock::Monotonic().Now() - start, microseconds(200));
  EXPECT_TRUE(SleepTowards(start + seconds(60), nullptr).ok());
  EXPECT_LT(Clock::Monotonic().Now() - start, seconds(30));
}

TEST(SleepTowards, EndsWhenCancelled) {
  Cancellation cancel = Cancellation::Create().value();
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(
      SleepTowards(Clock::Monotonic().Now() + seconds(60), &cancel)));
}

}  // namespace
}  // namespace nd::ndping
