#include "control/backoff.h"

#include <gtest/gtest.h>

#include <vector>

namespace nd::control {
namespace {

using std::chrono::milliseconds;

constexpr Backoff::Options kOptions{.first = milliseconds(10),
                                    .longest = milliseconds(100)};

TEST(Backoff, PausesLieInTheUpperHalfOfABoundThatDoubles) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SeededRandom random(seed);
    Backoff backoff(kOptions, random);
    for (const int bound : {10, 20, 40, 80, 100, 100, 100}) {
      const Duration pause = backoff.Next();
      EXPECT_GE(pause, milliseconds(bound) / 2) << "seed " << seed;
      EXPECT_LE(pause, milliseconds(bound)) << "seed " << seed;
    }
  }
}

TEST(Backoff, PausesOfTwoDiffer) {
  SeededRandom one(1);
  SeededRandom other(2);
  EXPECT_NE(Backoff(kOptions, one).Next(), Backoff(kOptions, other).Next());
}

TEST(Backoff, BoundDoesNotOverflow) {
  SeededRandom random(1);
  Backoff backoff({.first = milliseconds(1), .longest = Duration::max()},
                  random);
  for (int i = 0; i < 200; ++i) EXPECT_GT(backoff.Next(), Duration::zero());
}

TEST(Backoff, FirstMayBeTheLongest) {
  SeededRandom random(1);
  Backoff backoff({.first = milliseconds(200), .longest = milliseconds(100)},
                  random);
  EXPECT_LE(backoff.Next(), milliseconds(100));
}

}  // namespace
}  // namespace nd::control
